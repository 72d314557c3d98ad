//! What this machine lets us do: are we root, may we ask somebody, how to become root for one command.

use std::ffi::OsStr;
use std::io::{BufRead, IsTerminal, Write};
use std::process::Command;

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// True in CI, where nobody answers questions.
pub fn unattended() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true" || value == "1")
}

/// The program as root: directly when we are root, else through sudo with only the named variables.
pub fn as_root(program: &OsStr, environment: &[(&str, &OsStr)]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.envs(environment.iter().copied());
        return command;
    }
    let mut command = Command::new("sudo");
    if !std::io::stdin().is_terminal() {
        command.arg("--non-interactive");
    }
    command.arg("--").arg("env");
    for (name, value) in environment {
        let mut pair = std::ffi::OsString::from(name);
        pair.push("=");
        pair.push(value);
        command.arg(pair);
    }
    command.arg(program);
    command
}

/// Asks on the terminal; no terminal is a no.
pub fn confirm(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    print!("{question} [y/N] ");
    if std::io::stdout().flush().is_err() {
        return false;
    }
    let mut answer = String::new();
    match std::io::stdin().lock().read_line(&mut answer) {
        Ok(_) => matches!(answer.trim(), "y" | "Y" | "yes"),
        Err(_) => false,
    }
}
