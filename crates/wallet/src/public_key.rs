//! A secp256k1 public key: the point is checked when it is read, so every value is a point of the curve.

use std::fmt;
use std::str::FromStr;

use k256::elliptic_curve::sec1::ToSec1Point;
use sha3::{Digest, Keccak256};

use crate::{Address, hex};

/// SEC 1 uncompressed: 04, x, y.
const UNCOMPRESSED_BYTES: usize = 65;
/// SEC 1 compressed: 02 or 03, x.
const COMPRESSED_BYTES: usize = 33;
/// x and y without the leading 04: how eciespy prints a key.
const BARE_BYTES: usize = 64;

/// Why bytes or a text are no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    #[error("a public key has 33 bytes (02 or 03, x) or 65 bytes (04, x, y), not {0}")]
    Length(usize),
    #[error("a public key begins with 02, 03 or 04 according to its length, not with {0:02x}")]
    Tag(u8),
    #[error("the public key is no point of secp256k1")]
    Point,
    #[error("a public key is written in hex digits, with or without 0x")]
    Digit,
}

/// A point of the curve, never the one at infinity.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(pub(crate) k256::PublicKey);

impl PublicKey {
    /// 65 bytes uncompressed or 33 bytes compressed.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PublicKeyError> {
        match (bytes.len(), bytes.first()) {
            (UNCOMPRESSED_BYTES, Some(4)) | (COMPRESSED_BYTES, Some(2 | 3)) => {}
            (UNCOMPRESSED_BYTES | COMPRESSED_BYTES, Some(tag)) => return Err(PublicKeyError::Tag(*tag)),
            (length, _) => return Err(PublicKeyError::Length(length)),
        }
        k256::PublicKey::from_sec1_bytes(bytes).map(Self).map_err(|_| PublicKeyError::Point)
    }

    /// Uncompressed: 04, x, y.
    pub fn to_bytes(&self) -> [u8; UNCOMPRESSED_BYTES] {
        let mut bytes = [0; UNCOMPRESSED_BYTES];
        bytes.copy_from_slice(self.0.to_sec1_point(false).as_bytes());
        bytes
    }

    pub fn address(&self) -> Address {
        let hash = Keccak256::digest(&self.to_bytes()[1..]);
        let mut last = [0; 20];
        last.copy_from_slice(&hash[12..]);
        Address::from_bytes(last)
    }
}

impl FromStr for PublicKey {
    type Err = PublicKeyError;

    /// Hex of either form, with or without `0x`; also the 64 bytes that eciespy prints.
    fn from_str(text: &str) -> Result<Self, PublicKeyError> {
        let digits = hex::digits(text);
        // Before anything is allocated for it.
        if digits.len() > 2 * UNCOMPRESSED_BYTES {
            return Err(PublicKeyError::Length(digits.len() / 2));
        }
        let mut bytes = hex::decode(digits).ok_or(PublicKeyError::Digit)?;
        if bytes.len() == BARE_BYTES {
            bytes.insert(0, 4);
        }
        Self::from_bytes(&bytes)
    }
}

impl fmt::Display for PublicKey {
    /// Uncompressed, lowercase hex without a prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.to_bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

hex::serde_as_text!(PublicKey);

#[cfg(test)]
mod tests {
    use super::*;

    /// The generator: the public key of the secret key 1 (SEC 2).
    const X: &str = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    const Y: &str = "483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8";

    #[test]
    fn every_form_is_the_same_key() {
        let key: PublicKey = format!("04{X}{Y}").parse().unwrap();
        for text in
            [format!("0x04{X}{Y}"), format!("{X}{Y}"), format!("02{X}"), format!("02{X}").to_uppercase()]
        {
            assert_eq!(text.parse::<PublicKey>().unwrap(), key, "{text}");
        }
        assert_ne!(format!("03{X}").parse::<PublicKey>().unwrap(), key);
        assert_eq!(key.to_string(), format!("04{X}{Y}"));
        assert_eq!(PublicKey::from_bytes(&key.to_bytes()).unwrap(), key);
        // The well-known address of the secret key 1.
        assert_eq!(key.address().to_string(), "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf");
        assert_eq!(serde_json::from_str::<PublicKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let parse = |text: &str| text.parse::<PublicKey>().unwrap_err();
        assert_eq!(parse(""), PublicKeyError::Length(0));
        assert_eq!(parse("00"), PublicKeyError::Length(1));
        assert_eq!(parse(&"00".repeat(66)), PublicKeyError::Length(66));
        assert_eq!(parse(&"0".repeat(1 << 20)), PublicKeyError::Length(1 << 19));
        assert_eq!(parse("0g"), PublicKeyError::Digit);
        // SEC 1 "compact" and hybrid forms, and the wrong tag for a length.
        for tag in ["00", "01", "04", "05", "06"] {
            assert!(matches!(parse(&format!("{tag}{X}")), PublicKeyError::Tag(_)), "{tag}");
        }
        for tag in ["00", "02", "06", "07"] {
            assert!(matches!(parse(&format!("{tag}{X}{Y}")), PublicKeyError::Tag(_)), "{tag}");
        }
        // Off the curve, x without a y, and coordinates beyond the field.
        assert_eq!(parse(&format!("04{X}{X}")), PublicKeyError::Point);
        assert_eq!(parse(&format!("02{:064x}", 5)), PublicKeyError::Point);
        assert_eq!(parse(&format!("02{}", "f".repeat(64))), PublicKeyError::Point);
        assert_eq!(parse(&format!("04{}", "0".repeat(128))), PublicKeyError::Point);
    }
}
