//! How the gateway asks the owner of the WireGuard interface for peers. Owns no interface itself.

use std::net::Ipv4Addr;

use orama_mesh::control::{Client, ClientError};
use orama_protocol::mesh_control::{MeshPeer, MeshResponse};

#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    #[error("the mesh control socket failed: {}", chain(.0))]
    Client(ClientError),
    #[error("the mesh answered a question that was not asked")]
    Unexpected,
}

/// The interface as far as an enrollment must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnInterface {
    pub public_key: String,
    /// Addresses that the interface has or routes to some peer, also to one that we do not know.
    pub addresses: Vec<Ipv4Addr>,
}

/// All calls block.
pub trait MeshControl: Send + Sync {
    /// Adds the peer or replaces it.
    fn set_peer(&self, peer: MeshPeer) -> Result<(), MeshError>;
    /// A peer that is not there is success.
    fn remove_peer(&self, public_key: &str) -> Result<(), MeshError>;
    fn show(&self) -> Result<OwnInterface, MeshError>;
}

impl MeshControl for Client {
    fn set_peer(&self, peer: MeshPeer) -> Result<(), MeshError> {
        Client::set_peer(self, peer).map_err(MeshError::Client)
    }

    fn remove_peer(&self, public_key: &str) -> Result<(), MeshError> {
        Client::remove_peer(self, public_key).map_err(MeshError::Client)
    }

    fn show(&self) -> Result<OwnInterface, MeshError> {
        let MeshResponse::Interface { public_key, addresses, peers, .. } =
            Client::show(self).map_err(MeshError::Client)?
        else {
            return Err(MeshError::Unexpected);
        };
        let routed = peers.into_iter().flat_map(|peer| peer.allowed_ips);
        let addresses = addresses.into_iter().chain(routed);
        // What is not an IPv4 address cannot collide with one of ours.
        let addresses = addresses.filter_map(|text| text.split('/').next().and_then(|ip| ip.parse().ok()));
        Ok(OwnInterface { public_key, addresses: addresses.collect() })
    }
}

/// The operator sees one line: the error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
