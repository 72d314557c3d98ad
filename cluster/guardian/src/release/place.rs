//! Where a request comes from: its overlay address is the connection's, the public one behind it is WireGuard's to
//! know. A guardian without a way to WireGuard has only the connection's address.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use orama_mesh::control::Client;
use orama_protocol::mesh_control::MeshResponse;

use super::machine::Place;
use crate::store::Store;

pub(crate) struct Places {
    who_knows: WhoKnows,
    /// Where this guardian listens, if its secrets are files of its own.
    own_host: Option<IpAddr>,
}

enum WhoKnows {
    /// The agent of the node tells, through the store.
    Agent,
    /// The owner of this host's interface tells, on its control socket.
    Mesh(Client),
    /// Nobody tells.
    Nobody,
}

impl Places {
    /// Of a guardian on a node.
    pub fn by_agent() -> Self {
        Self { who_knows: WhoKnows::Agent, own_host: None }
    }

    /// Of a guardian on a host, which may know the owner of its interface.
    pub fn on_host(listen: IpAddr, mesh_control: Option<PathBuf>) -> Self {
        let who_knows = match mesh_control {
            Some(control) => WhoKnows::Mesh(Client::new(control)),
            None => WhoKnows::Nobody,
        };
        Self { who_knows, own_host: Some(listen).filter(|listen| !listen.is_unspecified()) }
    }

    /// A connection of this host to itself has its own address at both ends, and nobody else's can. Who runs programs here
    /// reads the files, so nothing is held down for that, and nothing is learned from it.
    pub fn is_own_host(&self, source: IpAddr) -> bool {
        self.own_host == Some(source)
    }

    /// When WireGuard cannot be asked the address is left open, and then nothing is released by it.
    pub fn of(&self, source: IpAddr, store: &dyn Store) -> Place {
        let public = match (&self.who_knows, source) {
            (WhoKnows::Nobody, _) => Ok(Some(source)),
            (WhoKnows::Agent, IpAddr::V4(source)) => store
                .endpoint(source)
                .map(|endpoint| endpoint.map(|endpoint| endpoint.ip()))
                .map_err(|error| error.to_string()),
            (WhoKnows::Mesh(client), _) => endpoint(client, source).map_err(|error| error.to_string()),
            (WhoKnows::Agent, IpAddr::V6(_)) => Ok(None),
        };
        let public = match public {
            // No peer of WireGuard's: then nothing stands behind the address.
            Ok(public) => Some(public.unwrap_or(source)),
            Err(error) => {
                tracing::warn!(%source, "the public address of a client is not known: {error}");
                None
            }
        };
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
