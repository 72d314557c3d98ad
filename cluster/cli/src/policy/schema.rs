//! `orama policy schema`: the JSON Schema of profiles.

use std::process::ExitCode;

use crate::failure::{Exit, Failure};
use crate::output::Output;

pub fn execute(_output: &Output) -> Result<ExitCode, Failure> {
    Err(Failure::new(Exit::Usage, "not built yet"))
}
