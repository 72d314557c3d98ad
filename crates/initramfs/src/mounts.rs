//! The mounts of the initramfs and the change of root. Mounts nothing that the agent needs later on
//! beyond /proc, /sys and /dev, which move along.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot};

/// Seconds after which a panicked kernel reboots, for a command line that forgot `panic=`: without it the
/// machine would hang for ever.
const PANIC_SECONDS: &str = "10";

const EFIVARS: &str = "/sys/firmware/efi/efivars";

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot mount {kind} on {}", on.display())]
    Mount { kind: &'static str, on: PathBuf, source: Errno },
    #[error("cannot open /dev/console")]
    Console(#[source] io::Error),
    #[error("cannot set the reboot after a panic")]
    Panic(#[source] io::Error),
    #[error("cannot move {} to the new root", path.display())]
    Move { path: PathBuf, source: Errno },
    #[error("cannot empty the initramfs")]
    Empty(#[source] io::Error),
    #[error("cannot make {} the root", path.display())]
    Root { path: PathBuf, source: Errno },
}

/// /proc, /sys and /dev, our output on the console, and a panic that reboots.
pub fn kernel_file_systems() -> Result<(), MountError> {
    let no_exec = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount_one("devtmpfs", "/dev", MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, Some("mode=0755"))?;
    take_console()?;
    mount_one("proc", "/proc", no_exec, None)?;
    mount_one("sysfs", "/sys", no_exec, None)?;
    let timeout = Path::new("/proc/sys/kernel/panic");
    match fs::read_to_string(timeout).map_err(MountError::Panic)?.trim() {
        "0" => fs::write(timeout, PANIC_SECONDS).map_err(MountError::Panic),
        _ => Ok(()),
    }
}

fn mount_one(kind: &'static str, on: &str, flags: MsFlags, data: Option<&str>) -> Result<(), MountError> {
    mount(Some(kind), on, Some(kind), flags, data).map_err(|source| MountError::Mount {
        kind,
        on: on.into(),
        source,
    })
}

/// The kernel opens our console from the initramfs, which holds no device node.
fn take_console() -> Result<(), MountError> {
    let console =
        fs::OpenOptions::new().read(true).write(true).open("/dev/console").map_err(MountError::Console)?;
    nix::unistd::dup2_stdin(&console)
        .and_then(|()| nix::unistd::dup2_stdout(&console))
        .and_then(|()| nix::unistd::dup2_stderr(&console))
        .map_err(|errno| MountError::Console(errno.into()))?;
    if console.as_raw_fd() <= libc::STDERR_FILENO {
        // It is one of the three now; closing it would undo the above.
        std::mem::forget(console);
    }
    Ok(())
}

/// efivarfs, mounted read-only as long as this lives: the agent decides about it anew.
pub struct FirmwareVariables {
    mounted: bool,
}

impl FirmwareVariables {
    /// Machines without EFI have none; that is no error.
    pub fn mount() -> Result<FirmwareVariables, MountError> {
        if !Path::new(EFIVARS).is_dir() {
            return Ok(FirmwareVariables { mounted: false });
        }
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        match mount_one("efivarfs", EFIVARS, flags, None) {
            // Firmware without run-time variables has the folder but not the file system.
            Err(MountError::Mount { source: Errno::ENODEV | Errno::EOPNOTSUPP, .. }) => {
                Ok(FirmwareVariables { mounted: false })
            }
            Err(error) => Err(error),
            Ok(()) => Ok(FirmwareVariables { mounted: true }),
        }
    }
}

impl Drop for FirmwareVariables {
    fn drop(&mut self) {
        if self.mounted
            && let Err(errno) = umount2(EFIVARS, MntFlags::empty())
        {
            eprintln!("orama-init: firmware variables stay mounted: {errno}");
        }
    }
}

/// Mounts the verified device on `new_root`, takes /dev, /proc and /sys along, frees the initramfs and makes
/// `new_root` the root.
pub fn switch_root(device: &Path, new_root: &Path) -> Result<(), MountError> {
    let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some(device), new_root, Some("squashfs"), flags, None::<&str>)
        .map_err(|source| MountError::Mount { kind: "squashfs", on: new_root.into(), source })?;
    for path in ["dev", "proc", "sys"] {
        let from = Path::new("/").join(path);
        mount(Some(&from), &new_root.join(path), None::<&str>, MsFlags::MS_MOVE, None::<&str>)
            .map_err(|source| MountError::Move { path: from.clone(), source })?;
    }
    empty_initramfs(new_root).map_err(MountError::Empty)?;
    let root = |source| MountError::Root { path: new_root.into(), source };
    chdir(new_root).map_err(root)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>).map_err(root)?;
    chroot(".").map_err(root)?;
    chdir("/").map_err(root)
}

/// The initramfs lives in memory for as long as its files exist: delete them, but nothing on another mount.
fn empty_initramfs(new_root: &Path) -> io::Result<()> {
    let device = fs::symlink_metadata("/")?.dev();
    if fs::symlink_metadata(new_root)?.dev() == device {
        return Err(io::Error::other("the new root is not a mount"));
    }
    delete_below(Path::new("/"), device)
}

fn delete_below(folder: &Path, device: u64) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.dev() != device {
            continue;
        }
        if metadata.is_dir() {
            delete_below(&path, device)?;
            // A mount point is not removable, and an empty folder costs nothing.
            let _ = fs::remove_dir(&path);
        } else {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_on_the_same_device_is_deleted() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("lib/modules")).unwrap();
        fs::write(root.path().join("lib/modules/a.ko"), "x").unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("link")).unwrap();
        let device = fs::symlink_metadata(root.path()).unwrap().dev();
        delete_below(root.path(), device).unwrap();
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
        assert!(Path::new("/etc/passwd").exists());
    }

    #[test]
    fn another_device_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "x").unwrap();
        delete_below(root.path(), u64::MAX).unwrap();
        assert!(root.path().join("file").exists());
    }
}
