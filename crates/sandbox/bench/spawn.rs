//! Starts: each round starts every contestant once, so that a busy moment of the machine meets all of them. Prints a
//! line a start, contestant and microseconds, and a remark (`#`) for a contestant that cannot run here.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use orama_sandbox::{Prepared, Refusal, Running, Watcher, prepare_in};

use super::{Failure, policy, variables};

pub fn run(rounds: u32, cgroup: &Path, profile: &Path, others: &[String]) -> Result<(), Failure> {
    let policy = policy(profile)?;
    let variables = variables([127, 0, 0, 1]);
    let prepare = || prepare_in(cgroup, &policy, &variables);
    let prepared = prepare()?;
    let watcher = Watcher::start(|refusal: Refusal| eprintln!("refused: {}", refusal.call.describe()))?;
    let mut others: Vec<&[String]> =
        others.split(|word| word == "--").filter(|words| words.len() > 1).collect();
    others.retain(|words| match program(&words[1], &words[2..]) {
        Ok(()) => true,
        Err(reason) => {
            println!("# {} cannot run here: {reason}", words[0]);
            false
        }
    });
    // The first start of each fills caches.
    for round in 0..=rounds {
        let say = |name: &str, took: Duration| {
            if round > 0 {
                println!("{name} {:.1}", took.as_nanos() as f64 / 1000.0);
            }
        };
        let begin = Instant::now();
        bare(&policy.binary)?;
        say("bare", begin.elapsed());
        let begin = Instant::now();
        ours(&prepared, &watcher)?;
        say("ours", begin.elapsed());
        let begin = Instant::now();
        ours(&prepare()?, &watcher)?;
        say("ours+prepare", begin.elapsed());
        for other in &others {
            let begin = Instant::now();
            program(&other[1], &other[2..])?;
            say(&other[0], begin.elapsed());
        }
    }
    prepared.cgroup().remove()?;
    Ok(fs::remove_dir(cgroup)?)
}

fn bare(program: &Path) -> Result<(), Failure> {
    let mut command = Command::new(program);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", program.display()).into()) }
}

fn ours(prepared: &Prepared, watcher: &Watcher) -> Result<(), Failure> {
    let null = || fs::File::options().write(true).open("/dev/null").map(OwnedFd::from);
    let mut running: Running = prepared.spawn(null()?, null()?)?;
    watcher.add(running.take_listener().ok_or("no listener")?);
    let status = running.wait_blocking()?;
    if status.success() { Ok(()) } else { Err(format!("in the sandbox: {status}").into()) }
}

fn program(program: &str, arguments: &[String]) -> Result<(), Failure> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(format!("{}: {reason}", output.status).into())
}
