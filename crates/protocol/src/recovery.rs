//! The recovery key: a node's volume key, sealed to the owner's wallet at enrollment and kept by the operator and on no
//! node. How it goes from the node to the operator, and the challenge under which it comes back.

use serde::{Deserialize, Serialize};

use crate::Redacted;

/// `GET` on the gateway with the invite token: [`RecoveryHandout`].
pub const RECOVERY_PATH: &str = "/v1/node/enroll/recovery";
/// `GET` on the agent's API while the owner's wallet keeps the key: [`RecoveryKey`].
pub const RECOVERY_KEY_PATH: &str = "/v1/agent/recovery-key";
/// Longest sealed answer, characters of hex; a real one has about 1400.
pub const RECOVERY_ANSWER_LIMIT_BYTES: usize = 8192;
/// What a [`RecoveryAnswer`] is sealed for; the raw WireGuard public keys of node and operator follow it.
pub const RECOVERY_ANSWER_INFO: &[u8] = b"orama recovery answer v1";

/// The owner's wish, on its way through the gateway to the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryRequest {
    /// The text that the wallet signed.
    pub statement: String,
    /// 65 bytes in hex.
    pub signature: String,
}

/// What the node gives to the operator. Travels sealed between their two WireGuard keys: the gateway sees none of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryAnswer {
    pub node_id: String,
    /// UUID of the volume.
    pub volume: String,
    /// The volume key, sealed to the owner's wallet; hex.
    pub sealed_key: String,
    /// The node's overlay address with prefix.
    pub wireguard_address: String,
    pub wireguard_port: u16,
    /// Overlay address under which the node knows the operator.
    pub operator_address: String,
    pub agent_token: Redacted,
}

/// How far the recovery key of an enrollment is, at the gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryHandout {
    /// `none` (nothing was asked for with this invite), `waiting`, `there` or `failed`.
    pub state: String,
    /// A sealed [`RecoveryAnswer`], hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The key of a node that nobody but the wallet opens, for keeping outside of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryKey {
    /// Hex.
    pub sealed_key: String,
    pub node_id: String,
    pub volume: String,
}

/// `GET` of [`crate::genesis::UNLOCK_CHALLENGE_PATH`] while the volume is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnlockChallenge {
    /// 32 bytes in hex, good for one attempt.
    pub challenge: String,
    pub node_id: String,
    pub volume: String,
    pub expires_seconds: u64,
}
