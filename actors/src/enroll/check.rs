//! Judges a configuration that came from the gateway: everything that can be wrong is found here, before anything is
//! formatted. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use orama_keyshare::{Threshold, ThresholdError, is_node_id, printable};
use orama_mesh::{Ipv4Prefix, PrivateKey, WgConfig, WgQuickError, wgquick};
use orama_protocol::enroll::NodeConfig;
use orama_wallet::{Address, PublicKey, PublicKeyError};

use crate::unlock::{Guardian, Keeper};

/// Longest cluster secret, bytes: the same bound as its file in the volume.
const CLUSTER_SECRET_LIMIT: usize = 4096;

/// A configuration in which nothing is missing. Its WireGuard part has a private key: the node's own, or the given one.
pub struct Checked {
    pub node_id: String,
    pub address: Ipv4Prefix,
    pub wireguard: WgConfig,
    pub keeper: Keeper,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    #[error("wireguard_config")]
    WireGuard(#[source] WgQuickError),
    #[error("wireguard_config names {0} addresses, a node has exactly one")]
    Addresses(usize),
    #[error("wireguard_config: the address {address} is not inside the overlay {overlay}")]
    Outside { address: Ipv4Prefix, overlay: Ipv4Prefix },
    #[error("wireguard_config names no peer")]
    NoPeer,
    #[error("wireguard_config: a peer has this node's own public key")]
    OwnKey,
    #[error("wireguard_config: a peer claims this node's own address {0}")]
    OwnAddressTaken(Ipv4Addr),
    #[error("node_id is `{found}`, for the address {address} it must be `node-{address}`")]
    NodeId { found: String, address: Ipv4Addr },
    #[error("cluster_secret has {0} bytes, 1 to {CLUSTER_SECRET_LIMIT} are allowed")]
    ClusterSecret(usize),
    #[error("peers[{index}].wg_ip `{text}` is not an IPv4 address")]
    PeerIp { index: usize, text: String },
    #[error("peers[{index}].node_id `{text}` is not a node id")]
    PeerId { index: usize, text: String },
    #[error("peers[{index}] is this node itself")]
    PeerIsSelf { index: usize },
    #[error("peers[{index}]: {text} is named twice")]
    Duplicate { index: usize, text: String },
    #[error("peers[{index}].wg_ip {address} is not reached through any WireGuard peer")]
    Unreachable { index: usize, address: Ipv4Addr },
    #[error("peers names {0} guardians")]
    Guardians(usize, #[source] ThresholdError),
    #[error("owner_public_key")]
    OwnerKey(#[source] PublicKeyError),
    #[error("owner_public_key is of {found}, and this node's image names {}", owner_text(.own))]
    OtherOwner { found: Address, own: Option<Address> },
}

fn owner_text(own: &Option<Address>) -> String {
    own.map_or_else(|| "no owner".to_owned(), |own| format!("the owner {own}"))
}

/// What a node brings itself.
#[derive(Clone, Copy)]
pub struct Own<'a> {
    /// Used when the text has no `PrivateKey`.
    pub key: &'a PrivateKey,
    /// Used when it has no `ListenPort`.
    pub port: u16,
    pub overlay: Ipv4Prefix,
    /// The wallet that its image names.
    pub owner: Option<Address>,
}

pub fn check(config: &NodeConfig, own: Own<'_>) -> Result<Checked, ConfigProblem> {
    let overlay = own.overlay;
    let mut wireguard = wgquick::parse(&config.wireguard_config).map_err(ConfigProblem::WireGuard)?;
    let [address] = wireguard.addresses[..] else {
        return Err(ConfigProblem::Addresses(wireguard.addresses.len()));
    };
    if !overlay.contains(&Ipv4Prefix::host(address.address())) || address.length() < overlay.length() {
        return Err(ConfigProblem::Outside { address, overlay });
    }
    let own_ip = address.address();
    if config.node_id != orama_protocol::node_id(own_ip) {
        return Err(ConfigProblem::NodeId { found: printable(&config.node_id), address: own_ip });
    }
    let secret_bytes = config.cluster_secret.expose().len();
    if !(1..=CLUSTER_SECRET_LIMIT).contains(&secret_bytes) {
        return Err(ConfigProblem::ClusterSecret(secret_bytes));
    }
    let key = match wireguard.private_key.take() {
        Some(given) => given,
        None => PrivateKey::from_bytes(zeroize::Zeroizing::new(*own.key.expose())),
    };
    check_wireguard_peers(&wireguard, &key, own_ip)?;
    wireguard.private_key = Some(key);
    wireguard.listen_port.get_or_insert(own.port);
    let keeper = keeper(config, guardians(config, &wireguard, own_ip)?, own.owner)?;
    Ok(Checked { node_id: config.node_id.clone(), address, wireguard, keeper })
}

/// Guardians when there are enough of them, else the owner's wallet, when the gateway knows its key.
fn keeper(
    config: &NodeConfig,
    guardians: Vec<Guardian>,
    owner: Option<Address>,
) -> Result<Keeper, ConfigProblem> {
    let count = guardians.len();
    let Err(too_few) = Threshold::for_guardians(count) else { return Ok(Keeper::Guardians(guardians)) };
    let Some(text) = &config.owner_public_key else { return Err(ConfigProblem::Guardians(count, too_few)) };
    let key: PublicKey = text.parse().map_err(ConfigProblem::OwnerKey)?;
    match key.address() {
        found if Some(found) == owner => Ok(Keeper::Wallet(key)),
        found => Err(ConfigProblem::OtherOwner { found, own: owner }),
    }
}

fn check_wireguard_peers(
    wireguard: &WgConfig,
    key: &PrivateKey,
    own_ip: Ipv4Addr,
) -> Result<(), ConfigProblem> {
    if wireguard.peers.is_empty() {
        return Err(ConfigProblem::NoPeer);
    }
    if wireguard.peers.iter().any(|peer| peer.public_key == key.public()) {
        return Err(ConfigProblem::OwnKey);
    }
    // A whole network that contains us is fine (the longer prefix wins), our very address is not.
    let own = Ipv4Prefix::host(own_ip);
    let mut claimed = wireguard.peers.iter().flat_map(|peer| &peer.allowed_ips);
    if claimed.any(|prefix| prefix.network() == own) {
        return Err(ConfigProblem::OwnAddressTaken(own_ip));
    }
    Ok(())
}

fn guardians(
    config: &NodeConfig,
    wireguard: &WgConfig,
    own_ip: Ipv4Addr,
) -> Result<Vec<Guardian>, ConfigProblem> {
    let mut seen = BTreeSet::new();
    let mut guardians = Vec::new();
    for (index, peer) in config.peers.iter().enumerate() {
        let address: Ipv4Addr =
            peer.wg_ip.parse().map_err(|_| ConfigProblem::PeerIp { index, text: printable(&peer.wg_ip) })?;
        if !is_node_id(&peer.node_id) {
            return Err(ConfigProblem::PeerId { index, text: printable(&peer.node_id) });
        }
        if address == own_ip || peer.node_id == config.node_id {
            return Err(ConfigProblem::PeerIsSelf { index });
        }
        for text in [peer.wg_ip.clone(), peer.node_id.clone()] {
            if !seen.insert(text.clone()) {
                return Err(ConfigProblem::Duplicate { index, text });
            }
        }
        if !peer.guardian {
            continue;
        }
        let host = Ipv4Prefix::host(address);
        let mut reached = wireguard.peers.iter().flat_map(|peer| &peer.allowed_ips);
        if !reached.any(|prefix| prefix.contains(&host)) {
            return Err(ConfigProblem::Unreachable { index, address });
        }
        guardians.push(Guardian { node_id: peer.node_id.clone(), wg_ip: address });
    }
    Ok(guardians)
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
