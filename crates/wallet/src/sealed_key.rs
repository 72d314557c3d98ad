//! What a sealed volume key contains: its 64 hex digits, because a wallet's command prints what it opened, and
//! only text survives every terminal, pipe and program on the way. Owns no key beyond the call.

use zeroize::Zeroizing;

use crate::ecies::{SealError, seal, sealed_to_text};
use crate::{PublicKey, hex};

/// Bytes of a volume key.
pub const KEY_BYTES: usize = 32;

/// What the wallet opened is no volume key. Never shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what the wallet opened is no volume key: expected 64 hex digits, or 32 bytes; found {0} bytes")]
pub struct OpenedKeyError(usize);

/// Seals a volume key for the owner's wallet; the text is what `rw decrypt` takes.
pub fn seal_key(to: &PublicKey, key: &[u8; KEY_BYTES]) -> Result<String, SealError> {
    let digits = Zeroizing::new(hex::encode(key));
    seal(to, digits.as_bytes()).map(|sealed| sealed_to_text(&sealed))
}

/// The volume key in what a wallet gave back: hex digits, with or without `0x`, in any case and with white
/// space around, as commands print; or, from a program that sealed them raw, 32 bytes.
pub fn opened_key(opened: &[u8]) -> Result<Zeroizing<[u8; KEY_BYTES]>, OpenedKeyError> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if opened.len() == KEY_BYTES {
        key.copy_from_slice(opened);
        return Ok(key);
    }
    let trimmed = opened.trim_ascii();
    let digits = trimmed.strip_prefix(b"0x").unwrap_or(trimmed);
    if hex::decode_into(digits, key.as_mut()) { Ok(key) } else { Err(OpenedKeyError(opened.len())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SecretKey, open, sealed_from_text};

    #[test]
    fn the_wallet_opens_what_was_sealed() {
        let (owner, key) = (SecretKey::generate().unwrap(), [0xa5; KEY_BYTES]);
        let sealed = sealed_from_text(&seal_key(&owner.public_key(), &key).unwrap()).unwrap();
        let opened = open(&owner, &sealed).unwrap();
        assert_eq!(opened.as_slice(), "a5".repeat(32).as_bytes());
        assert_eq!(*opened_key(&opened).unwrap(), key);
    }

    #[test]
    fn every_way_a_command_prints_it() {
        let key = [0xab; KEY_BYTES];
        for printed in [
            "ab".repeat(32),
            "AB".repeat(32),
            format!("0x{}\n", "ab".repeat(32)),
            format!(" {}\r\n", "aB".repeat(32)),
        ] {
            assert_eq!(*opened_key(printed.as_bytes()).unwrap(), key, "{printed:?}");
        }
        // 32 bytes are the key, even if all of them are digits.
        assert_eq!(*opened_key(&[b'a'; 32]).unwrap(), [b'a'; 32]);
        for wrong in ["", "ab", &"ab".repeat(33), &"ag".repeat(32), &format!("{0} {0}", "ab".repeat(16))] {
            assert_eq!(opened_key(wrong.as_bytes()), Err(OpenedKeyError(wrong.len())), "{wrong}");
        }
    }
}
