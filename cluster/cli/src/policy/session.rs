//! One run of a profile on this machine, from its first prepare step until nothing of it is left. Signals that end
//! this program end the service as its profile says: stop signal, grace, kill of the whole cgroup.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use orama_policy::{Policy, Variables};
use orama_sandbox::{Preparation, PrepareError, Prepared, Running, Streams, Watcher};

use crate::failure::{Exit, Failure};

/// How long processes may take to die of SIGKILL.
const DEATH_PATIENCE: Duration = Duration::from_secs(5);
/// Longest wait before the clock is looked at.
const TICK: Duration = Duration::from_millis(200);

/// How a profile is started here.
pub struct Setup<'a> {
    pub policy: &'a Policy,
    pub variables: &'a Variables,
    /// Another program than the profile's, with its arguments.
    pub command: Option<(PathBuf, Vec<String>)>,
    pub data: Option<&'a Path>,
    pub without_limits: bool,
    pub audit: bool,
    pub trace: bool,
    /// Ask it to stop after this time.
    pub stop_after: Option<Duration>,
    /// What the service says goes to stderr: stdout is for the command's answer.
    pub stdout_to_stderr: bool,
}

/// What was left when it was over.
pub struct End {
    pub status: ExitStatus,
    /// Processes of the service that were alive when its main process had ended.
    pub survivors: usize,
    pub lasted: Duration,
    /// A second signal, or the end of the grace time, killed it.
    pub killed: bool,
    /// A signal to this program stopped it.
    pub interrupted: bool,
}

impl End {
    /// As shells have it.
    pub fn code(&self) -> u8 {
        let number = self.status.code().or_else(|| self.status.signal().map(|signal| 128 + signal));
        number.and_then(|number| u8::try_from(number & 0xff).ok()).unwrap_or(1)
    }

    pub fn in_words(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("ended with exit code {code}"),
            (None, Some(signal)) => {
                let name =
                    Signal::try_from(signal).map_or_else(|_| signal.to_string(), |name| name.to_string());
                format!("was ended by {name}")
            }
            (None, None) => "ended".to_owned(),
        }
    }
}

/// A prepared run.
pub struct Session<'a> {
    setup: &'a Setup<'a>,
    prepared: Prepared,
    base: PathBuf,
    signals: SignalFd,
}

/// Namespaces, cgroups and other users are root's.
pub fn need_root(command: &str) -> Result<(), Failure> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failed,
        format!("`orama policy {command}` makes namespaces and a cgroup: it needs root"),
    )
    .next("run it again with sudo; nothing has been started"))
}

/// The program to start: an absolute path, one below here, or a name in PATH. Its folder is free of symlinks; its own
/// name is as given, because programs that are several at once look at what they were called.
pub fn find_program(name: &str) -> Result<PathBuf, Failure> {
    let given = Path::new(name);
    let candidates: Vec<PathBuf> = if name.contains('/') {
        vec![given.to_owned()]
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|folder| folder.join(name)).collect()
    };
    let found = candidates.iter().filter(|candidate| candidate.is_file()).find_map(|candidate| {
        let folder = fs::canonicalize(candidate.parent()?).ok()?;
        Some(folder.join(candidate.file_name()?))
    });
    found.ok_or_else(|| Failure::new(Exit::Usage, format!("{name}: no such program")))
}

