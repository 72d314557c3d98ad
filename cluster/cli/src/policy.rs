//! `orama policy`: profiles of services, from the first draft to enforce. This file owns the subcommands and how
//! profile files are found and read; each command has its own file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use orama_policy::{Policy, Sets};

use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[cfg(feature = "sandbox")]
mod bounded_patch;
mod check;
mod diff;
mod explain;
#[cfg(feature = "sandbox")]
mod learn;
#[cfg(feature = "sandbox")]
mod recording;
#[cfg(feature = "sandbox")]
mod refusals;
#[cfg(feature = "sandbox")]
mod run;
mod schema;
mod score;
#[cfg(feature = "sandbox")]
mod session;
#[cfg(feature = "sandbox")]
mod test;

#[derive(Subcommand)]
pub enum PolicyCommand {
    /// Parses and lints profiles: what is wrong, where, and what would mend it.
    Check(check::CheckArgs),
    /// Says in plain words what a service may do, and why.
    Explain(explain::ExplainArgs),
    /// Compares what two profiles allow; exit code 1 when the second allows more.
    Diff(diff::DiffArgs),
    /// Rates how exposed a service is, from 0.0 (tight) to 10.0 (open), and what would lower it.
    Score(score::ScoreArgs),
    /// Prints the JSON Schema of profiles, for editors.
    Schema,
    /// Starts a service, or any command, on this machine in the sandbox that a node would give it.
    #[cfg(feature = "sandbox")]
    Run(run::RunArgs),
    /// Records what a service really calls and prints what its profile lacks.
    #[cfg(feature = "sandbox")]
    Learn(learn::LearnArgs),
    /// Tries every system call class against the compiled filter and reports what the kernel did.
    #[cfg(feature = "sandbox")]
    Test(test::TestArgs),
}

/// Where the named sets come from.
#[derive(Args)]
pub struct SetsFrom {
    /// Folder with the named sets [default: `sets` beside the profile, else those built into this program].
    #[arg(long = "sets", value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl SetsFrom {
    /// The sets for one profile file.
    pub fn for_file(&self, file: &Path) -> Result<Sets, Failure> {
        if let Some(folder) = &self.folder {
            if !folder.is_dir() {
                return Err(Failure::new(Exit::Usage, format!("{}: no such folder", folder.display()))
                    .next("give --sets a folder with set files such as base.toml"));
            }
            return Ok(Sets::load(folder));
        }
        let beside = file.parent().unwrap_or(Path::new("")).join("sets");
        Ok(if beside.is_dir() { Sets::load(&beside) } else { Sets::builtin() })
    }
}

/// A profile that must be good for the command to make sense.
pub fn read(file: &Path, sets: &SetsFrom) -> Result<Policy, Failure> {
    let shown = file.display();
    let text = orama_policy::read_bounded(file)
        .map_err(|reason| Failure::new(Exit::Usage, format!("{shown}: {reason}")))?;
    Policy::parse(&shown.to_string(), &text, &sets.for_file(file)?).map_err(|error| {
        Failure::new(Exit::Usage, error.to_string())
            .next(format!("`orama policy check {shown}` shows everything that is wrong with it"))
    })
}

pub fn run(command: PolicyCommand, connection: &Connection, output: &Output) -> Result<ExitCode, Failure> {
    #[cfg(not(feature = "sandbox"))]
    let _ = connection;
    match command {
        PolicyCommand::Check(args) => check::execute(&args, output),
        PolicyCommand::Explain(args) => explain::execute(&args, output),
        PolicyCommand::Diff(args) => diff::execute(&args, output),
        PolicyCommand::Score(args) => score::execute(&args, output),
        PolicyCommand::Schema => Ok(schema::execute(output)),
        #[cfg(feature = "sandbox")]
        PolicyCommand::Run(args) => run::execute(&args, output),
        #[cfg(feature = "sandbox")]
        PolicyCommand::Learn(args) => learn::execute(&args, connection, output),
        #[cfg(feature = "sandbox")]
        PolicyCommand::Test(args) => test::execute(&args, output),
    }
}
