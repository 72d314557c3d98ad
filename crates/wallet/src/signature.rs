//! personal_sign (EIP-191, version 0x45): the digest, the 65-byte signature and the key it came from.
//! A signature has exactly one form here: high s is refused, and v is kept as 27 or 28.

use std::fmt;
use std::str::FromStr;

use k256::ecdsa::{RecoveryId, VerifyingKey};
use k256::elliptic_curve::scalar::IsHigh;
use sha3::{Digest, Keccak256};

use crate::{Address, PublicKey, hex};

/// r, s and v.
const SIGNATURE_BYTES: usize = 65;
/// What EVM wallets add to the parity of the point.
const V_OFFSET: u8 = 27;

/// Why bytes or a text are no signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("a signature has 65 bytes (r, s, v), not {0}")]
    Length(usize),
    #[error("a signature is written in 130 hex digits, with or without 0x")]
    Digit,
    #[error("r or s of the signature is 0 or not below the order of the curve")]
    Range,
    #[error("s of the signature is in the upper half: wallets sign with the lower one (EIP-2)")]
    HighS,
    #[error("v of the signature is {0}; it can be 0, 1, 27 or 28")]
    V(u8),
}

/// No public key can have made this signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature belongs to no public key")]
pub struct RecoverError;

/// Why a text is not signed by whom it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the signature cannot be checked")]
    Recover(#[from] RecoverError),
    #[error(
        "for this very text the signature is one of {found}, not of {expected}: either another wallet signed, or another text was signed"
    )]
    Signer { expected: Address, found: Address },
}

/// What a wallet signs for a text: Keccak-256 of the prefix, the length in bytes (decimal) and the text.
pub fn digest(text: &str) -> [u8; 32] {
    let mut hash = Keccak256::new();
    hash.update(b"\x19Ethereum Signed Message:\n");
    hash.update(text.len().to_string());
    hash.update(text);
    hash.finalize().into()
}

/// A well-formed signature; of whom and of what is found out with a text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    scalars: k256::ecdsa::Signature,
    /// Whether y of the signature's point is odd.
    odd: bool,
}

impl Signature {
    /// r, s and v.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SignatureError> {
        let (scalars, v) = match bytes.split_last() {
            Some((v, scalars)) if bytes.len() == SIGNATURE_BYTES => (scalars, *v),
            _ => return Err(SignatureError::Length(bytes.len())),
        };
        let odd = match v {
            0 | 27 => false,
            1 | 28 => true,
            other => return Err(SignatureError::V(other)),
        };
        let scalars = k256::ecdsa::Signature::from_slice(scalars).map_err(|_| SignatureError::Range)?;
        if scalars.s().is_high().into() {
            return Err(SignatureError::HighS);
        }
        Ok(Self { scalars, odd })
    }

    /// What signing gave; k256 signs with low s. None for the signature that no wallet can express: x of its
    /// point is beyond the order, which happens once in 2¹²⁸ signatures.
    pub(crate) fn from_signing(scalars: k256::ecdsa::Signature, id: RecoveryId) -> Option<Self> {
        (!id.is_x_reduced()).then(|| Self { scalars, odd: id.is_y_odd() })
    }

    /// r, s and v, with v 27 or 28.
    pub fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        bytes[..64].copy_from_slice(&self.scalars.to_bytes());
        bytes[64] = V_OFFSET + u8::from(self.odd);
        bytes
    }

    /// The one key that can have signed this text with this signature. Says nothing until the key, or its
    /// address, is compared with the expected one: any signature gives some key for any text.
    pub fn recover(&self, text: &str) -> Result<PublicKey, RecoverError> {
        let id = RecoveryId::new(self.odd, false);
        let key = VerifyingKey::recover_from_prehash(&digest(text), &self.scalars, id);
        key.map(|key| PublicKey(key.into())).map_err(|_| RecoverError)
    }

    /// That the holder of this address signed exactly this text.
    pub fn verify(&self, text: &str, signer: &Address) -> Result<(), VerifyError> {
        let found = self.recover(text)?.address();
        if found == *signer { Ok(()) } else { Err(VerifyError::Signer { expected: *signer, found }) }
    }
}

impl FromStr for Signature {
    type Err = SignatureError;

    /// 130 hex digits, with or without `0x`.
    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let digits = hex::digits(text);
        if digits.len() != 2 * SIGNATURE_BYTES {
            return Err(SignatureError::Length(digits.len() / 2));
        }
        Self::from_bytes(&hex::decode(digits).ok_or(SignatureError::Digit)?)
    }
}

impl fmt::Display for Signature {
    /// Lowercase hex without a prefix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(&self.to_bytes()))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

hex::serde_as_text!(Signature);
