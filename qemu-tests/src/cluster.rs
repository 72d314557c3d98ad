//! What stands around a node: the owner of the WireGuard interface, five guardians on overlay addresses of
//! their own, and the gateway. All are the real programs, in one private namespace on one interface.
//! The nodes are not here: see vm.rs.

mod guardians;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use guardians::{Guardian, GuardianError};
use orama_protocol::peers::Peer;

use crate::artifacts::{Artifacts, ArtifactsError};
use crate::net::{Namespace, NamespaceError};
use crate::pki::{Pki, PkiError};
use crate::process::{Process, ProcessError};

/// How many guardians a cluster has: K is 3 then.
pub const GUARDIANS: u8 = 5;
/// Overlay address of the host, where the gateway lives.
pub const HOST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Overlay address of the first guardian; the others follow.
pub const FIRST_GUARDIAN: u8 = 11;
/// UDP port of the host's WireGuard interface; 51820 is the node's.
const WIREGUARD_PORT: u16 = 51821;
/// The host as slirp shows it to a machine, and as it is on a segment.
pub(crate) const HOST_AS_SEEN_BY_NODES: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// How operators reach the gateway inside the namespace; images have `https://10.0.2.2:7443`.
pub const GATEWAY: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, GATEWAY_PORT));
const GATEWAY_PORT: u16 = 7443;
/// Programs of ours that do not listen by then never will.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Prints the token of the node that is named.
const READ_TOKEN: &str = "import sqlite3, sys; \
    print(sqlite3.connect(sys.argv[1]).execute(\
    'SELECT agent_token FROM wireguard_peers WHERE node_id = ?', (sys.argv[2],)).fetchone()[0])";

/// What a cluster has beside its gateway.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    guardians: u8,
    /// Where the gateway listens: loopback is enough where QEMU itself carries what machines say.
    listen: Ipv4Addr,
}

impl Plan {
    /// One machine behind QEMU's own network, and guardians for it.
    pub const SINGLE: Self = Self { guardians: GUARDIANS, listen: Ipv4Addr::LOCALHOST };
    /// Machines on a segment, which are each other's guardians.
    pub const NODES_ONLY: Self = Self { guardians: 0, listen: Ipv4Addr::UNSPECIFIED };
}

