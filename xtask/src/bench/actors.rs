//! `cargo xtask bench actors`: what an idle ServiceActor costs the agent, measured by a program of the actors' own
//! (actors/examples/idle_actors.rs) in a release build. Fails when it is more than the issue allows.

use std::process::Command;

use crate::workspace::Workspace;

/// Issue 3: a thousand ServiceActors idle, bytes each.
const LIMIT_BYTES: u64 = 30_000;

#[derive(Debug, thiserror::Error)]
pub enum ActorsError {
    #[error("starting cargo")]
    Start(#[source] std::io::Error),
    #[error("the measurement failed ({0})")]
    Failed(std::process::ExitStatus),
    #[error("the measurement said {0:?}")]
    Answer(String),
    #[error("an idle ServiceActor takes {bytes} bytes, more than {LIMIT_BYTES}")]
    TooLarge { bytes: u64 },
}

pub fn run(workspace: &Workspace, count: u32) -> Result<(), ActorsError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(&workspace.root).args(["run", "--quiet", "--release", "--package", "orama-actors"]);
    command.args(["--example", "idle_actors", "--", &count.to_string()]);
    let output = command.stderr(std::process::Stdio::inherit()).output().map_err(ActorsError::Start)?;
    if !output.status.success() {
        return Err(ActorsError::Failed(output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (waiting, running) = parse(&text).ok_or(ActorsError::Answer(text))?;
    println!("{count} idle ServiceActors, resident bytes each (limit {LIMIT_BYTES})");
    println!("{:<48} {waiting:>8}", "waiting for their turn");
    println!("{:<48} {running:>8}", "running, with log, exit watch and box watch");
    if running > LIMIT_BYTES { Err(ActorsError::TooLarge { bytes: running }) } else { Ok(()) }
}

/// `actors 1000 waiting 9000 running 12000`.
fn parse(text: &str) -> Option<(u64, u64)> {
    match text.split_whitespace().collect::<Vec<_>>()[..] {
        ["actors", _, "waiting", waiting, "running", running] => {
            Some((waiting.parse().ok()?, running.parse().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_one_line() {
        assert_eq!(parse("actors 1000 waiting 9000 running 12000\n"), Some((9000, 12_000)));
        assert_eq!(parse("actors 1000 waiting x running 1"), None);
        assert_eq!(parse(""), None);
    }
}
