//! The first node of a cluster, which no gateway enrols: its owner's wallet does, and opens it after each boot
//! until guardians keep its key. On port 9999 before enrollment, on the agent's API after it.

use serde::{Deserialize, Serialize};

use crate::Redacted;

/// Takes [`GenesisRequest`], on port 9999.
pub const GENESIS_ENROLL_PATH: &str = "/v1/agent/enroll/genesis";
/// Shows [`GenesisProgress`], on port 9999.
pub const GENESIS_PROGRESS_PATH: &str = "/v1/agent/enroll/progress";
/// Shows [`GenesisKey`], on the agent's API.
pub const GENESIS_KEY_PATH: &str = "/v1/agent/genesis-key";
/// Takes [`UnlockRequest`], on the agent's API.
pub const UNLOCK_PATH: &str = "/v1/agent/unlock";
/// Gives what has to be signed to use a recovery key. Not a GET of the path before, on which only a POST is known.
pub const UNLOCK_CHALLENGE_PATH: &str = "/v1/agent/unlock/challenge";
/// Longest configuration, bytes; a real one has about 500.
pub const GENESIS_CONFIGURATION_LIMIT_BYTES: usize = 4096;

/// What a node shows beside its registration code when its image names an owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisOffer {
    /// secp256k1, hex; good for one enrollment, and for this boot at most.
    pub one_time_key: String,
    /// Address of the wallet that may enrol it.
    pub owner: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisRequest {
    /// The text that the wallet signed; it names the SHA-256 of `configuration`.
    pub statement: String,
    /// JSON of [`GenesisConfiguration`], byte for byte as it was hashed.
    pub configuration: String,
    /// 65 bytes in hex.
    pub signature: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenesisConfiguration {
    /// `node-<wg ip>`.
    pub node_id: String,
    /// `10.0.0.1/24`.
    pub wireguard_address: String,
    pub listen_port: u16,
    /// WireGuard key of the operator's machine, base64.
    pub operator_public_key: String,
    /// Its overlay address, without prefix.
    pub operator_address: String,
    /// secp256k1 public key, hex: the agent token is sealed to it.
    pub token_key: String,
}

/// The answer to a [`GenesisRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisAccepted {
    /// `enrolling`.
    pub status: String,
    pub wg_public_key: String,
    /// Hex of the token's text, sealed (ECIES) to the configuration's `token_key`.
    pub agent_token_sealed: String,
}

/// How the making of the volume goes, until port 9999 closes for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisProgress {
    /// `waiting`, `enrolling` or `failed`.
    pub state: String,
    /// Steps so far, in order.
    pub steps: Vec<String>,
    /// Why the last attempt failed.
    pub why: Option<String>,
    /// As in [`GenesisAccepted`], for a client that lost the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_token_sealed: Option<String>,
}

/// What the owner's wallet has to open, and the challenge to sign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenesisKey {
    /// The volume key, sealed to the wallet; hex.
    pub sealed_key: String,
    /// 32 bytes in hex, good for one attempt.
    pub challenge: String,
    pub node_id: String,
    /// UUID of the volume.
    pub volume: String,
    pub expires_seconds: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnlockRequest {
    /// Base64 of 32 bytes.
    pub key: Redacted,
    #[serde(default)]
    pub challenge: String,
    /// Of the owner's wallet over the unlock statement with this challenge; hex.
    #[serde(default)]
    pub signature: String,
    /// Which statement: `genesis`, which is meant when nothing is said, or `recovery`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kind: String,
}
