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
