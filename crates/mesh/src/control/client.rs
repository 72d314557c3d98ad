//! The calling end of a control socket, blocking: one connection per request.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use orama_protocol::mesh_control::{LINE_LIMIT_BYTES, MeshPeer, MeshRequest, MeshResponse};

/// How long the owner of the interface may take, in seconds: a userspace device needs a few at worst.
const ANSWER_SECONDS: u64 = 15;

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach the mesh control socket {0}")]
    Connect(PathBuf, #[source] io::Error),
    #[error("no answer from the mesh control socket {0}")]
    Answer(PathBuf, #[source] io::Error),
    #[error("the answer of the mesh control socket {0} is not understood")]
    Malformed(PathBuf, #[source] serde_json::Error),
    #[error("the answer of the mesh control socket {0} is too long or cut short")]
    Length(PathBuf),
    #[error("the mesh refused: {0}")]
    Refused(String),
    #[error("the mesh answered a question that was not asked")]
    Unexpected,
}

/// Speaks to the owner of the WireGuard interface. All calls block.
#[derive(Clone, Debug)]
pub struct Client {
    path: PathBuf,
}

impl Client {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds the peer or replaces it.
    pub fn set_peer(&self, peer: MeshPeer) -> Result<(), ClientError> {
        self.done(&MeshRequest::SetPeer { peer })
    }

    /// Removes the peer; one that is not there is success.
    pub fn remove_peer(&self, public_key: &str) -> Result<(), ClientError> {
        self.done(&MeshRequest::RemovePeer { public_key: public_key.to_owned() })
    }

    /// The interface as it is: always the `Interface` variant.
    pub fn show(&self) -> Result<MeshResponse, ClientError> {
        match self.ask(&MeshRequest::Show)? {
            MeshResponse::Done => Err(ClientError::Unexpected),
            shown => Ok(shown),
        }
    }

    fn done(&self, request: &MeshRequest) -> Result<(), ClientError> {
        match self.ask(request)? {
            MeshResponse::Done => Ok(()),
            _ => Err(ClientError::Unexpected),
        }
    }

    fn ask(&self, request: &MeshRequest) -> Result<MeshResponse, ClientError> {
        let path = || self.path.clone();
        let mut stream =
            UnixStream::connect(&self.path).map_err(|source| ClientError::Connect(path(), source))?;
        let line = exchange(&mut stream, request).map_err(|source| ClientError::Answer(path(), source))?;
        if line.last() != Some(&b'\n') {
            return Err(ClientError::Length(path()));
        }
        match serde_json::from_slice(&line).map_err(|source| ClientError::Malformed(path(), source))? {
            MeshResponse::Error { error } => Err(ClientError::Refused(error)),
            answer => Ok(answer),
        }
    }
}

fn exchange(stream: &mut UnixStream, request: &MeshRequest) -> io::Result<Vec<u8>> {
    let timeout = Some(Duration::from_secs(ANSWER_SECONDS));
    stream.set_read_timeout(timeout)?;
    stream.set_write_timeout(timeout)?;
    let mut bytes = serde_json::to_vec(request)?;
    bytes.push(b'\n');
    stream.write_all(&bytes)?;
    let mut line = Vec::new();
    BufReader::new(stream).take(LINE_LIMIT_BYTES as u64).read_until(b'\n', &mut line)?;
    Ok(line)
}
