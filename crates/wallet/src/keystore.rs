//! Keystore files, Web3 Secret Storage version 3: a secret key under a password. Reading costs at most 512 MiB and
//! seconds, whatever the file asks for; writing uses the cost that wallets use. Owns no file: bytes in, text out.
//! For the operator's machine, not for a node: scrypt leaves its working memory as it was when it is done.

mod cost;
mod format;

use aes::Aes128;
use ctr::cipher::{KeyIvInit, StreamCipher};
use sha3::{Digest, Keccak256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

pub use cost::Cost;
use cost::Derivation;
use format::Parts;

use crate::secret_key::{RandomError, random};
use crate::{Address, SecretKey};

/// Largest file that is read, bytes. Real ones have 500 to 900.
pub const FILE_LIMIT_BYTES: usize = 64 << 10;

type Cipher = ctr::Ctr128BE<Aes128>;

/// Why a file is not read as a keystore.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("this is no keystore: it has {0} bytes, and a keystore at most {FILE_LIMIT_BYTES}")]
    TooLong(usize),
    /// Only the place: a file that was given by mistake may hold a secret in the clear.
    #[error("this is no keystore of version 3: unexpected JSON at line {line}, column {column}")]
    Json { line: usize, column: usize },
    #[error("this is no sound keystore: {field} is wrong")]
    Field { field: &'static str },
    #[error("keystores with {field} {found} are not supported, only with {supported}")]
    Unsupported { field: &'static str, found: String, supported: &'static str },
    #[error("the keystore's {field} is {found}, which asks for more than {limit}: not taken from a file")]
    TooCostly { field: &'static str, found: String, limit: &'static str },
}

/// Why a keystore did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("wrong password (or a damaged keystore: its MAC does not fit)")]
    WrongPassword,
    #[error("the password fits, but what the keystore holds is no secret key of secp256k1")]
    NoKey,
    #[error("the password fits, but the key inside is that of {found}, not of {named} as the keystore says")]
    OtherAddress { named: Address, found: Address },
}

/// A keystore whose structure, algorithms and cost were found acceptable. No Debug: nothing in it is for a log.
pub struct Keystore {
    parts: Parts,
    derivation: Derivation,
}

impl Keystore {
    /// Reads a file; derives nothing yet.
    pub fn parse(file: &[u8]) -> Result<Self, ParseError> {
        if file.len() > FILE_LIMIT_BYTES {
            return Err(ParseError::TooLong(file.len()));
        }
        let file = format::read(file)?;
        let derivation = Derivation::from_file(&file.crypto)?;
        Ok(Self { parts: Parts::from_file(&file)?, derivation })
    }

    /// Whose key it is, if the file says so. Nobody vouches for that before the keystore was opened.
    pub fn address(&self) -> Option<Address> {
        self.parts.address
    }

    /// The key inside. The password is used as its bytes are, UTF-8 by custom; some wallets normalize it (NFKC)
    /// first. The MAC is checked before anything is decrypted.
    pub fn open(&self, password: &[u8]) -> Result<SecretKey, OpenError> {
        let derived = self.derivation.derive(password);
        let Parts { ciphertext, mac: expected, iv, address } = &self.parts;
        if !bool::from(mac(&derived, ciphertext).ct_eq(expected)) {
            return Err(OpenError::WrongPassword);
        }
        // Some old writers left out leading zero bytes.
        let mut key = Zeroizing::new([0; 32]);
        let start = key.len() - ciphertext.len();
        key[start..].copy_from_slice(ciphertext);
        apply_cipher(&derived, iv, &mut key[start..]);
        let key = SecretKey::from_bytes(&key).map_err(|_| OpenError::NoKey)?;
        let found = key.public_key().address();
        match address {
            Some(named) if *named != found => Err(OpenError::OtherAddress { named: *named, found }),
            _ => Ok(key),
        }
    }

    /// The text of a new keystore: scrypt with the cost of other wallets, and fresh salt, nonce and id.
    pub fn write(key: &SecretKey, password: &[u8], cost: Cost) -> Result<String, RandomError> {
        let (salt, other) = (random()?, random()?);
        let (iv, id) = other.split_at(16);
        let (mut nonce, mut uuid) = ([0; 16], [0; 16]);
        nonce.copy_from_slice(iv);
        uuid.copy_from_slice(id);
        // Version 4, RFC 9562.
        uuid[6] = uuid[6] & 0x0f | 0x40;
        uuid[8] = uuid[8] & 0x3f | 0x80;
        Ok(write_with(key, password, cost, *salt, nonce, uuid))
    }
}

fn write_with(
    key: &SecretKey,
    password: &[u8],
    cost: Cost,
    salt: [u8; 32],
    iv: [u8; 16],
    id: [u8; 16],
) -> String {
    let derivation = Derivation::scrypt(cost, salt.to_vec());
    let derived = derivation.derive(password);
    let mut ciphertext = key.expose().to_vec();
    apply_cipher(&derived, &iv, &mut ciphertext);
    let mac = mac(&derived, &ciphertext);
    let parts = Parts { address: Some(key.public_key().address()), ciphertext, iv, mac };
    parts.to_text(&derivation, id)
}

/// Keccak-256 of the second half of the derived key and the ciphertext.
fn mac(derived: &[u8; 32], ciphertext: &[u8]) -> [u8; 32] {
    Keccak256::new().chain_update(&derived[16..]).chain_update(ciphertext).finalize().into()
}

/// AES-128-CTR under the first half of the derived key; both directions.
fn apply_cipher(derived: &[u8; 32], iv: &[u8; 16], bytes: &mut [u8]) {
    let mut key = Zeroizing::new([0; 16]);
    key.copy_from_slice(&derived[..16]);
    Cipher::new((&*key).into(), iv.into()).apply_keystream(bytes);
}

#[cfg(test)]
mod tests;
