//! The agent's API: plain HTTP on the node's WireGuard address, TCP 9998, bearer token on every request.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::peers::CustodyStatus;

/// Most log lines one request may ask for.
pub const LOG_LINES_MAX: usize = 1000;
/// Lines answered when the request names no number.
pub const LOG_LINES_DEFAULT: usize = 100;
/// Services that a log or command request may name; `agent` is the agent's own log.
pub const LOG_SERVICES: [&str; 8] =
    ["rqlite", "olric", "ipfs", "ipfs-cluster", "gateway", "coredns", "vault-guardian", "agent"];

/// `GET /v1/agent/status`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    pub node_id: Option<String>,
    /// Version of the OS image, from the verified rootfs.
    pub version: String,
    /// Phase of the boot machine: `starting`, `enrolling`, `provisioning`, `joining`, `unlocking`,
    /// `waiting-for-peers`, `waiting-for-owner`, `mounting`, `starting-services`, `running`, `degraded`, `rebooting`, ...
    pub phase: String,
    /// Why the node is in this phase and what it waits for, for a person; empty when nothing is.
    pub reason: String,
    /// True when the phase is `running` and every service is healthy.
    pub healthy: bool,
    pub uptime_seconds: u64,
    /// Active rootfs slot, `a` or `b`.
    pub slot: String,
    pub wireguard: Option<WireguardStatus>,
    pub unlock: Option<UnlockStatus>,
    /// Revision of the last list of peers that the node took; 0 before the first.
    #[serde(default)]
    pub peers_revision: u64,
    /// Who keeps the volume key; null until the volume is open and its record found genuine.
    #[serde(default)]
    pub custody: Option<CustodyStatus>,
    /// What the node's own guardian keeps for others; null where no guardian runs.
    #[serde(default)]
    pub held: Option<HeldStatus>,
    /// Alarms that need a person, newest last: early state edited, policy refused, ...
    pub alarms: Vec<String>,
    pub services: BTreeMap<String, ServiceStatus>,
    pub agent: AgentStatus,
    pub update: String,
}

/// What the node's own guardian keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldStatus {
    pub secrets: u64,
    /// Whose they are: how many identities.
    pub owners: u64,
    /// False while the volume is not open: shares are given out then, and none is taken or deleted.
    pub writable: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AgentStatus {
    pub version: String,
    /// Resident set of the agent, bytes, from /proc/self/statm.
    pub rss_bytes: u64,
    /// How many processes on the node run with uid 0, kernel threads not counted. 1 is the only good answer.
    pub root_processes: u32,
    /// Times an actor was restarted after a panic, by actor name.
    pub actor_restarts: BTreeMap<String, u32>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireguardStatus {
    pub address: String,
    pub public_key: String,
    pub peers: Vec<WireguardPeerStatus>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WireguardPeerStatus {
    pub public_key: String,
    pub endpoint: Option<String>,
    pub allowed_ips: Vec<String>,
    /// Seconds since the last handshake; none yet: null.
    pub last_handshake_seconds: Option<u64>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

/// How the last (or current) gathering of key shares goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockStatus {
    pub generation: u64,
    pub needed: u8,
    pub holders: u8,
    pub good: u8,
    /// One line per guardian: what it answered.
    pub guardians: Vec<GuardianStatus>,
    /// Seconds until the next attempt; null when none is planned.
    pub next_try_seconds: Option<u64>,
    /// Attempts since boot.
    pub attempts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardianStatus {
    pub node_id: String,
    pub wg_ip: String,
    /// `good`, `asked`, `unreachable`, `timed-out`, `refused`, `no-share`, `wrong-digest`, `wrong-generation`, `malformed`.
    pub answer: String,
    /// Detail for a person, empty when `answer` says it all.
    pub detail: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `waiting`, `starting`, `running`, `backoff`, `stopping`, `stopped`, `failed`, `refused` (policy did not load).
    pub state: String,
    pub healthy: bool,
    pub pid: Option<u32>,
    pub restarts: u32,
    pub uptime_seconds: Option<u64>,
    /// Why it is not running, or how it last ended.
    pub reason: String,
    /// `audit` or `enforce`.
    pub seccomp: String,
    /// System calls that its profile did not allow, since the agent started: every call, not every kind.
    #[serde(default)]
    pub refusals: u64,
    /// What the service last said of itself (`STATUS=` of sd_notify); empty when it says nothing.
    #[serde(default)]
    pub message: String,
}

/// `GET /v1/agent/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub healthy: bool,
    pub services: BTreeMap<String, bool>,
}

/// `POST /v1/agent/command`. Unknown fields are accepted: existing gateways may add some.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CommandRequest {
    /// `restart`, `start`, `stop`, `reload`, `status`, `reboot`, `poweroff`.
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// `{"status":"restarted"}` and its kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResponse {
    pub status: String,
}

/// What the agent reports to its local gateway every 30 s: `POST http://127.0.0.1:6001/v1/node/health`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    pub node_id: String,
    pub version: String,
    pub uptime_seconds: u64,
    pub services: BTreeMap<String, bool>,
    pub healthy: bool,
    /// RFC 3339, UTC.
    pub timestamp: String,
}
