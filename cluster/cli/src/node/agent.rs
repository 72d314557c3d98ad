//! The agent's API of one node without a gateway between: through WireGuard, by the tunnel in this process or by
//! this machine's own interface. Never in the clear: the requests carry a token and, once, a volume key.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use orama_protocol::agent::Status;
use orama_protocol::{AGENT_PORT, Redacted};
use serde::Serialize;

use super::file::NodeFile;
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, NodeClient};
use crate::output::Output;
use crate::text;
use crate::tunnel::{Tunnel, TunnelConnector, TunnelSettings};

const STATUS_PATH: &str = "/v1/agent/status";
/// Between two looks at a node that starts.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Who carries the packets to the node's overlay address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TunnelMode {
    /// This machine when it has the operator's overlay address, else this command.
    Auto,
    /// This command, with a WireGuard of its own.
    Always,
    /// This machine.
    Never,
}

pub struct NodeAgent {
    client: NodeClient,
    base: String,
    token: Redacted,
}

impl NodeAgent {
    pub fn of(file: &NodeFile, mode: TunnelMode) -> Result<Self, Failure> {
        let own = file.operator_address()?;
        let tunnel = match mode {
            TunnelMode::Always => true,
            TunnelMode::Never => false,
            // Not "does it answer": another network may have that address, and would be sent the token.
            TunnelMode::Auto => !is_ours(own.address()),
        };
        let client = if tunnel {
            let settings = TunnelSettings {
                private_key: &file.operator_key()?,
                address: own,
                peer: file.wireguard_public_key,
                peer_address: file.wg_ip,
                endpoint: file.endpoint(),
            };
            let tunnel = Tunnel::open(&settings).map_err(|error| Failure::because(Exit::Failed, &error))?;
            NodeClient::through(TunnelConnector::new(tunnel))
        } else {
            NodeClient::direct()
        };
        let base = format!("http://{}:{AGENT_PORT}", file.wg_ip);
        Ok(Self { client, base, token: file.token()?.clone() })
    }

    pub fn get(&self, path: &str) -> Result<Vec<u8>, CallError> {
        self.client.get(&format!("{}{path}", self.base), Some(&self.token))
    }

    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        self.client.post(&format!("{}{path}", self.base), body, Some(&self.token))
    }

    pub fn put(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        self.client.put(&format!("{}{path}", self.base), body, Some(&self.token))
    }

    pub fn status(&self) -> Result<Status, CallError> {
        gateway::decode(STATUS_PATH, &self.get(STATUS_PATH)?)
    }

    /// Looks until the node runs and is healthy, saying each new phase once.
    pub fn until_running(&self, node_id: &str, wait: Duration, output: &Output) -> Result<Status, Failure> {
        let end = Instant::now() + wait;
        let mut last = String::new();
        loop {
            let now = match self.status() {
                Ok(status) if status.phase == "running" && status.healthy => return Ok(status),
                Ok(status) => {
                    format!(
                        "{}: {}",
                        text::printable(&status.phase, 64),
                        text::printable(&status.reason, 300)
                    )
                }
                // It may be between two phases; a refusal will not get better.
                Err(error @ (CallError::Unreachable(..) | CallError::Timeout(_))) => {
                    Failure::because(Exit::Unreachable, &error).what().to_owned()
                }
                Err(error) => return Err(failure(error, &format!("cannot get the status of {node_id}"))),
            };
            if now != last {
                output.progress(&now);
                last = now;
            }
            if Instant::now() + LOOK_EVERY > end {
                let waited = text::span(wait.as_secs());
                let what = format!("{node_id} was not running after {waited}: {last}");
                return Err(Failure::new(Exit::Unfinished, what).next("see the node's console"));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// A failed call to a node, for a person.
pub fn failure(error: CallError, doing: &str) -> Failure {
    let (exit, next) = match &error {
        CallError::Unreachable(..) | CallError::Timeout(_) => {
            (Exit::Unreachable, "check that the node is up and that its UDP port is reachable from here")
        }
        CallError::Status { status: 401 | 403, .. } => {
            (Exit::Unauthorized, "check that this is the owner's wallet and the file of this very node")
        }
        CallError::Status { status: 429, .. } => (Exit::Failed, "try again in a few seconds"),
        CallError::Status { .. } => (Exit::Failed, "see the message and the node's console"),
        CallError::Untrusted(..) | CallError::TooLarge(_) | CallError::Malformed { .. } => {
            (Exit::Failed, "check that this is an OramaOS node of a matching version")
        }
    };
    let cause = Failure::because(exit, &error);
    Failure::new(exit, format!("{doing}: {}", cause.what())).next(next)
}

/// Whether this machine has the address: only then are its packets for the overlay WireGuard's.
fn is_ours(address: Ipv4Addr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}
