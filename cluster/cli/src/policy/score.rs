//! `orama policy score`: how exposed a service is by its profile, and what would lower it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use orama_policy::{Score, score};
use serde_json::json;

use super::{SetsFrom, read};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text::table;

#[derive(Args)]
#[command(after_help = "\
0.0 to 1.0 is tight, to 2.5 good, to 5.0 fair, to 7.5 exposed, above open. What counts is what an intruder in the
service could do; a profile in mode audit protects nothing.

Examples:
  orama policy score policies/rqlite.toml
  orama policy score policies/rqlite.toml --max 2.5      for CI: exit code 1 above 2.5

Exit codes: 0 scored, 1 above --max, 2 the profile is wrong.")]
pub struct ScoreArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Fail when the exposure is above this.
    #[arg(long, value_name = "N", value_parser = tenths)]
    max: Option<u32>,
    #[command(flatten)]
    sets: SetsFrom,
}

/// `2.5` as 25.
fn tenths(text: &str) -> Result<u32, String> {
    let wrong = || format!("{text:?} is not a number from 0.0 to 10.0");
    let number: f64 = text.parse().map_err(|_| wrong())?;
    if !(0.0..=10.0).contains(&number) {
        return Err(wrong());
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 100")]
    Ok((number * 10.0).floor() as u32)
}

pub fn execute(args: &ScoreArgs, output: &Output) -> Result<ExitCode, Failure> {
    let policy = read(&args.file, &args.sets)?;
    let score = score(&policy);
    let above = args.max.is_some_and(|max| score.tenths() > max);
    let answer = json!({
        "name": policy.name,
        "exposure": score.exposure(),
        "word": score.word(),
        "above_max": above,
        "checks": score.checks.iter().map(|check| json!({
            "code": check.code,
            "title": check.title,
            "weight": check.weight,
            "openness": check.openness,
            "share": score.share(check),
            "state": check.state,
            "remedy": check.remedy,
        })).collect::<Vec<_>>(),
    });
    output.answer(&answer, &shown(&policy.name, &score));
    Ok(if above { ExitCode::from(Exit::Failed as u8) } else { ExitCode::SUCCESS })
}

fn shown(name: &str, score: &Score) -> String {
    let rows: Vec<Vec<String>> = score
        .checks
        .iter()
        .map(|check| {
            let share = score.share(check);
            vec![
                if share > 0.0 { format!("{share:.2}") } else { "-".to_owned() },
                check.weight.to_string(),
                check.title.to_owned(),
                check.state.clone(),
                check.remedy.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let mut text = table(&["EXPOSURE", "WEIGHT", "CHECK", "STATE", "WHAT WOULD LOWER IT"], &rows);
    text.push_str(&format!("\n{name}: exposure {:.1} of 10.0, {}", score.exposure(), score.word()));
    text
}
