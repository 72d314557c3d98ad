//! Wire types shared by the agent, the gateway, the guardian and the `orama` command.
//! Owns field names and bounds only: no I/O, no logic, no crypto. Never used as actix messages.

#![forbid(unsafe_code)]

pub mod agent;
pub mod enroll;
pub mod gateway;
pub mod genesis;
pub mod guardian;
pub mod guardian_store;
pub mod mesh_control;
pub mod peers;
pub mod recovery;
mod redacted;
pub mod refusals;

pub use redacted::Redacted;

/// TCP port of the agent's API on the node's WireGuard address.
pub const AGENT_PORT: u16 = 9998;
/// TCP port of the registration-code server, open only until enrollment completes.
pub const ENROLL_PORT: u16 = 9999;
/// Default TCP port of a vault-guardian on its peer's WireGuard address.
pub const GUARDIAN_PORT: u16 = 7500;
/// Default UDP port of WireGuard.
pub const WIREGUARD_PORT: u16 = 51820;
/// Largest request or response body that any of our HTTP endpoints takes, in bytes.
pub const BODY_LIMIT_BYTES: usize = 1 << 20;

/// A node is called after its address in the overlay: `node-10.0.0.2`.
pub fn node_id(wg_ip: std::net::Ipv4Addr) -> String {
    format!("node-{wg_ip}")
}

/// `{"error": "..."}`: the body of every failed request, on every API.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ErrorBody {
    /// What was wrong and with what, for a person.
    pub error: String,
}
