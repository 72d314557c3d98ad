//! Text sealed between two parties that share a secret: AES-256-GCM under a key that is derived from the secret and
//! from what both know. Whoever opens it knows that the other one sealed it. Byte for byte in docs/formats.md.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::ecies::SealError;
use crate::hex;
use crate::secret_key::random;

/// Longest text, bytes.
const TEXT_LIMIT_BYTES: usize = 16 << 10;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// It was not sealed by the other one, or was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this was sealed by somebody else, or was changed on its way")]
pub struct NotSealed;

/// Hex of nonce, ciphertext and tag. `info` says what for, and between whom.
pub fn seal_between(secret: &[u8; 32], info: &[u8], text: &[u8]) -> Result<String, SealError> {
    if text.len() > TEXT_LIMIT_BYTES {
        return Err(SealError::TooLong(text.len()));
    }
    let random = random()?;
    let nonce: &[u8; NONCE_BYTES] = random.first_chunk().expect("12 of 32 bytes");
    let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE_BYTES + text.len() + TAG_BYTES));
    sealed.extend_from_slice(nonce);
    sealed.extend_from_slice(text);
    let inout = &mut sealed[NONCE_BYTES..];
    let tag = cipher(secret, info)
        .encrypt_inout_detached(nonce.into(), &[], inout.into())
        .map_err(|_| SealError::Cipher)?;
    sealed.extend_from_slice(&tag);
    Ok(hex::encode(&sealed))
}

/// Opens what the holder of the same secret sealed under the same info.
pub fn open_between(secret: &[u8; 32], info: &[u8], sealed: &str) -> Result<Zeroizing<Vec<u8>>, NotSealed> {
    if sealed.len() > 2 * (NONCE_BYTES + TEXT_LIMIT_BYTES + TAG_BYTES) {
        return Err(NotSealed);
    }
    let sealed = hex::decode(sealed).ok_or(NotSealed)?;
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(NotSealed)?;
    let (text, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(NotSealed)?;
    let mut text = Zeroizing::new(text.to_vec());
    let opened = cipher(secret, info).decrypt_inout_detached(
        nonce.into(),
        &[],
        text.as_mut_slice().into(),
        tag.into(),
    );
    opened.map(|()| text).map_err(|_| NotSealed)
}

fn cipher(secret: &[u8; 32], info: &[u8]) -> Aes256Gcm {
    let mut key = Zeroizing::new(Key::<Aes256Gcm>::default());
    Hkdf::<Sha256>::new(None, secret).expand(info, &mut key).expect("32 bytes are one block of SHA-256");
    Aes256Gcm::new(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_secret_and_purpose_open_it_and_every_digit_counts() {
        let sealed = seal_between(&[1; 32], b"purpose", b"text").unwrap();
        assert_eq!(sealed.len(), 2 * (NONCE_BYTES + 4 + TAG_BYTES));
        assert_eq!(open_between(&[1; 32], b"purpose", &sealed).unwrap().as_slice(), b"text");
        assert!(open_between(&[2; 32], b"purpose", &sealed).is_err());
        assert!(open_between(&[1; 32], b"another", &sealed).is_err());
        for index in 0..sealed.len() {
            let other = if sealed.as_bytes()[index] == b'0' { "1" } else { "0" };
            let mut wrong = sealed.clone();
            wrong.replace_range(index..=index, other);
            assert!(open_between(&[1; 32], b"purpose", &wrong).is_err(), "digit {index}");
        }
        for length in 0..sealed.len() {
            assert!(open_between(&[1; 32], b"purpose", &sealed[..length]).is_err());
        }
        assert_ne!(sealed, seal_between(&[1; 32], b"purpose", b"text").unwrap());
        assert!(matches!(
            seal_between(&[1; 32], b"", &[0; TEXT_LIMIT_BYTES + 1]),
            Err(SealError::TooLong(_))
        ));
    }
}
