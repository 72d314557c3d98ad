//! One vault-guardian of the cluster: started, stopped, frozen, or replaced by a liar.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{START_LIMIT, listens};
use crate::liar::{Liar, Lie};
use crate::net::Namespace;
use crate::process::{Process, ProcessError};

/// Where a guardian hides when a liar has its address.
const HIDDEN_PORT: u16 = 17_500;
/// With which the gateway asks the guardians here what they hold down, and its SHA-256.
pub(super) const OPERATOR_TOKEN: &str = "token-of-the-operators";
const OPERATOR_TOKEN_SHA256: &str = "4d9d8fdf23647685957c08b835581c7bca21fc98f1ca311b009d81d41ff04bd7";

pub struct Guardian {
    network: Arc<Namespace>,
    program: PathBuf,
    address: Ipv4Addr,
    data: PathBuf,
    log: PathBuf,
    process: Option<Process>,
    liar: Option<Liar>,
    /// How long an owner may be silent; none: what it is by default.
    window: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum GuardianError {
    #[error("guardian {address}")]
    Process {
        address: Ipv4Addr,
        #[source]
        source: ProcessError,
    },
    #[error("guardian {address} is not running")]
    NotRunning { address: Ipv4Addr },
    #[error("making the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("putting a liar at {address}")]
    Liar {
        address: Ipv4Addr,
        #[source]
        source: std::io::Error,
    },
}

impl Guardian {
    pub(super) fn start(
        network: Arc<Namespace>,
        program: PathBuf,
        address: Ipv4Addr,
        folder: &Path,
    ) -> Result<Self, GuardianError> {
        let data = folder.join(format!("guardian-{address}"));
        std::fs::create_dir_all(&data)
            .map_err(|source| GuardianError::Folder { path: data.clone(), source })?;
        let log = folder.join(format!("guardian-{address}.log"));
        let mut guardian =
            Self { network, program, address, data, log, process: None, liar: None, window: None };
        guardian.resume()?;
        Ok(guardian)
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The peer's id as the gateway knows it.
    pub fn node_id(&self) -> String {
        format!("node-{}", self.address)
    }

    pub fn socket(&self) -> SocketAddr {
        SocketAddrV4::new(self.address, orama_protocol::GUARDIAN_PORT).into()
    }

    /// Folder of its store.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// A folder in its store for everybody that it keeps something for.
    pub fn identities(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut found = entries(&self.data)?;
        found.retain(|path| path.is_dir());
        Ok(found)
    }

    /// Shares of anybody's disk key: `<data>/<identity>/luks-<volume>-g<generation>`.
    pub fn shares(&self) -> std::io::Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for identity in self.identities()? {
            found.extend(entries(&identity)?);
        }
        found.retain(|file| file.to_string_lossy().contains("/luks-"));
        Ok(found)
    }

    /// Starts it again where it belongs, honest, whatever was done to it before.
    pub fn resume(&mut self) -> Result<(), GuardianError> {
        self.stop();
        self.run_at(self.socket())
    }

    /// Counts owners as absent after this time, such as `65s`, from now on.
    pub fn set_window(&mut self, window: &str) -> Result<(), GuardianError> {
        self.window = Some(window.to_owned());
        self.resume()
    }

    /// Gone, with or without a liar in its place. Connections are refused then.
    pub fn stop(&mut self) {
        self.liar = None;
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Stops its time: connections are accepted by the kernel and nothing answers.
    pub fn freeze(&self) -> Result<(), GuardianError> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn thaw(&self) -> Result<(), GuardianError> {
        self.signal(Signal::SIGCONT)
    }

    /// Puts a proxy at its address that tells what the guardian says with one lie in it.
    pub fn lie(&mut self, lie: Lie) -> Result<(), GuardianError> {
        self.stop();
        let hidden =
            SocketAddr::from((Ipv4Addr::LOCALHOST, HIDDEN_PORT + u16::from(self.address.octets()[3])));
        self.run_at(hidden)?;
        let liar = Liar::start(&self.network, self.socket(), hidden, lie)
            .map_err(|source| GuardianError::Liar { address: self.address, source })?;
        self.liar = Some(liar);
        Ok(())
    }

    fn run_at(&mut self, listen: SocketAddr) -> Result<(), GuardianError> {
        let failed = |source| GuardianError::Process { address: self.address, source };
        let mut command = self.network.command(&self.program);
        command.args(["serve", "--listen", &listen.to_string(), "--data"]).arg(&self.data);
        command.args(["--operator-token-sha256", OPERATOR_TOKEN_SHA256]);
        if let Some(window) = &self.window {
            command.args(["--window", window]);
        }
        let name = format!("guardian {}", self.address);
        let mut process = Process::start(&name, command, &self.log).map_err(failed)?;
        let network = Arc::clone(&self.network);
        let ready = || network.run(|| listens(listen));
        process.wait_until("listener", START_LIMIT.min(Duration::from_secs(20)), ready).map_err(failed)?;
        self.process = Some(process);
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), GuardianError> {
        let process = self.process.as_ref().ok_or(GuardianError::NotRunning { address: self.address })?;
        process.signal(signal).map_err(|source| GuardianError::Process { address: self.address, source })
    }
}

fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect()
}
