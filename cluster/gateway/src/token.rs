//! Bearer tokens: how they are made, read from a request and compared. Text is kept in `Redacted` throughout.

use orama_protocol::Redacted;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Random bytes in a token.
const TOKEN_BYTES: usize = 32;

#[derive(Debug, thiserror::Error)]
#[error("the kernel gave no random bytes: {0}")]
pub struct NoRandom(getrandom::Error);

/// 32 random bytes in lowercase hex.
pub fn generate() -> Result<Redacted, NoRandom> {
    let mut bytes = Zeroizing::new([0u8; TOKEN_BYTES]);
    getrandom::fill(&mut *bytes).map_err(NoRandom)?;
    Ok(Redacted::new(hex(&*bytes)))
}

/// Lowercase hex SHA-256 of the token's text: what the store keeps.
pub fn digest(token: &Redacted) -> String {
    hex(&Sha256::digest(token.expose().as_bytes()))
}

/// Whether the text has the form of a token: 64 lowercase hex characters.
pub fn well_formed(token: &Redacted) -> bool {
    let text = token.expose();
    text.len() == 2 * TOKEN_BYTES && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Compares two digests in constant time.
pub fn same_digest(left: &str, right: &str) -> bool {
    left.as_bytes().ct_eq(right.as_bytes()).into()
}

/// The token of `Authorization: Bearer <token>`; the scheme is case-insensitive (RFC 9110, 11.1).
pub fn bearer(authorization: &str) -> Option<Redacted> {
    let (scheme, token) = authorization.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| Redacted::new(token.to_owned()))
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_well_formed_and_differ() {
        let (one, two) = (generate().unwrap(), generate().unwrap());
        assert!(well_formed(&one) && well_formed(&two));
        assert_ne!(one.expose(), two.expose());
        assert!(!same_digest(&digest(&one), &digest(&two)));
        assert!(same_digest(&digest(&one), &digest(&one)));
    }

    #[test]
    fn the_digest_is_sha256_of_the_text() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest(&Redacted::new("abc".into())), expected);
    }

    #[test]
    fn bearer_headers() {
        let read = |text| bearer(text).map(|token| token.expose().to_owned());
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("bearer  abc ").as_deref(), Some("abc"));
        for bad in ["", "Bearer", "Bearer ", "Basic abc", "abc"] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_64_lowercase_hex_characters_are_a_token() {
        let is = |text: &str| well_formed(&Redacted::new(text.into()));
        assert!(is(&"0f".repeat(32)));
        assert!(!is(&"0F".repeat(32)));
        assert!(!is(&"0f".repeat(31)));
        assert!(!is(&"0g".repeat(32)));
    }
}
