//! Where a request comes from: its overlay address is the connection's, the public one behind it is WireGuard's to
//! know. A guardian without a way to WireGuard has only the connection's address.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use orama_mesh::control::Client;
use orama_protocol::mesh_control::MeshResponse;

use super::machine::Place;
use crate::store::Store;

pub(crate) enum Places {
    /// The agent of the node tells, through the store.
    Agent,
    /// The owner of this host's interface tells, on its control socket.
    Mesh(Client),
    /// Nobody tells.
    Source,
}

impl Places {
    pub fn mesh(control: PathBuf) -> Self {
        Self::Mesh(Client::new(control))
    }

    /// What cannot be learned is left open, and then nothing is released by the address.
    pub fn of(&self, source: IpAddr, store: &dyn Store) -> Place {
        let public = match (self, source) {
            (Places::Source, _) => Ok(Some(source)),
            (Places::Agent, IpAddr::V4(source)) => store
                .endpoint(source)
                .map(|endpoint| endpoint.map(|endpoint| endpoint.ip()))
                .map_err(|error| error.to_string()),
            (Places::Mesh(client), _) => endpoint(client, source).map_err(|error| error.to_string()),
            (Places::Agent, IpAddr::V6(_)) => Ok(None),
        };
        let public = public.unwrap_or_else(|error| {
            tracing::warn!(%source, "the public address of a client is not known: {error}");
            None
        });
        Place { overlay: source, public }
    }
}

fn endpoint(client: &Client, source: IpAddr) -> Result<Option<IpAddr>, orama_mesh::control::ClientError> {
    let MeshResponse::Interface { peers, .. } = client.show()? else { return Ok(None) };
    let its = |allowed: &String| allowed.split('/').next().is_some_and(|ip| ip.parse() == Ok(source));
    let peer = peers.into_iter().find(|peer| peer.allowed_ips.iter().any(its));
    let endpoint = peer.and_then(|peer| peer.endpoint?.parse::<SocketAddr>().ok());
    Ok(endpoint.map(|endpoint| endpoint.ip()))
}
