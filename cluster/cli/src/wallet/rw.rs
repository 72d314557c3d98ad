//! The wallet's own program: `rw sign TEXT --chain evm` and `rw decrypt TEXT --purpose genesis-luks --chain evm`.
//! It talks to its owner on the terminal; its answer is taken from stdout, bounded in size and time.

use std::env;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use orama_wallet::{Signature, opened_key};
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure};

/// Longest answer, bytes; a signature has 132 characters.
const ANSWER_LIMIT_BYTES: usize = 4096;
/// How long the owner may take to look at the text and agree.
const PATIENCE: Duration = Duration::from_secs(300);
/// How long the output may stay open after the program's end.
const DRAIN: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The program at this path; a bare name is looked for in PATH.
pub fn find(program: &Path) -> Option<PathBuf> {
    let runs = |path: &PathBuf| {
        path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(runs);
    }
    env::split_paths(&env::var_os("PATH")?)
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join(program))
        .find(runs)
}

pub fn sign(program: &Path, text: &str) -> Result<Signature, Failure> {
    let answer = run(program, &["sign", text, "--chain", "evm"])?;
    only(&answer, |word| word.parse().ok())
        .ok_or_else(|| unusable(program, "sign", "one signature of 130 hex digits"))
}

pub fn decrypt(program: &Path, sealed: &str) -> Result<Zeroizing<[u8; 32]>, Failure> {
    let answer = run(program, &["decrypt", sealed, "--purpose", "genesis-luks", "--chain", "evm"])?;
    opened_key(&answer)
        .ok()
        .or_else(|| only(&answer, |word| opened_key(word.as_bytes()).ok()))
        .ok_or_else(|| unusable(program, "decrypt", "one key of 64 hex digits"))
}

/// The one word of the answer that is what it should be: programs put labels around. Two would be a choice that is
/// not ours.
fn only<T>(answer: &[u8], parse: impl Fn(&str) -> Option<T>) -> Option<T> {
    let text = std::str::from_utf8(answer).ok()?;
    let mut found = text.split_ascii_whitespace().filter_map(parse);
    let first = found.next();
    if found.next().is_some() { None } else { first }
}

fn unusable(program: &Path, verb: &str, expected: &str) -> Failure {
    let what = format!("{} {verb} did not answer with {expected}", program.display());
    Failure::new(Exit::Failed, what).next("run the same command by hand to see what it says")
}

/// What the program wrote to stdout. Only the operator's terminal sees the rest of what it says.
fn run(program: &Path, arguments: &[&str]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let verb = arguments.first().copied().unwrap_or_default();
    let failed = |why: String| Failure::new(Exit::Failed, format!("{} {verb} {why}", program.display()));
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(format!("cannot be started: {error}")))?;
    let Some(stdout) = child.stdout.take() else { return Err(failed("has no output".into())) };
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || {
        // At its final size from the start: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(ANSWER_LIMIT_BYTES + 1));
        let read = stdout.take(ANSWER_LIMIT_BYTES as u64 + 1).read_to_end(&mut bytes);
        // Nobody waits any more when the time was over.
        let _ = sender.send(read.map(|_| bytes));
    });
    let status = wait(&mut child).map_err(failed)?;
    match answer.recv_timeout(DRAIN) {
        // First: what follows from not being read to the end is no failure of its own.
        Ok(Ok(bytes)) if bytes.len() > ANSWER_LIMIT_BYTES => {
            Err(failed(format!("said more than {ANSWER_LIMIT_BYTES} bytes")))
        }
        _ if !status.success() => Err(failed(format!("failed ({status})")).next("see what it said above")),
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => Err(failed(format!("cannot be read: {error}"))),
        Err(_) => Err(failed("ended, but something keeps its output open".into())),
    }
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus, String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK_EVERY),
            Ok(None) => {
                // It may have ended this moment; either way it is waited for.
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("did not answer within {} s", PATIENCE.as_secs()));
            }
            Err(error) => return Err(format!("cannot be waited for: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_usable_word_is_the_answer() {
        let number = |word: &str| word.parse::<u32>().ok();
        assert_eq!(only(b"Signature: 7\n", number), Some(7));
        assert_eq!(only(b"7", number), Some(7));
        assert_eq!(only(b"7 8", number), None);
        assert_eq!(only(b"", number), None);
        assert_eq!(only(b"\xff 7", number), None);
    }

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        assert_eq!(find(Path::new("/bin/sh")), Some("/bin/sh".into()));
        assert!(find(Path::new("sh")).is_some_and(|path| path.is_absolute()));
        assert_eq!(find(Path::new("/etc/passwd")), None, "no program");
        assert_eq!(find(Path::new("no-such-program-anywhere")), None);
    }
}
