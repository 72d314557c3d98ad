//! The store of a node's guardian: everything is asked of the agent, over its socket, each time anew. Nothing is kept
//! here, so nothing can be out of date when the node's volume opens. Limits and versions are the agent's to hold.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::Redacted;
use orama_protocol::guardian::{SHARE_LIMIT_BYTES, SecretEntry};
use orama_protocol::guardian_store::{FACTS_LIMIT_BYTES, LINE_LIMIT_BYTES, StoreRequest, StoreResponse};
use zeroize::Zeroizing;

use super::{DeleteError, FactsError, ListError, OpenStoreError, PutError, ReadError, Store};
use crate::names::{Identity, SecretName};
use crate::record::Record;

/// How long the agent may take: a write of the header takes below a second, and a few may wait for each other.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Why the agent was asked in vain.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("cannot reach it")]
    Connect(#[source] io::Error),
    #[error("no answer")]
    Answer(#[source] io::Error),
    #[error("its answer is too long or cut short")]
    Length,
    /// The text of the error would show what stood in the line.
    #[error("its answer is not understood")]
    Malformed,
    #[error("it says: {0}")]
    Refused(String),
}

/// Speaks to the agent at one socket.
pub struct AgentStore {
    socket: PathBuf,
}

impl AgentStore {
    /// Says hello once, so that a wrong path is an error at the start.
    pub fn open(socket: &Path) -> Result<Self, OpenStoreError> {
        let store = Self { socket: socket.to_owned() };
        store.operator_sha256().map_err(|source| OpenStoreError::Agent(socket.to_owned(), source))?;
        Ok(store)
    }

    fn ask(&self, request: &StoreRequest) -> Result<StoreResponse, AgentError> {
        let mut stream = UnixStream::connect(&self.socket).map_err(AgentError::Connect)?;
        let line = exchange(&mut stream, request).map_err(AgentError::Answer)?;
        if line.last() != Some(&b'\n') {
            return Err(AgentError::Length);
        }
        match serde_json::from_slice(&line) {
            Ok(StoreResponse::Error { error }) => Err(AgentError::Refused(error)),
            Ok(response) => Ok(response),
            Err(_) => Err(AgentError::Malformed),
        }
    }

    fn delete_by(&self, request: &StoreRequest) -> Result<(), DeleteError> {
        match self.ask(request).map_err(DeleteError::Agent)? {
            StoreResponse::Done {} => Ok(()),
            StoreResponse::NoSecret {} => Err(DeleteError::None),
            StoreResponse::Locked { why } => Err(DeleteError::Locked(why)),
            _ => Err(DeleteError::Agent(AgentError::Malformed)),
        }
    }
}

fn exchange(stream: &mut UnixStream, request: &StoreRequest) -> io::Result<Zeroizing<Vec<u8>>> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
    // All of the room from the start, for what may hold a share: a vector that grows leaves copies behind.
    let mut line = Zeroizing::new(Vec::with_capacity(LINE_LIMIT_BYTES + 32));
    serde_json::to_writer(&mut *line, request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    // One request a connection: what follows the end is an answer, and its end is the connection's.
    stream.shutdown(Shutdown::Write)?;
    line.clear();
    stream.take(LINE_LIMIT_BYTES as u64).read_to_end(&mut line)?;
    Ok(line)
}

/// Nanoseconds as the header keeps them; a clock before 1970 or after 2554 is at the edge.
fn nanoseconds(now_ns: i128) -> u64 {
    u64::try_from(now_ns.max(0)).unwrap_or(u64::MAX)
}

fn encoded(bytes: &[u8]) -> Redacted {
    Redacted::new(STANDARD.encode(bytes))
}

fn decoded(text: &Redacted, limit: usize) -> Option<Zeroizing<Vec<u8>>> {
    let bytes = STANDARD.decode(text.expose()).map(Zeroizing::new).ok()?;
    (bytes.len() <= limit).then_some(bytes)
}

impl Store for AgentStore {
    fn put(
        &self,
        identity: &Identity,
        name: &SecretName,
        version: u64,
        share: Zeroizing<Vec<u8>>,
        now_ns: i128,
    ) -> Result<(), PutError> {
        let request = StoreRequest::Put {
            identity: identity.as_str().into(),
            name: name.as_str().into(),
            version,
            share: encoded(&share),
            now_ns: nanoseconds(now_ns),
        };
        match self.ask(&request).map_err(PutError::Agent)? {
            StoreResponse::Done {} => Ok(()),
            StoreResponse::Version { stored } => Err(PutError::Version { offered: version, stored }),
            StoreResponse::Full { why } => Err(PutError::Full(why)),
            StoreResponse::Locked { why } => Err(PutError::Locked(why)),
            _ => Err(PutError::Agent(AgentError::Malformed)),
        }
    }

    fn get(&self, identity: &Identity, name: &SecretName) -> Result<Record, ReadError> {
        let request = StoreRequest::Get { identity: identity.as_str().into(), name: name.as_str().into() };
        let malformed = || ReadError::Agent(AgentError::Malformed);
        match self.ask(&request).map_err(ReadError::Agent)? {
            StoreResponse::Secret { share, version, created_ns, updated_ns } => Ok(Record {
                identity: identity.clone(),
                name: name.clone(),
                version,
                created_ns: created_ns.into(),
                updated_ns: updated_ns.into(),
                share: decoded(&share, SHARE_LIMIT_BYTES).ok_or_else(malformed)?,
            }),
            StoreResponse::NoSecret {} => Err(ReadError::None),
            _ => Err(malformed()),
        }
    }

    fn delete(&self, identity: &Identity, name: &SecretName) -> Result<(), DeleteError> {
        self.delete_by(&StoreRequest::Delete {
            identity: identity.as_str().into(),
            name: name.as_str().into(),
        })
    }

    fn forget(&self, identity: &Identity) -> Result<(), DeleteError> {
        self.delete_by(&StoreRequest::Forget { identity: identity.as_str().into() })
    }

    fn list(&self, identity: &Identity) -> Result<Vec<SecretEntry>, ListError> {
        let request = StoreRequest::List { identity: identity.as_str().into() };
        match self.ask(&request).map_err(ListError::Agent)? {
            StoreResponse::Secrets { secrets } => Ok(secrets),
            _ => Err(ListError::Agent(AgentError::Malformed)),
        }
    }

    fn facts(&self) -> Result<Zeroizing<Vec<u8>>, FactsError> {
        let malformed = || FactsError::Agent(AgentError::Malformed);
        match self.ask(&StoreRequest::Facts {}).map_err(FactsError::Agent)? {
            StoreResponse::Facts { facts } => decoded(&facts, FACTS_LIMIT_BYTES).ok_or_else(malformed),
            _ => Err(malformed()),
        }
    }

    fn set_facts(&self, facts: &[u8]) -> Result<(), FactsError> {
        if facts.len() > FACTS_LIMIT_BYTES {
            return Err(FactsError::TooLong(facts.len()));
        }
        match self.ask(&StoreRequest::SetFacts { facts: encoded(facts) }).map_err(FactsError::Agent)? {
            StoreResponse::Done {} => Ok(()),
            StoreResponse::Full { why } => Err(FactsError::Full(why)),
            StoreResponse::Locked { why } => Err(FactsError::Locked(why)),
            _ => Err(FactsError::Agent(AgentError::Malformed)),
        }
    }

    fn operator_sha256(&self) -> Result<Option<String>, AgentError> {
        match self.ask(&StoreRequest::Hello {})? {
            StoreResponse::Hello { operator_sha256, .. } => Ok(operator_sha256),
            _ => Err(AgentError::Malformed),
        }
    }

    fn endpoint(&self, wg_ip: Ipv4Addr) -> Result<Option<SocketAddr>, AgentError> {
        match self.ask(&StoreRequest::Endpoint { wg_ip })? {
            StoreResponse::Endpoint { endpoint } => Ok(endpoint),
            _ => Err(AgentError::Malformed),
        }
    }
}
