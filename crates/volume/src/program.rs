//! Runs a helper program: absolute path, empty environment, secrets through stdin only, bounded output, a deadline.
//! Knows nothing about cryptsetup. Blocks the calling thread.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

/// How much of a helper's stderr is kept for the error message, in bytes; the rest is read and dropped.
const STDERR_KEPT_BYTES: usize = 4096;
/// How often a helper that closed its output but still runs is asked whether it has ended.
const EXIT_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot start {program}")]
    Start {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot talk to {program}")]
    Pipe {
        program: String,
        #[source]
        source: io::Error,
    },
    #[error("{program} did not finish within {seconds} s and was killed")]
    TimedOut { program: String, seconds: u64 },
    #[error("{program} printed more than {limit} bytes")]
    OutputTooLong { program: String, limit: usize },
    #[error("{program} was ended by signal {signal}: {stderr}")]
    Signalled { program: String, signal: i32, stderr: String },
    #[error("{program} failed with code {code}: {stderr}")]
    Failed { program: String, code: i32, stderr: String },
    /// Somebody else in this process waited for our child. PID 1's reaper must leave children of helpers alone.
    #[error("the exit status of {program} was lost")]
    StatusLost {
        program: String,
        #[source]
        source: io::Error,
    },
}

/// A helper that ran to its end, well or not.
pub(crate) struct Finished {
    pub code: i32,
    pub stdout: Zeroizing<Vec<u8>>,
    pub stderr: String,
}

impl Finished {
    /// The output when the exit code is 0.
    pub fn success(self, program: &Path) -> Result<Zeroizing<Vec<u8>>, RunError> {
        if self.code == 0 {
            Ok(self.stdout)
        } else {
            Err(RunError::Failed { program: name(program), code: self.code, stderr: self.stderr })
        }
    }
}

pub(crate) struct Run<'a> {
    pub program: &'a Path,
    pub arguments: &'a [&'a str],
    pub stdin: &'a [u8],
    /// Most bytes of stdout that are accepted.
    pub stdout_limit: usize,
    pub timeout: Duration,
}

impl Run<'_> {
    pub fn finish(&self) -> Result<Finished, RunError> {
        let mut child = Command::new(self.program)
            .args(self.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| RunError::Start { program: name(self.program), source })?;
        let talked = self.talk(&mut child);
        if talked.is_err() {
            // The child may have ended by itself meanwhile; then there is nothing to kill.
            let _ = child.kill();
        }
        let status =
            self.wait(&mut child, talked.as_ref().map_or_else(|_| Instant::now(), |talk| talk.deadline));
        let talk = talked?;
        let status = status?;
        let stderr = String::from_utf8_lossy(&talk.stderr).trim().to_owned();
        match status.code() {
            Some(code) => Ok(Finished { code, stdout: talk.stdout, stderr }),
            None => Err(RunError::Signalled {
                program: name(self.program),
                signal: status.signal().unwrap_or(0),
                stderr,
            }),
        }
    }

    /// Feeds stdin and drains both outputs until the child has closed them.
    fn talk(&self, child: &mut Child) -> Result<Talk, RunError> {
        let mut talk = Talk {
            deadline: Instant::now() + self.timeout,
            // The whole limit at once: a vector that grows leaves copies of secrets behind. Untouched pages cost nothing.
            stdout: Zeroizing::new(Vec::with_capacity(self.stdout_limit + 1)),
            stderr: Vec::new(),
        };
        let pipe_error = |source| RunError::Pipe { program: name(self.program), source };
        let mut stdin = child.stdin.take();
        let mut stdout = child.stdout.take();
        let mut stderr = child.stderr.take();
        for fd in [
            stdin.as_ref().map(AsFd::as_fd),
            stdout.as_ref().map(AsFd::as_fd),
            stderr.as_ref().map(AsFd::as_fd),
        ] {
            fd.map_or(Ok(()), set_nonblocking).map_err(pipe_error)?;
        }
        let mut to_write = self.stdin;
        if to_write.is_empty() {
            stdin = None;
        }
        while stdin.is_some() || stdout.is_some() || stderr.is_some() {
            self.wait_for_pipes(&talk, stdin.as_ref(), stdout.as_ref(), stderr.as_ref())?;
            if let Some(pipe) = &mut stdin
                && !feed(pipe, &mut to_write).map_err(pipe_error)?
            {
                stdin = None;
            }
            if let Some(pipe) = &mut stdout
                && !drain(pipe, &mut talk.stdout, self.stdout_limit + 1).map_err(pipe_error)?
            {
                stdout = None;
            }
            if talk.stdout.len() > self.stdout_limit {
                return Err(RunError::OutputTooLong {
                    program: name(self.program),
                    limit: self.stdout_limit,
                });
            }
            if let Some(pipe) = &mut stderr
                && !drain(pipe, &mut talk.stderr, STDERR_KEPT_BYTES).map_err(pipe_error)?
            {
                stderr = None;
            }
        }
        Ok(talk)
    }

    fn wait_for_pipes(
        &self,
        talk: &Talk,
        stdin: Option<&impl AsFd>,
        stdout: Option<&impl AsFd>,
        stderr: Option<&impl AsFd>,
    ) -> Result<(), RunError> {
        let left = talk.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(self.timed_out());
        }
        let mut fds = Vec::with_capacity(3);
        fds.extend(stdin.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLOUT)));
        fds.extend(stdout.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        fds.extend(stderr.map(|pipe| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(errno) => Err(RunError::Pipe { program: name(self.program), source: errno.into() }),
        }
    }

    fn wait(&self, child: &mut Child, deadline: Instant) -> Result<ExitStatus, RunError> {
        let lost = |source| RunError::StatusLost { program: name(self.program), source };
        loop {
            if let Some(status) = child.try_wait().map_err(lost)? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                child.wait().map_err(lost)?;
                return Err(self.timed_out());
            }
            std::thread::sleep(EXIT_POLL);
        }
    }

    fn timed_out(&self) -> RunError {
        RunError::TimedOut { program: name(self.program), seconds: self.timeout.as_secs() }
    }
}

