//! `orama policy schema`: the JSON Schema of profiles, for editors.

use std::process::ExitCode;

use crate::output::Output;

pub fn execute(output: &Output) -> ExitCode {
    let schema = orama_policy::schema();
    output.answer(&schema, &format!("{schema:#}"));
    ExitCode::SUCCESS
}
