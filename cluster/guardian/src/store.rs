//! What a guardian keeps, as a trait with two homes: files of its own, or the agent of the node that it runs on. Owns
//! the errors that both have in common; what a secret means is nobody's business here.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use orama_protocol::guardian::SecretEntry;
use zeroize::Zeroizing;

use crate::names::{Identity, SecretName};
use crate::record::{Record, RecordError};

mod agent;
mod files;

pub use agent::{AgentError, AgentStore};
pub use files::FileStore;

/// All calls block. What changes something is on the disk when it returns success, and a crash leaves the old or the
/// new.
pub trait Store: Send + Sync {
    /// Stores a secret whose version is greater than the stored one.
    fn put(
        &self,
        identity: &Identity,
        name: &SecretName,
        version: u64,
        share: Zeroizing<Vec<u8>>,
        now_ns: i128,
    ) -> Result<(), PutError>;

    /// A whole secret, found sound.
    fn get(&self, identity: &Identity, name: &SecretName) -> Result<Record, ReadError>;

    /// Removes a secret, damaged or not.
    fn delete(&self, identity: &Identity, name: &SecretName) -> Result<(), DeleteError>;

    /// Removes every secret of an identity; none there is success.
    fn forget(&self, identity: &Identity) -> Result<(), DeleteError>;

    /// The secrets of an identity, by name.
    fn list(&self, identity: &Identity) -> Result<Vec<SecretEntry>, ListError>;

    /// The guardian's own note; empty when none was ever set.
    fn facts(&self) -> Result<Zeroizing<Vec<u8>>, FactsError>;

    /// Replaces the note; at most [`orama_protocol::guardian_store::FACTS_LIMIT_BYTES`].
    fn set_facts(&self, facts: &[u8]) -> Result<(), FactsError>;

    /// SHA-256 of the token that operators present, 64 lowercase hex digits, where the store knows it. It may come to
    /// be known later than the guardian starts.
    fn operator_sha256(&self) -> Result<Option<String>, AgentError> {
        Ok(None)
    }

    /// The public address at which the WireGuard peer with this overlay address was heard last, where the store knows
    /// it.
    fn endpoint(&self, _wg_ip: Ipv4Addr) -> Result<Option<SocketAddr>, AgentError> {
        Ok(None)
    }
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    #[error("cannot make the data directory {0}")]
    Create(PathBuf, #[source] io::Error),
    #[error("cannot close the data directory {0} to other users")]
    Protect(PathBuf, #[source] io::Error),
    #[error("cannot lock the data directory {0}: is another guardian running on it?")]
    Lock(PathBuf, #[source] io::Error),
    #[error("cannot clean {0} of unfinished files")]
    Clean(PathBuf, #[source] io::Error),
    #[error("cannot use the agent's socket {0}")]
    Agent(PathBuf, #[source] AgentError),
}

/// Why a secret was not stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    #[error("version {offered} is not greater than the stored version {stored}")]
    Version { offered: u64, stored: u64 },
    #[error("this identity already holds 1000 secrets")]
    TooManySecrets,
    #[error("this guardian already holds secrets of 1024 identities")]
    TooManyIdentities,
    /// The sentence comes from the store.
    #[error("{0}")]
    Full(String),
    /// Nothing can be changed now; the sentence says why.
    #[error("{0}")]
    Locked(String),
    #[error("the stored secret is damaged, delete it first")]
    Damaged(#[source] RecordError),
    #[error("cannot read the store")]
    Read(#[source] io::Error),
    #[error("cannot write the secret")]
    Write(#[source] io::Error),
    #[error("the agent did not store the secret")]
    Agent(#[source] AgentError),
}

/// Why a secret was not given.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("no such secret")]
    None,
    #[error("the stored secret is damaged")]
    Damaged(#[source] RecordError),
    #[error("cannot read the secret")]
    Io(#[source] io::Error),
    #[error("the agent did not give the secret")]
    Agent(#[source] AgentError),
}

/// Why a secret was not deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    #[error("no such secret")]
    None,
    #[error("{0}")]
    Locked(String),
    #[error("cannot delete the secret")]
    Io(#[source] io::Error),
    #[error("the agent did not delete the secret")]
    Agent(#[source] AgentError),
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("the stored secret {0} is damaged, delete it first")]
    Damaged(String, #[source] RecordError),
    #[error("cannot read the store")]
    Io(#[source] io::Error),
    #[error("the agent did not list the secrets")]
    Agent(#[source] AgentError),
}

/// Why the guardian's own note was not read or kept.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    #[error("the note has {0} bytes, which is more than is kept")]
    TooLong(usize),
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Locked(String),
    #[error("cannot read the note")]
    Read(#[source] io::Error),
    #[error("cannot write the note")]
    Write(#[source] io::Error),
    #[error("the agent did not keep or give the note")]
    Agent(#[source] AgentError),
}
