//! The volume key: 32 random bytes in a locked page. It is the raw LUKS2 passphrase of the data volume.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::page::{LockedPage, PageError, SECRET_BYTES};

/// Length of a volume key, bytes.
pub const KEY_BYTES: usize = SECRET_BYTES;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the volume key has no safe place in memory")]
    Page(#[from] PageError),
    #[error("the kernel gave no random bytes for the volume key")]
    Random(#[source] getrandom::Error),
    #[error("a volume key has 32 bytes, not {0}")]
    Length(usize),
}

/// 32 secret bytes in a page that is locked in memory, left out of core dumps and child processes, and
/// wiped on drop. No Debug, no Clone, no Serialize.
pub struct VolumeKey(LockedPage);

impl VolumeKey {
    /// A fresh key from the kernel's random generator.
    pub fn generate() -> Result<Self, KeyError> {
        let mut page = LockedPage::zeroed()?;
        getrandom::fill(page.bytes_mut()).map_err(KeyError::Random)?;
        Ok(Self(page))
    }

    /// Copies the key into a locked page and wipes the original.
    pub fn from_bytes(bytes: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self, KeyError> {
        Self::from_slice(bytes.as_slice())
    }

    /// Copies the key into a locked page; wiping the original is the caller's part.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != KEY_BYTES {
            return Err(KeyError::Length(bytes.len()));
        }
        let mut page = LockedPage::zeroed()?;
        page.bytes_mut().copy_from_slice(bytes);
        Ok(Self(page))
    }

    /// A key of zero bytes, to be filled in place.
    pub(crate) fn zeroed() -> Result<Self, KeyError> {
        Ok(Self(LockedPage::zeroed()?))
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8; KEY_BYTES] {
        self.0.bytes_mut()
    }

    /// The secret bytes themselves. Do not copy them into unlocked memory.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.bytes()
    }

    /// Whether both are the same key; constant time.
    pub fn matches(&self, other: &VolumeKey) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_keys_differ_and_copies_match() {
        let (one, two) = (VolumeKey::generate().unwrap(), VolumeKey::generate().unwrap());
        assert!(!one.matches(&two));
        assert!(one.matches(&VolumeKey::from_slice(one.expose()).unwrap()));
        let same = VolumeKey::from_bytes(Zeroizing::new(*one.expose())).unwrap();
        assert!(one.matches(&same));
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for length in [0, 31, 33, 64] {
            let error = VolumeKey::from_slice(&vec![7; length]).err().unwrap();
            assert!(matches!(error, KeyError::Length(found) if found == length));
        }
    }

    /// The kernel's own account of the page: locked (lo), out of dumps (dd), out of children (dc).
    #[test]
    fn the_page_is_locked_and_hidden() {
        let key = VolumeKey::generate().unwrap();
        let address = key.expose().as_ptr() as usize;
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut inside = false;
        let flags = maps
            .lines()
            .find_map(|line| {
                let range = line.split(' ').next().and_then(|range| range.split_once('-'));
                if let Some((from, to)) = range
                    && let (Ok(from), Ok(to)) =
                        (usize::from_str_radix(from, 16), usize::from_str_radix(to, 16))
                {
                    inside = (from..to).contains(&address);
                }
                line.strip_prefix("VmFlags:").filter(|_| inside).map(str::to_owned)
            })
            .expect("the key's page is mapped");
        for flag in ["lo", "dd", "dc"] {
            assert!(flags.split_whitespace().any(|found| found == flag), "{flag} missing in {flags}");
        }
    }

    #[test]
    fn a_key_may_move_to_another_thread() {
        let key = VolumeKey::generate().unwrap();
        let copy = VolumeKey::from_slice(key.expose()).unwrap();
        let moved = std::thread::spawn(move || key).join().unwrap();
        assert!(moved.matches(&copy));
    }
}
