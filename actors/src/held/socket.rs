//! The unix socket at which the node's guardian asks the agent: one line in, one line out, one request a connection.
//! Serves the guardian's user and nobody else. What the answers are is `held.rs`'s.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use orama_protocol::guardian_store::{LINE_LIMIT_BYTES, StoreRequest, StoreResponse};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::HeldShares;

/// Connections served at a time: the guardian has as many threads for its store.
const CONNECTIONS_MAX: usize = 8;
/// How long a request may take to arrive, and an answer to be taken. Between them the header may be written.
const TALK_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a connection could not be accepted: out of descriptors, for example.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the guardian's socket {path}")]
pub struct SocketProblem {
    action: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The bound socket; the folder around it is what the guardian's sandbox is shown.
pub struct GuardianSocket {
    listener: UnixListener,
    uid: u32,
}

impl GuardianSocket {
    /// Makes folder and socket; what an agent before left there is replaced. Only `uid` may connect.
    pub fn bind(path: &Path, uid: u32) -> Result<Self, SocketProblem> {
        let failed = |action| move |source| SocketProblem { action, path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            let make = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(folder);
            make.map_err(failed("make the folder of"))?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if found.file_type().is_socket() => {
                std::fs::remove_file(path).map_err(failed("replace"))?;
            }
            Ok(_) => return Err(failed("replace")(io::Error::other("it is not a socket"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed("look at")(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed("bind"))?;
        // Whoever was quicker than these two is told apart by the credentials of the connection.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed("close"))?;
        chown(path, Some(uid), None).map_err(failed("give away"))?;
        Ok(Self { listener, uid })
    }

    /// Serves for as long as the agent lives.
    pub async fn serve(self, held: HeldShares) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            // More than there are places for wait in the kernel's queue.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!("the guardian's socket takes no connection: {error}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            match stream.peer_cred() {
                Ok(caller) if caller.uid() == self.uid => {}
                Ok(caller) => {
                    tracing::warn!(uid = caller.uid(), "refused at the guardian's socket");
                    continue;
                }
                Err(error) => {
                    tracing::warn!("who is at the guardian's socket is not known: {error}");
                    continue;
                }
            }
            let held = held.clone();
            actix_rt::spawn(async move {
                if let Err(error) = converse(stream, &held).await {
                    tracing::warn!("the guardian's connection ended: {error}");
                }
                drop(place);
            });
        }
    }
}

async fn converse(mut stream: UnixStream, held: &HeldShares) -> io::Result<()> {
    let line = tokio::time::timeout(TALK_TIMEOUT, read_line(&mut stream)).await??;
    // The text of serde's error would show what stood in the line.
    let response = match serde_json::from_slice::<StoreRequest>(&line) {
        Ok(request) => held.answer(request).await,
        Err(error) => {
            let error = format!("not a request of a guardian, at column {}", error.column());
            StoreResponse::Error { error }
        }
    };
    drop(line);
    let mut answer = Zeroizing::new(Vec::with_capacity(LINE_LIMIT_BYTES));
    serde_json::to_writer(&mut *answer, &response)?;
    answer.push(b'\n');
    tokio::time::timeout(TALK_TIMEOUT, stream.write_all(&answer)).await?
}

/// One line with its end. All of the room from the start: a vector that grows leaves copies of a share behind.
async fn read_line(stream: &mut UnixStream) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_LIMIT_BYTES));
    while line.last() != Some(&b'\n') {
        if line.len() >= LINE_LIMIT_BYTES {
            return Err(io::Error::other(format!("the line is longer than {LINE_LIMIT_BYTES} bytes")));
        }
        if stream.read_buf(&mut *line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(line)
}
