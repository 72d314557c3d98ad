//! `orama policy run`: a service on this machine, in its sandbox.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::SetsFrom;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[derive(Args)]
#[allow(dead_code, reason = "not built yet")]
pub struct RunArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Another program than the profile's, with its arguments.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(_args: &RunArgs, _output: &Output) -> Result<ExitCode, Failure> {
    Err(Failure::new(Exit::Usage, "not built yet"))
}
