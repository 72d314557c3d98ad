//! The public listening socket: bound here, or inherited by socket activation (file descriptor 3).

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{SockType, getsockopt, sockopt};

/// First inherited descriptor, sd_listen_fds(3).
const FIRST_FD: RawFd = 3;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("cannot listen on {address}")]
    Bind {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("LISTEN_FDS is {0:?}, but exactly one listening socket is understood")]
    Count(String),
    #[error("the inherited file descriptor 3 is not a listening TCP socket: {0}")]
    NotASocket(String),
}

/// What the environment says of socket activation.
#[derive(Clone, Debug, Default)]
pub struct Activation {
    /// `LISTEN_FDS`.
    pub fds: Option<String>,
    /// `LISTEN_PID`; absent is taken as "for us", since a sandbox may not know the pid before it starts us.
    pub pid: Option<String>,
}

impl Activation {
    pub fn from_environment() -> Self {
        Self { fds: std::env::var("LISTEN_FDS").ok(), pid: std::env::var("LISTEN_PID").ok() }
    }

    fn is_for(&self, pid: u32) -> bool {
        self.fds.is_some() && self.pid.as_deref().is_none_or(|text| text == pid.to_string())
    }
}

/// The inherited listening socket, when there is one. Call it once, before anything else opens a descriptor:
/// it takes ownership of number 3.
pub fn activated(activation: &Activation) -> Result<Option<TcpListener>, ListenError> {
    if !activation.is_for(std::process::id()) {
        return Ok(None);
    }
    let count = activation.fds.clone().unwrap_or_default();
    if count != "1" {
        return Err(ListenError::Count(count));
    }
    let listener = TcpListener::from(inherited()?);
    listener.local_addr().map_err(|error| ListenError::NotASocket(error.to_string()))?;
    Ok(Some(listener))
}

pub fn bind(address: SocketAddr) -> Result<TcpListener, ListenError> {
    orama_http::listen(address).map_err(|source| ListenError::Bind { address, source })
}

#[allow(unsafe_code)]
fn inherited() -> Result<OwnedFd, ListenError> {
    let refuse = |why: &str| ListenError::NotASocket(why.to_owned());
    if std::fs::symlink_metadata(format!("/proc/self/fd/{FIRST_FD}")).is_err() {
        return Err(refuse("it is not open"));
    }
    // SAFETY: descriptor 3 is open (checked above) and, by the socket activation protocol that the caller found
    // in the environment, was handed to this process as its own. `activated` is called once, before this process
    // opens anything, so nothing else in it refers to number 3 and ownership is not taken twice.
    let fd = unsafe { OwnedFd::from_raw_fd(FIRST_FD) };
    fcntl(&fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|error| refuse(error.desc()))?;
    let kind = getsockopt(&fd, sockopt::SockType).map_err(|error| refuse(error.desc()))?;
    let listening = getsockopt(&fd, sockopt::AcceptConn).map_err(|error| refuse(error.desc()))?;
    if kind != SockType::Stream || !listening {
        return Err(refuse("it does not listen"));
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activation_is_taken_only_when_it_is_meant_for_us() {
        let activation = |fds: Option<&str>, pid: Option<&str>| Activation {
            fds: fds.map(str::to_owned),
            pid: pid.map(str::to_owned),
        };
        assert!(!activation(None, None).is_for(7));
        assert!(activation(Some("1"), None).is_for(7));
        assert!(activation(Some("1"), Some("7")).is_for(7));
        assert!(!activation(Some("1"), Some("8")).is_for(7));
        let error = activated(&activation(Some("2"), None)).unwrap_err();
        assert!(matches!(error, ListenError::Count(count) if count == "2"));
    }
}
