//! A child process with its output in a file, that cannot outlive us and is never waited for without
//! a limit. Does not know what it runs.

use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many lines of a log an error shows.
pub const TAIL_LINES: usize = 40;

/// Set when somebody wants us to end; see [`interrupt`].
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes every wait of this package end soon, with an error.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error("opening the log {path}")]
    Log {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("starting {name}")]
    Start {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{name} ended early ({status}); its log {log} ends with\n{tail}")]
    Ended { name: String, status: ExitStatus, log: PathBuf, tail: String },
    #[error("{name}: no {what} within {} s; its log {log} ends with\n{tail}", limit.as_secs())]
    Late { name: String, what: String, limit: Duration, log: PathBuf, tail: String },
    #[error("interrupted while waiting for {name}")]
    Interrupted { name: String },
    #[error("waiting for {name}")]
    Wait {
        name: String,
        #[source]
        source: std::io::Error,
    },
    #[error("sending {signal} to {name}")]
    Signal {
        name: String,
        signal: Signal,
        #[source]
        source: nix::Error,
    },
}

impl Process {
    /// Starts the command with standard output and error appended to the log.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self, ProcessError> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let log_error = |source| ProcessError::Log { path: log.to_owned(), source };
        let output: File = open().map_err(log_error)?;
        let errors: File = output.try_clone().map_err(log_error)?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // Ctrl-C on the terminal is for us: we end the others, in order.
        command.process_group(0);
        let child = spawn(command).map_err(|source| ProcessError::Start { name: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), child, log: log.to_owned() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|source| ProcessError::Wait { name: self.name.clone(), source })
    }

    pub fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        kill(pid, signal).map_err(|source| ProcessError::Signal { name: self.name.clone(), signal, source })
    }

    /// Asks until the answer is yes; an early end of the process or the limit is an error with its log.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), ProcessError> {
        let started = Instant::now();
        while !ready() {
            if let Some(status) = self.ended()? {
                let (name, log) = (self.name.clone(), self.log.clone());
                return Err(ProcessError::Ended { name, status, tail: tail(&log, TAIL_LINES), log });
            }
            if interrupted() {
                return Err(ProcessError::Interrupted { name: self.name.clone() });
            }
            if started.elapsed() > limit {
                return Err(self.late(what, limit));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, ProcessError> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if started.elapsed() > limit {
                return Err(self.late("end", limit));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGKILL, and waits: when this returns the process is gone.
    pub fn kill(&mut self) {
        // Both fail only when it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn late(&self, what: &str, limit: Duration) -> ProcessError {
        ProcessError::Late {
            name: self.name.clone(),
            what: what.to_owned(),
            limit,
            log: self.log.clone(),
            tail: tail(&self.log, TAIL_LINES),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The search path with the administrator's folders, which the paths of many users lack.
pub fn search_path() -> std::ffi::OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Last lines of a log, for a message to a person.
pub fn tail(log: &Path, lines: usize) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// What the spawning thread is asked to do, and where it answers.
type Request = (Command, Sender<std::io::Result<Child>>);

/// Starts children from one thread that lives as long as we do: the kernel's "die with your parent"
/// means the parent *thread*, and the threads of tests come and go.
fn spawn(command: Command) -> std::io::Result<Child> {
    static SPAWNER: LazyLock<std::sync::Mutex<Sender<Request>>> = LazyLock::new(|| {
        // Unbounded, but every sender waits for its answer: never more entries than threads.
        let (sender, requests) = channel::<Request>();
        std::thread::spawn(move || {
            for (mut command, answer) in requests {
                // A caller that is gone has dropped its interest together with the child.
                let _ = answer.send(command.spawn());
            }
        });
        std::sync::Mutex::new(sender)
    });
    let gone = || std::io::Error::other("the spawning thread is gone");
    let (answer, result) = channel();
    let sender = SPAWNER.lock().map_err(|_| gone())?.clone();
    sender.send((command, answer)).map_err(|_| gone())?;
    result.recv().map_err(|_| gone())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_early_end_shows_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/ls");
        command.arg("/no/such/folder");
        let mut process = Process::start("lister", command, &folder.path().join("log")).unwrap();
        let error = process.wait_until("listener", Duration::from_secs(10), || false).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("lister ended early") && text.contains("/no/such/folder"), "{text}");
    }

    #[test]
    fn a_limit_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sleep");
        command.arg("60");
        let mut process = Process::start("sleeper", command, &folder.path().join("log")).unwrap();
        let started = Instant::now();
        let error = process.wait_until("dream", Duration::from_millis(100), || false).unwrap_err();
        assert!(error.to_string().contains("no dream within"), "{error}");
        process.kill();
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
