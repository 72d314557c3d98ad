//! Vault-guardian, V2 secrets API: plain HTTP on the peer's WireGuard address, TCP 7500 by default.

use serde::{Deserialize, Serialize};

use crate::Redacted;

/// Header that carries `<identity>:<expiry_ns>:<tag>`.
pub const SESSION_HEADER: &str = "X-Session-Token";
/// Longest secret name, characters of `[A-Za-z0-9_-]`.
pub const NAME_LIMIT: usize = 128;
/// Largest share, decoded, in bytes.
pub const SHARE_LIMIT_BYTES: usize = 512 * 1024;
/// Most secrets one identity may hold.
pub const SECRETS_PER_IDENTITY: usize = 1000;
/// How long a challenge is valid, seconds.
pub const CHALLENGE_SECONDS: u64 = 60;
/// How long a session is valid, seconds.
pub const SESSION_SECONDS: u64 = 3600;
/// Requests that one client address may make in [`RATE_WINDOW_SECONDS`].
pub const RATE_LIMIT: u32 = 120;
pub const RATE_WINDOW_SECONDS: u64 = 60;

/// `POST /v2/vault/auth/challenge`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ChallengeRequest {
    /// 64 lowercase hex characters.
    pub identity: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Challenge {
    pub nonce: String,
    /// Nanoseconds since the epoch; beyond 2^53, so never through a double.
    pub created_ns: i128,
    pub tag: String,
}

/// `POST /v2/vault/auth/session`: the challenge exactly as received.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SessionRequest {
    pub identity: String,
    pub nonce: String,
    pub created_ns: i128,
    pub tag: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    pub identity: String,
    pub expiry_ns: i128,
    pub tag: String,
}

/// `PUT /v2/vault/secrets/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PutSecret {
    /// Base64 of the share envelope.
    pub share: Redacted,
    pub version: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// `stored`.
    pub status: String,
    pub name: String,
    pub version: u64,
}

/// `GET /v2/vault/secrets/{name}`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Secret {
    pub share: Redacted,
    pub name: String,
    pub version: u64,
    pub created_ns: i128,
    pub updated_ns: i128,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deleted {
    /// `deleted`.
    pub status: String,
    pub name: String,
}

/// `GET /v2/vault/secrets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretList {
    pub secrets: Vec<SecretEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    pub name: String,
    pub version: u64,
    pub size: u64,
    pub created_ns: i128,
    pub updated_ns: i128,
}

/// `PUT /v2/vault/presence`: a sign of life of the owner of secrets. Guardians that are older, or other programs, do not
/// have this route (404 or 405).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Presence {
    Alive,
    /// It goes down on purpose and will ask for its shares within this time; at most [`REBOOT_SECONDS_MAX`] count.
    Rebooting {
        for_seconds: u64,
    },
}

/// Longest time that an announced reboot may take, seconds.
pub const REBOOT_SECONDS_MAX: u64 = 3600;
/// How often an owner gives a sign of life, seconds.
pub const PRESENCE_SECONDS: u64 = 60;
/// How the error of a share that is held down begins; the time in RFC 3339 follows, then a colon and the reason.
pub const HELD_DOWN: &str = "held down until ";
/// Error of every request in the name of a revoked identity.
pub const REVOKED: &str = "revoked";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Noted {
    /// `noted`.
    pub status: String,
}

/// `GET /v2/vault/holds`, for operators: `Authorization: Bearer <operator token>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldList {
    pub holds: Vec<Hold>,
    pub old_headers: Vec<OldHeader>,
    /// Everybody whose disk keys are kept here.
    pub owners: Vec<OwnerEntry>,
}

/// An owner, told apart from its identity, which opens sessions: lowercase hex SHA-256 of
/// `orama guardian owner v1`, a line feed and the identity's text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerEntry {
    pub owner: String,
    /// Overlay address that it has used last from its usual place.
    pub wg_ip: Option<String>,
    /// Whether it was seen lately or announced a reboot.
    pub present: bool,
    /// RFC 3339, UTC: when it was seen at its usual place last; null: not since the guardian started.
    pub seen: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub owner: String,
    /// Overlay address and public address that the shares are asked for from.
    pub wg_ip: String,
    pub address: Option<String>,
    pub usual_wg_ip: Option<String>,
    pub usual_address: Option<String>,
    /// `held`, `released` (the time ran out) or `approved`.
    pub state: String,
    /// RFC 3339, UTC: since when, and until when it is held or was.
    pub since: String,
    pub until: String,
    pub reason: String,
    /// Requests for shares; 0: the owner only gave signs of life again.
    pub requests: u64,
}

/// A request for a generation that its owner has replaced: from a copy of an old header?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OldHeader {
    pub owner: String,
    pub wg_ip: String,
    pub address: Option<String>,
    pub asked: u64,
    pub newest: u64,
    /// RFC 3339, UTC, of the last request.
    pub at: String,
    pub requests: u64,
}

/// `POST /v2/vault/holds`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDecision {
    pub owner: String,
    /// `approve` or `revoke`.
    pub decision: String,
    /// Which public address is approved; may be absent when only one asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldDecided {
    /// `approved` or `revoked`.
    pub status: String,
    /// Whether it survives a restart of the guardian. Not yet: send it again.
    pub durable: bool,
}
