//! WireGuard keys as text and bytes, and the guardian identity derived from one. The private half is wiped
//! on drop and has no Debug, Clone or Serialize.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// Bytes in a Curve25519 key, private or public.
const KEY_BYTES: usize = 32;
/// Characters of such a key in padded base64.
const KEY_TEXT_BYTES: usize = 44;

/// Why a text is not a WireGuard key. Never carries the text: it may be a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a key is 44 characters of base64, this is {0} characters long")]
    Length(usize),
    #[error("a key is the base64 of 32 bytes, this is not base64 of that length")]
    Base64,
}

/// A node's WireGuard private key.
pub struct PrivateKey(Zeroizing<[u8; KEY_BYTES]>);

impl PrivateKey {
    /// A new random key, clamped as `wg genkey` clamps it.
    ///
    /// # Panics
    /// When the kernel has no randomness to give, which it does not do once it has booted.
    pub fn generate() -> Self {
        let mut bytes = Zeroizing::new([0u8; KEY_BYTES]);
        getrandom::fill(bytes.as_mut()).expect("the kernel's random source answers");
        // Clamped here although X25519 clamps again: the kernel reports the clamped key, and the node's
        // guardian identity is a hash over this text.
        bytes[0] &= 248;
        bytes[31] = (bytes[31] & 127) | 64;
        Self(bytes)
    }

    /// Takes raw bytes as they are.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self(bytes)
    }

    /// Reads the text form of `wg genkey`; surrounding white space is not accepted.
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        decode(text).map(Self)
    }

    /// The text form, as `wg genkey` prints it, without a newline.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let secret = StaticSecret::from(*self.0);
        PublicKey(x25519_dalek::PublicKey::from(&secret).to_bytes())
    }

    /// What the holders of both private keys have in common, and nobody else: X25519. `None` for a public key of small
    /// order, with which everybody would have the same. Not to be used as it is: derive a key from it.
    pub fn agree(&self, other: &PublicKey) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let shared = StaticSecret::from(*self.0).diffie_hellman(&x25519_dalek::PublicKey::from(other.0));
        shared.was_contributory().then(|| Zeroizing::new(*shared.as_bytes()))
    }

    /// The raw key, for the interface that is to use it.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

/// The identity under which a node speaks to vault-guardians: lowercase hex SHA-256 of the base64 text of
/// its WireGuard private key (PROTOCOL.md §4; existing guardians know nodes by it).
pub fn identity(key: &PrivateKey) -> String {
    hex(&Sha256::digest(key.to_base64().as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(text: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, KeyError> {
    if text.len() != KEY_TEXT_BYTES {
        return Err(KeyError::Length(text.chars().count()));
    }
    // `decode_slice` wants room for its estimate, one byte more than a key.
    let mut buffer = Zeroizing::new([0u8; KEY_BYTES + 1]);
    match STANDARD.decode_slice(text, buffer.as_mut()) {
        Ok(KEY_BYTES) => {
            let mut key = Zeroizing::new([0u8; KEY_BYTES]);
            key.copy_from_slice(&buffer[..KEY_BYTES]);
            Ok(key)
        }
        Ok(_) | Err(_) => Err(KeyError::Base64),
    }
}

/// A peer's WireGuard public key; prints and parses as base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; KEY_BYTES]);

impl PublicKey {
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        decode(text).map(|bytes| Self(*bytes))
    }
}

impl serde::Serialize for PublicKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for PublicKey {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
