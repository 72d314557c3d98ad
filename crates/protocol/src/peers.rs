//! The cluster as the gateway tells it to a node, and the custody of the node's key as the node tells it back.

use serde::{Deserialize, Serialize};

/// Most peers in one list: an overlay is a /24.
pub const PEERS_MAX: usize = 250;

/// `PUT /v1/agent/peers`: everybody in the cluster but the node itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerList {
    /// Grows with every change; a node takes no older list than it has.
    pub revision: u64,
    pub peers: Vec<Peer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// `node-<wg ip>`.
    pub node_id: String,
    /// Overlay IPv4 address without prefix; its guardian listens there.
    pub wg_ip: String,
    /// Base64 of 32 bytes.
    pub public_key: String,
    /// `host:port`; null for a peer that always calls.
    pub endpoint: Option<String>,
    /// Whether it can keep shares.
    pub guardian: bool,
    /// It leaves the cluster: no new shares go to it, old ones are fetched and deleted there.
    #[serde(default)]
    pub leaving: bool,
}

/// The answer: `{"status":"accepted","revision":N}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeersAccepted {
    pub status: String,
    pub revision: u64,
}

/// Who keeps the node's volume key; part of the agent's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyStatus {
    /// `wallet` or `guardians`.
    pub keeper: String,
    /// Of the split that opens the volume; 0 while the wallet has the key.
    pub generation: u64,
    /// The highest generation ever begun.
    pub begun: u64,
    /// Shares needed and made; 0 while the wallet has the key.
    pub k: u8,
    pub n: u8,
    pub holders: Vec<CustodyHolder>,
    /// `settled`, `gathering`, `recording`, `dealing`, `storing`, `reading-back`, `comparing`, `committing`, `sweeping`.
    pub state: String,
    /// Why the last attempt at a new split failed; null after a success.
    pub why: Option<String>,
    pub next_try_seconds: Option<u64>,
    /// Guardians that may still keep obsolete shares.
    pub stale: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyHolder {
    pub node_id: String,
    pub wg_ip: String,
}
