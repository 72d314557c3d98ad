//! What the in-process boringtun does to its host process, undone: it blocks SIGINT and SIGTERM and reads
//! them itself, which would leave the process deaf to both. Owns no interface.

use std::fs;
use std::io;
use std::os::fd::RawFd;

use nix::sys::signal::SigSet;

/// Runs `create`, which starts boringtun, and gives SIGINT and SIGTERM back to the process.
///
/// Another thread that makes a signalfd of its own meanwhile would find it disarmed: userspace interfaces
/// belong into small helper processes.
pub fn keep_signals<T>(create: impl FnOnce() -> T) -> io::Result<T> {
    let mask = SigSet::thread_get_mask()?;
    let before = signal_descriptors()?;
    let result = create();
    for descriptor in signal_descriptors()? {
        if !before.contains(&descriptor) {
            disarm(descriptor)?;
        }
    }
    mask.thread_set_mask()?;
    Ok(result)
}

/// Descriptors of this process that are signalfds.
fn signal_descriptors() -> io::Result<Vec<RawFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        // A descriptor may be closed by another thread while we look.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if let (Some(number), Some("anon_inode:[signalfd]")) = (number, target.to_str()) {
            found.push(number);
        }
    }
    Ok(found)
}

/// Empties the set of signals that the signalfd takes. It stays open, so its owner may close it as usual.
#[allow(unsafe_code)]
fn disarm(descriptor: RawFd) -> io::Result<()> {
    let nothing = SigSet::empty();
    // SAFETY: signalfd(2) reads the set behind the pointer, which `nothing` keeps alive over the call and which
    // is a whole `sigset_t`. It touches no other memory: given a descriptor that is not a signalfd it
    // fails with EINVAL or EBADF, and the ownership of the descriptor does not change.
    let result = unsafe { libc::signalfd(descriptor, nothing.as_ref(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
