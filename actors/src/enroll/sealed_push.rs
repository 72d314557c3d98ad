//! The seal of the compatibility mode `sealed-push`: what an older gateway posts to port 9999 and what it gets back.
//! `base64(nonce ‖ ciphertext ‖ tag)`, AES-256-GCM, key from the registration code. Handles no HTTP.

use aes_gcm::aead::Aead;
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

/// HKDF info: fixed by the gateways that exist.
const INFO: &[u8] = b"orama-enrollment-seal-v1";
/// Bytes of the nonce in front of the ciphertext.
const NONCE_BYTES: usize = 12;

#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the body is not base64")]
    Base64(#[source] base64::DecodeError),
    #[error("the body has {0} bytes, too few for a nonce and a tag")]
    Short(usize),
    #[error("the body does not decrypt with this node's code")]
    Wrong,
    #[error("no random numbers for the nonce")]
    Random(#[source] getrandom::Error),
    #[error("the answer cannot be sealed")]
    Seal,
}

/// The key that both sides derive from the registration code.
pub struct Seal {
    cipher: Aes256Gcm,
}

impl Seal {
    pub fn from_code(code: &str) -> Self {
        let key = derive(code);
        let key: &Key<Aes256Gcm> = (&*key).into();
        Self { cipher: Aes256Gcm::new(key) }
    }

    /// Opens a request body.
    pub fn open(&self, body: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let sealed = STANDARD.decode(body.trim()).map_err(SealError::Base64)?;
        let (nonce, rest) =
            sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Short(sealed.len()))?;
        let nonce: &Nonce<_> = nonce.into();
        self.cipher.decrypt(nonce, rest).map(Zeroizing::new).map_err(|_| SealError::Wrong)
    }

    /// Seals an answer under a fresh random nonce.
    pub fn close(&self, plain: &[u8]) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        let sealed = self.cipher.encrypt((&nonce).into(), plain).map_err(|_| SealError::Seal)?;
        Ok(STANDARD.encode([nonce.as_slice(), &sealed].concat()))
    }
}

fn derive(code: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let derived = Hkdf::<Sha256>::new(None, code.as_bytes()).expand(INFO, &mut *key);
    // HKDF-SHA256 gives up to 8160 bytes.
    debug_assert!(derived.is_ok());
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "a1b2c3d4e5f60718293a";

    #[test]
    fn the_key_is_the_one_existing_gateways_derive() {
        let hex: String = derive(CODE).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "976100a197b185882e962b389a5c06af7fae9c9f83d8cbfdbca7e3845a7f3bdf");
    }

    #[test]
    fn round_trip_and_refusals() {
        let seal = Seal::from_code(CODE);
        let body = seal.close(b"{\"status\":\"ok\"}").unwrap();
        assert_eq!(seal.open(&format!("{body}\n")).unwrap().as_slice(), b"{\"status\":\"ok\"}");
        assert_ne!(body, seal.close(b"{\"status\":\"ok\"}").unwrap(), "a nonce is used once");
        assert!(matches!(Seal::from_code("b1b2c3d4e5f60718293a").open(&body), Err(SealError::Wrong)));
        assert!(matches!(seal.open("AAAA"), Err(SealError::Short(3))));
        assert!(matches!(seal.open("!"), Err(SealError::Base64(_))));
        let mut flipped = STANDARD.decode(&body).unwrap();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(matches!(seal.open(&STANDARD.encode(flipped)), Err(SealError::Wrong)));
    }
}
