//! `orama policy test`: the compiled filter against the kernel. What the profile says is judged from its rules,
//! what the kernel did is seen in throw-away children, and the two must agree.

mod cases;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use orama_policy::{Action, Mode, Policy};
use orama_sandbox::Filter;
use orama_sandbox::trial::{Attempt, Did, attempt};
use serde_json::json;

use self::cases::Case;
use super::SetsFrom;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text;

/// Disagreements that are listed one by one.
const SHOWN: usize = 20;

const EXAMPLES: &str = "\
Needs no root, and executes none of the calls: what the filter allows is skipped.
Exit code 1 when the kernel did anything but what the profile says.

Example:
  orama policy test policies/rqlite.toml";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct TestArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    sets: SetsFrom,
}

/// What was tried of one class.
#[derive(Default)]
struct Tally {
    allowed: usize,
    errno: usize,
    refused: usize,
    killed: usize,
    wrong: usize,
}

pub fn execute(args: &TestArgs, output: &Output) -> Result<ExitCode, Failure> {
    let policy = super::read(&args.file, &args.sets)?;
    let filter = Filter::compile(&policy.seccomp).map_err(|error| Failure::because(Exit::Failed, &error))?;
    let cases = cases::of(&policy);
    let attempts: Vec<Attempt> = cases.iter().map(|case| case.attempt).collect();
    let did = attempt(&filter, &attempts).map_err(|error| {
        Failure::new(Exit::Failed, format!("cannot try calls against the filter: {error}"))
            .next("it needs ptrace, and seccomp with listeners (Linux 5.19 or later)")
    })?;
    let wrong: Vec<(&Case, Did)> =
        cases.iter().zip(did.iter().copied()).filter(|(case, did)| case.expected != *did).collect();
    let tallies = tally(&cases, &did);
    let json = json!({
        "service": policy.name,
        "instructions": filter.instructions().len(),
        "tried": cases.len(),
        "not_tried": cases::EXEMPT,
        "wrong": wrong.iter().map(|(case, did)| json!({
            "call": case.words(), "expected": words(case.expected, &policy), "did": words(*did, &policy),
        })).collect::<Vec<_>>(),
        "classes": tallies.iter().map(|(class, tally)| json!({
            "class": class, "allowed": tally.allowed, "errno": tally.errno, "refused": tally.refused,
            "killed": tally.killed, "wrong": tally.wrong,
        })).collect::<Vec<_>>(),
    });
    output.answer(&json, &report(&policy, &filter, &cases, &tallies, &wrong));
    Ok(ExitCode::from(u8::from(!wrong.is_empty())))
}

fn tally(cases: &[Case], did: &[Did]) -> BTreeMap<&'static str, Tally> {
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    for (case, did) in cases.iter().zip(did) {
        let tally = tallies.entry(case.class).or_default();
        match did {
            Did::Allow => tally.allowed += 1,
            Did::Errno(_) => tally.errno += 1,
            Did::Refuse => tally.refused += 1,
            Did::Kill => tally.killed += 1,
        }
        tally.wrong += usize::from(case.expected != *did);
    }
    tallies
}

fn words(did: Did, policy: &Policy) -> String {
    match did {
        Did::Allow => "allowed".to_owned(),
        Did::Errno(number) => format!("{:?}", nix::errno::Errno::from_raw(number as i32)),
        Did::Refuse => format!("refused: {}", consequence(policy)),
        Did::Kill => "killed by the kernel".to_owned(),
    }
}

fn consequence(policy: &Policy) -> String {
    match (policy.seccomp.mode, policy.seccomp.default_action) {
        (Mode::Audit, _) => "reported, and it runs".to_owned(),
        (Mode::Enforce, Action::Kill) => "reported, and its process is killed".to_owned(),
        (Mode::Enforce, Action::Errno(number)) => {
            format!("reported, and it returns {:?}", nix::errno::Errno::from_raw(number as i32))
        }
    }
}

fn report(
    policy: &Policy,
    filter: &Filter,
    cases: &[Case],
    tallies: &BTreeMap<&'static str, Tally>,
    wrong: &[(&Case, Did)],
) -> String {
    let count = |number: usize| if number == 0 { "·".to_owned() } else { number.to_string() };
    let rows: Vec<Vec<String>> = tallies
        .iter()
        .map(|(class, tally)| {
            let numbers = [tally.allowed, tally.errno, tally.refused, tally.killed, tally.wrong];
            std::iter::once((*class).to_owned()).chain(numbers.map(count)).collect()
        })
        .collect();
    let mut told = text::table(
        &["TRIED CALLS", "ALLOWED", "ERRNO", "REFUSED", "KILLED", "NOT AS THE PROFILE SAYS"],
        &rows,
    );
    told.push_str(&format!(
        "\n{}: {} calls tried against a filter of {} instructions; what is refused is {}.\n",
        policy.name,
        cases.len(),
        filter.instructions().len(),
        consequence(policy),
    ));
    told.push_str(
        "Not tried: numbers 335 and 336 (uretprobe, uprobe), which newer kernels exempt from every filter and \
         answer with SIGILL outside of probes.\n",
    );
    match wrong {
        [] => told.push_str("The kernel does what the profile says.\n"),
        wrong => {
            told.push_str(&format!("{} calls met something else than the profile says:\n", wrong.len()));
            for (case, did) in wrong.iter().take(SHOWN) {
                let (expected, did) = (words(case.expected, policy), words(*did, policy));
                told.push_str(&format!("  {}: {did}; the profile says: {expected}\n", case.words()));
            }
        }
    }
    told
}
