//! ECIES on secp256k1 as eciespy, eciesjs and `rw decrypt` speak it: ephemeral public key (65), nonce (16),
//! tag (16), ciphertext; AES-256-GCM under HKDF-SHA256 of the ephemeral key and the shared point. Anyone can seal
//! for a public key: that something opens says nothing about who sealed it.

use aes_gcm::aead::consts::U16;
use aes_gcm::aead::{AeadInOut, Key, KeyInit, Nonce, Tag};
use aes_gcm::{AesGcm, aes::Aes256};
use hkdf::Hkdf;
use k256::NonZeroScalar;
use k256::elliptic_curve::sec1::ToSec1Point;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::secret_key::{RandomError, random};
use crate::{PublicKey, SecretKey, hex};

/// AES-256-GCM with a nonce of 16 bytes instead of 12: the default of eciespy and eciesjs.
type Cipher = AesGcm<Aes256, U16>;

/// Longest text that is sealed or opened, bytes. A volume key needs 64; one mebibyte bodies carry this in hex.
pub const PLAINTEXT_LIMIT_BYTES: usize = 64 << 10;
/// What sealing adds: ephemeral key, nonce and tag, bytes.
pub const SEALED_OVERHEAD_BYTES: usize = POINT_BYTES + NONCE_BYTES + TAG_BYTES;
/// Longest thing that is opened, bytes.
const SEALED_LIMIT_BYTES: usize = SEALED_OVERHEAD_BYTES + PLAINTEXT_LIMIT_BYTES;

const POINT_BYTES: usize = 65;
const NONCE_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// Why nothing was sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("at most {PLAINTEXT_LIMIT_BYTES} bytes can be sealed, not {0}")]
    TooLong(usize),
    #[error("sealing needs a fresh key")]
    Random(#[from] RandomError),
    #[error("AES-GCM refused to encrypt")]
    Cipher,
}

/// Why nothing was opened. What is wrong behind a sound point is one error, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("something sealed has {SEALED_OVERHEAD_BYTES} to {SEALED_LIMIT_BYTES} bytes, not {0}")]
    Length(usize),
    #[error("this is nothing sealed: it does not begin with an uncompressed public key")]
    Point,
    #[error("this was sealed for another key, or was changed since")]
    Refused,
}

/// A text that is not the hex of something sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedTextError {
    #[error("something sealed is written in an even number of hex digits and nothing else")]
    Digit,
    #[error(transparent)]
    Length(OpenError),
}

/// Seals for the holder of `to`'s secret key. Two calls never give the same bytes.
pub fn seal(to: &PublicKey, plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let nonce = random()?;
    loop {
        // Rejecting zero and what is beyond the order leaves the scalar uniform.
        let candidate = random()?;
        let scalar: Option<NonZeroScalar> = NonZeroScalar::from_repr((*candidate).into()).into();
        if let Some(scalar) = scalar {
            let nonce = nonce.first_chunk().expect("16 of 32 bytes");
            return seal_with(to, plaintext, &Zeroizing::new(scalar), nonce);
        }
    }
}

fn seal_with(
    to: &PublicKey,
    plaintext: &[u8],
    ephemeral: &NonZeroScalar,
    nonce: &[u8; NONCE_BYTES],
) -> Result<Vec<u8>, SealError> {
    if plaintext.len() > PLAINTEXT_LIMIT_BYTES {
        return Err(SealError::TooLong(plaintext.len()));
    }
    let own = PublicKey(k256::PublicKey::from_secret_scalar(ephemeral)).to_bytes();
    let cipher = cipher(&own, to, ephemeral);
    // At its final size from the start: a vector that grows leaves copies of the plaintext behind.
    let mut sealed = Vec::with_capacity(SEALED_OVERHEAD_BYTES + plaintext.len());
    sealed.extend_from_slice(&own);
    sealed.extend_from_slice(nonce);
    sealed.extend_from_slice(&[0; TAG_BYTES]);
    sealed.extend_from_slice(plaintext);
    let (head, text) = sealed.split_at_mut(SEALED_OVERHEAD_BYTES);
    let Ok(tag) = cipher.encrypt_inout_detached(&Nonce::<Cipher>::from(*nonce), &[], (&mut *text).into())
    else {
        text.zeroize();
        return Err(SealError::Cipher);
    };
    head[POINT_BYTES + NONCE_BYTES..].copy_from_slice(&tag);
    Ok(sealed)
}

/// Opens what was sealed for this key.
pub fn open(key: &SecretKey, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    check_length(sealed.len())?;
    let (point, rest) = sealed.split_at(POINT_BYTES);
    let (nonce, rest) = rest.split_at(NONCE_BYTES);
    let (tag, ciphertext) = rest.split_at(TAG_BYTES);
    let own: [u8; POINT_BYTES] = point.try_into().map_err(|_| OpenError::Point)?;
    let ephemeral = PublicKey::from_bytes(&own).map_err(|_| OpenError::Point)?;
    let nonce = Nonce::<Cipher>::try_from(nonce).map_err(|_| OpenError::Refused)?;
    let tag = Tag::<Cipher>::try_from(tag).map_err(|_| OpenError::Refused)?;
    let mut text = Zeroizing::new(ciphertext.to_vec());
    let cipher = cipher(&own, &ephemeral, key.scalar());
    cipher
        .decrypt_inout_detached(&nonce, &[], text.as_mut_slice().into(), &tag)
        .map_err(|_| OpenError::Refused)?;
    Ok(text)
}

