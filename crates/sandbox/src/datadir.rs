//! Makes a service's data directories, root's down to the last one, which is the service's alone. Never follows
//! a symlink: a service that has been in there before may have left one.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, fchown};

use crate::sys;

/// Of the last directory: nobody but the service.
const OWN_MODE: Mode = Mode::S_IRWXU;
/// Of those on the way that had to be made.
const WAY_MODE: u32 = 0o755;

/// Makes `path` if it is missing and sees that it belongs to the user.
pub(crate) fn ensure(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let mut here: OwnedFd = sys::open_path(Path::new("/"), true)?;
    for component in path.components() {
        let name = match component {
            Component::RootDir => continue,
            Component::Normal(name) => Path::new(name),
            _ => return Err(io::Error::from_raw_os_error(libc::EINVAL)),
        };
        here = match sys::open_dir_at(here.as_fd(), name) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                make(here.as_fd(), name)?;
                sys::open_dir_at(here.as_fd(), name)?
            }
            opened => opened?,
        };
    }
    let status = fstat(here.as_fd())?;
    if (status.st_uid, status.st_gid) == (uid, gid) {
        return Ok(());
    }
    // Root's and empty is what we have made ourselves, now or before a power cut. Anything else is not ours to give.
    if status.st_uid != 0 || !is_empty(&here)? {
        return Err(io::Error::other(format!(
            "it belongs to uid {} gid {}, not to uid {uid} gid {gid}",
            status.st_uid, status.st_gid
        )));
    }
    fchmod(here.as_fd(), OWN_MODE)?;
    fchown(here.as_fd(), Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    Ok(())
}

fn make(dir: BorrowedFd<'_>, name: &Path) -> io::Result<()> {
    let name = CString::new(name.as_os_str().as_bytes())?;
    match mkdirat(dir, name.as_c_str(), Mode::from_bits_truncate(WAY_MODE)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_empty(dir: &OwnedFd) -> io::Result<bool> {
    let mut dir = nix::dir::Dir::from_fd(dir.try_clone()?)?;
    for entry in dir.iter() {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            return Ok(false);
        }
    }
    Ok(true)
}
