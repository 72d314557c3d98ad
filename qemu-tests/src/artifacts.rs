//! The folder that `cargo xtask test vm` (or the demo) prepares: images, host-side programs, certificates.
//! Owns its layout and the folders of runs in it.

use std::path::{Path, PathBuf};

use crate::pki::{Pki, PkiError};

/// Names the folder for scenarios.
pub const VARIABLE: &str = "ORAMA_TEST_IMAGES";

#[derive(Clone, Debug)]
pub struct Artifacts {
    folder: PathBuf,
}

/// Which disk image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// What a release would ship, with the authority of this folder pinned.
    Node,
    /// The same, and each service a second time under another uid, where it cannot start: its ports are taken.
    Twins,
    /// The product with rqlite and the gateway as its only services.
    Small,
    /// The product with a vault-guardian as its only service: nodes that keep each other's keys.
    Keeper,
    /// The small one with a policy for rqlite that does not parse.
    BadPolicy,
    /// The small one with services that do what no service should.
    Abuse,
}

#[derive(Debug, thiserror::Error)]
pub enum ArtifactsError {
    #[error("{VARIABLE} is not set: run `cargo xtask test vm`, which builds the images and sets it")]
    Unset,
    #[error("{path} is missing: run `cargo xtask test vm`, which builds it")]
    Missing { path: PathBuf },
    #[error("making the folder {path}")]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

impl Image {
    /// What a machine needs to run it, MiB.
    pub fn memory_mib(self) -> u32 {
        match self {
            // Seven services: idle about 400 MiB, under load as much as their limits allow.
            Image::Node | Image::Twins => 1536,
            Image::Small | Image::Keeper | Image::BadPolicy => 256,
            Image::Abuse => 512,
        }
    }
}

impl Artifacts {
    pub fn at(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The folder that the environment names.
    pub fn from_environment() -> Result<Self, ArtifactsError> {
        let folder = std::env::var_os(VARIABLE).ok_or(ArtifactsError::Unset)?;
        let artifacts = Self { folder: folder.into() };
        artifacts.existing(artifacts.folder.clone())?;
        Ok(artifacts)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the image is, or goes.
    pub fn image_path(&self, image: Image) -> PathBuf {
        self.folder.join(match image {
            Image::Node => "node.img",
            Image::Twins => "twins.img",
            Image::Small => "small.img",
            Image::Keeper => "keeper.img",
            Image::BadPolicy => "bad-policy.img",
            Image::Abuse => "abuse.img",
        })
    }

    pub fn image(&self, image: Image) -> Result<PathBuf, ArtifactsError> {
        self.existing(self.image_path(image))
    }

    /// Where a host-side program is, or goes: `orama`, `orama-gateway`, `vault-guardian`.
    pub fn program_path(&self, name: &str) -> PathBuf {
        self.folder.join("bin").join(name)
    }

    pub fn program(&self, name: &str) -> Result<PathBuf, ArtifactsError> {
        self.existing(self.program_path(name))
    }

    /// The authority that the images pin, and the gateway's certificate.
    pub fn pki(&self) -> Result<Pki, PkiError> {
        Pki::in_folder(&self.folder.join("pki"))
    }

    /// An empty folder for one run; what an earlier run of the same name left there is removed.
    pub fn run_folder(&self, name: &str) -> Result<PathBuf, ArtifactsError> {
        let path = self.folder.join("runs").join(name);
        let failed = |source| ArtifactsError::Folder { path: path.clone(), source };
        match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        std::fs::create_dir_all(&path).map_err(failed)?;
        Ok(path)
    }

    fn existing(&self, path: PathBuf) -> Result<PathBuf, ArtifactsError> {
        if path.exists() { Ok(path) } else { Err(ArtifactsError::Missing { path }) }
    }
}
