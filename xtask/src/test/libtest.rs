//! Runs one command, passes its output through line by line and adds up libtest's summaries.
//! Every run has a limit; what is over it is ended.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Count;

/// Runs the command to its end. The note is empty when the numbers say everything.
pub fn run(command: &mut Command, limit: Duration) -> (Count, String) {
    let started = Instant::now();
    let mut child = match command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn() {
        Ok(child) => child,
        Err(error) => return (failed(), format!("could not be started: {error}")),
    };
    let Some(stdout) = child.stdout.take() else {
        return (failed(), "has no standard output".into());
    };
    // Bound 1024: a reader that lags makes the tests wait, nothing is lost.
    let (sender, lines) = mpsc::sync_channel(1024);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut count = Count::default();
    let mut late = false;
    loop {
        match lines.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(line) => {
                add(&mut count, &line);
                println!("{line}");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                late = true;
                break;
            }
        }
    }
    if late {
        end(&mut child);
    }
    let status = child.wait();
    let note = match status {
        _ if late => format!("killed after {} s", limit.as_secs()),
        Ok(status) if status.success() => String::new(),
        Ok(status) => format!("ended with {status}"),
        Err(error) => format!("could not be waited for: {error}"),
    };
    judge(count, note)
}

/// SIGTERM first: sudo passes it on to the program it runs, and SIGKILL it cannot.
/// What the program started itself dies with it (the harness asks the kernel for that).
fn end(child: &mut Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        // It may have ended in this moment; then there is nobody left to signal.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
    let asked = Instant::now();
    while asked.elapsed() < Duration::from_secs(5) {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let _ = child.kill();
}

/// A program that ended badly without a failed test (did not build, crashed, hung) is one failure.
fn judge(mut count: Count, note: String) -> (Count, String) {
    if note.is_empty() {
        return (count, note);
    }
    if count.failed > 0 && !note.starts_with("killed") {
        return (count, String::new());
    }
    count.failed += 1;
    (count, note)
}

pub fn failed() -> Count {
    Count { failed: 1, ..Count::default() }
}

/// Adds a line such as `test result: FAILED. 3 passed; 1 failed; 0 ignored; 0 measured; …`.
fn add(count: &mut Count, line: &str) {
    let Some(rest) = line.strip_prefix("test result: ") else { return };
    for part in rest.split(&['.', ';'][..]) {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) = (words.next(), words.next()) else { continue };
        let Ok(number) = number.parse::<u64>() else { continue };
        match what {
            "passed" => count.passed += number,
            "failed" => count.failed += number,
            "ignored" => count.ignored += number,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_add_up() {
        let mut count = Count::default();
        add(&mut count, "running 4 tests");
        add(
            &mut count,
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        );
        add(
            &mut count,
            "test result: FAILED. 2 passed; 5 failed; 0 ignored; 0 measured; 9 filtered out; finished in 1.00s",
        );
        assert_eq!(count, Count { passed: 5, failed: 5, ignored: 1 });
    }

    #[test]
    fn a_program_that_dies_without_a_summary_is_a_failure() {
        let (count, note) = run(Command::new("/bin/false").arg("x"), Duration::from_secs(10));
        assert_eq!(count, failed());
        assert!(note.contains("exit status: 1"), "{note}");
    }

    #[test]
    fn a_program_over_its_limit_is_killed_and_counted() {
        let started = Instant::now();
        let (count, note) = run(Command::new("/bin/sleep").arg("60"), Duration::from_millis(200));
        assert_eq!(count, failed());
        assert!(note.starts_with("killed"), "{note}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
