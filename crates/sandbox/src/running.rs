//! The hold on a started service: signal, kill, wait. Never by pid, which the kernel may have given to another.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::cgroup::Cgroup;
use crate::sys;
use crate::watch::Listener;

/// A started service. Dropping it neither stops nor reaps it.
#[derive(Debug)]
pub struct Running {
    pub(crate) pid: i32,
    pub(crate) pidfd: OwnedFd,
    pub(crate) cgroup: Cgroup,
    pub(crate) listener: Option<Listener>,
    pub(crate) notify: Option<OwnedFd>,
}

impl Running {
    /// For display, and for a reaper's list of pids that are not its own to reap.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Becomes readable when the main process has ended: give a duplicate (`try_clone_to_owned`) to `AsyncFd`,
    /// then call [`Running::try_wait`].
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    pub fn cgroup(&self) -> &Cgroup {
        &self.cgroup
    }

    /// Where its refused calls wait, once: for [`crate::Watcher::add`]. Without a watcher they all get ENOSYS as
    /// soon as this is dropped, and wait until then.
    pub fn take_listener(&mut self) -> Option<Listener> {
        self.listener.take()
    }

    /// The receiving end of its notification socket (sd_notify), when the policy's readiness is `notify`, once. A
    /// datagram socket with SO_PASSCRED, blocking.
    pub fn take_notify(&mut self) -> Option<OwnedFd> {
        self.notify.take()
    }

    /// Signals the main process. `Ok` when it has already ended.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        match sys::pidfd_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            done => done,
        }
    }

    /// SIGKILL to every process of the service, however it has forked or daemonized. Returns at once: the main
    /// process is then to be waited for, the others become children of PID 1.
    pub fn kill_all(&self) -> io::Result<()> {
        self.cgroup.kill()
    }

    /// The exit status if the main process has ended; reaps it, so later calls fail with ECHILD.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        let ended = sys::pidfd_wait(self.pidfd.as_fd(), libc::WEXITED | libc::WNOHANG)?;
        Ok(ended.map(|(code, status)| exit_status(code, status)))
    }

    /// Waits for the main process and reaps it.
    pub fn wait_blocking(&self) -> io::Result<ExitStatus> {
        let ended = sys::pidfd_wait(self.pidfd.as_fd(), libc::WEXITED)?;
        ended
            .map(|(code, status)| exit_status(code, status))
            .ok_or_else(|| io::Error::other("waitid returned without a status"))
    }
}

/// From waitid's pair to the status word of wait(2).
fn exit_status(code: i32, status: i32) -> ExitStatus {
    /// The core bit of the status word (WCOREFLAG).
    const CORE: i32 = 0x80;
    ExitStatus::from_raw(match code {
        libc::CLD_EXITED => (status & 0xff) << 8,
        libc::CLD_DUMPED => (status & 0x7f) | CORE,
        _ => status & 0x7f,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_and_signal_are_told_apart() {
        assert_eq!(exit_status(libc::CLD_EXITED, 3).code(), Some(3));
        assert_eq!(exit_status(libc::CLD_KILLED, 9).signal(), Some(9));
        assert_eq!(exit_status(libc::CLD_KILLED, 9).code(), None);
        assert!(exit_status(libc::CLD_DUMPED, 31).core_dumped());
    }
}
