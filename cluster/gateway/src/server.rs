//! Starts the listeners and what runs beside them, and stops them again.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};

use crate::admin_key::{self, AdminKeyError};
use crate::agent::Agents;
use crate::alarms;
use crate::api;
use crate::config::Config;
use crate::data_folder::{self, FileError};
use crate::enrollment::attempt::mesh_peer;
use crate::enrollment::waiting::WaitingNodes;
use crate::listener::{self, ListenError};
use crate::mesh::MeshControl;
use crate::peers;
use crate::registry::{Registry, Role};
use crate::state::State;
use crate::store::SqlError;
use crate::store::sqlite::{OpenError, Sqlite};
use crate::tls::{self, TlsError};

/// Connections at once per listener: 256 enrolling nodes, and operators beside them.
const CONNECTIONS: usize = 1024;
/// Threads for store and mesh calls per listener. They wait for one database lock, so more would only wait.
const BLOCKING_THREADS: usize = 4;
/// How long a client may take to send its request head.
const HEAD_LIMIT: Duration = Duration::from_secs(10);
/// How long running requests may take to end, seconds.
const SHUTDOWN_SECONDS: u64 = 5;
/// Back-off of the first peer set-up, seconds: doubles from the first to the last value, then stays.
const MESH_RETRY_SECONDS: (u64, u64) = (1, 16);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Store(#[from] SqlError),
    #[error(transparent)]
    AdminKey(#[from] AdminKeyError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("a listening socket was inherited, but there is no [public] section")]
    NoPublic,
    #[error("cannot serve on the listening socket")]
    Serve(#[source] std::io::Error),
}

/// A gateway that serves. Dropping it does not stop it; [`Running::stop`] does.
pub struct Running {
    /// The public listener's address.
    pub public: Option<SocketAddr>,
    /// The loopback listener's address.
    pub local: Option<SocketAddr>,
    /// Lowercase hex SHA-256 of the public listener's certificate, and where it lies in PEM.
    pub certificate: Option<(String, PathBuf)>,
    /// Where the admin key was written, when this start made it.
    pub admin_key: Option<PathBuf>,
    servers: Vec<(ServerHandle, tokio::task::JoinHandle<std::io::Result<()>>)>,
    /// What runs beside the listeners where there is a mesh.
    mesh: Vec<tokio::task::JoinHandle<()>>,
}

impl Running {
    /// Lets running requests end, for a few seconds.
    pub async fn stop(self) {
        for (handle, _) in &self.servers {
            handle.stop(true).await;
        }
        self.wait().await;
    }

    /// Until the listeners end, by a signal or a failure.
    pub async fn wait(self) {
        for (_, task) in self.servers {
            match task.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "a listener failed"),
                Err(error) => tracing::error!(%error, "a listener failed"),
            }
        }
        for mesh in self.mesh {
            mesh.abort();
        }
    }
}

/// Opens the store of a configuration, for `serve` and for the commands beside it.
pub fn open_registry(config: &Config) -> Result<Registry, StartError> {
    data_folder::ensure(config.data_folder())?;
    Ok(Registry::new(Box::new(Sqlite::open(&config.store)?))?)
}

/// Starts everything inside the current actix system. `inherited` is the public listening socket of socket
/// activation, see [`listener::activated`].
pub async fn start(config: Config, inherited: Option<TcpListener>) -> Result<Running, StartError> {
    if inherited.is_some() && config.public.is_none() {
        return Err(StartError::NoPublic);
    }
    let registry = open_registry(&config)?;
    let admin_key = admin_key::ensure(&registry, config.data_folder())?;
    if let Some(path) = &admin_key {
        tracing::info!(path = %path.display(), "admin API key made");
    }
    let state = Arc::new(State {
        cluster_secret: data_folder::cluster_secret(config.data_folder())?,
        registry,
        mesh: config
            .mesh
            .as_ref()
            .map(|mesh| Box::new(orama_mesh::control::Client::new(&mesh.control)) as Box<dyn MeshControl>),
        waiting: Arc::new(WaitingNodes::default()),
        failures: Default::default(),
        health: Default::default(),
        membership: Default::default(),
        recovery: Default::default(),
        visits: Default::default(),
        departures: Default::default(),
        watch: Default::default(),
        decided: Default::default(),
        finishing: Default::default(),
        config,
    });

    let mut running =
        Running { public: None, local: None, certificate: None, admin_key, servers: vec![], mesh: vec![] };
    serve_public(&state, inherited, &mut running)?;
    serve_local(&state, &mut running)?;
    if state.mesh.is_some() {
        let agents = Agents::new(state.config.agent);
        running.mesh.push(actix_web::rt::spawn(restore_peers(Arc::clone(&state))));
        running.mesh.push(actix_web::rt::spawn(alarms::run(Arc::clone(&state))));
        running.mesh.push(actix_web::rt::spawn(peers::run(state, agents)));
    }
    Ok(running)
}