impl<'a> Session<'a> {
    pub fn prepare(setup: &'a Setup<'a>) -> Result<Session<'a>, Failure> {
        let base = cgroup_base()?;
        let mut preparation = Preparation::new(setup.policy, setup.variables).base(&base);
        if let Some((program, arguments)) = &setup.command {
            preparation = preparation.command(program, arguments.clone());
        }
        if let Some(below) = setup.data {
            preparation = preparation.data(below);
        }
        if setup.without_limits {
            preparation = preparation.without_limits();
        }
        if setup.audit {
            preparation = preparation.audit();
        }
        if setup.trace {
            preparation = preparation.trace();
        }
        let prepared = preparation.prepare().map_err(|error| not_prepared(&error, setup))?;
        // From here on a signal is read, not died of: the service is to be taken along.
        let mut set = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT] {
            set.add(signal);
        }
        let failed = |error| failure("take over the signals", error);
        set.thread_block().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Session { setup, prepared, base, signals })
    }

    pub fn prepared(&self) -> &Prepared {
        &self.prepared
    }

    /// Runs the prepare steps that are due, then the service with this program's standard streams.
    pub fn run(&self, watcher: &Watcher, say: &dyn Fn(&str)) -> Result<End, Failure> {
        self.steps(watcher, say).and_then(|()| {
            let streams = Streams { stdin: Some(stdin()?), stdout: self.stdout()?, stderr: stderr()? };
            let running = self.prepared.spawn_with(streams);
            let running = running.map_err(|error| Failure::because(Exit::Failed, &error))?;
            self.supervise(running, watcher, None, say)
        })
    }

    fn stdout(&self) -> Result<OwnedFd, Failure> {
        if self.setup.stdout_to_stderr {
            return stderr();
        }
        std::io::stdout().as_fd().try_clone_to_owned().map_err(|error| failure("pass stdout on", error))
    }

    fn steps(&self, watcher: &Watcher, say: &dyn Fn(&str)) -> Result<(), Failure> {
        if self.setup.command.is_some() {
            return Ok(());
        }
        for step in self.prepared.steps() {
            let arguments: Vec<_> = step.arguments().collect();
            let words = arguments.join(" ");
            if !step.is_due().map_err(|error| failure("look for what a prepare step makes", error))? {
                continue;
            }
            say(&format!("prepare step `{words}`"));
            let running = self.prepared.spawn_step(step, self.stdout()?, stderr()?);
            let running = running.map_err(|error| Failure::because(Exit::Failed, &error))?;
            let end = self.supervise(running, watcher, Some(step.timeout), say)?;
            if !end.status.success() {
                let what = format!("prepare step `{words}` {}", end.in_words());
                return Err(Failure::new(Exit::Failed, what).next("the service has not been started"));
            }
        }
        Ok(())
    }

    /// Until the main process has ended and nothing of the service is left.
    fn supervise(
        &self,
        mut running: Running,
        watcher: &Watcher,
        limit: Option<Duration>,
        say: &dyn Fn(&str),
    ) -> Result<End, Failure> {
        let begin = Instant::now();
        if let Some(listener) = running.take_listener() {
            watcher.add(listener);
        }
        let notify = running.take_notify();
        let mut kill_at = limit.map(|limit| begin + limit);
        let mut stop_at = self.setup.stop_after.filter(|_| limit.is_none()).map(|after| begin + after);
        let (mut stopping, mut killed, mut interrupted) = (false, false, false);
        let status = loop {
            self.wait(&running, notify.as_ref(), kill_at);
            if let Some(status) =
                running.try_wait().map_err(|error| failure("wait for the service", error))?
            {
                break status;
            }
            if let Some(socket) = &notify {
                told(socket, say);
            }
            let mut kill = kill_at.is_some_and(|at| Instant::now() >= at);
            let mut stop = stop_at.take_if(|at| Instant::now() >= *at).is_some();
            while let Ok(Some(_signal)) = self.signals.read_signal() {
                kill |= stopping;
                stop = true;
                interrupted = true;
            }
            if stop && !stopping {
                stopping = true;
                let stop = &self.setup.policy.stop;
                say(&format!("stopping, at most {} s; Ctrl-C to kill it now", stop.grace.as_secs_f32()));
                running.signal(stop.signal.number()).map_err(|error| failure("stop the service", error))?;
                kill_at = Some(Instant::now() + stop.grace);
            }
            if kill && !killed {
                killed = true;
                running.kill_all().map_err(|error| failure("kill the service", error))?;
            }
        };
        let cgroup = running.cgroup();
        let survivors = cgroup.pids().map_or(0, |pids| pids.len());
        cgroup.empty(DEATH_PATIENCE).map_err(|error| failure("kill what is left of the service", error))?;
        Ok(End { status, survivors, lasted: begin.elapsed(), killed, interrupted })
    }

    /// Until something may have happened. Errors count as that.
    fn wait(&self, running: &Running, notify: Option<&OwnedFd>, until: Option<Instant>) {
        let left = until.map_or(TICK, |until| until.saturating_duration_since(Instant::now()).min(TICK));
        let mut polled = vec![
            PollFd::new(running.pidfd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        polled.extend(notify.map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)));
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let _looked_at_again = poll(&mut polled, timeout);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        // Whatever failed on the way: nothing of the service stays.
        let _already_said = self.prepared.cgroup().empty(DEATH_PATIENCE);
        let _only_when_empty = self.prepared.cgroup().remove();
        let _only_when_last = fs::remove_dir(&self.base);
    }
}

