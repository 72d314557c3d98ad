//! Takes a node into the cluster that no gateway enrolled: the first one, which its owner's wallet did. From then on it
//! is a node like others, and its owner's wallet keeps the keys of those who join before there are enough guardians.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use orama_protocol::gateway::AdoptRequest;
use orama_protocol::peers::PeerList;

use crate::enrollment::attempt::mesh_peer;
use crate::enrollment::code::well_formed_public_key;
use crate::mesh::{MeshError, OwnInterface};
use crate::node_config;
use crate::overlay::Network;
use crate::peers::{self, ListError};
use crate::registry::{Node, Role};
use crate::state::{Lost, State, now};
use crate::store::SqlError;

#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    #[error("this gateway has no mesh control socket: adopt through one that owns a WireGuard interface")]
    NoMesh,
    #[error("{field} {text:?} is not {expected}")]
    Field { field: &'static str, text: String, expected: &'static str },
    #[error("the node is in the overlay network {theirs}, this gateway's is {own}")]
    OtherNetwork { theirs: String, own: String },
    #[error(
        "{what} {address} is this gateway's own overlay address: give the gateway another one ([overlay] address) and \
         start it again"
    )]
    OwnAddress { what: &'static str, address: Ipv4Addr },
    #[error("{what} {address} belongs to {node_id}, which has another WireGuard key")]
    Taken { what: &'static str, address: Ipv4Addr, node_id: String },
    #[error("{what} {address} is routed to a WireGuard peer that this gateway does not know")]
    Routed { what: &'static str, address: Ipv4Addr },
    #[error("the WireGuard key of the node belongs to {0}")]
    KeyTaken(String),
    #[error("the keys of this cluster belong to another wallet's owner than this node's")]
    OtherOwner,
    #[error("{0} is leaving the cluster")]
    Leaves(String),
    #[error("another change was quicker; try again")]
    Conflict,
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Store(SqlError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl From<SqlError> for AdoptError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Constraint(_) => Self::Conflict,
            SqlError::Failed(_) => Self::Store(error),
        }
    }
}

/// A request in which every field is what it should be.
#[derive(Clone, Debug)]
struct Candidate {
    node: Node,
    owner_public_key: String,
    operator: Ipv4Addr,
}

/// Asked again for the same node it changes endpoint and token, and answers the list anew.
pub async fn run(state: &Arc<State>, request: AdoptRequest) -> Result<PeerList, AdoptError> {
    let candidate = parse(request, state.config.overlay.network)?;
    let list = state.blocking(move |state| take(state, &candidate)).await??;
    state.membership.notify_one();
    Ok(list)
}

fn take(state: &State, candidate: &Candidate) -> Result<PeerList, AdoptError> {
    let mesh = state.mesh.as_ref().ok_or(AdoptError::NoMesh)?;
    let node = &candidate.node;
    let nodes = state.registry.nodes()?;
    judge(candidate, &nodes, &mesh.show()?, state.config.overlay.address)?;
    if state.registry.leaving()?.contains_key(&node.node_id) {
        return Err(AdoptError::Leaves(node.node_id.clone()));
    }
    if state.registry.owner_public_key()?.is_some_and(|owner| owner != candidate.owner_public_key) {
        return Err(AdoptError::OtherOwner);
    }
    let known = nodes.iter().any(|other| other.node_id == node.node_id);
    // The row first: without its peer it gets it at the next start, but a peer without a row would be in everybody's way.
    state.registry.adopt(node, &candidate.owner_public_key, candidate.operator, now())?;
    if let Err(error) = mesh.set_peer(mesh_peer(node)) {
        if !known {
            state.registry.remove_agent(&node.node_id)?;
        }
        return Err(error.into());
    }
    tracing::info!(node_id = node.node_id, "adopted");
    Ok(peers::list_for(state, &node.node_id)?)
}

fn parse(request: AdoptRequest, network: Network) -> Result<Candidate, AdoptError> {
    let wrong = |field, text: &str, expected| {
        let text = text.chars().take(80).collect();
        AdoptError::Field { field, text, expected }
    };
    if request.network != network.to_string() {
        let (theirs, own) = (request.network.chars().take(80).collect(), network.to_string());
        return Err(AdoptError::OtherNetwork { theirs, own });
    }
    let host = |field, text: &str| {
        let address: Option<Ipv4Addr> = text.parse().ok();
        address
            .filter(|address| network.has_host(*address))
            .ok_or_else(|| wrong(field, text, "a host address of the overlay network"))
    };
    let wg_ip = host("wg_ip", &request.wg_ip)?;
    let operator = host("operator_address", &request.operator_address)?;
    if operator == wg_ip {
        return Err(wrong("operator_address", &request.operator_address, "another address than the node's"));
    }
    if request.node_id != node_config::node_id(wg_ip) {
        return Err(wrong("node_id", &request.node_id, "node-<wg_ip>"));
    }
    if !well_formed_public_key(&request.public_key) {
        return Err(wrong("public_key", &request.public_key, "the base64 of 32 bytes"));
    }
    let endpoint: SocketAddrV4 = request
        .endpoint
        .parse()
        .map_err(|_| wrong("endpoint", &request.endpoint, "an IPv4 address and a port"))?;
    if !is_hex(request.agent_token.expose(), 64) {
        return Err(wrong("agent_token", "…", "64 lowercase hex digits"));
    }
    let owner = request.owner_public_key;
    if !(is_hex(&owner, 130) && owner.starts_with("04")) {
        return Err(wrong("owner_public_key", &owner, "an uncompressed secp256k1 key in lowercase hex"));
    }
    let node = Node {
        node_id: request.node_id,
        wg_ip,
        public_key: request.public_key,
        public_ip: *endpoint.ip(),
        wg_port: endpoint.port(),
        agent_token: Some(request.agent_token),
        confirmed_at: None,
        guardian: false,
        role: Role::Agent,
        phase: "enrolled".into(),
        detail: String::new(),
    };
    Ok(Candidate { node, owner_public_key: owner, operator })
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether there is room for it. Pure.
fn judge(
    candidate: &Candidate,
    nodes: &[Node],
    own: &OwnInterface,
    own_address: Ipv4Addr,
) -> Result<(), AdoptError> {
    let Candidate { node, operator, .. } = candidate;
    if node.public_key == own.public_key {
        return Err(AdoptError::KeyTaken("this gateway".into()));
    }
    let same_key = |other: &&Node| other.public_key == node.public_key;
    if let Some(other) = nodes.iter().find(|other| same_key(other) && other.node_id != node.node_id) {
        return Err(AdoptError::KeyTaken(other.node_id.clone()));
    }
    for (what, address) in [("the node's address", node.wg_ip), ("the operator's address", *operator)] {
        if address == own_address {
            return Err(AdoptError::OwnAddress { what, address });
        }
        match nodes.iter().find(|other| other.wg_ip == address) {
            // It was adopted before.
            Some(other) if same_key(&other) && address == node.wg_ip && other.role == Role::Agent => {}
            Some(other) => {
                return Err(AdoptError::Taken { what, address, node_id: other.node_id.clone() });
            }
            None if own.addresses.contains(&address) => return Err(AdoptError::Routed { what, address }),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use orama_protocol::Redacted;

    use super::*;

    const OWN: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn request() -> AdoptRequest {
        AdoptRequest {
            node_id: "node-10.0.0.2".into(),
            wg_ip: "10.0.0.2".into(),
            network: "10.0.0.0/24".into(),
            public_key: STANDARD.encode([2; 32]),
            endpoint: "192.0.2.2:51820".into(),
            agent_token: Redacted::new("ab".repeat(32)),
            owner_public_key: format!("04{}", "7".repeat(128)),
            operator_address: "10.0.0.254".into(),
        }
    }

    fn candidate(change: impl FnOnce(&mut AdoptRequest)) -> Result<Candidate, AdoptError> {
        let mut request = request();
        change(&mut request);
        parse(request, "10.0.0.0/24".parse().unwrap())
    }

    #[test]
    fn every_field_is_checked_and_named() {
        assert!(candidate(|_| {}).is_ok());
        let refused = |change: fn(&mut AdoptRequest), expect: &str| {
            let text = candidate(change).unwrap_err().to_string();
            assert!(text.contains(expect) && !text.contains("abab"), "`{text}` does not say `{expect}`");
        };
        refused(|request| request.network = "10.1.0.0/24".into(), "network 10.1.0.0/24, this gateway's");
        refused(|request| request.wg_ip = "10.0.0.0".into(), "wg_ip");
        refused(|request| request.wg_ip = "10.0.0.3".into(), "node_id");
        refused(|request| request.operator_address = "10.0.0.2".into(), "operator_address");
        refused(|request| request.operator_address = "10.0.1.2".into(), "operator_address");
        refused(|request| request.public_key = "x".into(), "public_key");
        refused(|request| request.endpoint = "node:51820".into(), "endpoint");
        refused(|request| request.agent_token = Redacted::new("abababab".into()), "agent_token");
        refused(|request| request.owner_public_key.truncate(66), "owner_public_key");
    }

    #[test]
    fn only_what_fits_beside_the_others_is_taken() {
        let fresh = candidate(|_| {}).unwrap();
        let own = |addresses: &[Ipv4Addr]| OwnInterface {
            public_key: STANDARD.encode([1; 32]),
            addresses: addresses.to_vec(),
        };
        let judged = |candidate: &Candidate, nodes: &[Node], routed: &[Ipv4Addr]| {
            judge(candidate, nodes, &own(routed), OWN).map_err(|error| error.to_string())
        };
        assert_eq!(judged(&fresh, &[], &[OWN]), Ok(()));
        let known = fresh.node.clone();
        assert_eq!(judged(&fresh, std::slice::from_ref(&known), &[OWN, known.wg_ip]), Ok(()), "again");

        let other = Node { public_key: STANDARD.encode([3; 32]), ..known.clone() };
        assert!(judged(&fresh, &[other], &[]).unwrap_err().contains("belongs to node-10.0.0.2"));
        let moved = Node { node_id: "node-10.0.0.9".into(), wg_ip: [10, 0, 0, 9].into(), ..known.clone() };
        assert!(judged(&fresh, &[moved], &[]).unwrap_err().contains("key of the node belongs to"));
        let host = Node { role: Role::Peer, ..known.clone() };
        assert!(judged(&fresh, &[host], &[]).is_err(), "a host without enrolment");
        assert!(judged(&fresh, &[], &[known.wg_ip]).unwrap_err().contains("does not know"));
        let at_ours = candidate(|request| {
            (request.wg_ip, request.node_id) = ("10.0.0.1".into(), "node-10.0.0.1".into());
        });
        assert!(judged(&at_ours.unwrap(), &[], &[]).unwrap_err().contains("gateway's own"));
        let at_ours = candidate(|request| request.operator_address = "10.0.0.1".into()).unwrap();
        assert!(judged(&at_ours, &[], &[]).unwrap_err().contains("the operator's address"));
        let ours = candidate(|request| request.public_key = STANDARD.encode([1; 32])).unwrap();
        assert!(judged(&ours, &[], &[]).unwrap_err().contains("this gateway"));
    }
}
