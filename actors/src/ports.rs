//! What the actors need from the world, as traits: console, power, WireGuard, processes. The agent gives the real
//! ones, tests give their own. Owns no implementation; the data volume's port is `orama_volume::DataVolume`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use orama_mesh::{InterfaceStatus, PeerConfig, PublicKey, WgConfig};

/// Where a person reads what the node does. Lines carry no secret.
pub trait Console: Send + Sync {
    fn line(&self, text: &str);
}

/// The last step of a node: everything is stopped and closed by then.
pub trait Power: Send + Sync {
    fn reboot(&self, why: &str);
    fn power_off(&self, why: &str);
}

/// The WireGuard interface. Every call may block; actors call it from a blocking thread.
pub trait Mesh: Send + Sync {
    /// Brings the interface up with exactly these addresses and peers; up already is not an error.
    fn up(&self, config: &WgConfig) -> Result<(), MeshFailure>;
    /// Adds the peer or replaces it.
    fn set_peer(&self, peer: &PeerConfig) -> Result<(), MeshFailure>;
    /// A peer that is not there is success.
    fn remove_peer(&self, key: &PublicKey) -> Result<(), MeshFailure>;
    fn read(&self) -> Result<InterfaceStatus, MeshFailure>;
}

/// What the WireGuard backend said, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MeshFailure(pub String);

/// Starts processes of services. Called from one thread that lives as long as the agent, because a child with a
/// parent-death signal dies with the *thread* that made it.
pub trait Launcher: Send + Sync {
    fn spawn(&self, service: &str, stdout: OwnedFd, stderr: OwnedFd)
    -> Result<Box<dyn Child>, LaunchFailure>;

    /// Starts a prepare step, counted from 0; `None` when what it would make is there.
    fn prepare(
        &self,
        service: &str,
        step: usize,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Option<Box<dyn Child>>, LaunchFailure>;
}

/// Why a service was not started, for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LaunchFailure(pub String);

/// A started service: its main process and everything in its control group.
pub trait Child: Send + Sync {
    fn pid(&self) -> u32;
    /// Readable when the main process has ended.
    fn pidfd(&self) -> BorrowedFd<'_>;
    /// Signals the main process; one that has ended is success.
    fn signal(&self, signal: i32) -> std::io::Result<()>;
    /// Kills every process of the service.
    fn kill_all(&self) -> std::io::Result<()>;
    /// Collects the main process without waiting: `None` while it runs.
    fn try_reap(&self) -> std::io::Result<Option<Exit>>;
    /// What the service uses of its box now.
    fn usage(&self) -> Usage;
    /// The datagram socket on which it says that it is ready; credentials are passed on it. `None` when its policy
    /// knows no such thing.
    fn notify_socket(&self) -> Option<BorrowedFd<'_>>;
}

/// What a service uses, and how often it met a wall. `None`: not counted on this machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
    /// Of the data volume, by the service's uid.
    pub disk_bytes: Option<u64>,
    pub disk_limit_bytes: Option<u64>,
    /// Processes that the kernel killed because memory was full, since its box was made.
    pub oom_kills: u64,
    /// Processes that could not be made because it has as many as it may.
    pub forks_refused: u64,
}

impl AsFd for dyn Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd()
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// Somebody else collected it first.
    Unknown,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(0) => write!(f, "ended"),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "killed by {signal}"),
                Err(_) => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => write!(f, "ended in an unknown way"),
        }
    }
}
