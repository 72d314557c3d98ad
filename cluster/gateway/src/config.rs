//! The gateway's configuration file: what it may say and what is refused.
//! Reads text only; opening sockets and files is left to those who use it.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::overlay::Network;

/// Largest configuration file, bytes.
const FILE_LIMIT_BYTES: u64 = 64 * 1024;
/// Longest time an agent may be given, seconds: the operator's client gives up after 60.
const AGENT_TIMEOUT_MAX_SECONDS: u64 = 50;

#[derive(Clone, Debug)]
pub struct Config {
    pub public: Option<Public>,
    pub local: Option<SocketAddr>,
    /// The SQLite file; its folder also takes keys and the self-signed certificate.
    pub store: PathBuf,
    pub overlay: Overlay,
    pub mesh: Option<Mesh>,
    pub agent: Agent,
}

#[derive(Clone, Debug)]
pub struct Public {
    pub listen: SocketAddr,
    /// Certificate chain and key, PEM; none: self-signed, made once.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// More names or addresses for the self-signed certificate.
    pub names: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub struct Overlay {
    pub network: Network,
    /// This host's own address.
    pub address: Ipv4Addr,
}

#[derive(Clone, Debug)]
pub struct Mesh {
    pub control: PathBuf,
    /// What new nodes put as Endpoint for this host.
    pub endpoint: SocketAddrV4,
}

#[derive(Clone, Copy, Debug)]
pub struct Agent {
    pub port: u16,
    pub timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is larger than {FILE_LIMIT_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("{file}: {message}")]
    Syntax { file: String, message: String },
    #[error("{file}: [{section}] {field}: {why}")]
    Value { file: String, section: &'static str, field: &'static str, why: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileForm {
    public: Option<PublicForm>,
    local: Option<LocalForm>,
    store: StoreForm,
    #[serde(default)]
    overlay: OverlayForm,
    mesh: Option<MeshForm>,
    #[serde(default)]
    agent: AgentForm,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicForm {
    listen: SocketAddr,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    #[serde(default)]
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LocalForm {
    listen: SocketAddr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreForm {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OverlayForm {
    network: String,
    address: Ipv4Addr,
}

impl Default for OverlayForm {
    fn default() -> Self {
        Self { network: "10.0.0.0/24".into(), address: Ipv4Addr::new(10, 0, 0, 1) }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MeshForm {
    control: PathBuf,
    endpoint: SocketAddrV4,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct AgentForm {
    port: u16,
    timeout_seconds: u64,
}

impl Default for AgentForm {
    fn default() -> Self {
        Self { port: orama_protocol::AGENT_PORT, timeout_seconds: 15 }
    }
}

impl Config {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let read = |source| ConfigError::Read { path: path.to_owned(), source };
        let size = std::fs::metadata(path).map_err(read)?.len();
        if size > FILE_LIMIT_BYTES {
            return Err(ConfigError::TooLarge { path: path.to_owned() });
        }
        Self::parse(&path.display().to_string(), &std::fs::read_to_string(path).map_err(read)?)
    }

    /// `file` only names the text in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let form: FileForm = toml::from_str(text)
            // The parser's message shows the line and column with the line itself.
            .map_err(|error| ConfigError::Syntax { file: file.into(), message: error.to_string() })?;
        let value =
            |section, field, why: String| ConfigError::Value { file: file.into(), section, field, why };
        let absolute = |section, field, path: PathBuf| {
            let why = format!("{} is not an absolute path", path.display());
            if path.is_absolute() { Ok(path) } else { Err(value(section, field, why)) }
        };

        let public = form.public.map(|public| {
            let identity = match (public.certificate, public.key) {
                (None, None) => None,
                (Some(certificate), Some(key)) => {
                    Some((absolute("public", "certificate", certificate)?, absolute("public", "key", key)?))
                }
                (Some(_), None) => return Err(value("public", "key", "missing beside certificate".into())),
                (None, Some(_)) => return Err(value("public", "certificate", "missing beside key".into())),
            };
            Ok(Public { listen: public.listen, identity, names: public.names })
        });
        let public = public.transpose()?;

        let local = form.local.map(|local| local.listen);
        if let Some(address) = local.filter(|address| !address.ip().is_loopback()) {
            let why = format!("{address} is not a loopback address, and this listener has no authentication");
            return Err(value("local", "listen", why));
        }
        if public.is_none() && local.is_none() {
            return Err(value(
                "public",
                "listen",
                "neither [public] nor [local] is there: nothing to serve".into(),
            ));
        }

        let network: Network =
            form.overlay.network.parse().map_err(|error| value("overlay", "network", format!("{error}")))?;
        if !network.has_host(form.overlay.address) {
            let why = format!("{} is not a host of {network}", form.overlay.address);
            return Err(value("overlay", "address", why));
        }

        let mesh = form.mesh.map(|mesh| {
            Ok(Mesh { control: absolute("mesh", "control", mesh.control)?, endpoint: mesh.endpoint })
        });
        if form.agent.port == 0 {
            return Err(value("agent", "port", "must not be 0".into()));
        }
        if !(1..=AGENT_TIMEOUT_MAX_SECONDS).contains(&form.agent.timeout_seconds) {
            let why = format!("{} is not 1 to {AGENT_TIMEOUT_MAX_SECONDS}", form.agent.timeout_seconds);
            return Err(value("agent", "timeout_seconds", why));
        }
        Ok(Self {
            public,
            local,
            store: absolute("store", "path", form.store.path)?,
            overlay: Overlay { network, address: form.overlay.address },
            mesh: mesh.transpose()?,
            agent: Agent { port: form.agent.port, timeout: Duration::from_secs(form.agent.timeout_seconds) },
        })
    }

    /// The folder of the store: keys and the self-signed certificate live there too.
    pub fn data_folder(&self) -> &Path {
        // An absolute path to a file always has a parent; "/" alone would fail when it is opened.
        self.store.parent().unwrap_or(Path::new("/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
[public]
listen = "127.0.0.1:7443"
certificate = "/c.pem"
key = "/k.pem"
[local]
listen = "127.0.0.1:6001"
[store]
path = "/data/gateway.db"
[overlay]
network = "10.0.0.0/24"
address = "10.0.0.1"
[mesh]
control = "/run/orama/mesh.sock"
endpoint = "10.0.2.2:51821"
[agent]
port = 9998
timeout_seconds = 15
"#;

    #[test]
    fn a_whole_file_is_understood() {
        let config = Config::parse("x", WHOLE).unwrap();
        assert_eq!(config.data_folder(), Path::new("/data"));
        assert_eq!(config.mesh.unwrap().endpoint.port(), 51821);
        assert_eq!(config.agent.timeout, Duration::from_secs(15));
    }

    #[test]
    fn the_nodes_own_example_is_understood() {
        let config = Config::parse("node-gateway.toml", include_str!("../node-gateway.toml")).unwrap();
        assert!(config.mesh.is_none());
        assert_eq!(config.local.unwrap().to_string(), "127.0.0.1:6001");
        assert_eq!(config.public.unwrap().listen.to_string(), "0.0.0.0:443");
        assert_eq!(config.store, Path::new("/opt/orama/.orama/data/gateway/gateway.db"));
    }

    #[test]
    fn errors_name_the_place() {
        for (from, to, names) in [
            ("[local]", "[locale]", "line 6"),
            ("timeout_seconds = 15", "timeout_second = 15", "timeout_second"),
            ("\"127.0.0.1:6001\"", "\"192.0.2.1:6001\"", "[local] listen: 192.0.2.1:6001 is not a loopback"),
            ("key = \"/k.pem\"", "", "[public] key: missing beside certificate"),
            ("\"10.0.0.1\"", "\"10.0.1.1\"", "[overlay] address: 10.0.1.1 is not a host"),
            ("\"/data/gateway.db\"", "\"gateway.db\"", "[store] path: gateway.db is not an absolute path"),
            ("timeout_seconds = 15", "timeout_seconds = 0", "[agent] timeout_seconds: 0 is not 1 to 50"),
            ("10.0.2.2:51821", "gateway:51821", "line 15"),
        ] {
            assert!(WHOLE.contains(from));
            let error = Config::parse("file.toml", &WHOLE.replace(from, to)).unwrap_err().to_string();
            assert!(error.starts_with("file.toml: ") && error.contains(names), "{to}: {error}");
        }
    }
}
