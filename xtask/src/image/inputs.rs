//! What decides an image: the command line of `cargo xtask image`, checked.

use std::path::{Path, PathBuf};

use clap::Args;

use super::agent_toml;

/// Arguments of `cargo xtask image`.
#[derive(Args, Debug, Clone)]
pub struct ImageArguments {
    /// Configuration of the agent; replaces image/agent.toml
    #[arg(long, value_name = "FILE")]
    pub agent_toml: Option<PathBuf>,
    /// Certificate (PEM) that the gateway's TLS certificate must chain to
    #[arg(long, value_name = "FILE")]
    pub gateway_ca: Option<PathBuf>,
    /// Configuration of the gateway service that runs on the node; replaces cluster/gateway/node-gateway.toml
    #[arg(long, value_name = "FILE")]
    pub gateway_toml: Option<PathBuf>,
    /// Service profiles to install [default: policies]
    #[arg(long, value_name = "FOLDER")]
    pub policies: Option<PathBuf>,
    /// Where the image goes [default: target/image]
    #[arg(long, value_name = "FOLDER")]
    pub out: Option<PathBuf>,
    /// Version of the image; names sort as systemd-boot sorts versions
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    pub version: String,
    /// Leave out the services that are not built from this workspace
    #[arg(long)]
    pub without_services: bool,
    /// Size of the data partition in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256)]
    pub data_mib: u32,
    /// Also write the disk as qcow2
    #[arg(long)]
    pub qcow2: bool,
}

/// Everything that decides an image.
#[derive(Debug, Clone)]
pub struct ImageOptions {
    /// Root of the workspace.
    pub workspace: PathBuf,
    /// Cargo's target folder; builds and downloads are kept below `image/` in it.
    pub target: PathBuf,
    pub agent_toml: Option<PathBuf>,
    pub gateway_ca: Option<PathBuf>,
    pub gateway_toml: Option<PathBuf>,
    pub policies: Option<PathBuf>,
    pub out: Option<PathBuf>,
    pub version: String,
    pub with_services: bool,
    pub data_mib: u32,
    pub qcow2: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    #[error(
        "version {version:?} is not made of digits, letters, dots and ~, starting with a digit (a release candidate is 1.2.0~rc1: with a hyphen it would sort as newer than 1.2.0)"
    )]
    Version { version: String },
    #[error("data partition of {mib} MiB is outside 32 to 1048576")]
    DataSize { mib: u32 },
    #[error("{} is not a file", path.display())]
    NotAFile { path: PathBuf },
    #[error(transparent)]
    AgentToml(#[from] agent_toml::AgentTomlError),
    #[error("{} is not a folder", path.display())]
    NotAFolder { path: PathBuf },
}

impl ImageArguments {
    /// The options for this workspace and target folder.
    pub fn options(self, workspace: &Path, target: &Path) -> ImageOptions {
        ImageOptions {
            agent_toml: self.agent_toml,
            gateway_ca: self.gateway_ca,
            gateway_toml: self.gateway_toml,
            policies: self.policies,
            out: self.out,
            version: self.version,
            with_services: !self.without_services,
            data_mib: self.data_mib,
            qcow2: self.qcow2,
            ..ImageOptions::new(workspace, target)
        }
    }
}

impl ImageOptions {
    /// An image of this workspace with nothing out of the ordinary.
    pub fn new(workspace: &Path, target: &Path) -> ImageOptions {
        ImageOptions {
            workspace: workspace.into(),
            target: target.into(),
            agent_toml: None,
            gateway_ca: None,
            gateway_toml: None,
            policies: None,
            out: None,
            version: env!("CARGO_PKG_VERSION").into(),
            with_services: true,
            data_mib: 256,
            qcow2: false,
        }
    }

    pub(super) fn out_folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| self.target.join("image"))
    }

    /// Compiled programs and downloads, shared by all images.
    pub(super) fn cache_folder(&self) -> PathBuf {
        self.target.join("image/cache")
    }

    pub(super) fn agent_toml_file(&self) -> PathBuf {
        self.agent_toml.clone().unwrap_or_else(|| self.workspace.join("image/agent.toml"))
    }

    pub(super) fn policies_folder(&self) -> PathBuf {
        self.policies.clone().unwrap_or_else(|| self.workspace.join("policies"))
    }

    /// Refuses early what would fail late or, worse, boot.
    pub(super) fn validate(&self) -> Result<(), InputsError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'~');
        let version = &self.version;
        let starts_well = version.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if !starts_well || version.len() > 32 || !version.bytes().all(known) {
            return Err(InputsError::Version { version: version.clone() });
        }
        // LUKS2 with 1 MiB of metadata twice and an ext4 that is worth having need this much.
        if !(32..=1 << 20).contains(&self.data_mib) {
            return Err(InputsError::DataSize { mib: self.data_mib });
        }
        for path in [&self.agent_toml, &self.gateway_ca, &self.gateway_toml].into_iter().flatten() {
            if !path.is_file() {
                return Err(InputsError::NotAFile { path: path.clone() });
            }
        }
        agent_toml::check(&self.agent_toml_file(), self.gateway_ca.is_some())?;
        match &self.policies {
            Some(path) if !path.is_dir() => Err(InputsError::NotAFolder { path: path.clone() }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    fn with_version(version: &str) -> Result<(), InputsError> {
        let mut options = ImageOptions::new(&workspace(), "/t".as_ref());
        options.version = version.into();
        options.validate()
    }

    #[test]
    fn versions_that_would_sort_wrongly_are_refused() {
        for version in ["0.1.0", "1.10.0", "1.2.0~rc1", "2026.01"] {
            assert!(with_version(version).is_ok(), "{version}");
        }
        for version in ["", "1.2.0-rc1", "v1.0", "1.0+3", "../x", "1 0", &"1".repeat(33)] {
            assert!(with_version(version).is_err(), "{version}");
        }
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let mut options = ImageOptions::new(&workspace(), "/t".as_ref());
        options.gateway_ca = Some("/no/such.pem".into());
        assert_eq!(options.validate().unwrap_err().to_string(), "/no/such.pem is not a file");
    }
}
