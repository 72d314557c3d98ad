//! `GET /v1/agent/refusals?service=NAME` and, through the gateway, `GET /v1/node/refusals`: the system calls that
//! profiles did not allow, one entry per kind and never one per call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Kinds kept per service; calls of further kinds are counted in [`Refusals::unlisted`] only.
pub const REFUSAL_KINDS_MAX: usize = 64;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    /// By service, then in the order in which they were first seen.
    pub refusals: Vec<Refusal>,
    /// Calls per service whose kind is not listed above, because the list was full.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unlisted: BTreeMap<String, u64>,
    /// One patch per service for all its kinds together: TOML for the end of its profile.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub patches: BTreeMap<String, String>,
}

/// Calls of one service that are one thing to its author: the same call with the same shape of arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub service: String,
    /// Its name, such as `socket`.
    pub syscall: String,
    /// Its x86-64 number.
    pub number: u32,
    /// Of the first call.
    pub args: [u64; 6],
    /// The first call in words: `socket(AF_NETLINK, SOCK_RAW|SOCK_CLOEXEC, 0)`.
    pub call: String,
    /// What became of the last one: `ran` (audit mode), `killed`, or `errno EPERM`.
    pub action: String,
    pub count: u64,
    /// RFC 3339, UTC.
    pub first_seen: String,
    pub last_seen: String,
    /// The line of the profile that names the call and did not allow it, as `file:line`; none: no line names it.
    pub rule: Option<String>,
    /// TOML that would allow this kind, for the end of the profile.
    pub patch: String,
}
