//! One cgroup v2 directory per service: made, limited, killed and removed here. No other hierarchy is known.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use orama_policy::CgroupLimits;

use crate::error::PrepareError;

/// cpu.max period in microseconds (the kernel's default).
const CPU_PERIOD_US: u64 = 100_000;
/// Between looks at a cgroup that is being emptied.
const POLL: Duration = Duration::from_millis(5);

/// The cgroup of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes `<base>/<name>` with its limits, enabling the controllers they need on the way down. A controller
    /// is enabled only when a limit asks for it, so that a service without limits runs anywhere.
    pub(crate) fn create(base: &Path, name: &str, limits: &CgroupLimits) -> Result<Cgroup, PrepareError> {
        let made = |path: &Path| {
            fs::create_dir_all(path).map_err(|source| PrepareError::Cgroup {
                what: "make cgroup",
                path: path.to_owned(),
                source,
            })
        };
        // Before anything is made: in another file system it would be an ordinary directory that limits nothing.
        let existing = base.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        let kind = statfs(existing).map_err(|errno| PrepareError::Cgroup {
            what: "inspect cgroup",
            path: existing.to_owned(),
            source: errno.into(),
        })?;
        if kind.filesystem_type() != CGROUP2_SUPER_MAGIC {
            return Err(PrepareError::NotCgroup2 { path: base.to_owned() });
        }
        made(base)?;
        let cgroup = Cgroup { path: base.join(name) };
        for (controller, field) in needed(limits) {
            enable(base, controller, field)?;
        }
        // A fresh one carries no limits of an older policy and no counters; one that is in use stays, and the
        // limits that are asked for are set again.
        let _in_use = cgroup.remove();
        made(&cgroup.path)?;
        for (file, value) in settings(limits) {
            cgroup.set(file, &value)?;
        }
        Ok(cgroup)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn set(&self, file: &str, value: &str) -> Result<(), PrepareError> {
        let path = self.path.join(file);
        // Only there when swap is accounted for; without it there is nothing to forbid.
        if file == "memory.swap.max" && !path.exists() {
            return Ok(());
        }
        fs::write(&path, value).map_err(|source| PrepareError::Cgroup {
            what: "set cgroup limit",
            path,
            source,
        })
    }

    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        Ok(fs::File::open(&self.path)?.into())
    }

    /// SIGKILL to every process in it, however it has forked or daemonized. Returns at once.
    pub fn kill(&self) -> io::Result<()> {
        fs::write(self.path.join("cgroup.kill"), "1")
    }

    /// Whether any live process is left in it; zombies do not count.
    pub fn is_populated(&self) -> io::Result<bool> {
        let events = fs::read_to_string(self.path.join("cgroup.events"))?;
        Ok(events.lines().any(|line| line == "populated 1"))
    }

    /// The processes in it.
    pub fn pids(&self) -> io::Result<Vec<i32>> {
        let procs = fs::read_to_string(self.path.join("cgroup.procs"))?;
        Ok(procs.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Bytes in use; `None` without the memory controller.
    pub fn memory_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Kills what is in it and waits until it is empty, at most `patience`. One that is empty is not killed: kernels
    /// from 6.14 on also kill what is cloned into a cgroup later, once it has been killed.
    pub fn empty(&self, patience: Duration) -> io::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            if !self.is_populated()? {
                return Ok(());
            }
            self.kill()?;
            if Instant::now() >= deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} processes survive in {}", self.pids()?.len(), self.path.display()),
                ));
            }
            std::thread::sleep(POLL);
        }
    }

    /// Removes the empty cgroup. `Ok` when it is gone already.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }
}

/// The controllers that these limits need, with the policy field that says so.
fn needed(limits: &CgroupLimits) -> Vec<(&'static str, &'static str)> {
    [
        (limits.memory_bytes, "memory", "memory_bytes"),
        (limits.pids, "pids", "pids"),
        (limits.cpu_weight, "cpu", "cpu_weight"),
        (limits.cpu_quota_percent, "cpu", "cpu_quota_percent"),
        (limits.io_weight, "io", "io_weight"),
    ]
    .into_iter()
    .filter(|(limit, _, _)| limit.is_some())
    .map(|(_, controller, field)| (controller, field))
    .collect()
}

/// Control files and what is written there, in this order.
fn settings(limits: &CgroupLimits) -> Vec<(&'static str, String)> {
    let mut settings = Vec::new();
    if let Some(bytes) = limits.memory_bytes {
        settings.push(("memory.max", bytes.to_string()));
        settings.push(("memory.swap.max", "0".to_owned()));
        // Half a service is worse than none: it dies as a whole and is restarted.
        settings.push(("memory.oom.group", "1".to_owned()));
    }
    if let Some(pids) = limits.pids {
        settings.push(("pids.max", pids.to_string()));
    }
    if let Some(weight) = limits.cpu_weight {
        settings.push(("cpu.weight", weight.to_string()));
    }
    if let Some(percent) = limits.cpu_quota_percent {
        settings.push(("cpu.max", format!("{} {CPU_PERIOD_US}", percent * CPU_PERIOD_US / 100)));
    }
    if let Some(weight) = limits.io_weight {
        settings.push(("io.weight", format!("default {weight}")));
    }
    settings
}

/// Enables a controller for the children of `base`, and for `base` itself in its parent when it must.
fn enable(base: &Path, controller: &'static str, field: &'static str) -> Result<(), PrepareError> {
    let missing = || PrepareError::MissingController { controller, field, base: base.to_owned() };
    let has = |dir: &Path, file: &str| {
        fs::read_to_string(dir.join(file))
            .is_ok_and(|list| list.split_ascii_whitespace().any(|name| name == controller))
    };
    if has(base, "cgroup.subtree_control") {
        return Ok(());
    }
    let turn_on = |dir: &Path| {
        let path = dir.join("cgroup.subtree_control");
        fs::write(&path, format!("+{controller}")).map_err(|source| PrepareError::Cgroup {
            what: "enable a controller in",
            path,
            source,
        })
    };
    if !has(base, "cgroup.controllers") {
        let parent = base.parent().filter(|parent| has(parent, "cgroup.controllers")).ok_or_else(missing)?;
        turn_on(parent)?;
    }
    turn_on(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_control_file_contents() {
        let limits = CgroupLimits {
            memory_bytes: Some(1 << 20),
            pids: None,
            cpu_weight: Some(50),
            cpu_quota_percent: Some(150),
            io_weight: Some(200),
        };
        let written: Vec<String> = settings(&limits).iter().map(|(f, v)| format!("{f}={v}")).collect();
        assert_eq!(
            written,
            [
                "memory.max=1048576",
                "memory.swap.max=0",
                "memory.oom.group=1",
                "cpu.weight=50",
                "cpu.max=150000 100000",
                "io.weight=default 200"
            ]
        );
        assert!(settings(&CgroupLimits::default()).is_empty());
        assert!(needed(&CgroupLimits::default()).is_empty());
    }
}
