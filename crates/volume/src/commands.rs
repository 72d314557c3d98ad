//! Command lines and limits of the helper programs: what is asked of them and why. Runs nothing itself,
//! but for the folder that cryptsetup expects to find.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// cryptsetup's lock folder, a constant of its build; it does not make the parent of its lock files itself.
pub(crate) const LOCK_DIRECTORY: &str = "/run/cryptsetup";
/// Exit code of cryptsetup for "no key available with this passphrase" (cryptsetup(8), return codes).
pub(crate) const EXIT_WRONG_KEY: i32 = 2;
/// Deadline of one cryptsetup call, in seconds. The slowest (luksFormat under emulation) takes about one second.
pub(crate) const CRYPTSETUP_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadline of mkfs.ext4, in seconds. With lazy tables it writes a few megabytes whatever the size of the disk.
pub(crate) const MKFS_TIMEOUT: Duration = Duration::from_secs(300);
/// Header text without our token: a keyslot, a segment, a digest and perhaps small foreign tokens, in bytes.
pub(crate) const DUMP_LIMIT_BYTES: usize = 2 << 20;

/// Where the helper programs lie.
#[derive(Clone, Debug)]
pub struct Programs {
    pub cryptsetup: PathBuf,
    pub mkfs_ext4: PathBuf,
}

impl Default for Programs {
    /// The places in the image.
    fn default() -> Self {
        Self { cryptsetup: "/usr/sbin/cryptsetup".into(), mkfs_ext4: "/usr/sbin/mkfs.ext4".into() }
    }
}

/// The command line of luksFormat. Every choice is written down in docs/formats.md.
pub(crate) fn luks_format<'a>(uuid: &'a str, device: &'a str) -> [&'a str; 26] {
    [
        "luksFormat",
        "--batch-mode",
        "--type",
        "luks2",
        "--cipher",
        "aes-xts-plain64",
        "--key-size",
        "512",
        "--sector-size",
        "4096",
        "--hash",
        "sha256",
        // The key has 256 bits of entropy: a slow derivation would protect nothing and cost every boot.
        "--pbkdf",
        "pbkdf2",
        "--pbkdf-force-iterations",
        "1000",
        // Room for the record of 250 peers, twice over.
        "--luks2-metadata-size",
        "1m",
        "--luks2-keyslots-size",
        "2m",
        "--uuid",
        uuid,
        "--key-file",
        "-",
        "--keyfile-size=32",
        device,
    ]
}

/// The command line of mkfs.ext4.
///
/// Nothing is written up front that can wait: the volume key is new, so what lies under inode tables and journal is
/// noise. The kernel tells unused inode tables by their group checksums and clears them later at a tenth of the disk's
/// pace; journal recovery stops at the first block without its magic number and sequence. `nodiscard`: dm-crypt passes
/// none on, so trying is wasted time. `quota`: each service has a uid of its own, which is what its disk limit counts.
/// `-m 1`: root keeps 1 % so that services cannot fill the agent's own files out.
/// Sizes are named because the image has no mke2fs.conf that could name them.
pub(crate) fn mkfs_ext4(device: &str) -> [&str; 15] {
    [
        "-F",
        "-q",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "1",
        "-L",
        "orama-data",
        "-O",
        "quota",
        "-E",
        "lazy_itable_init=1,lazy_journal_init=1,nodiscard,quotatype=usrquota",
        device,
    ]
}

/// cryptsetup locks block devices (not files) by a file in this folder and fails when the folder is not there.
pub(crate) fn make_lock_directory(device: &Path) -> io::Result<()> {
    if !device.metadata()?.file_type().is_block_device() {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).create(LOCK_DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::program::Run;

    /// Only the command line: opening needs device-mapper, so the filesystem is made on a plain file here.
    #[test]
    fn mkfs_takes_our_options_without_a_configuration_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let programs = Programs::default();
        assert!(programs.mkfs_ext4.exists(), "mkfs.ext4 is missing: install the Debian package e2fsprogs");
        let device = path.display().to_string();
        let run = Run {
            program: &programs.mkfs_ext4,
            arguments: &mkfs_ext4(&device),
            stdin: b"",
            stdout_limit: 1 << 16,
            timeout: MKFS_TIMEOUT,
        };
        let finished = run.finish().unwrap();
        assert_eq!((finished.code, finished.stderr.as_str()), (0, ""));
        let image = std::fs::read(path).unwrap();
        // ext4 superblock at 1024: magic at 56, log2(block size / 1024) at 24, label at 120.
        assert_eq!(image[1024 + 56..][..2], [0x53, 0xef]);
        assert_eq!(image[1024 + 24], 2);
        assert_eq!(&image[1024 + 120..][..10], b"orama-data");
    }
}
