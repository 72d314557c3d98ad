//! What a guardian is told at start: by its command line, by a TOML file, or by a test.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use orama_protocol::GUARDIAN_PORT;
use orama_protocol::guardian::RATE_LIMIT;
use serde::Deserialize;

use crate::clock::Clock;

/// A complete configuration. [`Config::new`] has everything but the address and the directory at its default.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Whether `listen` may be the unspecified address. Secrets travel in clear text inside WireGuard, so
    /// listening elsewhere is a decision.
    pub listen_anywhere: bool,
    pub store: StorePlace,
    /// Requests that one client address may make in 60 s.
    pub requests_per_minute: u32,
    pub clock: Clock,
}

/// Where the secrets are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// Files below this directory, which is made if missing.
    Files(PathBuf),
    /// The agent of the node that this guardian runs on, at this socket.
    Agent(PathBuf),
}

/// The TOML file: every key may be missing, an unknown one is an error.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    pub listen: Option<String>,
    pub listen_anywhere: Option<bool>,
    pub data: Option<PathBuf>,
    pub agent: Option<PathBuf>,
    pub requests_per_minute: Option<u32>,
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("the configuration is not valid TOML of a guardian")]
    Toml(#[source] toml::de::Error),
    #[error("`{0}` is not an address to listen on, such as 10.0.0.11:7500")]
    Listen(String),
    #[error("no address to listen on: give --listen or `listen` in the configuration")]
    NoListen,
    #[error("no data directory: give --data or `data` in the configuration (on a node: --agent)")]
    NoData,
    #[error("both a data directory and an agent's socket are given: secrets are kept in one place")]
    TwoStores,
    #[error("requests_per_minute must be at least 1")]
    NoRequests,
}

impl FileConfig {
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(ConfigError::Toml)
    }

    /// The complete configuration; what is given here wins over the file.
    pub fn complete(
        self,
        listen: Option<String>,
        listen_anywhere: bool,
        place: Option<StorePlace>,
    ) -> Result<Config, ConfigError> {
        let listen = listen.or(self.listen).ok_or(ConfigError::NoListen)?;
        let store = match (place, self.data, self.agent) {
            (Some(place), _, _) => place,
            (None, Some(data), None) => StorePlace::Files(data),
            (None, None, Some(socket)) => StorePlace::Agent(socket),
            (None, Some(_), Some(_)) => return Err(ConfigError::TwoStores),
            (None, None, None) => return Err(ConfigError::NoData),
        };
        let mut config = Config { store, ..Config::new(parse_listen(&listen)?, "") };
        config.listen_anywhere = listen_anywhere || self.listen_anywhere.unwrap_or(false);
        if let Some(requests) = self.requests_per_minute {
            config.requests_per_minute = requests;
        }
        if config.requests_per_minute == 0 {
            return Err(ConfigError::NoRequests);
        }
        Ok(config)
    }
}

impl Config {
    /// With files below `data`.
    pub fn new(listen: SocketAddr, data: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            listen_anywhere: false,
            store: StorePlace::Files(data.into()),
            requests_per_minute: RATE_LIMIT,
            clock: Clock::system(),
        }
    }
}

/// `10.0.0.11:7500`, or `10.0.0.11` with the default port.
fn parse_listen(text: &str) -> Result<SocketAddr, ConfigError> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, GUARDIAN_PORT));
    address.or_else(|_| text.parse()).map_err(|_| ConfigError::Listen(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = "listen = '10.0.0.11:7501'\ndata = '/a'\nrequests_per_minute = 7";
        let config = FileConfig::parse(file).unwrap().complete(None, false, None).unwrap();
        assert_eq!(config.listen, "10.0.0.11:7501".parse().unwrap());
        assert_eq!((config.store, config.requests_per_minute), (StorePlace::Files("/a".into()), 7));
        assert!(!config.listen_anywhere);

        let file = FileConfig::parse(file).unwrap();
        let config =
            file.complete(Some("10.0.0.12".into()), true, Some(StorePlace::Files("/b".into()))).unwrap();
        assert_eq!(config.listen, "10.0.0.12:7500".parse().unwrap());
        assert_eq!(config.store, StorePlace::Files("/b".into()));
        assert!(config.listen_anywhere);

        let file = FileConfig::parse("listen = '10.0.0.11'\nagent = '/run/a'").unwrap();
        assert_eq!(file.complete(None, false, None).unwrap().store, StorePlace::Agent("/run/a".into()));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let complete = |file: &str| FileConfig::parse(file)?.complete(None, false, None);
        assert!(matches!(complete("data = '/a'"), Err(ConfigError::NoListen)));
        assert!(matches!(complete("listen = '10.0.0.1'"), Err(ConfigError::NoData)));
        let listen = complete("listen = 'guardian'\ndata = '/a'");
        assert!(matches!(listen, Err(ConfigError::Listen(text)) if text == "guardian"));
        let both = complete("listen = '10.0.0.1'\ndata = '/a'\nagent = '/run/a'");
        assert!(matches!(both, Err(ConfigError::TwoStores)));
        let none = complete("listen = '10.0.0.1'\ndata = '/a'\nrequests_per_minute = 0");
        assert!(matches!(none, Err(ConfigError::NoRequests)));
        assert!(matches!(FileConfig::parse("lisden = '10.0.0.1'"), Err(ConfigError::Toml(_))));
    }
}
