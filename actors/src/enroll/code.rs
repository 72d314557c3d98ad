//! Registration codes: what a person reads from the console and types elsewhere. An identifier, not a secret, in
//! the WebSocket mode; the key of the seal in the compatibility mode `sealed-push`.

use std::time::Duration;

/// Crockford's base32: no I, L, O, U, so nothing is misread.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Characters of a code in the WebSocket mode.
pub const CODE_CHARS: usize = 8;
/// Bytes behind a code in the sealed-push mode; shown as twice as many hex characters.
const SEALED_CODE_BYTES: usize = 10;
/// How long a code is valid. Longer than any enrollment takes, short enough that a forgotten node's code dies.
pub const LIFETIME: Duration = Duration::from_secs(3600);

/// 8 random characters, 40 bits.
pub fn registration_code() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; CODE_CHARS];
    getrandom::fill(&mut random)?;
    // 32 divides 256, so every character is equally likely.
    Ok(random.iter().map(|byte| char::from(ALPHABET[usize::from(byte % 32)])).collect())
}

/// 20 random lowercase hex characters, 80 bits.
pub fn sealed_push_code() -> Result<String, getrandom::Error> {
    let mut random = [0_u8; SEALED_CODE_BYTES];
    getrandom::fill(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_have_their_shape_and_differ() {
        let codes: BTreeSet<String> = (0..200).map(|_| registration_code().unwrap()).collect();
        assert_eq!(codes.len(), 200);
        let used: BTreeSet<char> = codes.iter().flat_map(|code| code.chars()).collect();
        assert_eq!(used.len(), 32, "1600 draws leave out none of 32 characters: {used:?}");
        assert!(codes.iter().all(|code| code.len() == CODE_CHARS && !code.contains(['I', 'L', 'O', 'U'])));
        let sealed = sealed_push_code().unwrap();
        assert!(sealed.len() == 20 && sealed.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')));
    }
}
