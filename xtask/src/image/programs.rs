//! Our own programs as static and small binaries, in a target folder of their own so that their flags do
//! not make the rest of the workspace build again.

use std::path::{Path, PathBuf};

use super::tool::{ToolError, run_visibly, tool};

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Of the workspace's Cargo.toml.
const PROFILE: &str = "image";

/// Static programs, by package: those of an image, and the operator's command, which is released beside it.
const PACKAGES: [&str; 5] = ["orama-agent", "orama-gateway", "vault-guardian", "orama-init", "orama"];

#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    #[error("cargo could not build {}", packages.join(", "))]
    Cargo { packages: Vec<&'static str>, source: ToolError },
    #[error("cargo built no {}", path.display())]
    NotThere { path: PathBuf },
    #[error("{} is not a static program: {what}", path.display())]
    NotStatic { path: PathBuf, what: &'static str },
    #[error("cannot look into {}", path.display())]
    Elf { path: PathBuf, source: super::elf::ElfError },
}

pub struct Programs {
    pub agent: PathBuf,
    pub init: PathBuf,
    gateway: PathBuf,
    guardian: PathBuf,
    operator: PathBuf,
}

impl Programs {
    /// Those that run as services.
    pub fn service_binaries(&self) -> Vec<PathBuf> {
        vec![self.gateway.clone(), self.guardian.clone()]
    }

    /// Those that a cluster around nodes needs on its hosts.
    pub fn host_programs(&self) -> Vec<PathBuf> {
        vec![self.operator.clone(), self.gateway.clone(), self.guardian.clone()]
    }
}

/// Builds all of them; quick when nothing changed.
pub fn build(workspace: &Path, cache: &Path) -> Result<Programs, ProgramsError> {
    let built = cargo(workspace, &cache.join("programs"), &PACKAGES, &[])?;
    let program = |name: &str| checked(built.join(name));
    Ok(Programs {
        agent: program("orama-agent")?,
        init: program("orama-init")?,
        gateway: program("orama-gateway")?,
        guardian: program("vault-guardian")?,
        operator: program("orama")?,
    })
}

/// The program of the scenario about abuse, for images whose profiles name it.
pub const ABUSER: &str = "orama-abuser";

pub fn build_abuser(workspace: &Path, cache: &Path) -> Result<PathBuf, ProgramsError> {
    let built = cargo(workspace, &cache.join("programs"), &[ABUSER], &[])?;
    checked(built.join(ABUSER))
}

/// The benchmark's init. Its own target folder: the same package with other features would replace the
/// real one.
pub fn build_floor_init(workspace: &Path, cache: &Path) -> Result<PathBuf, ProgramsError> {
    let built = cargo(workspace, &cache.join("floor"), &["orama-init"], &["--features", "orama-init/floor"])?;
    checked(built.join("orama-init"))
}

fn cargo(
    workspace: &Path,
    target: &Path,
    packages: &[&'static str],
    more: &[&str],
) -> Result<PathBuf, ProgramsError> {
    let mut command = tool(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace).args(["build", "--profile", PROFILE, "--locked", "--target", TARGET]);
    command.args(packages.iter().flat_map(|package| ["--package", *package])).args(more);
    // Paths of this machine must not end up in a binary: they would make it differ between builders.
    let home = std::env::var("CARGO_HOME")
        .unwrap_or_else(|_| format!("{}/.cargo", std::env::var("HOME").unwrap_or_default()));
    let flags = [
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/orama", workspace.display()),
        format!("--remap-path-prefix={home}=/cargo"),
    ];
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f")).env("CARGO_TARGET_DIR", target);
    command.env_remove("RUSTFLAGS").env_remove("CARGO_MAKEFLAGS");
    run_visibly(&mut command)
        .map_err(|source| ProgramsError::Cargo { packages: packages.to_vec(), source })?;
    Ok(target.join(TARGET).join(PROFILE))
}

/// A program that needs a loader would find none in the initramfs, and a wrong one in the image.
fn checked(path: PathBuf) -> Result<PathBuf, ProgramsError> {
    if !path.is_file() {
        return Err(ProgramsError::NotThere { path });
    }
    match super::elf::read(&path) {
        Err(source) => Err(ProgramsError::Elf { path, source }),
        Ok(elf) if elf.interpreter.is_some() => {
            Err(ProgramsError::NotStatic { path, what: "it names a loader" })
        }
        Ok(elf) if !elf.needed.is_empty() => {
            Err(ProgramsError::NotStatic { path, what: "it needs shared libraries" })
        }
        Ok(_) => Ok(path),
    }
}
