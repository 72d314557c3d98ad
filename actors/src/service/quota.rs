//! How much of the data volume a service owns and may own, by its uid: ext4's user quota. The volume is made with it
//! (crates/volume); this file sets limits and reads use. A file system without quotas is said so, not ignored.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::quota::{Dqblk, QuotaType, QuotaValidFlags, quotactl_get, quotactl_set};
use nix::sys::stat::{major, minor};
use nix::sys::statvfs::statvfs;

/// The unit of block limits in quotactl(2) (QIF_DQBLKSIZE).
const UNIT_BYTES: u64 = 1024;
/// ext4 has an inode for every 16 KiB; twice as many for its share, so that empty files cannot use up everybody's.
const BYTES_PER_INODE: u64 = 8192;
/// Of the whole file system, in percent, for a service whose profile names no limit: one that runs wild shall not
/// fill the volume for all others.
const SHARE_PERCENT: u64 = 80;
/// Room for the folders of a service with a small limit.
const INODES_MIN: u64 = 1024;

/// One uid on one file system.
pub struct Account {
    device: PathBuf,
    uid: i32,
    /// All blocks of the file system.
    size_bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error("cannot find the file system of {path}")]
    FileSystem {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "filesystem.disk_bytes cannot be enforced: {device} keeps no quotas; it was made by an older image"
    )]
    NoQuotas { device: PathBuf },
    #[error("cannot limit the disk space of uid {uid} on {device}")]
    Set {
        uid: i32,
        device: PathBuf,
        #[source]
        source: Errno,
    },
}

impl Account {
    /// That of `uid` on the file system of `path`.
    pub fn find(path: &Path, uid: u32) -> Result<Self, QuotaError> {
        let failed = |source| QuotaError::FileSystem { path: path.to_owned(), source };
        let device = path.metadata().map_err(failed)?.dev();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").map_err(failed)?;
        let number = format!("{}:{}", major(device), minor(device));
        let device = source_of(&mounts, &number).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let uid = i32::try_from(uid).map_err(|error| failed(io::Error::other(error)))?;
        let size = statvfs(path).map_err(|errno| failed(errno.into()))?;
        let size_bytes = size.blocks().saturating_mul(size.fragment_size());
        Ok(Self { device: device.into(), uid, size_bytes })
    }

    /// Sets the limit of the profile, or [`SHARE_PERCENT`] of the file system.
    pub fn limit(&self, bytes: Option<u64>) -> Result<(), QuotaError> {
        let mut record = Dqblk::default();
        let most = bytes.unwrap_or(self.size_bytes / 100 * SHARE_PERCENT);
        // 0 would be no limit.
        record.set_blocks_hard_limit((most / UNIT_BYTES).max(1));
        record.set_inodes_hard_limit((most / BYTES_PER_INODE).max(INODES_MIN));
        let fields = QuotaValidFlags::QIF_LIMITS;
        match quotactl_set(QuotaType::USRQUOTA, &self.device, self.uid, &record, fields) {
            Ok(()) => Ok(()),
            // No quotas, or none in this kernel.
            Err(Errno::ESRCH | Errno::ENOSYS | Errno::ENOTBLK) => match bytes {
                None => Ok(()),
                Some(_) => Err(QuotaError::NoQuotas { device: self.device.clone() }),
            },
            Err(source) => Err(QuotaError::Set { uid: self.uid, device: self.device.clone(), source }),
        }
    }

    /// Bytes that the uid owns and may own, when they are counted.
    pub fn used(&self) -> Option<(u64, u64)> {
        let record = quotactl_get(QuotaType::USRQUOTA, &self.device, self.uid).ok()?;
        Some((record.occupied_space()?, record.blocks_hard_limit()?.saturating_mul(UNIT_BYTES)))
    }
}

/// The source column of the mount with this `major:minor` in the text of mountinfo (proc(5)).
fn source_of(mounts: &str, number: &str) -> Option<String> {
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let found = left.split(' ').nth(2)? == number;
        found.then(|| right.split(' ').nth(1)).flatten().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_comes_from_the_mount_table() {
        let mounts = "22 1 0:20 / /proc rw - proc proc rw\n\
                      36 35 253:1 / /opt/orama/.orama rw,nosuid shared:1 - ext4 /dev/mapper/orama-data rw,usrquota\n";
        assert_eq!(source_of(mounts, "253:1").as_deref(), Some("/dev/mapper/orama-data"));
        assert_eq!(source_of(mounts, "253:2"), None);
        assert_eq!(source_of("nonsense\n", "253:1"), None);
    }

    #[test]
    fn a_file_system_without_quotas_is_said_so() {
        // A folder of the build machine: no quota is on there, whatever it is.
        let account = Account::find(Path::new("/proc"), 4711).unwrap();
        assert!(account.limit(Some(1 << 20)).is_err());
        assert_eq!(account.used(), None);
    }
}
