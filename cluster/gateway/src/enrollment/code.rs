//! Checks on what an enrolling node says of itself. Pure.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Characters of a registration code.
pub const CODE_CHARS: usize = 8;
/// Crockford base32: no I, L, O, U.
const ALPHABET: &[u8] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Longest version or architecture text.
const WORD_LIMIT_CHARS: usize = 64;

/// What a well-formed hello says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    pub code: String,
    pub wireguard_public_key: String,
    pub wireguard_port: u16,
    pub version: String,
    pub arch: String,
}

pub fn well_formed_code(code: &str) -> bool {
    code.len() == CODE_CHARS && code.bytes().all(|byte| ALPHABET.contains(&byte))
}

/// Base64 of 32 bytes that are not all zero, in its one canonical spelling.
pub fn well_formed_public_key(key: &str) -> bool {
    // Decoding is strict: padding is required and unused bits must be zero, so one key has one spelling.
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 32 && bytes.iter().any(|byte| *byte != 0))
}

impl Introduction {
    pub fn check(&self) -> Result<(), &'static str> {
        if !well_formed_code(&self.code) {
            return Err("the code is not 8 characters of Crockford base32");
        }
        if !well_formed_public_key(&self.wireguard_public_key) {
            return Err("the WireGuard public key is not base64 of 32 bytes");
        }
        if self.wireguard_port == 0 {
            return Err("the WireGuard port is 0");
        }
        let word =
            |text: &str| text.len() <= WORD_LIMIT_CHARS && text.bytes().all(|byte| byte.is_ascii_graphic());
        if !word(&self.version) || !word(&self.arch) {
            return Err("version or arch is not a short word");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        assert!(well_formed_code("ABCD2345"));
        for bad in [
            "",
            "ABCD234",
            "ABCD23456",
            "abcd2345",
            "ABCDI345",
            "ABCDL345",
            "ABCDO345",
            "ABCDU345",
            "ABCD 345",
        ] {
            assert!(!well_formed_code(bad), "{bad:?}");
        }
    }

    #[test]
    fn public_keys() {
        let good = STANDARD.encode([7u8; 32]);
        assert!(well_formed_public_key(&good));
        let mut noncanonical = good.clone();
        noncanonical.replace_range(42..43, "d");
        assert!(!well_formed_public_key(&noncanonical));
        for bad in [STANDARD.encode([0u8; 32]), STANDARD.encode([7u8; 31]), good.trim_end_matches('=').into()]
        {
            assert!(!well_formed_public_key(&bad), "{bad}");
        }
    }
}
