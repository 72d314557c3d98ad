//! The wg-quick text that configures a node: a bounded parser and a renderer. Takes the keys a node uses
//! and refuses all others, so that no line is ever ignored in silence. Never runs hooks, never resolves names.

use std::collections::HashSet;
use std::net::SocketAddr;

use orama_protocol::mesh_control::MeshPeer;
use zeroize::Zeroizing;

use crate::{Ipv4Prefix, PrivateKey, PublicKey};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::{WgQuickError, WgQuickErrorKind, parse};

/// Longest text that is read, in bytes: 250 peers of about 1 KiB.
pub const TEXT_LIMIT_BYTES: usize = 256 * 1024;
/// Most peers one text may name: the overlay is a /24.
pub const PEERS_MAX: usize = 250;
/// Most addresses of an interface, and most AllowedIPs of one peer.
pub const ADDRESSES_MAX: usize = 64;

/// What an interface is to be. Not Debug and not Clone: it may hold the private key.
#[derive(Default)]
pub struct WgConfig {
    /// Absent when the node uses the key it made itself.
    pub private_key: Option<PrivateKey>,
    pub addresses: Vec<Ipv4Prefix>,
    /// UDP port; absent: any free one.
    pub listen_port: Option<u16>,
    pub peers: Vec<PeerConfig>,
}

/// One `[Peer]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    pub public_key: PublicKey,
    /// Absent: the peer comes to us.
    pub endpoint: Option<SocketAddr>,
    pub allowed_ips: Vec<Ipv4Prefix>,
    /// Seconds; 0 is off.
    pub keepalive_seconds: u16,
}

impl PeerConfig {
    /// The peer as the control socket speaks of it.
    pub fn to_wire(&self) -> MeshPeer {
        MeshPeer {
            public_key: self.public_key.to_string(),
            endpoint: self.endpoint.map(|endpoint| endpoint.to_string()),
            allowed_ips: self.allowed_ips.iter().map(Ipv4Prefix::to_string).collect(),
            keepalive_seconds: self.keepalive_seconds,
        }
    }
}

/// Writes the text that [`parse`] reads back to the same configuration.
pub fn render(config: &WgConfig) -> Zeroizing<String> {
    // Reserved at once: a growing buffer would leave copies of the key behind.
    let mut text = Zeroizing::new(String::with_capacity(512 + config.peers.len() * 2048));
    text.push_str("[Interface]\n");
    if let Some(key) = &config.private_key {
        text.push_str("PrivateKey = ");
        text.push_str(&key.to_base64());
        text.push('\n');
    }
    if !config.addresses.is_empty() {
        text.push_str(&format!("Address = {}\n", join(&config.addresses)));
    }
    if let Some(port) = config.listen_port {
        text.push_str(&format!("ListenPort = {port}\n"));
    }
    for peer in &config.peers {
        text.push_str(&format!("\n[Peer]\nPublicKey = {}\n", peer.public_key));
        if let Some(endpoint) = peer.endpoint {
            text.push_str(&format!("Endpoint = {endpoint}\n"));
        }
        if !peer.allowed_ips.is_empty() {
            text.push_str(&format!("AllowedIPs = {}\n", join(&peer.allowed_ips)));
        }
        if peer.keepalive_seconds != 0 {
            text.push_str(&format!("PersistentKeepalive = {}\n", peer.keepalive_seconds));
        }
    }
    text
}

fn join(prefixes: &[Ipv4Prefix]) -> String {
    prefixes.iter().map(Ipv4Prefix::to_string).collect::<Vec<_>>().join(", ")
}

/// The first AllowedIPs entry that two peers claim: WireGuard would give it to the last one in silence.
fn contested(peers: &[PeerConfig]) -> Option<(usize, Ipv4Prefix)> {
    let mut seen = HashSet::new();
    peers.iter().enumerate().find_map(|(index, peer)| {
        peer.allowed_ips.iter().find(|ip| !seen.insert(ip.network())).map(|ip| (index, *ip))
    })
}
