//! The control socket: an unprivileged gateway asks the owner of the WireGuard interface to change peers, in
//! the lines of `orama_protocol::mesh_control`. Validates every field; decides nothing about who may join.

use std::collections::HashSet;
use std::net::SocketAddr;

use orama_protocol::mesh_control::{MeshPeer, MeshRequest, MeshResponse};

use crate::wgquick::ADDRESSES_MAX;
use crate::{Interface, InterfaceStatus, Ipv4Prefix, OVERLAY, PeerConfig, PublicKey};

mod client;
mod server;
#[cfg(test)]
mod tests;

pub use client::{Client, ClientError};
pub use server::{BindError, Server, ServerConfig};

/// The interface behind a control socket. All calls block.
pub trait Tunnel: Send {
    fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), String>;
    fn remove_peer(&mut self, public_key: &PublicKey) -> Result<(), String>;
    fn read(&self) -> Result<InterfaceStatus, String>;
}

impl Tunnel for Interface {
    fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), String> {
        Interface::set_peer(self, peer).map_err(|error| with_sources(&error))
    }

    fn remove_peer(&mut self, public_key: &PublicKey) -> Result<(), String> {
        Interface::remove_peer(self, public_key).map_err(|error| with_sources(&error))
    }

    fn read(&self) -> Result<InterfaceStatus, String> {
        Interface::read(self).map_err(|error| with_sources(&error))
    }
}

/// The error and its causes in one line, as the answer line carries it.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

/// Why a peer from outside is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefused {
    #[error("public_key: {0}")]
    PublicKey(crate::KeyError),
    #[error("public_key is this interface's own")]
    OwnKey,
    #[error("endpoint is not `ip:port` of a host")]
    Endpoint,
    #[error("allowed_ips has {0} entries, 1 to {ADDRESSES_MAX} are allowed")]
    Count(usize),
    #[error("allowed_ips[{index}]: {error}")]
    Prefix { index: usize, error: crate::PrefixError },
    #[error("allowed_ips[{index}]: {ip} is not a single address (/32)")]
    NotHost { index: usize, ip: Ipv4Prefix },
    #[error("allowed_ips[{index}]: {ip} is not a host address of the overlay {OVERLAY}")]
    OutsideOverlay { index: usize, ip: Ipv4Prefix },
    #[error("allowed_ips[{index}]: {ip} is this interface's own address")]
    OwnAddress { index: usize, ip: Ipv4Prefix },
    #[error("allowed_ips[{index}]: {ip} is listed twice")]
    Repeated { index: usize, ip: Ipv4Prefix },
    #[error("allowed_ips[{index}]: {ip} belongs to peer {owner} already")]
    Taken { index: usize, ip: Ipv4Prefix, owner: PublicKey },
}

impl PeerConfig {
    /// Takes a peer from outside: /32 addresses inside the overlay, an endpoint that is a socket address.
    pub fn from_wire(peer: &MeshPeer) -> Result<Self, PeerRefused> {
        let public_key = peer.public_key.parse().map_err(PeerRefused::PublicKey)?;
        let endpoint = peer.endpoint.as_deref().map(endpoint).transpose()?;
        if !(1..=ADDRESSES_MAX).contains(&peer.allowed_ips.len()) {
            return Err(PeerRefused::Count(peer.allowed_ips.len()));
        }
        let mut seen = HashSet::new();
        let mut allowed_ips = Vec::with_capacity(peer.allowed_ips.len());
        for (index, text) in peer.allowed_ips.iter().enumerate() {
            let ip: Ipv4Prefix = text.parse().map_err(|error| PeerRefused::Prefix { index, error })?;
            if !ip.is_host() || !text.ends_with("/32") {
                return Err(PeerRefused::NotHost { index, ip });
            }
            // .0 and .255 are the network and its broadcast address.
            if !OVERLAY.contains(&ip) || matches!(ip.address().octets()[3], 0 | 255) {
                return Err(PeerRefused::OutsideOverlay { index, ip });
            }
            if !seen.insert(ip) {
                return Err(PeerRefused::Repeated { index, ip });
            }
            allowed_ips.push(ip);
        }
        Ok(Self { public_key, endpoint, allowed_ips, keepalive_seconds: peer.keepalive_seconds })
    }

    /// Whether this peer may join what is there: it must not take the interface's or another peer's addresses.
    pub fn check_against(&self, status: &InterfaceStatus) -> Result<(), PeerRefused> {
        if self.public_key == status.public_key {
            return Err(PeerRefused::OwnKey);
        }
        for (index, ip) in self.allowed_ips.iter().copied().enumerate() {
            if status.addresses.iter().any(|own| own.address() == ip.address()) {
                return Err(PeerRefused::OwnAddress { index, ip });
            }
            let owner = status.peers.iter().find(|peer| {
                peer.public_key != self.public_key
                    && peer.allowed_ips.iter().any(|theirs| theirs.contains(&ip))
            });
            if let Some(owner) = owner {
                return Err(PeerRefused::Taken { index, ip, owner: owner.public_key });
            }
        }
        Ok(())
    }
}

fn endpoint(text: &str) -> Result<SocketAddr, PeerRefused> {
    let endpoint: SocketAddr = text.parse().map_err(|_| PeerRefused::Endpoint)?;
    let ip = endpoint.ip();
    if endpoint.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Err(PeerRefused::Endpoint);
    }
    Ok(endpoint)
}

/// Answers one request line. Never fails: what is wrong is said in the answer.
pub fn answer(tunnel: &mut dyn Tunnel, line: &[u8]) -> MeshResponse {
    let request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return MeshResponse::Error { error: format!("not a mesh request: {error}") },
    };
    match perform(tunnel, request) {
        Ok(response) => response,
        Err(error) => MeshResponse::Error { error },
    }
}

/// Carries out one request that is well-formed JSON; for owners that read the lines themselves.
pub fn perform(tunnel: &mut dyn Tunnel, request: MeshRequest) -> Result<MeshResponse, String> {
    match request {
        MeshRequest::SetPeer { peer } => {
            let peer = PeerConfig::from_wire(&peer).map_err(|refused| refused.to_string())?;
            peer.check_against(&tunnel.read()?).map_err(|refused| refused.to_string())?;
            tunnel.set_peer(&peer)?;
            tracing::info!(peer = %peer.public_key, allowed_ips = ?peer.allowed_ips, "peer set");
            Ok(MeshResponse::Done)
        }
        MeshRequest::RemovePeer { public_key } => {
            let public_key = public_key.parse().map_err(|error| format!("public_key: {error}"))?;
            tunnel.remove_peer(&public_key)?;
            tracing::info!(peer = %public_key, "peer removed");
            Ok(MeshResponse::Done)
        }
        MeshRequest::Show => tunnel.read().map(|status| show(&status)),
    }
}

fn show(status: &InterfaceStatus) -> MeshResponse {
    MeshResponse::Interface {
        name: status.name.clone(),
        public_key: status.public_key.to_string(),
        listen_port: status.listen_port,
        addresses: status.addresses.iter().map(Ipv4Prefix::to_string).collect(),
        peers: status.peers.iter().map(|peer| peer.config().to_wire()).collect(),
    }
}
