//! The file systems that a node needs before anything else runs, and the cgroup controllers of the services.
//! The root file system itself was verified and mounted by the initramfs.

use std::fs;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

/// One early mount: what, where, how, and whether a node can live without it.
struct EarlyMount {
    kind: &'static str,
    target: &'static str,
    flags: MsFlags,
    data: &'static str,
    required: bool,
}

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);

/// In mount order. Sizes bound what a runaway writer can take from memory.
const EARLY_MOUNTS: [EarlyMount; 7] = [
    EarlyMount { kind: "proc", target: "/proc", flags: QUIET, data: "", required: true },
    EarlyMount { kind: "sysfs", target: "/sys", flags: QUIET, data: "", required: true },
    EarlyMount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        data: "mode=0755",
        required: true,
    },
    EarlyMount { kind: "tmpfs", target: "/run", flags: QUIET, data: "mode=0755,size=16m", required: true },
    EarlyMount { kind: "tmpfs", target: "/tmp", flags: QUIET, data: "mode=1777,size=16m", required: true },
    EarlyMount {
        kind: "cgroup2",
        target: "/sys/fs/cgroup",
        flags: QUIET,
        data: "nsdelegate,memory_recursiveprot",
        required: true,
    },
    // Absent when the kernel was booted without UEFI; boot counting then has nothing to do.
    EarlyMount {
        kind: "efivarfs",
        target: "/sys/firmware/efi/efivars",
        flags: QUIET,
        data: "",
        required: false,
    },
];

/// Controllers that services are limited by. The agent stays in the root group, which has no limits.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "io"];

#[derive(Debug, thiserror::Error)]
pub enum EarlyMountError {
    #[error("mounting {kind} at {target}")]
    Mount {
        kind: &'static str,
        target: &'static str,
        #[source]
        source: Errno,
    },
    #[error("enabling the cgroup controllers for services")]
    Controllers(#[source] io::Error),
    #[error("creating /run/orama")]
    RunFolder(#[source] io::Error),
}

/// Mounts everything in [`EARLY_MOUNTS`] and enables the cgroup controllers. A target that the initramfs
/// already mounted is left as it is.
pub fn mount_early() -> Result<(), EarlyMountError> {
    for early in &EARLY_MOUNTS {
        let done = mount(Some(early.kind), early.target, Some(early.kind), early.flags, Some(early.data));
        match done {
            Ok(()) | Err(Errno::EBUSY) => {}
            Err(_) if !early.required => {}
            Err(source) => {
                return Err(EarlyMountError::Mount { kind: early.kind, target: early.target, source });
            }
        }
    }
    enable_controllers(Path::new("/sys/fs/cgroup")).map_err(EarlyMountError::Controllers)?;
    fs::create_dir_all("/run/orama").map_err(EarlyMountError::RunFolder)
}

fn enable_controllers(group: &Path) -> io::Result<()> {
    for controller in CONTROLLERS {
        fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"))?;
    }
    Ok(())
}
