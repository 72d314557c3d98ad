//! A hostile service: run through `orama policy run` it tries to get out of its sandbox, one way or all of them.
//! Prints for each attempt its name and `ok` or the error number. Not part of any image.

mod calls;
mod files;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

/// Longest life of what refuses to die: a failed test must not leave processes behind for ever.
pub const LIFETIME: Duration = Duration::from_secs(60);

/// One attempt; the argument is what the test has laid out for it.
pub type Attempt = (&'static str, fn(&str) -> io::Result<()>);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let attempts: Vec<Attempt> = calls::ALL.iter().chain(files::ALL).copied().collect();
    match words.as_slice() {
        ["list"] => attempts.iter().for_each(|(name, _)| println!("{name}")),
        ["all", bait] => attempts.iter().for_each(|attempt| attempt_one(attempt, bait)),
        ["try", name, bait] => match attempts.iter().find(|(known, _)| known == name) {
            Some(attempt) => attempt_one(attempt, bait),
            None => return ExitCode::from(2),
        },
        ["x32"] => calls::x32(),
        ["int80"] => calls::int80(),
        ["outlive"] => calls::outlive(),
        ["deaf"] => calls::deaf(),
        ["mute"] => calls::mute(),
        ["hoard", folder] => files::hoard(folder),
        ["environment"] => {
            std::env::vars().for_each(|(name, value)| println!("{name}={value}"));
            println!("descriptors {}", files::descriptors());
        }
        ["echo"] => {
            let _input_ended = io::copy(&mut io::stdin(), &mut io::stdout());
        }
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap_or(1)),
        _ => return ExitCode::from(2),
    }
    ExitCode::SUCCESS
}

fn attempt_one((name, attempt): &Attempt, bait: &str) {
    match attempt(bait) {
        Ok(()) => println!("{name} ok"),
        Err(error) => println!("{name} {}", error.raw_os_error().unwrap_or(-1)),
    }
    let _reader_gone = io::stdout().flush();
}
