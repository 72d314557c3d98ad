//! `orama policy explain`: a profile in plain words, or one system call and the lines that decide about it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use orama_policy::{Answer, CallExplanation, Policy, Section, explain, explain_call};
use serde_json::json;

use super::{SetsFrom, read};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text::wrapped;

#[derive(Args)]
#[command(after_help = "\
Examples:
  orama policy explain policies/rqlite.toml
  orama policy explain policies/rqlite.toml --syscall socket

Exit codes: 0 explained, 2 the profile or the name of the call is wrong.")]
pub struct ExplainArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only this system call: whether it is allowed, and by which lines.
    #[arg(long, value_name = "NAME")]
    syscall: Option<String>,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(args: &ExplainArgs, output: &Output) -> Result<ExitCode, Failure> {
    let policy = read(&args.file, &args.sets)?;
    match &args.syscall {
        None => whole(&policy, output),
        Some(name) => {
            let explained = explain_call(&policy, name)
                .map_err(|hint| Failure::new(Exit::Usage, format!("unknown syscall {name:?}")).next(hint))?;
            one_call(&explained, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn whole(policy: &Policy, output: &Output) {
    let sections = explain(policy);
    let answer = json!({
        "name": policy.name,
        "description": policy.description,
        "sections": sections.iter().map(|section| json!({
            "title": section.title,
            "lines": section.lines.iter().map(|line| json!({
                "text": line.text.trim_start(),
                "why": line.why,
                "origin": line.origin,
            })).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
    });
    let mut human = policy.name.clone();
    if !policy.description.is_empty() {
        human.push_str(&format!(": {}", policy.description));
    }
    human.push('\n');
    for section in &sections {
        human.push_str(&shown(section));
    }
    output.answer(&answer, &human);
}

fn shown(section: &Section) -> String {
    let mut text = format!("\n{}\n", section.title);
    for line in &section.lines {
        let inner = line.text.trim_start();
        let indent = 2 + (line.text.len() - inner.len());
        text.push_str(&wrapped(inner, indent));
        if let (Some(why), Some(origin)) = (&line.why, &line.origin) {
            text.push_str(&wrapped(&format!("{why} [{origin}]"), indent + 4));
        }
    }
    text
}

fn one_call(call: &CallExplanation, output: &Output) {
    let answer = json!({
        "syscall": call.signature,
        "number": call.number,
        "allowed": call.answer.name(),
        "rules": call.rules.iter().map(|rule| json!({
            "when": rule.when,
            "why": rule.why,
            "origin": rule.origin,
            "set": rule.set,
        })).collect::<Vec<_>>(),
        "otherwise": call.otherwise,
        "danger": call.danger,
    });
    let lead = match call.answer {
        Answer::Always => "is allowed with any arguments".to_owned(),
        Answer::Sometimes => format!("is allowed with some arguments; with all others it {}", call.otherwise),
        Answer::Never => format!("is in no rule: it {}", call.otherwise),
        Answer::Denied => "is denied in every mode, without being recorded".to_owned(),
        Answer::Absent => {
            "fails with ENOSYS in every sandbox: its flags lie in memory, where no filter can look, and libraries fall \
             back to clone"
                .to_owned()
        }
    };
    let mut human = wrapped(&format!("{} {lead}", call.signature), 0);
    for rule in &call.rules {
        let when = rule.when.as_deref().unwrap_or("always");
        human.push_str(&format!("\n  {}\n", rule.origin));
        human.push_str(&wrapped(&format!("{when}: {}", rule.why), 4));
    }
    if let Some(danger) = call.danger {
        human.push_str(&format!("\nIt has no place in a service: it {danger}.\n"));
    }
    output.answer(&answer, &human);
}
