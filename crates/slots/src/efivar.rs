//! Reads the string variables that systemd-boot leaves in efivarfs. Reading only; never writes a variable.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Where the kernel mounts efivarfs by convention.
pub(crate) const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// Vendor GUID of the boot loader interface (systemd's BOOT_LOADER_INTERFACE.md).
const LOADER_GUID: &str = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f";

/// efivarfs puts a 32-bit attribute word before the value.
const ATTRIBUTES_BYTES: usize = 4;

/// Longest variable we believe, in bytes. A path on the ESP is far below it.
const VARIABLE_LIMIT_BYTES: u64 = 4096;

/// Why a boot loader variable could not be used.
#[derive(Debug, thiserror::Error)]
pub enum EfiVarError {
    #[error("cannot read the firmware variable {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("firmware variable {} is longer than {VARIABLE_LIMIT_BYTES} bytes", path.display())]
    TooLong { path: PathBuf },
    #[error("firmware variable {} is not a UTF-16 string", path.display())]
    NotText { path: PathBuf },
}

/// The string value of a boot loader variable, `None` when the firmware has no such variable.
pub(crate) fn loader_string(efivars: &Path, name: &str) -> Result<Option<String>, EfiVarError> {
    let path = efivars.join(format!("{name}-{LOADER_GUID}"));
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(EfiVarError::Read { path, source }),
    };
    let mut bytes = Vec::new();
    if let Err(source) = file.take(VARIABLE_LIMIT_BYTES + 1).read_to_end(&mut bytes) {
        return Err(EfiVarError::Read { path, source });
    }
    if bytes.len() as u64 > VARIABLE_LIMIT_BYTES {
        return Err(EfiVarError::TooLong { path });
    }
    match decode(&bytes) {
        Some(text) => Ok(Some(text)),
        None => Err(EfiVarError::NotText { path }),
    }
}

/// Attribute word, UTF-16LE, terminating NUL.
fn decode(bytes: &[u8]) -> Option<String> {
    let value = bytes.get(ATTRIBUTES_BYTES..)?;
    if !value.len().is_multiple_of(2) {
        return None;
    }
    let units: Vec<u16> = value.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
    let (last, text) = units.split_last()?;
    if *last != 0 || text.contains(&0) {
        return None;
    }
    String::from_utf16(text).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What efivarfs shows for a string variable.
    pub(crate) fn encode(text: &str) -> Vec<u8> {
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes));
        bytes
    }

    pub(crate) fn store(efivars: &Path, name: &str, text: &str) {
        std::fs::write(efivars.join(format!("{name}-{LOADER_GUID}")), encode(text)).unwrap();
    }

    #[test]
    fn a_string_survives_the_round_trip() {
        assert_eq!(decode(&encode("\\EFI\\Linux\\x+3.efi")).as_deref(), Some("\\EFI\\Linux\\x+3.efi"));
    }

    #[test]
    fn what_is_not_a_terminated_string_is_refused() {
        for bytes in [
            &b""[..],
            &[6, 0, 0, 0],
            &[6, 0, 0, 0, b'a', 0],
            &[6, 0, 0, 0, b'a', 0, 0],
            &[6, 0, 0, 0, 0, 0xd8, 0, 0],
        ] {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn absent_and_endless_variables_are_told_apart() {
        let efivars = tempfile::tempdir().unwrap();
        assert!(loader_string(efivars.path(), "LoaderX").unwrap().is_none());
        store(efivars.path(), "LoaderX", &"x".repeat(5000));
        assert!(matches!(loader_string(efivars.path(), "LoaderX"), Err(EfiVarError::TooLong { .. })));
    }
}