pub struct Cluster {
    network: Arc<Namespace>,
    folder: PathBuf,
    pki: Pki,
    guardians: Vec<Guardian>,
    api_key: PathBuf,
    public_key: String,
    guardian_program: PathBuf,
    // Dropped in this order: the gateway before the interface that it uses.
    gateway: Process,
    mesh: Process,
    /// The control socket is here: paths of sockets are short, ours may be long.
    _sockets: tempfile::TempDir,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("making the private network")]
    Network(#[from] NamespaceError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactsError),
    #[error("making certificates")]
    Pki(#[from] PkiError),
    #[error("starting the cluster")]
    Start(#[from] ProcessError),
    #[error(transparent)]
    Guardian(#[from] GuardianError),
    #[error("writing {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("running {command}")]
    Run {
        command: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{command} failed ({status}): {output}")]
    Failed { command: String, status: std::process::ExitStatus, output: String },
    #[error("the mesh did not show its public key: {0}")]
    NoKey(String),
}

impl Cluster {
    /// Starts everything in a folder of its own and waits until each part answers.
    pub fn start(artifacts: &Artifacts, folder: &Path, plan: Plan) -> Result<Self, ClusterError> {
        let network = Arc::new(Namespace::create()?);
        let pki = artifacts.pki()?;
        let sockets = tempfile::tempdir()
            .map_err(|source| ClusterError::Write { path: std::env::temp_dir(), source })?;
        let control = sockets.path().join("mesh.sock");
        let mesh = start_mesh(artifacts, &network, folder, &control)?;
        let public_key = show_key(&control)?;
        let mut guardians = Vec::new();
        let guardian_program = artifacts.program("vault-guardian")?;
        for index in 0..plan.guardians {
            let address = Ipv4Addr::new(10, 0, 0, FIRST_GUARDIAN + index);
            let program = guardian_program.clone();
            guardians.push(Guardian::start(Arc::clone(&network), program, address, folder)?);
        }
        let listen = SocketAddr::from((plan.listen, GATEWAY_PORT));
        let config = write_config(folder, &pki, &control, listen)?;
        let gateway_program = artifacts.program("orama-gateway")?;
        let token = folder.join("guardian.token");
        std::fs::write(&token, guardians::OPERATOR_TOKEN)
            .map_err(|source| ClusterError::Write { path: token.clone(), source })?;
        let token = token.display().to_string();
        for guardian in &guardians {
            let node_id = guardian.node_id();
            let address = guardian.address().to_string();
            // The address is this host's own, so the row says how a node reaches all five: through one peer.
            let endpoint = format!("{HOST_AS_SEEN_BY_NODES}:{WIREGUARD_PORT}");
            let arguments = ["--node-id", &node_id, "--wg-ip", &address, "--public-key", &public_key];
            let arguments =
                [&arguments[..], &["--endpoint", &endpoint, "--guardian-token-file", &token]].concat();
            run_gateway(&network, &gateway_program, &config, &["peer", "add"], &arguments)?;
        }
        let api_key = run_gateway(&network, &gateway_program, &config, &["admin-key", "rotate"], &[])?;
        let api_key = PathBuf::from(api_key.trim());
        let gateway = start_gateway(&network, &gateway_program, folder, &config)?;
        Ok(Self {
            network,
            folder: folder.to_owned(),
            pki,
            guardians,
            api_key,
            public_key,
            guardian_program,
            gateway,
            mesh,
            _sockets: sockets,
        })
    }

    pub fn network(&self) -> &Arc<Namespace> {
        &self.network
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// File with the operator's key.
    pub fn api_key(&self) -> &Path {
        &self.api_key
    }

    pub fn guardians(&mut self) -> &mut [Guardian] {
        &mut self.guardians
    }

    /// One more guardian, of which the gateway does not know.
    pub fn add_guardian(&mut self) -> Result<(), ClusterError> {
        let address = Ipv4Addr::new(10, 0, 0, FIRST_GUARDIAN + self.guardians.len() as u8);
        let (network, program) = (Arc::clone(&self.network), self.guardian_program.clone());
        self.guardians.push(Guardian::start(network, program, address, &self.folder)?);
        Ok(())
    }

    /// A guardian as a node's list of peers has it.
    pub fn peer(&self, index: usize) -> Peer {
        self.peer_here(self.guardians[index].address(), true)
    }

    /// The gateway's host: a list without it takes the gateway from the node.
    pub fn gateway_peer(&self) -> Peer {
        self.peer_here(HOST_ADDRESS, false)
    }

    /// Everything here is behind the host's one WireGuard key.
    fn peer_here(&self, address: Ipv4Addr, guardian: bool) -> Peer {
        Peer {
            node_id: format!("node-{address}"),
            wg_ip: address.to_string(),
            public_key: self.public_key.clone(),
            endpoint: Some(format!("{HOST_AS_SEEN_BY_NODES}:{WIREGUARD_PORT}")),
            guardian,
            leaving: false,
        }
    }

    /// The bearer token of a node's agent, out of the gateway's store.
    pub fn agent_token(&self, node_id: &str) -> Result<String, ClusterError> {
        let command = "python3 (reading the gateway's store)".to_owned();
        let mut python = std::process::Command::new("python3");
        python.args(["-c", READ_TOKEN]).arg(self.folder.join("gateway").join("gateway.db")).arg(node_id);
        let output =
            python.output().map_err(|source| ClusterError::Run { command: command.clone(), source })?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(ClusterError::Failed { command, status: output.status, output: text });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// The part that is not running any more, if one is.
    pub fn dead_part(&mut self) -> Option<String> {
        for (name, process) in [("gateway", &mut self.gateway), ("mesh", &mut self.mesh)] {
            if let Ok(Some(status)) = process.ended() {
                return Some(format!("{name} ended ({status}), log {}", process.log().display()));
            }
        }
        None
    }
}

fn start_mesh(
    artifacts: &Artifacts,
    network: &Namespace,
    folder: &Path,
    control: &Path,
) -> Result<Process, ClusterError> {
    // A userspace interface has a control socket in /run that is named after it.
    let mut command = network.command_with_own_run(artifacts.program("orama")?);
    command.args(["mesh", "serve", "--userspace", "--control"]).arg(control);
    command.args(["--address", &format!("{HOST_ADDRESS}/24")]);
    // One more than there are: a guardian may join.
    for index in 0..=GUARDIANS {
        command.args(["--address", &format!("10.0.0.{}/24", FIRST_GUARDIAN + index)]);
    }
    command.args(["--listen-port", &WIREGUARD_PORT.to_string()]);
    command.arg("--key-file").arg(folder.join("mesh.key"));
    let mut mesh = Process::start("mesh", command, &folder.join("mesh.log"))?;
    mesh.wait_until("control socket", START_LIMIT, || show_key(control).is_ok())?;
    Ok(mesh)
}

/// Asks over the control socket, as the gateway does.
fn show_key(control: &Path) -> Result<String, ClusterError> {
    use std::io::{BufRead, BufReader, Read, Write};
    let failed = |error: &dyn std::fmt::Display| ClusterError::NoKey(error.to_string());
    let mut stream = std::os::unix::net::UnixStream::connect(control).map_err(|error| failed(&error))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| failed(&error))?;
    let request = serde_json::to_string(&orama_protocol::mesh_control::MeshRequest::Show)
        .map_err(|error| failed(&error))?;
    stream.write_all(format!("{request}\n").as_bytes()).map_err(|error| failed(&error))?;
    let mut line = String::new();
    let limit = orama_protocol::mesh_control::LINE_LIMIT_BYTES as u64;
    BufReader::new(stream.take(limit)).read_line(&mut line).map_err(|error| failed(&error))?;
    match serde_json::from_str(&line) {
        Ok(orama_protocol::mesh_control::MeshResponse::Interface { public_key, .. }) => Ok(public_key),
        _ => Err(ClusterError::NoKey(line)),
    }
}

fn write_config(
    folder: &Path,
    pki: &Pki,
    control: &Path,
    listen: SocketAddr,
) -> Result<PathBuf, ClusterError> {
    let path = folder.join("gateway.toml");
    let text = format!(
        "[public]\nlisten = \"{listen}\"\ncertificate = {:?}\nkey = {:?}\n\n[store]\npath = {:?}\n\n\
         [overlay]\nnetwork = \"10.0.0.0/24\"\naddress = \"{HOST_ADDRESS}\"\n\n\
         [mesh]\ncontrol = {:?}\nendpoint = \"{HOST_AS_SEEN_BY_NODES}:{WIREGUARD_PORT}\"\n",
        pki.certificate,
        pki.key,
        folder.join("gateway").join("gateway.db"),
        control,
    );
    std::fs::create_dir_all(folder.join("gateway"))
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|source| ClusterError::Write { path: path.clone(), source })?;
    Ok(path)
}

fn run_gateway(
    network: &Namespace,
    program: &Path,
    config: &Path,
    what: &[&str],
    arguments: &[&str],
) -> Result<String, ClusterError> {
    let name = format!("orama-gateway {}", what.join(" "));
    let mut command = network.command(program);
    command.args(what).arg("--config").arg(config).args(arguments);
    let output = command.output().map_err(|source| ClusterError::Run { command: name.clone(), source })?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(ClusterError::Failed { command: name, status: output.status, output: text });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn start_gateway(
    network: &Namespace,
    program: &Path,
    folder: &Path,
    config: &Path,
) -> Result<Process, ClusterError> {
    let mut command = network.command(program);
    command.args(["serve", "--config"]).arg(config);
    let mut gateway = Process::start("gateway", command, &folder.join("gateway.log"))?;
    gateway.wait_until("listener", START_LIMIT, || network.run(|| listens(GATEWAY)))?;
    Ok(gateway)
}

fn listens(address: SocketAddr) -> bool {
    std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok()
}
