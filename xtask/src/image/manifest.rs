//! manifest.json beside an image: name, size and SHA-256 of everything in it, and the table of sizes that
//! a builder sees.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::Image;

#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// One file of an image.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Artifact {
    pub name: String,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Serialize)]
struct Manifest<'a> {
    version: &'a str,
    root_hash: &'a str,
    cmdline: &'a str,
    rootfs_bytes_without_services: u64,
    artifacts: &'a [Artifact],
    notes: &'a [String],
}

/// Writes manifest.json and gives its entries: the disk and what is in it, then the programs.
pub fn write(
    image: &Image,
    services: &[PathBuf],
    agent: &Path,
    bytes_without_services: u64,
) -> Result<Vec<Artifact>, ManifestError> {
    let parts = [&image.disk, &image.rootfs, &image.uki, &image.kernel, &image.initrd];
    let artifacts = parts
        .into_iter()
        .map(PathBuf::as_path)
        .chain([agent])
        .chain(services.iter().map(PathBuf::as_path))
        .map(artifact)
        .collect::<Result<Vec<_>, _>>()?;
    let manifest = Manifest {
        version: &image.version,
        root_hash: &image.root_hash,
        cmdline: &image.cmdline,
        rootfs_bytes_without_services: bytes_without_services,
        artifacts: &artifacts,
        notes: &image.notes,
    };
    let path = image.folder.join("manifest.json");
    let written = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).and_then(|mut text| {
        text.push(b'\n');
        fs::write(&path, text)
    });
    written.map_err(|source| ManifestError::Write { path, source })?;
    Ok(artifacts)
}

fn artifact(path: &Path) -> Result<Artifact, ManifestError> {
    let read = |source| ManifestError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(read)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer).map_err(read)? {
            0 => break,
            count => {
                hash.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Artifact { name, bytes, sha256: hex(&hash.finalize()) })
}

/// The sizes of an image, for people.
pub fn table(artifacts: &[Artifact]) -> String {
    let width = artifacts.iter().map(|artifact| artifact.name.len()).max().unwrap_or(0);
    let line = |artifact: &Artifact| {
        let mib = artifact.bytes as f64 / f64::from(1 << 20);
        format!("{:width$}  {mib:8.2} MiB  {}\n", artifact.name, &artifact.sha256[..16])
    };
    artifacts.iter().map(line).collect()
}

/// Lowercase hex digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
