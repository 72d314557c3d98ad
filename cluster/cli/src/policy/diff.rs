//! `orama policy diff`: what was gained and lost.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::SetsFrom;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[derive(Args)]
#[allow(dead_code, reason = "not built yet")]
pub struct DiffArgs {
    /// The profile as it was.
    #[arg(value_name = "A")]
    old: PathBuf,
    /// The profile as it will be.
    #[arg(value_name = "B")]
    new: PathBuf,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(_args: &DiffArgs, _output: &Output) -> Result<ExitCode, Failure> {
    Err(Failure::new(Exit::Usage, "not built yet"))
}
