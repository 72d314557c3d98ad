//! Refuses a configuration of the agent that would make every boot of the image fail: the agent reads it
//! before anything else and has nobody to ask. Only what ties the file to the rest of the image is checked
//! here; the agent checks it all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::listing::FILES;

/// Where `--gateway-ca` ends up.
const GATEWAY_CA: &str = "/etc/orama/gateway-ca.pem";

#[derive(Debug, thiserror::Error)]
pub enum AgentTomlError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no configuration of an agent", path.display())]
    Parse { path: PathBuf, source: toml::de::Error },
    #[error("{}: gateway.url {url:?} does not begin with https://", path.display())]
    PlainGateway { path: PathBuf, url: String },
    #[error("{}: set exactly one of gateway.ca and gateway.fingerprint", path.display())]
    Pin { path: PathBuf },
    #[error("{}: gateway.ca {ca} is not in the image ({GATEWAY_CA} comes from --gateway-ca)", path.display())]
    NoAuthority { path: PathBuf, ca: String },
}

#[derive(Deserialize)]
struct AgentToml {
    gateway: Gateway,
}

#[derive(Deserialize)]
struct Gateway {
    url: String,
    ca: Option<String>,
    fingerprint: Option<String>,
}

/// Checks the file at `path` against an image with or without a certificate of its gateway.
pub fn check(path: &Path, has_gateway_ca: bool) -> Result<(), AgentTomlError> {
    let path = path.to_path_buf();
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(AgentTomlError::Read { path, source }),
    };
    let Gateway { url, ca, fingerprint } = match toml::from_str::<AgentToml>(&text) {
        Ok(config) => config.gateway,
        Err(source) => return Err(AgentTomlError::Parse { path, source }),
    };
    if !url.starts_with("https://") {
        return Err(AgentTomlError::PlainGateway { path, url });
    }
    match (ca, fingerprint) {
        (None, Some(_)) => Ok(()),
        (Some(ca), None) if is_in_image(&ca, has_gateway_ca) => Ok(()),
        (Some(ca), None) => Err(AgentTomlError::NoAuthority { path, ca }),
        _ => Err(AgentTomlError::Pin { path }),
    }
}

fn is_in_image(ca: &str, has_gateway_ca: bool) -> bool {
    if ca == GATEWAY_CA {
        return has_gateway_ca;
    }
    ca.strip_prefix('/').is_some_and(|path| FILES.contains(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str, has_gateway_ca: bool) -> Option<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        let error = check(file.path(), has_gateway_ca).err()?;
        Some(error.to_string().replace(&file.path().display().to_string(), "FILE"))
    }

    #[test]
    fn the_file_of_a_plain_image_passes() {
        check(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../image/agent.toml"), false).unwrap();
    }

    #[test]
    fn what_would_stop_every_boot_is_refused() {
        let with = |pin: &str| format!("[gateway]\nurl = \"https://10.0.2.2:7443\"\n{pin}\n");
        assert_eq!(refused(&with("ca = \"/etc/orama/gateway-ca.pem\""), true), None);
        assert_eq!(refused(&with("fingerprint = \"sha256:00\""), false), None);
        let missing = refused(&with("ca = \"/etc/orama/gateway-ca.pem\""), false).unwrap();
        assert!(missing.contains("is not in the image"), "{missing}");
        assert!(refused(&with("ca = \"/home/me/ca.pem\""), true).unwrap().contains("is not in the image"));
        assert!(refused(&with(""), true).unwrap().contains("exactly one"));
        assert!(
            refused(&with("ca = \"/x\"\nfingerprint = \"sha256:00\""), true).unwrap().contains("exactly one")
        );
        assert!(refused("[gateway]\nurl = \"http://x\"\n", true).unwrap().contains("https://"));
        assert_eq!(refused("", true).unwrap(), "FILE is no configuration of an agent");
    }
}
