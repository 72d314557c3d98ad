//! The real launcher: policy in, confined child out, through `orama-sandbox`. Prepares at each start, because the
//! variables (node id, overlay address) exist only after enrollment and the data folders only after the mount. Its
//! watcher answers refused calls for as long as the launcher lives, which is as long as the agent.

use std::collections::BTreeMap;
use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::sync::Arc;

use orama_policy::{Consequence, Policy};
use orama_sandbox::{Outcome, Prepared, Running, Watcher};

use super::quota::Account;
use crate::facts::Facts;
use crate::ports::{Child, Exit, LaunchFailure, Launcher, Usage};

pub struct SandboxLauncher {
    policies: BTreeMap<String, Arc<Policy>>,
    facts: Facts,
    watcher: Watcher,
}

impl SandboxLauncher {
    pub fn new(policies: impl IntoIterator<Item = Arc<Policy>>, facts: Facts) -> std::io::Result<Self> {
        let policies = policies.into_iter().map(|policy| (policy.name.clone(), policy)).collect();
        let refusals = facts.refusals().clone();
        let watcher = Watcher::start(move |refusal| {
            let consequence = match refusal.outcome {
                Outcome::Killed => Consequence::Killed,
                Outcome::Errno(number) => Consequence::Errno(number),
                Outcome::Ran => Consequence::Runs,
            };
            refusals.record(&refusal.service, refusal.call, consequence);
        })?;
        Ok(Self { policies, facts, watcher })
    }

    fn ready(&self, service: &str) -> Result<(&Policy, Prepared), LaunchFailure> {
        let policy = self.policies.get(service).ok_or_else(|| LaunchFailure("it has no policy".into()))?;
        if !policy.filesystem.writable.is_empty() && !self.facts.node().volume_ready {
            return Err(LaunchFailure("it writes to the volume, which is not open".into()));
        }
        let variables =
            self.facts.variables().ok_or_else(|| LaunchFailure("the node has no name yet".into()))?;
        let prepared = orama_sandbox::prepare(policy, &variables).map_err(|error| chain(&error))?;
        Ok((policy, prepared))
    }

    fn watched(&self, policy: &Policy, mut running: Running) -> Result<Box<dyn Child>, LaunchFailure> {
        if let Some(listener) = running.take_listener() {
            self.watcher.add(listener);
        }
        let notify = running.take_notify();
        let account = policy.data_dir().and_then(|path| Account::find(path, policy.uid).ok());
        Ok(Box::new(Confined { running, notify, account }))
    }
}

/// Before the first byte is written; a service without data writes to no disk.
fn limit_disk(policy: &Policy) -> Result<(), LaunchFailure> {
    let Some(path) = policy.data_dir() else { return Ok(()) };
    let account = Account::find(path, policy.uid).map_err(|error| chain(&error))?;
    account.limit(policy.filesystem.disk_bytes).map_err(|error| chain(&error))
}

impl Launcher for SandboxLauncher {
    fn spawn(
        &self,
        service: &str,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Box<dyn Child>, LaunchFailure> {
        let (policy, prepared) = self.ready(service)?;
        limit_disk(policy)?;
        let running = prepared.spawn(stdout, stderr).map_err(|error| chain(&error))?;
        self.watched(policy, running)
    }

    fn prepare(
        &self,
        service: &str,
        step: usize,
        stdout: OwnedFd,
        stderr: OwnedFd,
    ) -> Result<Option<Box<dyn Child>>, LaunchFailure> {
        let (policy, prepared) = self.ready(service)?;
        let Some(step) = prepared.steps().get(step) else { return Ok(None) };
        if !step.is_due().map_err(|error| chain(&error))? {
            return Ok(None);
        }
        limit_disk(policy)?;
        let running = prepared.spawn_step(step, stdout, stderr).map_err(|error| chain(&error))?;
        self.watched(policy, running).map(Some)
    }
}

fn chain(error: &dyn Error) -> LaunchFailure {
    LaunchFailure(crate::describe(error))
}

struct Confined {
    running: Running,
    notify: Option<OwnedFd>,
    account: Option<Account>,
}

impl Child for Confined {
    fn pid(&self) -> u32 {
        self.running.pid().unsigned_abs()
    }

    fn pidfd(&self) -> BorrowedFd<'_> {
        self.running.pidfd()
    }

    fn signal(&self, signal: i32) -> std::io::Result<()> {
        self.running.signal(signal)
    }

    fn kill_all(&self) -> std::io::Result<()> {
        self.running.kill_all()
    }

    fn try_reap(&self) -> std::io::Result<Option<Exit>> {
        Ok(self.running.try_wait()?.map(|status| match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => Exit::Unknown,
        }))
    }

    fn usage(&self) -> Usage {
        let cgroup = self.running.cgroup();
        let disk = self.account.as_ref().and_then(Account::used);
        let number = |file| read(cgroup.path(), file)?.trim().parse().ok();
        Usage {
            memory_bytes: cgroup.memory_bytes(),
            pids: number("pids.current").or_else(|| u64::try_from(cgroup.pids().ok()?.len()).ok()),
            disk_bytes: disk.map(|(used, _)| used),
            disk_limit_bytes: disk.map(|(_, limit)| limit),
            oom_kills: read(cgroup.path(), "memory.events").map_or(0, |text| counter(&text, "oom_kill")),
            forks_refused: read(cgroup.path(), "pids.events").map_or(0, |text| counter(&text, "max")),
        }
    }

    fn notify_socket(&self) -> Option<BorrowedFd<'_>> {
        self.notify.as_ref().map(AsFd::as_fd)
    }
}

fn read(cgroup: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(cgroup.join(file)).ok()
}

/// The number behind `name` in a control file of `name number` lines.
fn counter(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_control_files() {
        let text = "low 0\nhigh 2\nmax 17\noom 3\noom_kill 1\noom_group_kill 9\n";
        assert_eq!((counter(text, "oom_kill"), counter(text, "max"), counter(text, "oo")), (1, 17, 0));
        assert_eq!(counter("", "max"), 0);
    }
}
