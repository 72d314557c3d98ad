//! How a node's identity and data end: a mark that says so, written first, and then zeros over key slots and both header
//! copies. The mark lies in a block that nothing else uses and goes last, so an erasure that was cut off is resumed.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::header::METADATA_BYTES;

/// Where the data begins: two metadata areas and the key slots, bytes (see `commands::luks_format`).
const DATA_OFFSET: u64 = 4 << 20;
/// The last block before the data. The one key slot that we make ends 1.7 MiB before it, and cryptsetup writes
/// nowhere else in that area but when it formats.
const MARK_OFFSET: u64 = DATA_OFFSET - BLOCK_BYTES;
const BLOCK_BYTES: u64 = 4096;
/// Within one sector of every disk: it is there whole, or not at all.
const MARK: &[u8; 64] = b"orama-leaving 1\nthis node leaves its cluster: erase its header.\n";
/// Zeros written by one call, bytes.
const CHUNK_BYTES: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    #[error("{device} has no header of an enrolled node")]
    NotEnrolled { device: String },
    #[error("{device} is not marked for being erased")]
    NotMarked { device: String },
    #[error("cannot write {device}")]
    Write {
        device: String,
        #[source]
        source: io::Error,
    },
}

/// Whether the node is to be erased.
pub(crate) fn is_marked(device: &File) -> io::Result<bool> {
    let mut found = [0; MARK.len()];
    match device.read_exact_at(&mut found, MARK_OFFSET) {
        Ok(()) => Ok(found == *MARK),
        // Too small to have ever been formatted by us.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// On the disk when it returns.
pub(crate) fn mark(device: &Path) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open(device)?;
    device.write_all_at(MARK, MARK_OFFSET)?;
    device.sync_all()
}

/// What is overwritten, in order; each is on the disk before the next begins. The key slots first: with them the data
/// is gone. The mark last: until then every boot comes back here.
fn steps() -> [Range<u64>; 4] {
    let metadata = METADATA_BYTES as u64;
    [2 * metadata..MARK_OFFSET, metadata..2 * metadata, 0..metadata, MARK_OFFSET..DATA_OFFSET]
}

/// Leaves nothing of the header, and the data without its key.
pub(crate) fn erase(device: &Path) -> io::Result<()> {
    let device = OpenOptions::new().read(true).write(true).open(device)?;
    steps().into_iter().try_for_each(|step| overwrite(&device, step))
}

fn overwrite(device: &File, range: Range<u64>) -> io::Result<()> {
    let zeros = vec![0; CHUNK_BYTES];
    let mut at = range.start;
    while at < range.end {
        let length = (range.end - at).min(CHUNK_BYTES as u64);
        device.write_all_at(&zeros[..length as usize], at)?;
        at += length;
    }
    device.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> tempfile::NamedTempFile {
        let disk = tempfile::NamedTempFile::new().unwrap();
        disk.as_file().write_all_at(&vec![0x5a; DATA_OFFSET as usize + 8192], 0).unwrap();
        disk
    }

    #[test]
    fn the_mark_is_one_sector_that_the_erasure_takes_last() {
        let disk = disk();
        assert!(!is_marked(disk.as_file()).unwrap());
        mark(disk.path()).unwrap();
        assert!(is_marked(disk.as_file()).unwrap());
        // Power goes in the middle of each step: it is resumed, until the last one is through.
        for (index, step) in steps().into_iter().enumerate() {
            let half = step.start..step.start + (step.end - step.start) / 2 / BLOCK_BYTES * BLOCK_BYTES;
            overwrite(disk.as_file(), half).unwrap();
            assert!(is_marked(disk.as_file()).unwrap(), "step {index}");
            overwrite(disk.as_file(), step).unwrap();
            assert_eq!(is_marked(disk.as_file()).unwrap(), index < 3, "step {index}");
        }
        let mut head = vec![1; DATA_OFFSET as usize];
        disk.as_file().read_exact_at(&mut head, 0).unwrap();
        assert!(head.iter().all(|byte| *byte == 0));
        let mut data = [0; 8192];
        disk.as_file().read_exact_at(&mut data, DATA_OFFSET).unwrap();
        assert!(data.iter().all(|byte| *byte == 0x5a), "nothing behind the header is touched");
        erase(disk.path()).unwrap();
    }

    #[test]
    fn a_small_device_is_not_marked() {
        let disk = tempfile::NamedTempFile::new().unwrap();
        assert!(!is_marked(disk.as_file()).unwrap());
    }
}
