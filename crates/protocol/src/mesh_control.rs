//! How an unprivileged gateway asks the process that owns the WireGuard interface to change peers:
//! one JSON object per line over a unix socket, one answer line per request. Lines are at most 64 KiB.

use serde::{Deserialize, Serialize};

/// Longest line either side takes, in bytes.
pub const LINE_LIMIT_BYTES: usize = 64 * 1024;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum MeshRequest {
    /// Adds the peer or replaces it.
    SetPeer { peer: MeshPeer },
    /// Idempotent: a peer that is not there is success.
    RemovePeer { public_key: String },
    /// The interface's own public key, port, addresses and peers.
    Show,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeshPeer {
    /// Base64 of 32 bytes.
    pub public_key: String,
    /// `ip:port`; none: the peer comes to us.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// `a.b.c.d/32`, at least one.
    pub allowed_ips: Vec<String>,
    /// Seconds; 0 is off.
    #[serde(default)]
    pub keepalive_seconds: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "kebab-case")]
pub enum MeshResponse {
    Done,
    Interface {
        name: String,
        public_key: String,
        listen_port: u16,
        addresses: Vec<String>,
        peers: Vec<MeshPeer>,
    },
    Error {
        error: String,
    },
}