/// The cipher that both sides arrive at: the shared point is the one's secret times the other's public key.
fn cipher(ephemeral: &[u8; POINT_BYTES], public: &PublicKey, secret: &NonZeroScalar) -> Cipher {
    let shared = Zeroizing::new((public.0.to_projective() * **secret).to_affine());
    let mut shared_bytes = shared.to_sec1_point(false);
    let mut input = Zeroizing::new([0; 2 * POINT_BYTES]);
    input[..POINT_BYTES].copy_from_slice(ephemeral);
    input[POINT_BYTES..].copy_from_slice(shared_bytes.as_bytes());
    shared_bytes.zeroize();
    let mut key = Zeroizing::new(Key::<Cipher>::default());
    Hkdf::<Sha256>::new(None, input.as_slice())
        .expand(&[], &mut key)
        .expect("32 bytes are one block of SHA-256");
    Cipher::new(&key)
}

fn check_length(bytes: usize) -> Result<(), OpenError> {
    let allowed = SEALED_OVERHEAD_BYTES..=SEALED_LIMIT_BYTES;
    if allowed.contains(&bytes) { Ok(()) } else { Err(OpenError::Length(bytes)) }
}

/// The text form: lowercase hex without a prefix, which is what `rw decrypt` and eciespy's command take.
pub fn sealed_to_text(sealed: &[u8]) -> String {
    hex::encode(sealed)
}

/// Reads the text form; `0x` and capital letters are accepted.
pub fn sealed_from_text(text: &str) -> Result<Vec<u8>, SealedTextError> {
    let digits = hex::digits(text);
    // Before anything is allocated for it.
    check_length(digits.len() / 2).map_err(SealedTextError::Length)?;
    hex::decode(digits).ok_or(SealedTextError::Digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../../docs/formats.md");

    fn key(byte: u8) -> SecretKey {
        SecretKey::from_bytes(&[byte; 32]).unwrap()
    }

    /// The example of docs/formats.md: with both random values given, every byte is known.
    #[test]
    fn the_documented_example() {
        let (owner, ephemeral) = (key(0x11), key(0x22));
        let text = b"2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a";
        let sealed = seal_with(&owner.public_key(), text, ephemeral.scalar(), &[0x33; 16]).unwrap();
        assert_eq!(open(&owner, &sealed).unwrap().as_slice(), text);
        for part in [
            sealed_to_text(&sealed),
            owner.public_key().to_string(),
            owner.public_key().address().to_string(),
        ] {
            assert!(DOCUMENT.contains(&part), "docs/formats.md lacks {part}");
        }
    }

    #[test]
    fn every_byte_counts() {
        let owner = key(7);
        let sealed = seal(&owner.public_key(), b"a key").unwrap();
        assert_eq!(sealed.len(), SEALED_OVERHEAD_BYTES + 5);
        for index in 0..sealed.len() {
            let mut wrong = sealed.clone();
            wrong[index] ^= 1;
            let expect = if index < POINT_BYTES { OpenError::Point } else { OpenError::Refused };
            assert_eq!(open(&owner, &wrong).err(), Some(expect), "byte {index}");
        }
        for length in 0..sealed.len() {
            let expect =
                if length < SEALED_OVERHEAD_BYTES { OpenError::Length(length) } else { OpenError::Refused };
            assert_eq!(open(&owner, &sealed[..length]).err(), Some(expect));
        }
        assert_eq!(open(&key(8), &sealed).err(), Some(OpenError::Refused));
        // The negative of the ephemeral key is on the curve too, and has the same x.
        let mut other = sealed.clone();
        let negative =
            k256::PublicKey::from_affine(-*PublicKey::from_bytes(&sealed[..65]).unwrap().0.as_affine());
        other[..65].copy_from_slice(&PublicKey(negative.unwrap()).to_bytes());
        assert_eq!(open(&owner, &other).err(), Some(OpenError::Refused));
    }

    #[test]
    fn lengths_are_bounded() {
        let owner = key(7);
        for length in [0, 1, 15, 16, 17, PLAINTEXT_LIMIT_BYTES] {
            let text = vec![0x5a; length];
            let sealed = seal(&owner.public_key(), &text).unwrap();
            assert_eq!(open(&owner, &sealed).unwrap().as_slice(), text);
            assert_eq!(sealed_from_text(&sealed_to_text(&sealed)).unwrap(), sealed);
        }
        let long = vec![0; PLAINTEXT_LIMIT_BYTES + 1];
        let length = long.len();
        assert!(
            matches!(seal(&owner.public_key(), &long), Err(SealError::TooLong(found)) if found == length)
        );
        let long = vec![4; SEALED_OVERHEAD_BYTES + length];
        assert_eq!(open(&owner, &long).err(), Some(OpenError::Length(long.len())));
        let text = sealed_to_text(&long);
        assert_eq!(sealed_from_text(&text), Err(SealedTextError::Length(OpenError::Length(long.len()))));
    }

    #[test]
    fn nothing_is_sealed_twice_alike() {
        let to = key(7).public_key();
        let (one, two) = (seal(&to, b"").unwrap(), seal(&to, b"").unwrap());
        assert_ne!(one[..POINT_BYTES], two[..POINT_BYTES]);
        assert_ne!(one[POINT_BYTES..][..NONCE_BYTES], two[POINT_BYTES..][..NONCE_BYTES]);
    }

    #[test]
    fn the_text_form_is_strict_about_what_it_is() {
        let text = sealed_to_text(&seal(&key(7).public_key(), b"x").unwrap());
        let bytes = sealed_from_text(&text).unwrap();
        assert_eq!(sealed_from_text(&format!("0x{}", text.to_uppercase())).unwrap(), bytes);
        for wrong in [format!("{text}0"), format!(" {text}"), text.replace('4', "g")] {
            assert_eq!(sealed_from_text(&wrong), Err(SealedTextError::Digit), "{wrong}");
        }
        assert!(matches!(sealed_from_text(""), Err(SealedTextError::Length(_))));
    }
}