/// What the service says about itself over its notification socket.
fn told(socket: &OwnedFd, say: &dyn Fn(&str)) {
    use nix::sys::socket::{MsgFlags, recv};
    use std::os::fd::AsRawFd;
    let mut message = [0; 1024];
    while let Ok(length) = recv(socket.as_raw_fd(), &mut message, MsgFlags::MSG_DONTWAIT) {
        for line in String::from_utf8_lossy(&message[..length]).lines().filter(|line| !line.is_empty()) {
            say(&format!("notified: {}", crate::text::printable(line, 200)));
        }
    }
}

fn failure(what: &str, error: impl Into<std::io::Error>) -> Failure {
    Failure::new(Exit::Failed, format!("cannot {what}: {}", error.into()))
}

fn not_prepared(error: &PrepareError, setup: &Setup<'_>) -> Failure {
    let failure = Failure::because(Exit::Failed, error);
    match error {
        PrepareError::MissingController { controller, .. } => failure.next(format!(
            "boot with cgroup v2 controllers (`{controller}` is in none here), or run it unbounded: \
             --without-limits"
        )),
        PrepareError::Binary { .. } if setup.command.is_none() => failure
            .next("install it there, or name another program: orama policy run FILE -- PROGRAM ARGUMENTS"),
        PrepareError::DataDirectory { .. } => {
            failure.next("remove it, give it to the profile's user, or keep the data elsewhere: --data DIR")
        }
        _ => failure,
    }
}

/// Where services of this command have their cgroups.
fn cgroup_base() -> Result<PathBuf, Failure> {
    let mounts = fs::read_to_string("/proc/self/mounts")
        .map_err(|error| Failure::new(Exit::Failed, format!("/proc/self/mounts: {error}")))?;
    let mut fields = mounts.lines().map(|line| line.split(' ').skip(1));
    let mount = fields.find_map(|mut fields| {
        let place = fields.next()?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(place))
    });
    mount.map(|mount| mount.join("orama-run")).ok_or_else(|| {
        Failure::new(Exit::Failed, "no cgroup v2 hierarchy is mounted: nothing could be killed as a whole")
            .next(
                "mount one: mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified",
            )
    })
}

fn stdin() -> Result<OwnedFd, Failure> {
    std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| failure("pass stdin on", error))
}

fn stderr() -> Result<OwnedFd, Failure> {
    std::io::stderr().as_fd().try_clone_to_owned().map_err(|error| failure("pass stderr on", error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_program_is_started_by_the_name_that_was_given() {
        let place = tempfile::tempdir().unwrap();
        let here = fs::canonicalize(place.path()).unwrap();
        fs::create_dir(here.join("bin")).unwrap();
        fs::write(here.join("bin/many"), "").unwrap();
        symlink("many", here.join("bin/server")).unwrap();
        symlink("bin", here.join("sbin")).unwrap();
        let found = |name: &str| find_program(here.join(name).to_str().unwrap());
        assert_eq!(found("sbin/server").unwrap(), here.join("bin/server"));
        for wrong in ["bin", "bin/absent", "absent/server"] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
    }
}
