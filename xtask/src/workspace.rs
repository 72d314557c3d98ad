//! Where the workspace and its target directory are, and which test targets it declares.
//! Asks cargo, never guesses a path.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// What `cargo metadata` says, as far as we need it.
#[derive(Deserialize)]
pub struct Workspace {
    #[serde(rename = "workspace_root")]
    pub root: PathBuf,
    #[serde(rename = "target_directory")]
    pub target: PathBuf,
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    /// `test = false` in the manifest: plain `cargo test` leaves it alone.
    test: bool,
}

/// A test target that needs more than `cargo test`: root, or virtual machines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TestTarget {
    pub package: String,
    pub name: String,
    /// Folder of the package's manifest, where cargo would run the test.
    pub folder: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    #[error("running cargo metadata")]
    Run(#[source] std::io::Error),
    #[error("cargo metadata failed: {0}")]
    Failed(String),
    #[error("reading the output of cargo metadata")]
    Parse(#[source] serde_json::Error),
}

impl Workspace {
    pub fn find() -> Result<Self, WorkspaceError> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
            .output()
            .map_err(WorkspaceError::Run)?;
        if !output.status.success() {
            return Err(WorkspaceError::Failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        serde_json::from_slice(&output.stdout).map_err(WorkspaceError::Parse)
    }

    /// Every test target that plain `cargo test` does not run, in the order of the manifests.
    pub fn separate_tests(&self) -> Vec<TestTarget> {
        let mut found = Vec::new();
        for package in &self.packages {
            for target in &package.targets {
                if target.test || !target.kind.iter().any(|kind| kind == "test") {
                    continue;
                }
                let folder = package.manifest_path.parent().unwrap_or(Path::new(".")).to_owned();
                found.push(TestTarget { package: package.name.clone(), name: target.name.clone(), folder });
            }
        }
        found
    }
}

/// The cargo that runs us, so that one toolchain builds everything.
pub fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_workspace_is_found_with_its_separate_tests() {
        let workspace = Workspace::find().unwrap();
        assert!(workspace.root.join("xtask").is_dir(), "{}", workspace.root.display());
        let tests = workspace.separate_tests();
        assert!(tests.iter().any(|test| test.package == "qemu-tests"), "{tests:?}");
        for test in tests {
            assert!(
                test.package == "qemu-tests" || test.name.starts_with("host_"),
                "{}/{}: a test target with test = false is host_* or belongs to qemu-tests, or nothing runs it",
                test.package,
                test.name
            );
        }
    }
}