struct Talk {
    deadline: Instant,
    stdout: Zeroizing<Vec<u8>>,
    stderr: Vec<u8>,
}

fn name(program: &Path) -> String {
    program.display().to_string()
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// Writes what the pipe takes; false when all is written or the reader is gone.
fn feed(pipe: &mut impl Write, to_write: &mut &[u8]) -> io::Result<bool> {
    match pipe.write(to_write) {
        Ok(written) => {
            *to_write = &to_write[written..];
            Ok(!to_write.is_empty())
        }
        // The program has stopped reading: its exit code and stderr will say why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Reads once and keeps what fits the limit; false at the end.
fn drain(pipe: &mut impl Read, kept: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    let mut buffer = Zeroizing::new([0u8; 8192]);
    match pipe.read(&mut *buffer) {
        Ok(0) => Ok(false),
        Ok(length) => {
            kept.extend_from_slice(&buffer[..length.min(limit - kept.len())]);
            Ok(true)
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(program: &str, arguments: &[&str], stdin: &[u8], timeout: Duration) -> Result<Finished, RunError> {
        Run { program: Path::new(program), arguments, stdin, stdout_limit: 1 << 20, timeout }.finish()
    }

    #[test]
    fn passes_more_than_a_pipe_holds_both_ways() {
        let input = vec![b'x'; 900_000];
        let finished = run("/bin/cat", &[], &input, Duration::from_secs(20)).unwrap();
        assert_eq!(finished.code, 0);
        assert!(*finished.stdout == input);
    }

    #[test]
    fn a_program_that_does_not_read_is_no_error_of_the_pipe() {
        let finished = run("/bin/false", &[], &vec![0; 900_000], Duration::from_secs(20)).unwrap();
        assert_eq!(finished.code, 1);
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let begun = Instant::now();
        let result = run("/bin/sleep", &["60"], b"", Duration::from_millis(200));
        assert!(matches!(result, Err(RunError::TimedOut { .. })));
        assert!(begun.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn the_environment_is_empty() {
        let finished = run("/usr/bin/env", &[], b"", Duration::from_secs(20)).unwrap();
        assert_eq!(String::from_utf8_lossy(&finished.stdout), "");
    }

    #[test]
    fn too_much_output_is_refused() {
        let run = Run {
            program: Path::new("/bin/cat"),
            arguments: &[],
            stdin: &[0; 2000],
            stdout_limit: 1000,
            timeout: Duration::from_secs(20),
        };
        assert!(matches!(run.finish(), Err(RunError::OutputTooLong { limit: 1000, .. })));
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run("/nonexistent/cryptsetup", &[], b"", Duration::from_secs(1)).err().unwrap();
        assert_eq!(error.to_string(), "cannot start /nonexistent/cryptsetup");
    }
}
