//! `orama policy learn`: what a service really calls, from runs in the sandbox, from recordings and from nodes, and
//! the smallest addition to its profile that would allow it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use orama_policy::{Call, Observed, Policy, Verdict, always, patch};
use orama_protocol::refusals::Refusals;
use orama_sandbox::{Seen, Watcher};
use serde_json::json;

use super::SetsFrom;
use super::bounded_patch;
use super::recording::{self, Recording, Shared};
use super::run::{self, Place};
use super::session::{Session, Setup, need_root};
use crate::connection::Connection;
use crate::failure::{Exit, Failure};
use crate::gateway;
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
The patch goes to stdout: append it to the profile, and say why in each `why`. Exit code 1 when --baseline kept
something out.

A recording only knows what happened: run the service cold and with data, under load, reloaded, stopped and
failing to start, and put the recordings together.

Examples:
  orama policy learn my.toml --runs 3 -- /usr/bin/my-daemon --port 8080
  orama policy learn my.toml --for 60 --save load.json
  orama policy learn my.toml --recording cold.json --recording load.json >> my.toml
  orama policy learn my.toml --from-node node-10.0.0.4 --baseline reviewed.toml";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct LearnArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Another program than the profile's, with its arguments.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
    /// How often it is run [default: once; not at all with --recording or --from-node and without CMD].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: Option<u32>,
    /// Stop each run after so many seconds [default: when it ends, or at Ctrl-C].
    #[arg(long = "for", value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    /// Add what an earlier run has saved; may be repeated.
    #[arg(long, value_name = "FILE")]
    recording: Vec<PathBuf>,
    /// Save everything that was seen, for a later --recording.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// A profile that must not be exceeded: what it does not allow is listed and left out.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Add what a node has refused this service; needs a gateway, as `orama node refusals`.
    #[arg(long, value_name = "ID", value_parser = crate::node::node_id)]
    from_node: Option<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    sets: SetsFrom,
}

pub fn execute(args: &LearnArgs, connection: &Connection, output: &Output) -> Result<ExitCode, Failure> {
    let policy = super::read(&args.file, &args.sets)?;
    let baseline = args.baseline.as_ref().map(|file| super::read(file, &args.sets)).transpose()?;
    let mut recording = Recording::default();
    for file in &args.recording {
        recording.load(&policy.name, file)?;
    }
    if let Some(node) = &args.from_node {
        from_node(&mut recording, node, &policy, connection)?;
    }
    let elsewhere = !args.recording.is_empty() || args.from_node.is_some();
    let runs = args.runs.unwrap_or(u32::from(!elsewhere || !args.command.is_empty()));
    let recording = if runs > 0 { record(recording, runs, args, &policy, output)? } else { recording };
    if let Some(file) = &args.save {
        recording.save(&policy.name, file)?;
    }
    if recording.dropped > 0 {
        output.progress(&format!("orama: {} calls of too many kinds were not recorded", recording.dropped));
    }
    Ok(report(&policy, baseline.as_ref(), &recording, output))
}

