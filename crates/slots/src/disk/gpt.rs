//! The partition ids (unique GUIDs) of a GPT disk, read from the primary table. Names and sizes come from
//! the kernel; this exists only because older kernels do not show the ids.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Logical block sizes a disk can have, in bytes.
const BLOCK_BYTES: [u64; 2] = [512, 4096];

/// UEFI 2.10 table 5-6: 128 bytes an entry is the rule; we bound both so that a table cannot exhaust memory.
const ENTRY_BYTES_LIMIT: u32 = 1024;
const ENTRIES_LIMIT: u32 = 256;

/// Why a disk's partition ids are not known.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("cannot read the disk")]
    Read(#[source] io::Error),
    #[error("no GPT header")]
    NoHeader,
    #[error("GPT header describes {entries} entries of {bytes} bytes")]
    Shape { entries: u32, bytes: u32 },
}

/// The ids of all used entries, lowercase and hyphenated.
pub(super) fn partition_ids(device: &Path) -> Result<Vec<String>, TableError> {
    let disk = File::open(device).map_err(TableError::Read)?;
    for block in BLOCK_BYTES {
        let mut header = [0; 92];
        disk.read_exact_at(&mut header, block).map_err(TableError::Read)?;
        if header.starts_with(b"EFI PART") {
            return entries(&disk, &header, block);
        }
    }
    Err(TableError::NoHeader)
}

fn entries(disk: &File, header: &[u8; 92], block: u64) -> Result<Vec<String>, TableError> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let start = u64::from(word(72)) | u64::from(word(76)) << 32;
    let (count, bytes) = (word(80), word(84));
    let sane = (1..=ENTRIES_LIMIT).contains(&count)
        && (128..=ENTRY_BYTES_LIMIT).contains(&bytes)
        && start < u64::MAX / block;
    if !sane {
        return Err(TableError::Shape { entries: count, bytes });
    }
    let mut table = vec![0; (count * bytes) as usize];
    disk.read_exact_at(&mut table, start * block).map_err(TableError::Read)?;
    let used = table.chunks_exact(bytes as usize).filter(|entry| entry[..16] != [0; 16]);
    Ok(used.map(|entry| guid(&entry[16..32])).collect())
}

/// The first three fields are little-endian, the rest is in order (UEFI 2.10 appendix A).
fn guid(raw: &[u8]) -> String {
    const ORDER: [usize; 16] = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::with_capacity(36);
    for (position, index) in ORDER.into_iter().enumerate() {
        if matches!(position, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{:02x}", raw[index]));
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file that starts like a disk with these partition ids.
    pub(crate) fn disk_with(ids: &[[u8; 16]]) -> Vec<u8> {
        let mut disk = vec![0; 512 * 34];
        disk[512..520].copy_from_slice(b"EFI PART");
        disk[512 + 72..512 + 80].copy_from_slice(&2_u64.to_le_bytes());
        disk[512 + 80..512 + 84].copy_from_slice(&128_u32.to_le_bytes());
        disk[512 + 84..512 + 88].copy_from_slice(&128_u32.to_le_bytes());
        for (index, id) in ids.iter().enumerate() {
            let at = 1024 + 128 * index;
            disk[at..at + 16].fill(1);
            disk[at + 16..at + 32].copy_from_slice(id);
        }
        disk
    }

    #[test]
    fn ids_are_written_as_the_firmware_writes_them() {
        let raw =
            [0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), disk_with(&[raw])).unwrap();
        assert_eq!(partition_ids(file.path()).unwrap(), ["c12a7328-f81f-11d2-ba4b-00a0c93ec93b"]);
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0; 8192]).unwrap();
        assert!(matches!(partition_ids(file.path()), Err(TableError::NoHeader)));
        let mut disk = disk_with(&[]);
        disk[512 + 80..512 + 84].copy_from_slice(&u32::MAX.to_le_bytes());
        std::fs::write(file.path(), disk).unwrap();
        assert!(matches!(partition_ids(file.path()), Err(TableError::Shape { .. })));
    }
}
