//! Runs one external program to its end and keeps what it printed for the error message.

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// How much of a failed program's output an error carries, in bytes.
const KEPT_OUTPUT_BYTES: usize = 4000;

#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    #[error("cannot start {program}")]
    Start { program: String, source: io::Error },
    #[error("{program} failed with {status}:\n{output}")]
    Failed { program: String, status: ExitStatus, output: String },
    #[error("{program} printed something that is not text")]
    NotText { program: String },
}

/// A program with the locale, time zone and time stamps that make its output the same everywhere.
pub fn tool(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C").env("TZ", "UTC").stdin(Stdio::null());
    // Tools of the administrator live there; a user's path often lacks them.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/local/go/bin:/usr/sbin:/sbin"));
    command
}

/// Runs it and gives its standard output.
pub fn run(command: &mut Command) -> Result<String, ToolError> {
    let program = name(command);
    let output = command.output().map_err(|source| ToolError::Start { program: program.clone(), source })?;
    if !output.status.success() {
        let text = [output.stdout, output.stderr].concat();
        let kept = &text[text.len().saturating_sub(KEPT_OUTPUT_BYTES)..];
        let output_text = String::from_utf8_lossy(kept).trim().to_owned();
        return Err(ToolError::Failed { program, status: output.status, output: output_text });
    }
    String::from_utf8(output.stdout).map_err(|_| ToolError::NotText { program })
}

/// Runs it with its output on the terminal: for builds that take minutes.
pub fn run_visibly(command: &mut Command) -> Result<(), ToolError> {
    let program = name(command);
    let status = command.status().map_err(|source| ToolError::Start { program: program.clone(), source })?;
    match status.success() {
        true => Ok(()),
        false => Err(ToolError::Failed { program, status, output: "see above".into() }),
    }
}

fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = run(tool("ls").arg("/does/not/exist")).unwrap_err();
        assert!(error.to_string().contains("/does/not/exist"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut tool("no-such-program-at-all")).unwrap_err();
        assert_eq!(error.to_string(), "cannot start no-such-program-at-all");
    }
}
