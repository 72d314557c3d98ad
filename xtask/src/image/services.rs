//! Services that are other projects' programs, each from its pinned Go module in services/. A binary is
//! built again only when the module, the toolchain or the flags changed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::hex;
use super::tool::{ToolError, run, run_visibly, tool};

struct Service {
    /// Folder below services/.
    module: &'static str,
    binary: &'static str,
    package: &'static str,
    tags: &'static str,
    ldflags: &'static str,
}

/// The version shown by the binary is that of go.mod: move both together.
const SERVICES: [Service; 1] = [Service {
    module: "rqlite",
    binary: "rqlited",
    package: "github.com/rqlite/rqlite/v8/cmd/rqlited",
    tags: "osusergo,netgo,sqlite_omit_load_extension",
    ldflags: "-s -w -buildid= -X github.com/rqlite/rqlite/v8/cmd.Version=v8.36.0 -extldflags -static",
}];

#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    #[error("no usable Go toolchain (https://go.dev/dl)")]
    Toolchain(#[source] ToolError),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("go could not build {binary}")]
    Build { binary: &'static str, source: ToolError },
}

/// Builds what changed and gives the paths of all.
pub fn build(workspace: &Path, cache: &Path) -> Result<Vec<PathBuf>, ServicesError> {
    let folder = cache.join("services");
    fs::create_dir_all(&folder).map_err(|source| ServicesError::Write { path: folder.clone(), source })?;
    SERVICES.iter().map(|service| build_one(service, workspace, &folder)).collect()
}

fn build_one(service: &Service, workspace: &Path, folder: &Path) -> Result<PathBuf, ServicesError> {
    let module = workspace.join("services").join(service.module);
    let binary = folder.join(service.binary);
    let stamp_file = folder.join(format!("{}.stamp", service.binary));
    let stamp = stamp(service, &module)?;
    if binary.is_file() && fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(binary);
    }
    let mut go = tool("go");
    go.current_dir(&module).env("CGO_ENABLED", "1").env_remove("GOFLAGS").args(["build", "-mod=readonly"]);
    go.args(["-trimpath", "-buildvcs=false", "-tags", service.tags, "-ldflags", service.ldflags, "-o"]);
    go.arg(&binary).arg(service.package);
    run_visibly(&mut go).map_err(|source| ServicesError::Build { binary: service.binary, source })?;
    fs::write(&stamp_file, stamp).map_err(|source| ServicesError::Write { path: stamp_file, source })?;
    Ok(binary)
}

/// Everything that the binary depends on.
fn stamp(service: &Service, module: &Path) -> Result<String, ServicesError> {
    let version = run(tool("go").current_dir(module).arg("version")).map_err(ServicesError::Toolchain)?;
    let mut hash = Sha256::new();
    for text in [version.as_str(), service.package, service.tags, service.ldflags] {
        hash.update(text);
        hash.update([0]);
    }
    for name in ["go.mod", "go.sum"] {
        let path = module.join(name);
        let bytes = fs::read(&path).map_err(|source| ServicesError::Read { path, source })?;
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    Ok(hex(&hash.finalize()))
}
