//! Judges a list of peers from the gateway and joins it with what the node has. Pure. Peers without a node id (the
//! gateway's, an operator's) stay; a list that would take an address of theirs is refused.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use orama_keyshare::{is_node_id, printable};
use orama_mesh::{Ipv4Prefix, PrivateKey, PublicKey};
use orama_protocol::peers::{PEERS_MAX, Peer, PeerList};
use orama_volume::{EarlyState, PeerState};

/// Peers send a packet this often, so that mappings of address translators stay and silence is noticed.
const KEEPALIVE_SECONDS: u16 = 25;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ListProblem {
    #[error("with this list the node would have {0} peers, at most {PEERS_MAX} are taken")]
    TooMany(usize),
    #[error("peers[{index}].{field} `{text}` is not {expected}")]
    Field { index: usize, field: &'static str, text: String, expected: &'static str },
    #[error("peers[{index}].wg_ip {address} is not inside this node's overlay {overlay}")]
    Outside { index: usize, address: Ipv4Addr, overlay: Ipv4Prefix },
    #[error("peers[{index}] is this node itself")]
    OwnSelf { index: usize },
    #[error("peers[{index}]: {text} is named twice")]
    Duplicate { index: usize, text: String },
    #[error(
        "peers[{index}].wg_ip {address} belongs to a peer of another key that is no node of the cluster: \
         remove that peer first"
    )]
    Taken { index: usize, address: Ipv4Addr },
    #[error("this node's own record: {0}")]
    Own(String),
}

/// The peers that the node shall have after this list.
pub(super) fn merged(state: &EarlyState, list: &PeerList) -> Result<Vec<PeerState>, ListProblem> {
    if list.peers.len() > PEERS_MAX {
        return Err(ListProblem::TooMany(list.peers.len()));
    }
    let own: Ipv4Prefix =
        state.wireguard.address.parse().map_err(|error| ListProblem::Own(format!("address: {error}")))?;
    let own_key = PrivateKey::from_base64(state.wireguard.private_key.expose())
        .map_err(|error| ListProblem::Own(format!("private key: {error}")))?
        .public();
    let mut kept: Vec<PeerState> =
        state.wireguard.peers.iter().filter(|peer| peer.node_id.is_none()).cloned().collect();
    let mut seen = BTreeSet::new();
    let mut named = Vec::with_capacity(list.peers.len());
    for (index, peer) in list.peers.iter().enumerate() {
        let (address, key) = checked(index, peer, own)?;
        if address == own.address() || peer.node_id == state.node_id || key == own_key {
            return Err(ListProblem::OwnSelf { index });
        }
        for text in [address.to_string(), peer.node_id.clone()] {
            if !seen.insert(text.clone()) {
                return Err(ListProblem::Duplicate { index, text });
            }
        }
        take_over(index, &mut kept, address, key)?;
        named.push(PeerState {
            public_key: key.to_string(),
            endpoint: peer.endpoint.clone(),
            allowed_ips: vec![format!("{address}/32")],
            keepalive_seconds: KEEPALIVE_SECONDS,
            node_id: Some(peer.node_id.clone()),
            guardian: peer.guardian,
            leaving: peer.leaving,
        });
    }
    kept.retain(|peer| !peer.allowed_ips.is_empty());
    kept.extend(named);
    // The header's own bounds, which count the peers that no list names too.
    match kept.iter().map(|peer| peer.allowed_ips.len()).sum() {
        found if found > PEERS_MAX => Err(ListProblem::TooMany(found)),
        _ => Ok(kept),
    }
}

fn checked(index: usize, peer: &Peer, own: Ipv4Prefix) -> Result<(Ipv4Addr, PublicKey), ListProblem> {
    let wrong =
        |field, text: &str, expected| ListProblem::Field { index, field, text: printable(text), expected };
    if !is_node_id(&peer.node_id) {
        return Err(wrong("node_id", &peer.node_id, "1 to 64 characters of A-Z a-z 0-9 . _ -"));
    }
    let address: Ipv4Addr =
        peer.wg_ip.parse().map_err(|_| wrong("wg_ip", &peer.wg_ip, "an IPv4 address without prefix"))?;
    if !own.network().contains(&Ipv4Prefix::host(address)) {
        return Err(ListProblem::Outside { index, address, overlay: own.network() });
    }
    let key = peer
        .public_key
        .parse()
        .map_err(|_| wrong("public_key", &peer.public_key, "the base64 of 32 bytes"))?;
    if let Some(endpoint) = &peer.endpoint {
        // The kernel takes addresses only, and it must still take them at the next boot.
        let parsed = endpoint.parse::<SocketAddr>();
        parsed.map_err(|_| wrong("endpoint", endpoint, "an IP address and a port"))?;
    }
    Ok((address, key))
}

/// An address that a nameless peer of the same key has is the named peer's from now on.
fn take_over(
    index: usize,
    kept: &mut [PeerState],
    address: Ipv4Addr,
    key: PublicKey,
) -> Result<(), ListProblem> {
    let text = format!("{address}/32");
    for peer in kept.iter_mut().filter(|peer| peer.allowed_ips.contains(&text)) {
        if peer.public_key != key.to_string() {
            return Err(ListProblem::Taken { index, address });
        }
        peer.allowed_ips.retain(|allowed| *allowed != text);
    }
    Ok(())
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
