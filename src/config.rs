//! `/etc/orama/agent.toml`, part of the verified image: where the gateway is and what is pinned, how the node
//! gets its address, which ports it uses. Owns parsing and bounds; secrets and identity are never here.

use std::fs;
use std::path::{Path, PathBuf};

use orama_uplink::UplinkConfig;
use orama_wallet::Address;
use serde::Deserialize;

/// Where an image keeps the file.
pub const PATH: &str = "/etc/orama/agent.toml";
/// Largest file that is read, bytes.
const SIZE_LIMIT_BYTES: u64 = 64 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub gateway: Gateway,
    #[serde(default)]
    pub enrollment: Enrollment,
    #[serde(default)]
    pub network: UplinkConfig,
    #[serde(default)]
    pub wireguard: Wireguard,
    #[serde(default)]
    pub guardian: Guardian,
    pub owner: Option<Owner>,
}

/// Whose nodes these are. The image is verified, so nobody else can name one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// Address of the wallet that may enrol the first node of a cluster and open its volume.
    pub wallet: Address,
}

/// The gateway that the node enrols with. Exactly one of `ca` and `fingerprint` pins it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gateway {
    /// `https://host[:port]`.
    pub url: String,
    /// PEM file with the only certificate authority that may have signed the gateway's certificate.
    pub ca: Option<PathBuf>,
    /// `sha256:<64 hex>` of the gateway's certificate (DER).
    pub fingerprint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrollment {
    #[serde(default)]
    pub mode: EnrollmentMode,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EnrollmentMode {
    /// The node opens a WebSocket to the gateway; the code is shown on port 9999 and the console.
    #[default]
    Websocket,
    /// Compatibility with older gateways: they push a sealed configuration to port 9999; the code is shown on
    /// the console only.
    SealedPush,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wireguard {
    #[serde(default = "wireguard_port")]
    pub port: u16,
}

impl Default for Wireguard {
    fn default() -> Self {
        Self { port: wireguard_port() }
    }
}

fn wireguard_port() -> u16 {
    orama_protocol::WIREGUARD_PORT
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardian {
    #[serde(default = "guardian_port")]
    pub port: u16,
}

impl Default for Guardian {
    fn default() -> Self {
        Self { port: guardian_port() }
    }
}

fn guardian_port() -> u16 {
    orama_protocol::GUARDIAN_PORT
}

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} has {size_bytes} bytes, the limit is {SIZE_LIMIT_BYTES}")]
    TooLarge { path: PathBuf, size_bytes: u64 },
    #[error("parsing {path}")]
    Parse {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("{path}: gateway.url `{url}` must begin with https://")]
    PlainGateway { path: PathBuf, url: String },
    #[error("{path}: set exactly one of gateway.ca and gateway.fingerprint")]
    Pin { path: PathBuf },
}

/// Reads and checks the file at `path`.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let read_error = |source| ConfigError::Read { path: path.into(), source };
    let size_bytes = fs::metadata(path).map_err(read_error)?.len();
    if size_bytes > SIZE_LIMIT_BYTES {
        return Err(ConfigError::TooLarge { path: path.into(), size_bytes });
    }
    parse(path, &fs::read_to_string(path).map_err(read_error)?)
}

fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let config: Config =
        toml::from_str(text).map_err(|source| ConfigError::Parse { path: path.into(), source })?;
    if !config.gateway.url.starts_with("https://") {
        return Err(ConfigError::PlainGateway { path: path.into(), url: config.gateway.url });
    }
    if config.gateway.ca.is_some() == config.gateway.fingerprint.is_some() {
        return Err(ConfigError::Pin { path: path.into() });
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Result<(), &str>) {
        let got = parse(Path::new("agent.toml"), text).map(drop).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default();
            format!("{error}{cause}")
        });
        match (got, expect) {
            (Ok(()), Ok(())) => {}
            (Err(got), Err(expect)) => assert!(got.contains(expect), "{got:?} does not say {expect:?}"),
            (got, expect) => panic!("{text}: {got:?}, expected {expect:?}"),
        }
    }

    #[test]
    fn configurations() {
        let pinned = "[gateway]\nurl = \"https://10.0.2.2:7443\"\nca = \"/etc/orama/gateway-ca.pem\"\n";
        check(pinned, Ok(()));
        check(&format!("{pinned}[enrollment]\nmode = \"sealed-push\"\n"), Ok(()));
        check(&format!("{pinned}fingerprint = \"sha256:00\"\n"), Err("exactly one of"));
        check("[gateway]\nurl = \"https://a\"\n", Err("exactly one of"));
        check("[gateway]\nurl = \"http://a\"\nca = \"/x\"\n", Err("must begin with https://"));
        check(&format!("{pinned}[wireguard]\nprot = 1\n"), Err("unknown field `prot`"));
        let owned = |wallet: &str| format!("{pinned}[owner]\nwallet = \"{wallet}\"\n");
        check(&owned("0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"), Ok(()));
        check(&owned("0x19e7E376E7C213B7E7e7e46cc70A5dD086DAff2A"), Err("mistyped"));
        check(&owned("0x19E7"), Err("40 hex digits"));
        check(&format!("{pinned}[owner]\n"), Err("missing field `wallet`"));
        check("", Err("missing field `gateway`"));
    }
}
