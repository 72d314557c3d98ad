//! A wallet's secret key, as tests, tools and keystore files hold it. Constant time, so far as the processor's
//! multiplication is: k256 promises it (audited by NCC Group) for all that meets a secret here, which is
//! the product with the generator (public key, nonce of RFC 6979), the inverse of that nonce, the arithmetic of s,
//! and the product of ECIES with another's point. Recovering a signer runs in variable time, on public values only.
//! Beside it: comparisons by subtle, AES and GHASH without tables (aes, ghash). Not constant time: scrypt and
//! rejecting a random number beyond the order (the next one is independent). Kept values are wiped on drop;
//! what the arithmetic leaves on the stack is not, so a node itself never holds a wallet's key.

use k256::NonZeroScalar;
use k256::ecdsa::SigningKey;
use zeroize::Zeroizing;

use crate::{PublicKey, Signature, digest};

/// The kernel gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot get random bytes from the kernel")]
pub struct RandomError(#[source] pub(crate) getrandom::Error);

/// 32 bytes that are 0 or not below the order of the curve. Never shows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("these 32 bytes are no secret key: a secret key is above 0 and below the order of secp256k1")]
pub struct SecretKeyError;

/// Wiped on drop; no Debug, no Clone, no Serialize. Boxed, so that moving the value leaves no copy behind.
pub struct SecretKey(Box<SigningKey>);

impl SecretKey {
    /// A fresh key from the kernel's random generator.
    pub fn generate() -> Result<Self, RandomError> {
        loop {
            if let Ok(key) = Self::from_bytes(&*random()?) {
                return Ok(key);
            }
        }
    }

    /// Copies the key; wiping the original is the caller's part.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, SecretKeyError> {
        SigningKey::from_slice(bytes).map(|key| Self(Box::new(key))).map_err(|_| SecretKeyError)
    }

    /// The secret bytes themselves.
    pub fn expose(&self) -> Zeroizing<[u8; 32]> {
        let mut bytes = Zeroizing::new([0; 32]);
        bytes.copy_from_slice(&Zeroizing::new(self.0.to_bytes()));
        bytes
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().into())
    }

    /// personal_sign. Deterministic (RFC 6979 with HMAC-SHA256), low s: what other wallets give, byte for byte.
    ///
    /// # Panics
    /// Once in 2¹²⁸ texts: see [`Signature`]'s one form.
    pub fn sign(&self, text: &str) -> Signature {
        let (scalars, id) = self.0.sign_prehash_recoverable(&digest(text));
        Signature::from_signing(scalars, id).expect("x of the nonce's point is below the order")
    }

    pub(crate) fn scalar(&self) -> &NonZeroScalar {
        self.0.as_nonzero_scalar()
    }
}

/// 32 random bytes.
pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, RandomError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(RandomError)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_range_only() {
        let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
        let order: [u8; 32] = crate::hex::decode_array(order).unwrap();
        let mut last = order;
        last[31] -= 1;
        for bad in [[0; 32], order, [0xff; 32]] {
            assert_eq!(SecretKey::from_bytes(&bad).err(), Some(SecretKeyError));
        }
        assert_eq!(*SecretKey::from_bytes(&last).unwrap().expose(), last);
    }

    #[test]
    fn fresh_keys_differ() {
        let (one, two) = (SecretKey::generate().unwrap(), SecretKey::generate().unwrap());
        assert_ne!(one.public_key(), two.public_key());
        let same = SecretKey::from_bytes(&one.expose()).unwrap();
        assert_eq!(same.public_key(), one.public_key());
    }
}
