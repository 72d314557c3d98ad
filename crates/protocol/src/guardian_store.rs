//! How the guardian of a node reaches what it keeps: over a unix socket of the agent, which has it in the header of the
//! node's volume. One JSON object per line, one answer line per request; lines are at most [`LINE_LIMIT_BYTES`] long.
//! Variants carry their name as the only key, so that no share lies in a parser's buffer on its way.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::Redacted;
use crate::guardian::SecretEntry;

/// Longest line either side takes, bytes: the largest share that fits, in base64, or a list of a thousand entries.
pub const LINE_LIMIT_BYTES: usize = 384 * 1024;
/// Largest note of the guardian's own, bytes.
pub const FACTS_LIMIT_BYTES: usize = 64 * 1024;

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoreRequest {
    Hello {},
    Get {
        identity: String,
        name: String,
    },
    List {
        identity: String,
    },
    /// Stored only when `version` is greater than what is there.
    Put {
        identity: String,
        name: String,
        version: u64,
        /// Base64.
        share: Redacted,
        /// The guardian's wall clock, nanoseconds since the epoch.
        now_ns: u64,
    },
    Delete {
        identity: String,
        name: String,
    },
    /// Deletes every secret of the identity; none there is success.
    Forget {
        identity: String,
    },
    /// The guardian's own note.
    Facts {},
    SetFacts {
        /// Base64.
        facts: Redacted,
    },
    /// From which public address the WireGuard peer with this overlay address was heard last.
    Endpoint {
        wg_ip: Ipv4Addr,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum StoreResponse {
    Hello {
        /// SHA-256 of the token that operators present, 64 lowercase hex digits; none is known: `null`.
        operator_sha256: Option<String>,
        /// Whether the volume is open, so that anything can be changed.
        writable: bool,
    },
    Secret {
        /// Base64.
        share: Redacted,
        version: u64,
        created_ns: u64,
        updated_ns: u64,
    },
    Secrets {
        secrets: Vec<SecretEntry>,
    },
    /// On the disk.
    Done {},
    NoSecret {},
    /// The version offered is not greater than this one.
    Version {
        stored: u64,
    },
    /// It does not fit beside what is kept already.
    Full {
        why: String,
    },
    /// Nothing can be changed now.
    Locked {
        why: String,
    },
    Facts {
        /// Base64; empty when none was ever set.
        facts: Redacted,
    },
    Endpoint {
        endpoint: Option<SocketAddr>,
    },
    Error {
        error: String,
    },
}
