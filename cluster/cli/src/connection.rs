//! Which gateway to speak to and with what: from flags, a named profile, or environment variables.
//! The API key itself comes from a file only; it is never an argument or an environment variable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use orama_protocol::Redacted;
use serde::Deserialize;

use crate::bounded;
use crate::failure::{Exit, Failure};
use crate::gateway::{Gateway, Trust};

/// Longest profile file, in bytes.
const PROFILES_LIMIT_BYTES: u64 = 64 * 1024;
/// Longest API key file and CA file, in bytes.
const KEY_LIMIT_BYTES: u64 = 4 * 1024;
const CA_LIMIT_BYTES: u64 = 256 * 1024;

/// What the help calls these flags.
pub const HEADING: &str = "Gateway";

/// Flags that every command takes. A flag wins over --env, --env over the environment variables.
#[derive(Args, Clone, Default)]
pub struct Connection {
    /// URL of the gateway, for example https://gateway.example.com [env: ORAMA_GATEWAY].
    #[arg(long, global = true, value_name = "URL", help_heading = HEADING)]
    gateway: Option<String>,
    /// PEM file with the CA that signed the gateway's certificate [env: ORAMA_CA; default: the system's CAs].
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    ca: Option<PathBuf>,
    /// File with the admin API key [env: ORAMA_API_KEY_FILE].
    #[arg(long, global = true, value_name = "FILE", help_heading = HEADING)]
    api_key_file: Option<PathBuf>,
    /// Profile of ~/.config/orama/config.toml: section [env.NAME] with gateway, ca, api_key_file.
    #[arg(long, global = true, value_name = "NAME", help_heading = HEADING)]
    env: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    #[serde(default)]
    env: BTreeMap<String, Profile>,
}

#[derive(Deserialize, Default, Clone)]
#[serde(deny_unknown_fields)]
struct Profile {
    gateway: Option<String>,
    ca: Option<PathBuf>,
    api_key_file: Option<PathBuf>,
}

impl Connection {
    /// The gateway with the admin API key; without a key there is nothing to ask it.
    pub fn with_key(&self) -> Result<Gateway, Failure> {
        let gateway = self.without_need_of_key()?;
        if gateway.has_key() {
            return Ok(gateway);
        }
        Err(Failure::new(Exit::Unauthorized, "no API key is given")
            .next("give --api-key-file FILE, set ORAMA_API_KEY_FILE, or put api_key_file into a profile"))
    }

    /// The gateway, with the API key when one is configured.
    pub fn without_need_of_key(&self) -> Result<Gateway, Failure> {
        let profile = self.profile()?;
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let url = self.gateway.clone().or(profile.gateway);
        let url = match url.or_else(|| variable("ORAMA_GATEWAY").and_then(|value| value.into_string().ok())) {
            Some(url) => url,
            None => {
                return Err(Failure::new(Exit::Usage, "no gateway is given")
                    .next("give --gateway URL, set ORAMA_GATEWAY, or select a profile with --env NAME"));
            }
        };
        let ca = self.ca.clone().or(profile.ca).or_else(|| variable("ORAMA_CA").map(PathBuf::from));
        let key_file = self.api_key_file.clone().or(profile.api_key_file);
        let key_file = key_file.or_else(|| variable("ORAMA_API_KEY_FILE").map(PathBuf::from));
        let trust = match &ca {
            Some(path) => Trust::Only(read_ca(path)?),
            None => Trust::System,
        };
        let key = key_file.as_deref().map(read_key).transpose()?;
        Gateway::new(&url, trust, key)
    }

    fn profile(&self) -> Result<Profile, Failure> {
        let Some(name) = &self.env else { return Ok(Profile::default()) };
        let path = profiles_path()?;
        let shown = path.display();
        let text = bounded::read_text(&path, PROFILES_LIMIT_BYTES).map_err(|error| {
            Failure::new(Exit::Usage, format!("cannot read the profiles in {shown}: {error}"))
                .next(format!("write a section [env.{name}] with gateway, ca and api_key_file into it"))
        })?;
        let file: ProfileFile = toml::from_str(&text)
            .map_err(|error| Failure::new(Exit::Usage, format!("{shown}: {}", error.to_string().trim())))?;
        let known: Vec<&str> = file.env.keys().map(String::as_str).collect();
        let Some(profile) = file.env.get(name) else {
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(Failure::new(Exit::NotFound, format!("{shown} has no profile {name:?}"))
                .next(format!("profiles in it: {known}")));
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut profile = profile.clone();
        profile.ca = profile.ca.map(|path| resolve(folder, path));
        profile.api_key_file = profile.api_key_file.map(|path| resolve(folder, path));
        Ok(profile)
    }
}

fn profiles_path() -> Result<PathBuf, Failure> {
    config_folder().map(|folder| folder.join("config.toml"))
}

/// `orama` in the user's configuration folder.
pub fn config_folder() -> Result<PathBuf, Failure> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("XDG_CONFIG_HOME")
        .or_else(|| folder("HOME").map(|home| home.join(".config")))
        .map(|config| config.join("orama"))
        .ok_or_else(|| {
            Failure::new(Exit::Usage, "HOME or XDG_CONFIG_HOME must say where the configuration is")
        })
}

/// `~/` is the home folder; other relative paths are relative to the file that names them.
fn resolve(folder: &Path, path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(path),
    }
}

fn read_ca(path: &Path) -> Result<Vec<u8>, Failure> {
    bounded::read_text(path, CA_LIMIT_BYTES).map(String::into_bytes).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the CA file {}: {error}", path.display()))
    })
}

fn read_key(path: &Path) -> Result<Redacted, Failure> {
    let text = bounded::read_secret(path, KEY_LIMIT_BYTES).map_err(|error| {
        Failure::new(Exit::Usage, format!("cannot read the API key file {}: {error}", path.display()))
    })?;
    bearer(&text).ok_or_else(|| {
        let what =
            format!("the API key file {} does not hold one line of printable characters", path.display());
        Failure::new(Exit::Usage, what)
    })
}

/// A credential that can stand in a header.
pub fn bearer(text: &str) -> Option<Redacted> {
    let text = text.trim();
    let fits = (1..=1024).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| Redacted::new(text.to_owned()))
}
