//! Measures starts, for `cargo xtask bench spawn`: each round starts every contestant once, so that a busy moment of
//! the machine meets all of them. Prints a line a start: contestant, microseconds. Not part of any image.

use std::error::Error;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use orama_policy::{Policy, Sets};
use orama_sandbox::{Prepared, Refusal, Running, Variables, Watcher, prepare_in};

const USAGE: &str = "sandbox-bench ROUNDS CGROUP PROFILE [NAME PROGRAM ARGUMENT... --]...";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<(), Failure> {
    let [rounds, cgroup, profile, others @ ..] = words else { return Err(USAGE.into()) };
    let rounds: u32 = rounds.parse()?;
    let text = fs::read_to_string(profile)?;
    let policy = Policy::parse(profile, &text, &Sets::builtin())?;
    let variables = Variables { node_id: "bench".to_owned(), wg_ip: [127, 0, 0, 1].into() };
    let prepare = || prepare_in(Path::new(cgroup), &policy, &variables);
    let prepared = prepare()?;
    let watcher = Watcher::start(|refusal: Refusal| eprintln!("refused: {}", refusal.call.describe()))?;
    let others: Vec<&[String]> = others.split(|word| word == "--").filter(|words| words.len() > 1).collect();
    // The first start of each fills caches.
    for round in 0..=rounds {
        let say = |name: &str, took: Duration| {
            if round > 0 {
                println!("{name} {}", took.as_nanos() as f64 / 1000.0);
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
    Ok(())
}

fn bare(program: &Path) -> Result<(), Failure> {
    let status =
        Command::new(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
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
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()).into())
}
