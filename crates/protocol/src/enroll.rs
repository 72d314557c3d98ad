//! Enrollment: what the node shows on port 9999, what it and the gateway say over the WebSocket,
//! and what `orama node enroll` posts. One WebSocket text frame carries one JSON object.

use serde::{Deserialize, Serialize};

use crate::Redacted;
use crate::genesis::GenesisOffer;
use crate::recovery::RecoveryRequest;

/// Path of the gateway's WebSocket that an enrolling node opens.
pub const ENROLL_SOCKET_PATH: &str = "/v1/node/enroll/socket";
/// Version of the messages in this file.
pub const ENROLL_PROTOCOL: u32 = 1;
/// Largest text frame either side takes, in bytes.
pub const ENROLL_FRAME_LIMIT_BYTES: usize = 256 * 1024;

/// `GET http://<node>:9999/` with `Accept: application/json` or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationCode {
    /// 8 characters of Crockford base32.
    pub code: String,
    /// RFC 3339, UTC.
    pub expires: String,
    /// The key that the node will introduce itself with at the gateway, base64. Older nodes do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard_public_key: Option<String>,
    /// Present when the owner's wallet may enrol the node without a gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub genesis: Option<GenesisOffer>,
}

/// Node to gateway.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum NodeMessage {
    /// First frame on the socket; also sent again when the code changes.
    Hello {
        protocol: u32,
        code: String,
        /// Base64 of 32 bytes, as `wg pubkey` prints it.
        wireguard_public_key: String,
        /// UDP port the node listens on.
        wireguard_port: u16,
        version: String,
        arch: String,
    },
    /// The configuration was taken and is well formed; the agent token goes to the gateway once, here.
    Accepted { agent_token: Redacted },
    /// The configuration was refused; the node stays in enrollment mode.
    Refused { reason: String },
    /// A provisioning step was begun, for the operator's eyes.
    Progress { step: String },
    /// Only when the configuration came with a wish for it, and before the enrollment is committed: the recovery key,
    /// sealed between node and operator.
    Recovery { answer: String },
    /// The volume is made, shares are stored and committed.
    Provisioned,
    /// Provisioning failed; the node stays in enrollment mode with a new code.
    Failed { reason: String },
}

/// Gateway to node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum GatewayMessage {
    /// The hello was understood; the code is registered and waits for an operator.
    Waiting,
    /// The hello was refused, for example because the code is taken: make a new one.
    Rejected { reason: String },
    Configure {
        config: NodeConfig,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery: Option<RecoveryRequest>,
    },
    /// The node's row is stored and its WireGuard peer is set: go on.
    Registered,
    /// The recovery key is kept for the operator: go on to the commit.
    RecoveryKept,
    /// The operator's side gave up; stay in enrollment mode.
    Aborted { reason: String },
}

/// Configuration that a node receives, on the socket or by sealed push.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeConfig {
    /// `node-<wg ip>`, for example `node-10.0.0.4`.
    pub node_id: String,
    /// wg-quick text. Without a `PrivateKey` line the node uses the key it made itself.
    pub wireguard_config: String,
    pub cluster_secret: Redacted,
    pub peers: Vec<ConfigPeer>,
    /// There exactly when `peers` has too few guardians: the wallet (secp256k1, hex) that keeps the key until there are
    /// enough. A node takes no other than the owner that its image names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner_public_key: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigPeer {
    pub wg_ip: String,
    pub node_id: String,
    /// Whether a vault-guardian listens there. Existing gateways do not say: every peer has one.
    #[serde(default = "yes")]
    pub guardian: bool,
}

fn yes() -> bool {
    true
}

/// `POST <gateway>/v1/node/enroll` by the operator, with `Authorization: Bearer <invite token>`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EnrollRequest {
    pub code: String,
    pub token: Redacted,
    /// IPv4 address of the node as the operator reaches it; becomes its WireGuard endpoint.
    pub node_ip: String,
    /// The key that the node at `node_ip` showed beside its code. The gateway enrols no other: a stranger who read
    /// the code and reached the gateway first is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wireguard_public_key: Option<String>,
    /// The operator wants the node's key sealed to the owner's wallet. Existing gateways do not know of it: ask before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery: Option<RecoveryRequest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollResponse {
    /// `enrolled`.
    pub status: String,
    pub node_id: String,
    pub wg_ip: String,
}
