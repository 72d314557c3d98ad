//! What makes a kept share useless to whoever steals the guardian's disk: AES-256-GCM under a key that only
//! the share's owner has. Byte for byte in docs/formats.md. Knows nothing of the envelope around it.

use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, Key, KeyInit};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::key::KEY_BYTES;

/// HKDF info: what this key is for, and which version of that.
const INFO: &[u8] = b"orama share seal v1";
/// Bytes of a nonce. Random ones do: an owner seals at most 255 shares for each generation.
pub(crate) const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// A share and the tag that follows it.
pub(crate) const SEALED_BYTES: usize = KEY_BYTES + TAG_BYTES;

/// The key that seals the shares of one volume. Wiped on drop; on the heap, so that moving it leaves no copy
/// behind. No Debug, no Clone, no Serialize.
pub struct ShareSeal {
    key: Box<[u8; 32]>,
    volume: [u8; 16],
}

impl ShareSeal {
    /// From the owner's WireGuard private key, which it has as long as its header, and the volume's UUID.
    pub fn new(wireguard_private_key: &[u8; 32], volume: [u8; 16]) -> Self {
        let mut seal = Self { key: Box::new([0; 32]), volume };
        Hkdf::<Sha256>::new(Some(&volume), wireguard_private_key)
            .expand(INFO, seal.key.as_mut_slice())
            .expect("HKDF-SHA256 gives up to 8160 bytes");
        seal
    }

    /// The volume whose shares this seals.
    pub(crate) fn volume(&self) -> [u8; 16] {
        self.volume
    }

    fn cipher(&self) -> Aes256Gcm {
        let key: &Key<Aes256Gcm> = (&*self.key).into();
        Aes256Gcm::new(key)
    }

    /// The sealed share, bound to what stands in the clear beside it.
    pub(crate) fn close(
        &self,
        nonce: &[u8; NONCE_BYTES],
        beside: &[u8],
        share: &[u8; KEY_BYTES],
    ) -> [u8; SEALED_BYTES] {
        let mut sealed = [0; SEALED_BYTES];
        // The share is in the clear here until it is encrypted in place.
        let (text, tag) = sealed.split_at_mut(KEY_BYTES);
        text.copy_from_slice(share);
        let made = self
            .cipher()
            .encrypt_inout_detached(nonce.into(), beside, text.into())
            .expect("AES-GCM takes 64 GiB");
        tag.copy_from_slice(&made);
        sealed
    }

    /// The share; none when it was sealed under another key or when a bit of it, or beside it, is another.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_BYTES],
        beside: &[u8],
        sealed: &[u8; SEALED_BYTES],
    ) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let (text, tag) = sealed.split_at(KEY_BYTES);
        let mut share = Zeroizing::new([0; KEY_BYTES]);
        share.copy_from_slice(text);
        let tag = tag.try_into().ok()?;
        let opened =
            self.cipher().decrypt_inout_detached(nonce.into(), beside, share.as_mut_slice().into(), tag);
        opened.ok().map(|()| share)
    }
}

impl Drop for ShareSeal {
    fn drop(&mut self) {
        self.key.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOLUME: [u8; 16] =
        [0x00, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Derived by Python's `cryptography` 48.0.0.
    #[test]
    fn the_key_is_the_documented_one() {
        let key = hex(ShareSeal::new(&[0x77; 32], VOLUME).key.as_slice());
        assert_eq!(key, "bc3be898b4193d0caa2d6040d9098f495693b708acbe68629cf71ae0f8164300");
        let formats = include_str!("../../../docs/formats.md");
        assert!(formats.contains(&key), "formats.md lacks the key {key}");
    }

    #[test]
    fn only_the_same_key_with_the_same_beside_it_opens() {
        let seal = ShareSeal::new(&[7; 32], VOLUME);
        let sealed = seal.close(&[1; NONCE_BYTES], b"beside", &[9; KEY_BYTES]);
        let opens = |seal: &ShareSeal, nonce: u8, beside: &[u8]| {
            seal.open(&[nonce; NONCE_BYTES], beside, &sealed).is_some_and(|share| *share == [9; KEY_BYTES])
        };
        assert!(opens(&seal, 1, b"beside"));
        assert!(!opens(&seal, 2, b"beside"));
        assert!(!opens(&seal, 1, b"besides"));
        assert!(!opens(&ShareSeal::new(&[8; 32], VOLUME), 1, b"beside"));
        assert!(!opens(&ShareSeal::new(&[7; 32], [0; 16]), 1, b"beside"));
        for bit in 0..SEALED_BYTES * 8 {
            let mut edited = sealed;
            edited[bit / 8] ^= 1 << (bit % 8);
            assert!(seal.open(&[1; NONCE_BYTES], b"beside", &edited).is_none(), "bit {bit}");
        }
    }
}
