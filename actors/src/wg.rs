//! WgActor: owns the node's WireGuard interface. Brings it up, sets and removes peers, reads its state. All backend
//! calls block and run on a blocking thread. Decides nothing about who may be a peer.

use std::sync::Arc;
use std::time::SystemTime;

use actix::{Actor, Context, Handler, Message, ResponseActFuture, WrapFuture};
use orama_mesh::{InterfaceStatus, PeerConfig, PublicKey, WgConfig};
use orama_protocol::agent::{WireguardPeerStatus, WireguardStatus};

use crate::ports::{Console, Mesh, MeshFailure};

/// Name of the interface on a node.
pub const INTERFACE: &str = "orama0";

pub struct WgActor {
    mesh: Arc<dyn Mesh>,
    console: Arc<dyn Console>,
}

impl WgActor {
    pub fn new(mesh: Arc<dyn Mesh>, console: Arc<dyn Console>) -> Self {
        Self { mesh, console }
    }
}

impl Actor for WgActor {
    type Context = Context<Self>;
}

/// Brings the interface up with exactly this configuration; also when it is up already.
#[derive(Message)]
#[rtype(result = "Result<(), WgError>")]
pub struct BringUp(pub WgConfig);

/// Adds the peer or replaces it.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), WgError>")]
pub struct SetPeer(pub PeerConfig);

/// A peer that is not there is success.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), WgError>")]
pub struct RemovePeer(pub PublicKey);

#[derive(Debug, Message)]
#[rtype(result = "Result<WireguardStatus, WgError>")]
pub struct GetWireguard;

#[derive(Debug, thiserror::Error)]
pub enum WgError {
    #[error("bringing up {INTERFACE}")]
    Up(#[source] MeshFailure),
    #[error("setting peer {peer}")]
    SetPeer {
        peer: PublicKey,
        #[source]
        source: MeshFailure,
    },
    #[error("removing peer {peer}")]
    RemovePeer {
        peer: PublicKey,
        #[source]
        source: MeshFailure,
    },
    #[error("reading {INTERFACE}")]
    Read(#[source] MeshFailure),
}

impl Handler<BringUp> for WgActor {
    type Result = ResponseActFuture<Self, Result<(), WgError>>;

    fn handle(&mut self, BringUp(config): BringUp, _: &mut Self::Context) -> Self::Result {
        let addresses: Vec<_> = config.addresses.iter().map(ToString::to_string).collect();
        let line = format!(
            "wireguard {INTERFACE} up, address {}, {} peers",
            addresses.join(", "),
            config.peers.len()
        );
        let console = Arc::clone(&self.console);
        let up = blocking(Arc::clone(&self.mesh), move |mesh| mesh.up(&config));
        Box::pin(
            async move {
                up.await.map_err(WgError::Up)?;
                console.line(&line);
                Ok(())
            }
            .into_actor(self),
        )
    }
}

impl Handler<SetPeer> for WgActor {
    type Result = ResponseActFuture<Self, Result<(), WgError>>;

    fn handle(&mut self, SetPeer(peer): SetPeer, _: &mut Self::Context) -> Self::Result {
        let key = peer.public_key;
        let set = blocking(Arc::clone(&self.mesh), move |mesh| mesh.set_peer(&peer));
        Box::pin(
            async move { set.await.map_err(|source| WgError::SetPeer { peer: key, source }) }
                .into_actor(self),
        )
    }
}

impl Handler<RemovePeer> for WgActor {
    type Result = ResponseActFuture<Self, Result<(), WgError>>;

    fn handle(&mut self, RemovePeer(peer): RemovePeer, _: &mut Self::Context) -> Self::Result {
        let remove = blocking(Arc::clone(&self.mesh), move |mesh| mesh.remove_peer(&peer));
        Box::pin(
            async move { remove.await.map_err(|source| WgError::RemovePeer { peer, source }) }
                .into_actor(self),
        )
    }
}

impl Handler<GetWireguard> for WgActor {
    type Result = ResponseActFuture<Self, Result<WireguardStatus, WgError>>;

    fn handle(&mut self, _: GetWireguard, _: &mut Self::Context) -> Self::Result {
        let read = blocking(Arc::clone(&self.mesh), |mesh| mesh.read());
        Box::pin(
            async move { read.await.map(|status| to_wire(&status, SystemTime::now())).map_err(WgError::Read) }
                .into_actor(self),
        )
    }
}

async fn blocking<T: Send + 'static>(
    mesh: Arc<dyn Mesh>,
    call: impl FnOnce(&dyn Mesh) -> Result<T, MeshFailure> + Send + 'static,
) -> Result<T, MeshFailure> {
    match tokio::task::spawn_blocking(move || call(&*mesh)).await {
        Ok(result) => result,
        Err(_) => Err(MeshFailure("the WireGuard backend panicked".into())),
    }
}

fn to_wire(status: &InterfaceStatus, now: SystemTime) -> WireguardStatus {
    let texts = |prefixes: &[orama_mesh::Ipv4Prefix]| prefixes.iter().map(ToString::to_string).collect();
    let addresses: Vec<String> = texts(&status.addresses);
    let peers = status.peers.iter().map(|peer| WireguardPeerStatus {
        public_key: peer.public_key.to_string(),
        endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
        allowed_ips: texts(&peer.allowed_ips),
        last_handshake_seconds: peer
            .last_handshake
            .map(|at| now.duration_since(at).unwrap_or_default().as_secs()),
        rx_bytes: peer.rx_bytes,
        tx_bytes: peer.tx_bytes,
    });
    WireguardStatus {
        address: addresses.join(", "),
        public_key: status.public_key.to_string(),
        peers: peers.collect(),
    }
}
