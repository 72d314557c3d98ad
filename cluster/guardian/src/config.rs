//! What a guardian is told at start: by its command line, by a TOML file, or by a test.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use orama_protocol::GUARDIAN_PORT;
use orama_protocol::guardian::RATE_LIMIT;
use serde::Deserialize;

use crate::clock::Clock;
use crate::names::Identity;
use crate::release::Rules;

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
    pub rules: Rules,
    /// SHA-256 of the token that operators present, lowercase hex; none: on a node the agent has it, elsewhere nobody
    /// may ask.
    pub operator_sha256: Option<String>,
    /// Control socket of the owner of this host's WireGuard interface, which knows where peers are.
    pub mesh_control: Option<PathBuf>,
    pub clock: Clock,
}

/// How long an owner may be silent before it is absent.
pub const WINDOW_DEFAULT: Duration = Duration::from_secs(15 * 60);
/// How long shares are held down.
pub const HOLD_DOWN_DEFAULT: Duration = Duration::from_secs(10 * 60);
/// Longest of both.
const SPAN_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

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
    pub window: Option<String>,
    pub hold_down: Option<String>,
    pub operator_token_sha256: Option<String>,
    pub mesh_control: Option<PathBuf>,
}

/// What a command line may say besides address and store.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    pub window: Option<String>,
    pub hold_down: Option<String>,
    pub operator_token_sha256: Option<String>,
    pub mesh_control: Option<PathBuf>,
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
    #[error("{0} `{1}` is not a time such as 15m, 90s or 2h, of at most a week; 0s is none")]
    Span(&'static str, String),
    #[error("operator_token_sha256 must be 64 lowercase hex characters: the SHA-256 of the operators' token")]
    OperatorToken,
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
        more: Overrides,
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
        let Overrides { window, hold_down, operator_token_sha256, mesh_control } = more;
        if let Some(text) = window.or(self.window) {
            config.rules.window = span("window", &text)?;
        }
        if let Some(text) = hold_down.or(self.hold_down) {
            config.rules.hold_down = span("hold_down", &text)?;
        }
        config.mesh_control = mesh_control.or(self.mesh_control);
        config.operator_sha256 = operator_token_sha256.or(self.operator_token_sha256);
        if config.operator_sha256.as_ref().is_some_and(|digest| Identity::parse(digest).is_none()) {
            return Err(ConfigError::OperatorToken);
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
            rules: Rules { window: WINDOW_DEFAULT, hold_down: HOLD_DOWN_DEFAULT },
            operator_sha256: None,
            mesh_control: None,
            clock: Clock::system(),
        }
    }
}

/// A number and its unit: s, m or h.
fn span(what: &'static str, text: &str) -> Result<Duration, ConfigError> {
    let bad = || ConfigError::Span(what, text.to_owned());
    let unit = text.chars().last().ok_or_else(bad)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return Err(bad()),
    };
    let number = &text[..text.len() - 1];
    let plain = number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| plain).ok_or_else(bad)?;
    number.checked_mul(seconds).map(Duration::from_secs).filter(|span| *span <= SPAN_MAX).ok_or_else(bad)
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
        let config =
            FileConfig::parse(file).unwrap().complete(None, false, None, Overrides::default()).unwrap();
        assert_eq!(config.listen, "10.0.0.11:7501".parse().unwrap());
        assert_eq!((config.store, config.requests_per_minute), (StorePlace::Files("/a".into()), 7));
        assert!(!config.listen_anywhere);

        let file = FileConfig::parse(file).unwrap();
        let config = file
            .complete(
                Some("10.0.0.12".into()),
                true,
                Some(StorePlace::Files("/b".into())),
                Overrides::default(),
            )
            .unwrap();
        assert_eq!(config.listen, "10.0.0.12:7500".parse().unwrap());
        assert_eq!(config.store, StorePlace::Files("/b".into()));
        assert!(config.listen_anywhere);

        let file = FileConfig::parse("listen = '10.0.0.11'\nagent = '/run/a'").unwrap();
        assert_eq!(
            file.complete(None, false, None, Overrides::default()).unwrap().store,
            StorePlace::Agent("/run/a".into())
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let complete =
            |file: &str| FileConfig::parse(file)?.complete(None, false, None, Overrides::default());
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
    #[test]
    fn times_and_the_operators_token_are_checked() {
        let complete = |file: &str, more: Overrides| {
            let file = format!("listen = '10.0.0.1'\ndata = '/a'\n{file}");
            FileConfig::parse(&file)?.complete(None, false, None, more)
        };
        let config = complete("window = '0s'\nhold_down = '90s'", Overrides::default()).unwrap();
        assert_eq!(config.rules, Rules { window: Duration::ZERO, hold_down: Duration::from_secs(90) });
        let more = Overrides { hold_down: Some("2h".into()), ..Overrides::default() };
        let config = complete("hold_down = '90s'", more).unwrap();
        assert_eq!(config.rules, Rules { window: WINDOW_DEFAULT, hold_down: Duration::from_secs(7200) });
        for bad in ["", "s", "15", "+5m", "1 m", "-1s", "169h", "99999999999999999999h", "5d", "5µ"] {
            let result = complete(&format!("window = '{bad}'"), Overrides::default());
            assert!(matches!(result, Err(ConfigError::Span("window", _))), "{bad}");
        }
        let digest =
            |text: &str| complete(&format!("operator_token_sha256 = '{text}'"), Overrides::default());
        assert_eq!(digest(&"0a".repeat(32)).unwrap().operator_sha256, Some("0a".repeat(32)));
        assert!(matches!(digest("secret"), Err(ConfigError::OperatorToken)));
    }
}
