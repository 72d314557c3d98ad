//! A node as its neighbours see it: port 9999 on its public address, its agent and its services on the overlay.
//! Owns addresses and paths; says nothing about what the answers should be.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use orama_protocol::enroll::RegistrationCode;

use crate::http::{Answer, HttpError, Request, send};
use crate::net::Namespace;
use crate::vm::PUBLIC_ADDRESS;

/// rqlite's HTTP port.
const RQLITE_PORT: u16 = 4001;
/// The node computes slowly under emulation, but answers.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Where a node that is not enrolled shows its code.
pub fn enrollment() -> SocketAddr {
    enrollment_at(PUBLIC_ADDRESS)
}

/// The same for one of several machines, by its public address.
pub fn enrollment_at(public: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((public, orama_protocol::ENROLL_PORT))
}

/// Where the agent must never answer.
pub fn public_agent() -> SocketAddr {
    SocketAddr::from((PUBLIC_ADDRESS, orama_protocol::AGENT_PORT))
}

pub fn agent(address: Ipv4Addr) -> SocketAddr {
    SocketAddr::from((address, orama_protocol::AGENT_PORT))
}

/// The code that the node shows.
pub fn registration_code(network: &Namespace) -> Result<Option<RegistrationCode>, HttpError> {
    registration_code_at(network, PUBLIC_ADDRESS)
}

pub fn registration_code_at(
    network: &Namespace,
    public: Ipv4Addr,
) -> Result<Option<RegistrationCode>, HttpError> {
    let answer = send(network, enrollment_at(public), &Request::get("/"), PATIENCE)?;
    Ok(serde_json::from_slice(&answer.body).ok())
}

/// True when nobody behind the forwarded port takes a request. QEMU itself accepts every connection and drops it
/// when the node refuses, so an accepted connection says nothing.
pub fn is_closed(network: &Namespace, address: SocketAddr) -> bool {
    matches!(
        send(network, address, &Request::get("/"), PATIENCE),
        Err(HttpError::Closed { .. } | HttpError::Connect { .. } | HttpError::Send { .. })
    )
}

/// Runs a statement in the node's rqlite.
pub fn execute(network: &Namespace, address: Ipv4Addr, statement: &str) -> Result<Answer, HttpError> {
    let body = serde_json::json!([statement]).to_string();
    let headers = [("Content-Type", "application/json")];
    let request = Request { method: "POST", path: "/db/execute", headers: &headers, body: body.as_bytes() };
    send(network, SocketAddr::from((address, RQLITE_PORT)), &request, PATIENCE)
}

/// Asks the node's rqlite.
pub fn query(network: &Namespace, address: Ipv4Addr, statement: &str) -> Result<Answer, HttpError> {
    let body = serde_json::json!([statement]).to_string();
    let headers = [("Content-Type", "application/json")];
    let request =
        Request { method: "POST", path: "/db/query?level=strong", headers: &headers, body: body.as_bytes() };
    send(network, SocketAddr::from((address, RQLITE_PORT)), &request, PATIENCE)
}
