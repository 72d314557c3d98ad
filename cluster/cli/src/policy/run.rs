//! `orama policy run`: a service on this machine, in its sandbox. Its standard streams are this command's; what
//! this command has to say goes to stderr, each kind of refusal as it happens, and a summary at the end.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use orama_policy::{CgroupLimits, Policy, Variables};
use orama_sandbox::{Fence, Seen, Watcher};
use serde_json::json;

use super::SetsFrom;
use super::refusals::{self, Shared};
use super::session::{End, Session, Setup, find_program, need_root};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::text;

const EXAMPLES: &str = "\
Exit code: the service's own; 128 + signal when one ended it; 1 when it could not be started, 2 when FILE is wrong.

Examples:
  orama policy run policies/rqlite.toml --set wg_ip=127.0.0.1
  orama policy run my.toml --audit -- /usr/bin/my-daemon --port 8080
  orama policy run my.toml --trace --data /tmp/scratch 2> calls.txt

Ctrl-C asks the service to stop as its profile says; a second one kills it. Nothing of it outlives this command.";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// The profile.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Another program than the profile's, with its arguments.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
    /// Report refused calls and let them run, whatever the profile's mode is.
    #[arg(long)]
    audit: bool,
    /// Print every call with its arguments as it happens; slow.
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    sets: SetsFrom,
}

/// What a node would know and have, on this machine.
#[derive(Args)]
pub struct Place {
    /// A variable of the profile: wg_ip or node_id [default: wg_ip=127.0.0.1, node_id=local].
    #[arg(long = "set", value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Keep the writable paths below this folder instead of in their places.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Run even where memory, processes and CPU cannot be limited as the profile says.
    #[arg(long)]
    pub without_limits: bool,
}

impl Place {
    pub fn variables(&self) -> Result<Variables, Failure> {
        let mut variables = Variables { node_id: "local".to_owned(), wg_ip: [127, 0, 0, 1].into() };
        for pair in &self.set {
            let wrong = |what: String| Failure::new(Exit::Usage, format!("--set {pair}: {what}"));
            match pair.split_once('=') {
                Some(("wg_ip", value)) => {
                    variables.wg_ip = value.parse().map_err(|_| wrong("not an IP address".to_owned()))?;
                }
                Some(("node_id", value)) => variables.node_id = value.to_owned(),
                Some((name, _)) => {
                    return Err(wrong(format!("no variable `{name}`; there are wg_ip and node_id")));
                }
                None => return Err(wrong("give NAME=VALUE".to_owned())),
            }
        }
        Ok(variables)
    }
}

/// The words after `--`, found.
pub fn command(words: &[String]) -> Result<Option<(PathBuf, Vec<String>)>, Failure> {
    match words {
        [] => Ok(None),
        [program, arguments @ ..] => Ok(Some((find_program(program)?, arguments.to_vec()))),
    }
}

pub fn execute(args: &RunArgs, output: &Output) -> Result<ExitCode, Failure> {
    let policy = Arc::new(super::read(&args.file, &args.sets)?);
    need_root("run")?;
    let variables = args.place.variables()?;
    let setup = Setup {
        policy: &policy,
        variables: &variables,
        command: command(&args.command)?,
        data: args.place.data.as_deref(),
        without_limits: args.place.without_limits,
        audit: args.audit,
        trace: args.trace,
        stop_after: None,
        stdout_to_stderr: false,
    };
    let session = Session::prepare(&setup)?;
    warn(&setup, session.prepared().fence(), output);
    let ledger = Shared::default();
    let watcher = Watcher::start_tracing(sink(Arc::clone(&policy), Arc::clone(&ledger), output.json()))
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the watcher: {error}")))?;
    let end = session.run(&watcher, &|step| output.progress(&format!("orama: {step}")));
    // What has been told is written; nothing is told any more.
    drop(watcher);
    let end = end?;
    summary(&policy, &end, &ledger, output);
    Ok(ExitCode::from(end.code()))
}

/// Writes what the watcher sees, on its thread: a call is told before it is answered.
fn sink(policy: Arc<Policy>, ledger: Shared, json: bool) -> impl Fn(Seen) + Send + 'static {
    move |seen| match seen {
        Seen::Refused(refusal) => {
            if !refusals::locked(&ledger).add(&refusal) {
                return;
            }
            if json {
                eprintln!("{}", refusals::as_json(&policy, &refusal));
            } else {
                eprintln!("{}", refusals::in_words(&policy, &refusal));
            }
        }
        Seen::Allowed { pid, call, .. } => traced(json, pid, &call.describe(), None),
        Seen::Denied { pid, call, errno, .. } => traced(json, pid, &call.describe(), Some(errno)),
    }
}

fn traced(json: bool, pid: u32, call: &str, errno: Option<u32>) {
    let errno = errno.map(|number| format!("{:?}", nix::errno::Errno::from_raw(number as i32)));
    if json {
        eprintln!("{}", json!({ "call": call, "pid": pid, "errno": errno }));
    } else {
        let call = text::printable(call, 600);
        eprintln!(
            "{pid} {call}{}",
            errno.map(|name| format!(" = {name}, by the profile")).unwrap_or_default()
        );
    }
}

/// What is not as on a node.
pub fn warn(setup: &Setup<'_>, fence: &Fence, output: &Output) {
    if setup.without_limits && setup.policy.cgroup != CgroupLimits::default() {
        output.progress(
            "orama: WARNING: --without-limits: memory, processes, CPU and IO of this service are NOT limited",
        );
    }
    for missing in &fence.missing {
        output.progress(&format!("orama: this kernel's Landlock (version {}) lacks: {missing}", fence.abi));
    }
}

fn summary(policy: &Policy, end: &End, ledger: &Shared, output: &Output) {
    let ledger = refusals::locked(ledger);
    let kinds = ledger.observed().len();
    if output.json() {
        eprintln!(
            "{}",
            json!({ "end": {
                "service": policy.name,
                "exit_code": end.code(),
                "how": end.in_words(),
                "killed": end.killed,
                "seconds": end.lasted.as_secs_f64(),
                "survivors_killed": end.survivors,
                "refused_kinds": kinds,
                "refused_calls": ledger.total(),
            }})
        );
        return;
    }
    let mut words =
        format!("orama: {} {} after {:.1} s", policy.name, end.in_words(), end.lasted.as_secs_f64());
    if end.survivors > 0 {
        words.push_str(&format!("; {} of its processes outlived it and were killed", end.survivors));
    }
    match kinds {
        0 => words.push_str("; nothing was refused"),
        _ => words.push_str(&format!("; refused: {kinds} kinds of calls, {} calls", ledger.total())),
    }
    eprintln!("{words}");
}
