//! Services that are other projects' programs, each from its pinned Go module in services/. A binary is
//! built again only when the module, the toolchain or the flags changed.

use std::collections::BTreeSet;
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
    /// Files of the module beside go.mod and go.sum.
    sources: &'static [&'static str],
    cgo: bool,
    tags: &'static str,
    ldflags: &'static str,
}

/// Static, stripped and the same on every builder.
const LDFLAGS: &str = "-s -w -buildid=";

/// Versions are those of each go.mod. rqlited shows the one in its flags: move both together.
const SERVICES: [Service; 5] = [
    Service {
        module: "rqlite",
        binary: "rqlited",
        package: "github.com/rqlite/rqlite/v8/cmd/rqlited",
        sources: &[],
        cgo: true,
        tags: "osusergo,netgo,sqlite_omit_load_extension",
        ldflags: "-s -w -buildid= -X github.com/rqlite/rqlite/v8/cmd.Version=v8.36.0 -extldflags -static",
    },
    Service {
        module: "olric",
        binary: "olric-server",
        package: "github.com/olric-data/olric/cmd/olric-server",
        sources: &[],
        cgo: false,
        tags: "osusergo,netgo",
        ldflags: LDFLAGS,
    },
    Service {
        module: "ipfs",
        binary: "ipfs",
        package: "github.com/ipfs/kubo/cmd/ipfs",
        sources: &[],
        cgo: false,
        // It never mounts anything on a node.
        tags: "osusergo,netgo,nofuse",
        ldflags: LDFLAGS,
    },
    Service {
        module: "ipfs-cluster",
        binary: "ipfs-cluster-service",
        package: "github.com/ipfs-cluster/ipfs-cluster/cmd/ipfs-cluster-service",
        sources: &[],
        cgo: false,
        tags: "osusergo,netgo",
        ldflags: LDFLAGS,
    },
    Service {
        module: "coredns",
        binary: "coredns",
        // Its list of plugins is ours.
        package: ".",
        sources: &["main.go"],
        cgo: false,
        tags: "osusergo,netgo",
        ldflags: LDFLAGS,
    },
];

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

/// Builds those of `wanted` that are services of this file, as far as they changed, and gives their paths.
pub fn build(
    workspace: &Path,
    cache: &Path,
    wanted: &BTreeSet<String>,
) -> Result<Vec<PathBuf>, ServicesError> {
    let folder = cache.join("services");
    fs::create_dir_all(&folder).map_err(|source| ServicesError::Write { path: folder.clone(), source })?;
    let wanted = SERVICES.iter().filter(|service| wanted.contains(service.binary));
    wanted.map(|service| build_one(service, workspace, &folder)).collect()
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
    go.current_dir(&module)
        .env("CGO_ENABLED", if service.cgo { "1" } else { "0" })
        .env_remove("GOFLAGS")
        .args(["build", "-mod=readonly"]);
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
    for name in ["go.mod", "go.sum"].iter().chain(service.sources) {
        let path = module.join(name);
        let bytes = fs::read(&path).map_err(|source| ServicesError::Read { path, source })?;
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    }
    Ok(hex(&hash.finalize()))
}
