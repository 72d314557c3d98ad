//! The hold on a started service: signal, kill, wait. Never by pid alone, which the kernel may give to another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// A started service. Dropping it neither stops nor reaps it.
#[derive(Debug)]
pub struct Running {
    pid: i32,
    pidfd: OwnedFd,
    cgroup: PathBuf,
}

impl Running {
    /// For display and for the reaper's list of pids that are not its own.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Readable once the process has ended: give a duplicate to `AsyncFd`, then call [`Running::try_wait`].
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn cgroup(&self) -> &Path {
        &self.cgroup
    }

    /// Signals the main process. `Ok` when it has already ended.
    pub fn signal(&self, _signal: i32) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// SIGKILL to every process of the service, however it has forked or daemonized.
    pub fn kill_all(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// The exit status if the main process has ended; reaps it.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Waits for the main process and reaps it.
    pub fn wait_blocking(&self) -> io::Result<ExitStatus> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
