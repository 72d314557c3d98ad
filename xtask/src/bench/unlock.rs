//! `cargo xtask bench unlock`: what stands between a node and its open volume: fetching shares over the network, and
//! splitting and combining the key.

mod network;
mod sharing;

use super::samples::busy;
use crate::workspace::{Workspace, WorkspaceError, cargo};

#[derive(clap::Args)]
pub struct Arguments {
    /// Rounds of each measurement.
    #[arg(long, value_name = "N", default_value_t = 51, value_parser = clap::value_parser!(u32).range(5..=1000))]
    rounds: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum UnlockError {
    #[error("finding the workspace")]
    Workspace(#[from] WorkspaceError),
    #[error("starting cargo")]
    Cargo(#[source] std::io::Error),
    #[error("the measurement ended with {0}")]
    Failed(std::process::ExitStatus),
    #[error(transparent)]
    Network(#[from] network::NetworkError),
    #[error(transparent)]
    Sharing(#[from] sharing::SharingError),
    #[error("missed: {0}")]
    Missed(String),
}

pub fn run(arguments: &Arguments) -> Result<(), UnlockError> {
    if cfg!(debug_assertions) {
        return as_shipped(arguments);
    }
    busy();
    let mut missed = Vec::new();
    missed.extend(network::run(arguments.rounds)?);
    missed.extend(sharing::run(arguments.rounds)?);
    if missed.is_empty() { Ok(()) } else { Err(UnlockError::Missed(missed.join("; "))) }
}

/// The same again, built in release mode: numbers of anything else are of no use.
fn as_shipped(arguments: &Arguments) -> Result<(), UnlockError> {
    let mut command = cargo();
    command.current_dir(&Workspace::find()?.root);
    command.args(["run", "--quiet", "--release", "--package", "xtask", "--", "bench", "unlock"]);
    command.args(["--rounds", &arguments.rounds.to_string()]);
    let status = command.status().map_err(UnlockError::Cargo)?;
    if status.success() { Ok(()) } else { Err(UnlockError::Failed(status)) }
}
