//! `orama policy diff`: what a new profile allows that the old one did not, and the other way round.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use orama_policy::{Change, Direction, diff};
use serde_json::json;

use super::{SetsFrom, read};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text::wrapped;

#[derive(Args)]
#[command(after_help = "\
Meanings are compared, not lines: a set instead of its rules, or rules in another order, are no difference.

Examples:
  orama policy diff policies/rqlite.toml rqlite-new.toml
  git show HEAD:policies/rqlite.toml > old.toml && orama policy diff old.toml policies/rqlite.toml

Exit codes: 0 B allows nothing that A does not, 1 it does, 2 one of them is wrong.")]
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

pub fn execute(args: &DiffArgs, output: &Output) -> Result<ExitCode, Failure> {
    let (old, new) = (read(&args.old, &args.sets)?, read(&args.new, &args.sets)?);
    let changes = diff(&old, &new);
    let of = |direction| -> Vec<&Change> {
        changes.iter().filter(|change| change.direction == direction).collect()
    };
    let more = !of(Direction::Gained).is_empty();
    let list = |direction: Direction| -> serde_json::Value {
        let changes = of(direction).into_iter();
        changes
            .map(|change| json!({ "subject": change.subject, "text": change.text, "origin": change.origin }))
            .collect()
    };
    let answer = json!({
        "allows_more": more,
        "gained": list(Direction::Gained),
        "lost": list(Direction::Lost),
        "changed": list(Direction::Changed),
    });
    let mut human = String::new();
    for (direction, title, mark) in [
        (Direction::Gained, "Gained", '+'),
        (Direction::Lost, "Lost", '-'),
        (Direction::Changed, "Changed", '~'),
    ] {
        let changes = of(direction);
        if changes.is_empty() {
            continue;
        }
        human.push_str(&format!("{title}\n"));
        for Change { subject, text, origin, .. } in changes {
            let origin = origin.as_ref().map(|origin| format!(" [{origin}]")).unwrap_or_default();
            human.push_str(&wrapped(&format!("{mark} {subject}: {text}{origin}"), 2));
        }
        human.push('\n');
    }
    let (a, b) = (args.old.display(), args.new.display());
    human.push_str(&match (more, changes.is_empty()) {
        (true, _) => format!("{b} allows more than {a}"),
        (false, true) => format!("{b} says the same as {a}"),
        (false, false) => format!("{b} allows nothing that {a} does not"),
    });
    output.answer(&answer, &human);
    Ok(if more { ExitCode::from(Exit::Failed as u8) } else { ExitCode::SUCCESS })
}