/// Runs the service in its sandbox; every call is seen, and what is outside the profile runs.
fn record(
    recording: Recording,
    runs: u32,
    args: &LearnArgs,
    policy: &Policy,
    output: &Output,
) -> Result<Recording, Failure> {
    need_root("learn")?;
    let variables = args.place.variables()?;
    let setup = Setup {
        policy,
        variables: &variables,
        command: run::command(&args.command)?,
        data: args.place.data.as_deref(),
        without_limits: args.place.without_limits,
        audit: true,
        trace: true,
        stop_after: args.seconds.map(Duration::from_secs),
        // The patch goes there.
        stdout_to_stderr: true,
    };
    let shared = Shared::new(recording.into());
    let sink = {
        let shared = Arc::clone(&shared);
        move |seen| match seen {
            Seen::Refused(refusal) => recording::locked(&shared).add(&refusal.call, 1),
            Seen::Allowed { call, .. } => recording::locked(&shared).add(&call, 1),
            // The profile says that it may not have it, and it lives on.
            Seen::Denied { .. } => {}
        }
    };
    let watcher = Watcher::start_tracing(sink)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the watcher: {error}")))?;
    for run in 1..=runs {
        // Anew each time: some kernels kill what is started in a cgroup that has been killed once.
        let session = Session::prepare(&setup)?;
        if run == 1 {
            run::warn(&setup, session.prepared().fence(), output);
        }
        let end = session.run(&watcher, &|step| output.progress(&format!("orama: {step}")))?;
        output.progress(&format!(
            "orama: run {run} of {runs}: {} {} after {:.1} s",
            policy.name,
            end.in_words(),
            end.lasted.as_secs_f64()
        ));
        if end.interrupted {
            break;
        }
    }
    drop(watcher);
    Ok(std::mem::take(&mut *recording::locked(&shared)))
}

/// What the node's agent has refused this service.
fn from_node(
    recording: &mut Recording,
    node: &str,
    policy: &Policy,
    connection: &Connection,
) -> Result<(), Failure> {
    let gateway = connection.with_key()?;
    let path = format!("/v1/node/refusals?node_id={node}&service={}", policy.name);
    let answer = gateway.get(&path).and_then(|body| gateway::decode::<Refusals>(&path, &body));
    let answer = answer.map_err(|error| error.into_failure(&format!("cannot get the refusals of {node}")))?;
    for refusal in answer.refusals.iter().filter(|refusal| refusal.service == policy.name) {
        recording.add(&Call::new(refusal.number, refusal.args), refusal.count);
    }
    Ok(())
}

/// What was seen outside the profile, and which of it the baseline has.
fn sort(policy: &Policy, baseline: Option<&Policy>, recording: &Recording) -> (Vec<Observed>, Vec<Observed>) {
    let outside = |policy: &Policy, call: &Call| {
        !matches!(
            policy.seccomp.judge(call),
            Verdict::Always(_) | Verdict::Allowed(_) | Verdict::Denied(_) | Verdict::Absent
        )
    };
    let missing = recording.observed().filter(|seen| outside(policy, &seen.call)).cloned();
    missing.partition(|seen| !baseline.is_some_and(|baseline| outside(baseline, &seen.call)))
}

fn report(policy: &Policy, baseline: Option<&Policy>, recording: &Recording, output: &Output) -> ExitCode {
    let (wanted, left_out) = sort(policy, baseline, recording);
    let patch = match baseline {
        Some(baseline) => bounded_patch::within(policy, baseline, &wanted),
        None => patch(policy, &wanted),
    };
    let kinds = recording.observed().count();
    let in_anyway: Vec<&str> =
        always().iter().flat_map(|rule| &rule.syscalls).map(|call| call.name()).collect();
    let left_out: Vec<String> =
        left_out.iter().map(|seen| text::printable(&seen.call.describe(), 600)).collect();
    let mut words = format!(
        "# {}: {kinds} kinds of calls were seen, {} outside the profile.\n\
         # The sandbox allows these in every profile, seen or not, for error paths and its own start: {}\n",
        policy.name,
        wanted.len() + left_out.len(),
        in_anyway.join(", "),
    );
    for call in &left_out {
        words.push_str(&format!("# left out, as the baseline does not allow it: {call}\n"));
    }
    match patch.trim() {
        "" => words.push_str("# Nothing to add.\n"),
        patch => words.push_str(&format!("\n{patch}\n")),
    }
    output.answer(
        &json!({
            "service": policy.name,
            "kinds": kinds,
            "outside": wanted.len() + left_out.len(),
            "always": in_anyway,
            "left_out": left_out,
            "patch": patch,
        }),
        &words,
    );
    ExitCode::from(u8::from(!left_out.is_empty()))
}