fn serve_public(
    state: &Arc<State>,
    inherited: Option<TcpListener>,
    running: &mut Running,
) -> Result<(), StartError> {
    let Some(public) = &state.config.public else { return Ok(()) };
    let identity = tls::identity(&state.config)?;
    let socket = match inherited {
        Some(socket) => socket,
        None => listener::bind(public.listen)?,
    };
    let address = socket.local_addr().map_err(StartError::Serve)?;
    let agent = state.config.agent;
    let state = Arc::clone(state);
    let server = HttpServer::new(move || {
        let state = Arc::clone(&state);
        App::new()
            .wrap(api::headers())
            .wrap(from_fn(orama_http::hold_body))
            .app_data(web::Data::new(Agents::new(agent)))
            .configure(move |config| api::public(state, config))
    })
    .workers(1)
    .worker_max_blocking_threads(BLOCKING_THREADS)
    .max_connections(CONNECTIONS)
    .client_request_timeout(HEAD_LIMIT)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .listen_rustls_0_23(socket, identity.config)
    .map_err(StartError::Serve)?
    .run();
    tracing::info!(%address, sha256 = identity.fingerprint, certificate = %identity.certificate.display(), "serving operators and nodes");
    running.public = Some(address);
    running.certificate = Some((identity.fingerprint, identity.certificate));
    running.servers.push((server.handle(), actix_web::rt::spawn(server)));
    Ok(())
}

fn serve_local(state: &Arc<State>, running: &mut Running) -> Result<(), StartError> {
    let Some(address) = state.config.local else { return Ok(()) };
    let socket = listener::bind(address)?;
    let address = socket.local_addr().map_err(StartError::Serve)?;
    let state = Arc::clone(state);
    let server = HttpServer::new(move || {
        let state = Arc::clone(&state);
        App::new()
            .wrap(api::headers())
            .wrap(from_fn(orama_http::hold_body))
            .configure(move |config| api::local(state, config))
    })
    .workers(1)
    .worker_max_blocking_threads(BLOCKING_THREADS)
    .max_connections(CONNECTIONS)
    .client_request_timeout(HEAD_LIMIT)
    .shutdown_timeout(SHUTDOWN_SECONDS)
    .listen(socket)
    .map_err(StartError::Serve)?
    .run();
    tracing::info!(%address, "serving the local agent");
    running.local = Some(address);
    running.servers.push((server.handle(), actix_web::rt::spawn(server)));
    Ok(())
}

/// Sets the WireGuard peers of all enrolled nodes again: the interface forgets them when it is made anew. Tries until
/// the control socket is there; a peer that is refused is logged and does not hold up the others.
async fn restore_peers(state: Arc<State>) {
    let mut pause = MESH_RETRY_SECONDS.0;
    loop {
        match state.blocking(set_all_peers).await {
            Ok(Ok(count)) => {
                tracing::info!(count, "WireGuard peers of enrolled nodes are set");
                return;
            }
            Ok(Err(why)) => tracing::warn!(why, retry_seconds = pause, "the mesh is not there yet"),
            Err(error) => tracing::warn!(%error, "the mesh could not be asked"),
        }
        tokio::time::sleep(Duration::from_secs(pause)).await;
        pause = (pause * 2).min(MESH_RETRY_SECONDS.1);
    }
}

fn set_all_peers(state: &State) -> Result<usize, String> {
    let Some(mesh) = &state.mesh else { return Ok(0) };
    mesh.show().map_err(|error| error.to_string())?;
    let nodes = state.registry.nodes().map_err(|error| error.to_string())?;
    let mut count = 0;
    for node in nodes.iter().filter(|node| node.role == Role::Agent) {
        match mesh.set_peer(mesh_peer(node)) {
            Ok(()) => count += 1,
            Err(error) => tracing::error!(node_id = node.node_id, %error, "a WireGuard peer was not set"),
        }
    }
    Ok(count)
}
