//! What `cargo xtask bench spawn` measures with, in release mode and as root. Not part of any image.

mod spawn;
mod throughput;

use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use orama_policy::{Policy, Sets};
use orama_sandbox::Variables;

const USAGE: &str = "sandbox-bench spawn ROUNDS CGROUP PROFILE [NAME PROGRAM ARGUMENT... --]...
sandbox-bench throughput SERVICE CGROUP PROFILE PROGRAM FOLDER";

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["spawn", rounds, cgroup, profile, ..] => rounds
            .parse()
            .map_err(Failure::from)
            .and_then(|rounds| spawn::run(rounds, Path::new(cgroup), Path::new(profile), &words[4..])),
        ["throughput", service, cgroup, profile, program, folder] => throughput::run(
            service,
            Path::new(cgroup),
            Path::new(profile),
            Path::new(program),
            Path::new(folder),
        ),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            eprintln!("sandbox-bench: {text}");
            ExitCode::FAILURE
        }
    }
}

fn policy(file: &Path) -> Result<Policy, Failure> {
    let text = fs::read_to_string(file)?;
    Ok(Policy::parse(&file.display().to_string(), &text, &Sets::builtin())?)
}

fn variables(address: [u8; 4]) -> Variables {
    Variables { node_id: "bench".to_owned(), wg_ip: address.into() }
}
