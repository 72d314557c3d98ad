//! The listening end of a control socket: one thread per connection, bounded in number, time and line length.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use orama_protocol::mesh_control::{LINE_LIMIT_BYTES, MeshResponse};

use super::{Tunnel, answer};

/// Connections served at a time. There is one client, the gateway; more than a few is a mistake of its.
const CONNECTIONS_MAX: usize = 8;
/// How long a connection may stay silent, in seconds.
const IDLE_SECONDS: u64 = 10;
/// Who may connect: owner and group, nobody else.
const SOCKET_MODE: u32 = 0o660;

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    #[error("{0} exists and is not a socket")]
    NotSocket(PathBuf),
    #[error("cannot {action} control socket {path}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Where the socket lies and who may use it.
pub struct ServerConfig<'a> {
    pub path: &'a Path,
    /// Group that may connect besides the owner.
    pub group: Option<u32>,
    /// When set, only callers with one of these uids are answered, whatever the file mode says.
    pub allowed_uids: Option<Vec<u32>>,
}

/// A bound control socket; the file goes when this is dropped.
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    allowed_uids: Option<Vec<u32>>,
}

impl Server {
    /// Binds the socket with mode 0660. A stale socket file is replaced, a live one is not.
    pub fn bind(config: &ServerConfig<'_>) -> Result<Self, BindError> {
        let path = config.path.to_owned();
        clear_stale(&path)?;
        // Made under another name and renamed, so that nobody connects before the mode is right.
        let mut draft = path.clone().into_os_string();
        draft.push(".new");
        let draft = PathBuf::from(draft);
        let failed = |action| {
            let path = path.clone();
            move |source| BindError::Io { action, path, source }
        };
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("clear")(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&draft).map_err(failed("bind"))?;
        fs::set_permissions(&draft, fs::Permissions::from_mode(SOCKET_MODE)).map_err(failed("restrict"))?;
        if let Some(group) = config.group {
            std::os::unix::fs::chown(&draft, None, Some(group)).map_err(failed("set the group of"))?;
        }
        fs::rename(&draft, &path).map_err(failed("put in place"))?;
        listener.set_nonblocking(true).map_err(failed("prepare"))?;
        Ok(Self { listener, path, allowed_uids: config.allowed_uids.clone() })
    }

    /// Serves until `stop` becomes readable (a signalfd, an eventfd, a pipe). Connections under way are waited for.
    pub fn serve<T: Tunnel>(&self, tunnel: &Mutex<T>, stop: impl AsFd) -> io::Result<()> {
        let active = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            loop {
                let mut waiting = [
                    PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                    PollFd::new(stop.as_fd(), PollFlags::POLLIN),
                ];
                match poll(&mut waiting, PollTimeout::NONE) {
                    Err(Errno::EINTR) => continue,
                    other => other?,
                };
                if waiting[1].any().unwrap_or(true) {
                    return Ok(());
                }
                let stream = match self.listener.accept() {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Out of descriptors, for example: do not spin on a listener that stays readable.
                        if error.kind() != io::ErrorKind::WouldBlock {
                            tracing::warn!(%error, "cannot accept on the control socket");
                            std::thread::sleep(Duration::from_millis(100));
                        }
                        continue;
                    }
                };
                if active.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
                    active.fetch_sub(1, Ordering::AcqRel);
                    refuse(stream, "too many connections");
                    continue;
                }
                let active = &active;
                scope.spawn(move || {
                    if let Err(error) = self.converse(stream, tunnel) {
                        tracing::warn!(%error, "control connection ended");
                    }
                    active.fetch_sub(1, Ordering::AcqRel);
                });
            }
        })
    }

    fn converse<T: Tunnel>(&self, stream: UnixStream, tunnel: &Mutex<T>) -> io::Result<()> {
        let caller = getsockopt(&stream, PeerCredentials)?;
        if self.allowed_uids.as_ref().is_some_and(|uids| !uids.contains(&caller.uid())) {
            tracing::warn!(uid = caller.uid(), pid = caller.pid(), "control connection refused");
            refuse(stream, "this user may not change peers");
            return Ok(());
        }
        let timeout = Some(Duration::from_secs(IDLE_SECONDS));
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        let mut reader = BufReader::new(&stream);
        loop {
            let mut line = Vec::new();
            let read = (&mut reader).take(LINE_LIMIT_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
            if read == 0 {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                let what =
                    if read > LINE_LIMIT_BYTES { "the line is too long" } else { "the line has no end" };
                refuse(&stream, what);
                return Ok(());
            }
            let response = {
                let mut tunnel = tunnel.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                answer(&mut *tunnel, &line)
            };
            tracing::debug!(uid = caller.uid(), pid = caller.pid(), "control request answered");
            write_line(&stream, &response)?;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the control socket");
        }
    }
}

fn clear_stale(path: &Path) -> Result<(), BindError> {
    let failed = |action| move |source| BindError::Io { action, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at")(error)),
        Ok(found) if !found.file_type().is_socket() => return Err(BindError::NotSocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("clear"))
        }
        Err(error) => Err(failed("try")(error)),
    }
}

fn write_line(mut stream: &UnixStream, response: &MeshResponse) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(response)?;
    if bytes.len() >= LINE_LIMIT_BYTES {
        let error = format!("the answer has {} bytes, the limit is {LINE_LIMIT_BYTES}", bytes.len());
        bytes = serde_json::to_vec(&MeshResponse::Error { error })?;
    }
    bytes.push(b'\n');
    stream.write_all(&bytes)
}

/// The caller is not owed more than a try: it broke the rules first.
fn refuse(stream: impl std::borrow::Borrow<UnixStream>, why: &str) {
    let stream = stream.borrow();
    let answer = MeshResponse::Error { error: why.to_owned() };
    let bounded = stream.set_write_timeout(Some(Duration::from_secs(1)));
    if let Err(error) = bounded.and_then(|()| write_line(stream, &answer)) {
        tracing::debug!(%error, "refusal not delivered");
    }
}
