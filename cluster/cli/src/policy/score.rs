//! `orama policy score`: the exposure of a service.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::SetsFrom;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[derive(Args)]
#[allow(dead_code, reason = "not built yet")]
pub struct ScoreArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(_args: &ScoreArgs, _output: &Output) -> Result<ExitCode, Failure> {
    Err(Failure::new(Exit::Usage, "not built yet"))
}
