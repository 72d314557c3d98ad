//! The gateway's operator API: HTTPS, `Authorization: Bearer <admin API key>` on every call.

use serde::{Deserialize, Serialize};

use crate::Redacted;
use crate::peers::PeerList;

/// `POST /v1/node/invite`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteRequest {
    /// Lifetime of the invite, seconds; 60 to 30 days.
    pub expiry_seconds: u64,
    /// Who asked, for the record; at most 64 characters.
    #[serde(default)]
    pub created_by: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InviteResponse {
    /// 32 random bytes in hex, shown once; the gateway keeps its SHA-256.
    pub token: Redacted,
    /// RFC 3339, UTC.
    pub expires: String,
}

/// `POST /v1/node/adopt`: a node that its owner's wallet enrolled joins the cluster of this gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AdoptRequest {
    /// `node-<wg ip>`.
    pub node_id: String,
    pub wg_ip: String,
    /// The node's overlay, `10.0.0.0/24`.
    pub network: String,
    /// WireGuard key of the node, base64.
    pub public_key: String,
    /// Where its WireGuard listens in public, `ip:port`.
    pub endpoint: String,
    pub agent_token: Redacted,
    /// secp256k1 key of the wallet, hex: it keeps the keys of nodes that join while there are too few guardians.
    pub owner_public_key: String,
    /// Overlay address of the owner's machine, which no node may get.
    pub operator_address: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdoptResponse {
    /// `adopted`.
    pub status: String,
    /// What the node must be told before the gateway reaches it.
    pub list: PeerList,
}

/// `POST /v1/node/leave`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LeaveRequest {
    pub node_id: String,
    /// Remove it at once, whoever still has shares there: for a node that is dead.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveResponse {
    /// `removed`.
    pub status: String,
    pub wg_ip: String,
}

/// `GET /v1/node/leave`, and the answer 202 of the `POST` while others still move their shares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveProgress {
    /// `leaving`, or `staying` when nobody asked the node to leave. One that has left is not known any more.
    pub status: String,
    pub node_id: String,
    pub wg_ip: String,
    /// RFC 3339, UTC.
    pub since: Option<String>,
    pub waiting_for: Vec<LeaveWait>,
}

/// A node that may still have a share of its key with the one that leaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaveWait {
    pub node_id: String,
    pub why: String,
}

/// `POST /v1/node/command`: the agent's command. More fields are passed on to the agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeCommand {
    pub action: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Reboot or power off although somebody's key loses too many holders by that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// `GET /v1/fleet/report`: what `orama monitor report` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FleetReport {
    /// RFC 3339, UTC.
    pub at: String,
    pub nodes: Vec<NodeReport>,
    /// Somebody must look: see [`Alarm`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<Alarm>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeReport {
    pub node_id: String,
    pub wg_ip: String,
    pub public_ip: String,
    /// `agent` (an OramaOS node), or `peer` (a gateway or guardian host without an agent).
    pub role: String,
    pub reachable: bool,
    pub healthy: bool,
    /// `enrolling` until the node has provisioned its volume, then its phase.
    pub phase: String,
    pub version: String,
    pub uptime_seconds: Option<u64>,
    /// Names of services that are not healthy.
    pub unhealthy_services: Vec<String>,
    /// Last provisioning step or failure reported by the node.
    pub detail: String,
    /// It is on its way out of the cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Who keeps its volume key; absent when it never said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custody: Option<CustodyReport>,
}

/// The custody of one node's key, as the whole cluster shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustodyReport {
    /// `wallet` or `guardians`.
    pub keeper: String,
    pub generation: u64,
    /// Shares needed and made; 0 while the wallet has the key.
    pub k: u8,
    pub n: u8,
    /// Holders that answer now.
    pub reachable: u8,
    /// What the node does with it: `settled`, `gathering`, ...
    pub state: String,
    /// RFC 3339, UTC: when the node said so; null: just now.
    pub seen: Option<String>,
    /// What an operator should know, most urgent first.
    pub warnings: Vec<String>,
}

/// `GET /v1/node/alarms`: what the guardians hold down or found strange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmList {
    /// RFC 3339, UTC.
    pub at: String,
    pub alarms: Vec<Alarm>,
}

/// Somebody asks for the shares of a node's key from where it is not expected, or after it was absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alarm {
    pub node_id: String,
    /// Overlay address that asks.
    pub wg_ip: String,
    /// `held`, `released` (the time ran out and nobody objected), `returned` (signs of life after an absence, no request
    /// for a share), or `old-header`.
    pub kind: String,
    /// Public address that asks; null: not known.
    pub address: Option<String>,
    pub usual_address: Option<String>,
    /// RFC 3339, UTC.
    pub since: String,
    /// Until when the last of the guardians holds the shares down.
    pub until: Option<String>,
    /// Guardians that say so, and guardians that were asked.
    pub guardians: u32,
    pub of_guardians: u32,
    /// All of it in a sentence, with what to type.
    pub text: String,
}

/// `POST /v1/node/approve` and `POST /v1/node/revoke`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionRequest {
    pub node_id: String,
    /// Approve: which public address; may be absent when only one asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// `approved` or `revoked`.
    pub status: String,
    pub node_id: String,
    pub guardians: Vec<GuardianAnswer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardianAnswer {
    pub node_id: String,
    /// Whether it did so, for good.
    pub done: bool,
    /// What it said.
    pub answer: String,
}
