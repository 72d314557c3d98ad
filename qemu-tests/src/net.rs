//! A private network namespace for one cluster and its nodes, so that a run needs no free port, leaves
//! nothing behind and cannot reach, or be reached from, anything outside. Also how an unprivileged user
//! gets to make one. One of the two files of this package with unsafe code.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};

use crate::process::search_path;

/// The namespace lives as long as a process or this handle is in it.
pub struct Namespace {
    handle: OwnedFd,
}

#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    #[error("a network namespace could not be made; run this as root, or allow user namespaces")]
    Unshare(#[source] nix::Error),
    #[error("opening the new namespace")]
    Open(#[source] std::io::Error),
    #[error("bringing up the loopback interface with ip")]
    Loopback(#[source] std::io::Error),
    #[error("bringing up the loopback interface: ip failed ({0})")]
    LoopbackFailed(ExitStatus),
}

#[derive(Debug, thiserror::Error)]
pub enum RootlessError {
    #[error("finding this program's own path")]
    Own(#[source] std::io::Error),
    #[error("starting again in a user namespace; run this as root, or allow user namespaces")]
    Start(#[source] std::io::Error),
}

impl Namespace {
    pub fn create() -> Result<Self, NamespaceError> {
        // A thread of its own: unshare changes the thread that calls it, and that one ends here.
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(NamespaceError::Unshare)?;
            let handle = File::open("/proc/thread-self/ns/net").map_err(NamespaceError::Open)?;
            let up = Command::new("ip")
                .env("PATH", search_path())
                .args(["link", "set", "lo", "up"])
                .stdin(Stdio::null())
                .status()
                .map_err(NamespaceError::Loopback)?;
            if !up.success() {
                return Err(NamespaceError::LoopbackFailed(up));
            }
            Ok(Self { handle: handle.into() })
        });
        join(made)
    }

    /// A command whose process is in the namespace and dies with us.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("PATH", search_path());
        let handle = self.handle.as_raw_fd();
        // SAFETY: the closure runs between fork and exec, where only async-signal-safe calls are
        // allowed: it makes two system calls and allocates nothing. The descriptor is open then: the
        // child has its own copy of our table, and `enter` keeps it open by being called through a
        // namespace that outlives the spawn (every caller holds `&self` until the process runs).
        unsafe {
            command.pre_exec(move || {
                enter(handle)?;
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            });
        }
        command
    }

    /// The same for a program that keeps sockets in /run under names of its own choice: it gets a /run that
    /// nobody else sees, so that two clusters on one machine do not answer for each other.
    pub fn command_with_own_run(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.command(program);
        // SAFETY: as in `command`: three system calls between fork and exec, with constant arguments that
        // nix copies to the stack; nothing is allocated.
        unsafe {
            command.pre_exec(|| {
                unshare(CloneFlags::CLONE_NEWNS)?;
                let none: Option<&str> = None;
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, none)?;
                Ok(())
            });
        }
        command
    }

    /// Runs the closure on a thread inside the namespace and returns what it returns.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(self.handle.as_raw_fd()).expect("entering the network namespace");
                work()
            });
            match inside.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Starts a thread that stays inside the namespace.
    pub fn spawn(&self, name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        let handle = self.handle.try_clone()?;
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            enter(handle.as_raw_fd()).expect("entering the network namespace");
            work();
        })?;
        Ok(())
    }
}

fn enter(handle: std::os::fd::RawFd) -> std::io::Result<()> {
    // SAFETY: the descriptor is owned by a `Namespace` (or a clone of its handle) that the caller keeps
    // alive for the duration of the call; it is only borrowed here, never closed.
    let handle = unsafe { std::os::fd::BorrowedFd::borrow_raw(handle) };
    setns(handle, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

fn join<T>(thread: std::thread::JoinHandle<T>) -> T {
    match thread.join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Without root: runs this program again, with the same arguments and the given ones, as root of a user
/// namespace of its own, and returns how that ended. With root, or when we are that second run: none, go on.
pub fn again_in_user_namespace(more: &[&std::ffi::OsStr]) -> Result<Option<ExitStatus>, RootlessError> {
    let user = nix::unistd::geteuid();
    if user.is_root() {
        return Ok(None);
    }
    let group = nix::unistd::getegid();
    // Built here, as nothing may allocate after the fork.
    let user_map = format!("0 {user} 1");
    let group_map = format!("0 {group} 1");
    let mut command = Command::new(std::env::current_exe().map_err(RootlessError::Own)?);
    command.args(std::env::args_os().skip(1)).args(more);
    // SAFETY: between fork and exec the closure makes system calls only: unshare, and open, write and
    // close on three files of /proc; it allocates nothing, as the paths are short enough for a stack
    // buffer and the texts were made before.
    unsafe {
        command.pre_exec(move || {
            unshare(CloneFlags::CLONE_NEWUSER)?;
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", &user_map)?;
            std::fs::write("/proc/self/gid_map", &group_map)
        });
    }
    command.status().map(Some).map_err(RootlessError::Start)
}
