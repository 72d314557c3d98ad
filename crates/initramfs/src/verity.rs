//! Opens a root partition through dm-verity. The root hash and geometry come from the command line; the
//! superblock on the partition only has to agree with them. Corruption found later panics the kernel.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use orama_slots::cmdline::{VERITY_BLOCK_BYTES, VerityRoot};

use crate::dm::{self, DmError, Target};

/// Name of the device-mapper device; visible in /sys, not used to find it.
const DEVICE_NAME: &str = "orama-root";

const SECTOR_BYTES: u64 = 512;

/// SHA-256 digests in one hash block.
const DIGESTS_PER_BLOCK: u64 = VERITY_BLOCK_BYTES / 32;

#[derive(Debug, thiserror::Error)]
pub enum VerityError {
    #[error("cannot read the partition")]
    Read(#[source] io::Error),
    #[error("not a block device")]
    NotABlockDevice,
    #[error("partition ends before its hash tree: {have} blocks of {need}")]
    TooShort { have: u64, need: u64 },
    #[error("verity superblock disagrees with the command line: {what}")]
    Superblock { what: &'static str },
    #[error("device-mapper refused the verified device")]
    Mapper(#[from] DmError),
}

/// The device node that gives only verified blocks.
pub fn open(partition: &Path, root: &VerityRoot) -> Result<PathBuf, VerityError> {
    let device = File::open(partition).map_err(VerityError::Read)?;
    let metadata = device.metadata().map_err(VerityError::Read)?;
    if !metadata.file_type().is_block_device() {
        return Err(VerityError::NotABlockDevice);
    }
    check_geometry(&device, root)?;
    let (major, minor) = (libc::major(metadata.rdev()), libc::minor(metadata.rdev()));
    let target = Target {
        kind: "verity",
        sectors: root.data_blocks * (VERITY_BLOCK_BYTES / SECTOR_BYTES),
        parameters: table(&format!("{major}:{minor}"), root),
    };
    Ok(dm::create_read_only(DEVICE_NAME, &target)?)
}

/// Documentation/admin-guide/device-mapper/verity.rst: version, data and hash device, block sizes, counts,
/// hash, digest, salt, optional arguments.
fn table(device: &str, root: &VerityRoot) -> String {
    let VerityRoot { root_hash, salt, data_blocks } = root;
    let hash_start = data_blocks + 1;
    format!(
        "1 {device} {device} {VERITY_BLOCK_BYTES} {VERITY_BLOCK_BYTES} {data_blocks} {hash_start} \
         sha256 {root_hash} {salt} 1 panic_on_corruption"
    )
}

fn check_geometry(device: &File, root: &VerityRoot) -> Result<(), VerityError> {
    use std::io::{Seek, SeekFrom};
    let bytes = (&*device).seek(SeekFrom::End(0)).map_err(VerityError::Read)?;
    let (have, need) = (bytes / VERITY_BLOCK_BYTES, root.data_blocks + 1 + tree_blocks(root.data_blocks));
    if have < need {
        return Err(VerityError::TooShort { have, need });
    }
    let mut superblock = [0; 512];
    device
        .read_exact_at(&mut superblock, root.data_blocks * VERITY_BLOCK_BYTES)
        .map_err(VerityError::Read)?;
    match superblock_disagreement(&superblock, root) {
        None => Ok(()),
        Some(what) => Err(VerityError::Superblock { what }),
    }
}

/// Blocks of the hash tree over this many data blocks.
fn tree_blocks(data_blocks: u64) -> u64 {
    let (mut level, mut total) = (data_blocks, 0);
    while level > 1 {
        level = level.div_ceil(DIGESTS_PER_BLOCK);
        total += level;
    }
    total
}

/// The superblock as veritysetup writes it (cryptsetup, lib/verity/verity.c).
fn superblock_disagreement(superblock: &[u8; 512], root: &VerityRoot) -> Option<&'static str> {
    let word = |at: usize| {
        u32::from_le_bytes([superblock[at], superblock[at + 1], superblock[at + 2], superblock[at + 3]])
    };
    let blocks = u64::from(word(72)) | u64::from(word(76)) << 32;
    let salt_bytes = usize::from(u16::from_le_bytes([superblock[80], superblock[81]]));
    let salt = superblock.get(88..88 + salt_bytes).map(hex);
    let checks = [
        (&superblock[..8] == b"verity\0\0", "no superblock where the data should end"),
        (word(8) == 1 && word(12) == 1, "version"),
        (superblock[32..64].starts_with(b"sha256\0"), "hash algorithm"),
        (
            u64::from(word(64)) == VERITY_BLOCK_BYTES && u64::from(word(68)) == VERITY_BLOCK_BYTES,
            "block size",
        ),
        (blocks == root.data_blocks, "data block count"),
        (salt.as_ref() == Some(&root.salt), "salt"),
    ];
    checks.into_iter().find(|(agrees, _)| !agrees).map(|(_, what)| what)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> VerityRoot {
        VerityRoot { root_hash: "11".repeat(32), salt: "a0b1".into(), data_blocks: 300 }
    }

    fn superblock() -> [u8; 512] {
        let mut block = [0; 512];
        block[..6].copy_from_slice(b"verity");
        block[8] = 1;
        block[12] = 1;
        block[32..38].copy_from_slice(b"sha256");
        block[64..68].copy_from_slice(&4096_u32.to_le_bytes());
        block[68..72].copy_from_slice(&4096_u32.to_le_bytes());
        block[72..80].copy_from_slice(&300_u64.to_le_bytes());
        block[80] = 2;
        block[88..90].copy_from_slice(&[0xa0, 0xb1]);
        block
    }

    #[test]
    fn the_table_panics_on_corruption() {
        assert_eq!(
            table("254:2", &root()),
            format!("1 254:2 254:2 4096 4096 300 301 sha256 {} a0b1 1 panic_on_corruption", "11".repeat(32))
        );
    }

    #[test]
    fn a_superblock_must_agree_in_every_field() {
        assert_eq!(superblock_disagreement(&superblock(), &root()), None);
        let fields = [(0, "no superblock where the data should end"), (8, "version"), (33, "hash algorithm")];
        let more = [(65, "block size"), (72, "data block count"), (80, "salt"), (89, "salt")];
        for (at, what) in fields.into_iter().chain(more) {
            let mut block = superblock();
            block[at] ^= 0x40;
            assert_eq!(superblock_disagreement(&block, &root()), Some(what), "byte {at}");
        }
    }

    #[test]
    fn tree_sizes_are_those_of_veritysetup() {
        // `veritysetup format` on files of these sizes makes trees of these many blocks.
        for (data, tree) in [(1, 0), (2, 1), (128, 1), (129, 3), (300, 4), (16384, 129), (16385, 132)] {
            assert_eq!(tree_blocks(data), tree, "{data}");
        }
    }

    #[test]
    fn a_plain_file_is_no_partition() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(open(file.path(), &root()), Err(VerityError::NotABlockDevice)));
    }

    #[test]
    fn a_partition_that_is_too_short_is_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(304 * 4096).unwrap();
        assert!(matches!(
            check_geometry(&file, &root()),
            Err(VerityError::TooShort { have: 304, need: 305 })
        ));
    }
}
