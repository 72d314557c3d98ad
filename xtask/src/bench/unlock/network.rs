//! From "WireGuard is up" to "the volume is open" with 15 guardians, 50 ms away, five of them dead and one with a wrong
//! share: measured by a program of the actors' own (actors/examples/unlock_latency), once without delay in the same run, so that what
//! remains are round trips. What LUKS adds is measured with cryptsetup on a header of the same format.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use crate::bench::samples::{aim, line, median};
use crate::workspace::{Workspace, WorkspaceError, cargo};

/// Issue 4: from WireGuard to the key.
const ROUND_TRIPS: f64 = 4.0;
/// Each one waits for the silent guardians' time limits in the background.
const ROUNDS_MAX: u32 = 21;
const CRYPTSETUP: &str = "/usr/sbin/cryptsetup";
/// As docs/formats.md has it.
const FORMAT: [&str; 14] = [
    "luksFormat",
    "--batch-mode",
    "--type=luks2",
    "--cipher=aes-xts-plain64",
    "--key-size=512",
    "--sector-size=4096",
    "--hash=sha256",
    "--pbkdf=pbkdf2",
    "--pbkdf-force-iterations=1000",
    "--luks2-metadata-size=1m",
    "--luks2-keyslots-size=2m",
    "--key-file=key",
    "--keyfile-size=32",
    "header",
];
const OPEN: [&str; 6] =
    ["open", "--test-passphrase", "--type=luks2", "--key-file=key", "--keyfile-size=32", "header"];
const HEADER_BYTES: u64 = 16 << 20;

#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    #[error("finding the workspace")]
    Workspace(#[from] WorkspaceError),
    #[error("starting {0}")]
    Start(&'static str, #[source] std::io::Error),
    #[error("{0} failed ({1}); it needs root, for network namespaces")]
    Failed(&'static str, ExitStatus),
    #[error("the measurement said {0:?}")]
    Answer(String),
    #[error("preparing a header")]
    Header(#[source] std::io::Error),
}

/// Milliseconds.
#[derive(Default)]
struct Times {
    near: Vec<f64>,
    far: Vec<f64>,
    round_trip: Vec<f64>,
    one_by_one: Vec<f64>,
}

/// Gives the aims that were missed.
pub fn run(rounds: u32) -> Result<Vec<String>, NetworkError> {
    let text = measure(rounds.min(ROUNDS_MAX))?;
    let times = parse(&text).ok_or(NetworkError::Answer(text))?;
    println!(
        "{:<58} {:>8} {:>8} {:>8}",
        "WireGuard up to the key, 15 guardians, 5 dead, 1 lying", "", "", ""
    );
    println!("{:<58} {:>8} {:>8} {:>8}", "ms", "least", "median", "most");
    println!("{}", line("no delay", &times.near));
    println!("{}", line("50 ms round trip", &times.far));
    println!("{}", line("  the round trip itself, by a TCP handshake", &times.round_trip));
    println!("{}", line("  one after another, 10 s for a dead one", &times.one_by_one));
    println!("{}", line("cryptsetup open, key slot only, beside it", &luks()?));
    // The least: whatever else the machine does only adds.
    let trips = (least(&times.far) - least(&times.near)) / median(&times.round_trip);
    let ratio = median(&times.one_by_one) / median(&times.far);
    println!("{trips:.2} round trips; one after another takes {ratio:.0} times as long");
    let mut missed = Vec::new();
    aim(&mut missed, format!("{trips:.2} round trips, at most {ROUND_TRIPS}"), trips <= ROUND_TRIPS);
    println!();
    Ok(missed)
}

fn measure(rounds: u32) -> Result<String, NetworkError> {
    let mut command = cargo();
    command.current_dir(&Workspace::find()?.root);
    command.args(["run", "--quiet", "--release", "--package", "orama-actors"]);
    command.args(["--example", "unlock_latency", "--", &rounds.to_string()]);
    let output =
        command.stderr(Stdio::inherit()).output().map_err(|source| NetworkError::Start("cargo", source))?;
    if !output.status.success() {
        return Err(NetworkError::Failed("unlock_latency", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn parse(text: &str) -> Option<Times> {
    let mut times = Times::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let place = match words.next()? {
            "near" => &mut times.near,
            "far" => &mut times.far,
            "round-trip" => &mut times.round_trip,
            "one-by-one" => &mut times.one_by_one,
            _ => return None,
        };
        *place = words.map(|word| word.parse().ok()).collect::<Option<_>>()?;
    }
    let all = [&times.near, &times.far, &times.round_trip, &times.one_by_one];
    (!all.iter().any(|times| times.is_empty())).then_some(times)
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn luks() -> Result<Vec<f64>, NetworkError> {
    let folder = tempfile::tempdir().map_err(NetworkError::Header)?;
    let file = std::fs::File::create(folder.path().join("header")).map_err(NetworkError::Header)?;
    file.set_len(HEADER_BYTES).map_err(NetworkError::Header)?;
    // Only here: no data was ever, or will ever be, behind this key.
    std::fs::write(folder.path().join("key"), [7; 32]).map_err(NetworkError::Header)?;
    cryptsetup(folder.path(), &FORMAT)?;
    (0..5).map(|_| cryptsetup(folder.path(), &OPEN)).collect()
}

/// Milliseconds that it took.
fn cryptsetup(folder: &Path, arguments: &[&str]) -> Result<f64, NetworkError> {
    let begun = Instant::now();
    let status = Command::new(CRYPTSETUP).args(arguments).current_dir(folder).status();
    let status = status.map_err(|source| NetworkError::Start(CRYPTSETUP, source))?;
    if status.success() {
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    } else {
        Err(NetworkError::Failed(CRYPTSETUP, status))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_all_four_lines() {
        let text = "near 1 2\nfar 201.5 202\nround-trip 50.1\none-by-one 30000\n";
        let times = parse(text).unwrap();
        assert_eq!((times.near, times.far), (vec![1.0, 2.0], vec![201.5, 202.0]));
        assert!(parse("near 1\nfar 2\nround-trip 3\n").is_none());
        assert!(parse(&text.replace("202", "x")).is_none());
        assert!(parse("nearer 1").is_none());
        assert!((least(&[3.0, 1.0, 2.0]) - 1.0).abs() < f64::EPSILON);
    }
}
