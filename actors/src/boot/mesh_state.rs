//! The WireGuard part of an early state as the interface's configuration, checked again: the header is not believed.

use std::net::Ipv4Addr;

use orama_mesh::{Ipv4Prefix, PeerConfig, PrivateKey, PublicKey, WgConfig};
use orama_volume::{EarlyState, PeerState};

/// The node's own overlay address.
pub(crate) fn own_address(state: &EarlyState) -> Result<Ipv4Addr, String> {
    let prefix: Ipv4Prefix = parse("wireguard.address", &state.wireguard.address)?;
    Ok(prefix.address())
}

pub(crate) fn wg_config(state: &EarlyState) -> Result<WgConfig, String> {
    let private_key = PrivateKey::from_base64(state.wireguard.private_key.expose())
        .map_err(|error| format!("wireguard.private_key: {error}"))?;
    Ok(WgConfig {
        private_key: Some(private_key),
        addresses: vec![parse("wireguard.address", &state.wireguard.address)?],
        listen_port: Some(state.wireguard.listen_port),
        peers: peer_configs(&state.wireguard.peers)?,
    })
}

/// One per key: a machine may carry several nodes' addresses.
pub(crate) fn peer_configs(peers: &[PeerState]) -> Result<Vec<PeerConfig>, String> {
    let mut configs: Vec<PeerConfig> = Vec::with_capacity(peers.len());
    for (index, peer) in peers.iter().enumerate() {
        let config = peer_config(index, peer)?;
        match configs.iter_mut().find(|known| known.public_key == config.public_key) {
            None => configs.push(config),
            Some(known) => {
                known.endpoint = known.endpoint.or(config.endpoint);
                known.keepalive_seconds = known.keepalive_seconds.max(config.keepalive_seconds);
                known.allowed_ips.extend(config.allowed_ips);
            }
        }
    }
    Ok(configs)
}

fn peer_config(index: usize, peer: &PeerState) -> Result<PeerConfig, String> {
    let field = |name: &str| format!("wireguard.peers[{index}].{name}");
    let public_key: PublicKey = parse(&field("public_key"), &peer.public_key)?;
    let endpoint = peer.endpoint.as_deref().map(|text| parse(&field("endpoint"), text)).transpose()?;
    let allowed_ips = peer.allowed_ips.iter().map(|text| parse(&field("allowed_ips"), text));
    Ok(PeerConfig {
        public_key,
        endpoint,
        allowed_ips: allowed_ips.collect::<Result<_, _>>()?,
        keepalive_seconds: peer.keepalive_seconds,
    })
}

/// The same peers as the early state keeps them.
pub(crate) fn peer_states(config: &WgConfig) -> Vec<PeerState> {
    let state = |peer: &PeerConfig| PeerState {
        public_key: peer.public_key.to_string(),
        endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
        allowed_ips: peer.allowed_ips.iter().map(ToString::to_string).collect(),
        keepalive_seconds: peer.keepalive_seconds,
        node_id: None,
        guardian: false,
        leaving: false,
    };
    config.peers.iter().map(state).collect()
}

fn parse<T: std::str::FromStr>(field: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|error| format!("{field}: {error}"))
}
