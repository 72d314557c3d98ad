//! `orama policy check`: parses and lints.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::SetsFrom;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[derive(Args)]
#[allow(dead_code, reason = "not built yet")]
pub struct CheckArgs {
    /// Profiles, or folders of them.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(_args: &CheckArgs, _output: &Output) -> Result<ExitCode, Failure> {
    Err(Failure::new(Exit::Usage, "not built yet"))
}
