//! What one policy allows that another does not: meanings are compared, not lines.

mod calls;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::Policy;
use crate::explain::size;
use crate::spec::{LandlockMode, Rlimit, Spec};

/// Which way something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// The second allows more.
    Gained,
    /// The second allows less.
    Lost,
    /// Neither: another program, another probe.
    Changed,
}

impl Direction {
    pub fn name(self) -> &'static str {
        match self {
            Direction::Gained => "gained",
            Direction::Lost => "lost",
            Direction::Changed => "changed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub direction: Direction,
    /// `files`, `network`, `rights`, `limits`, `system calls`, `life`, `program`.
    pub subject: &'static str,
    pub text: String,
    /// The line behind it, where a rule is.
    pub origin: Option<String>,
}

/// From `old` to `new`; gains first.
pub fn diff(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Changes { found: Vec::new(), subject: "" };
    let (old, new): (&Spec, &Spec) = (old, new);
    program(&mut changes, old, new);
    life(&mut changes, old, new);
    files(&mut changes, old, new);
    network(&mut changes, old, new);
    rights(&mut changes, old, new);
    limits(&mut changes, old, new);
    calls::compare(&mut changes, &old.seccomp, &new.seccomp);
    changes.found.sort_by_key(|change| change.direction);
    changes.found
}

struct Changes {
    found: Vec<Change>,
    subject: &'static str,
}

impl Changes {
    fn add(&mut self, direction: Direction, text: impl Into<String>) {
        self.found.push(Change { direction, subject: self.subject, text: text.into(), origin: None });
    }

    fn changed(&mut self, what: &str, is_changed: bool, old: &str, new: &str) {
        if is_changed {
            self.add(Direction::Changed, format!("{what}: {old} -> {new}"));
        }
    }

    /// `more` and `less` say the same of both directions.
    fn toggled(&mut self, old: bool, new: bool, more: &str, less: &str) {
        match (old, new) {
            (false, true) => self.add(Direction::Gained, more),
            (true, false) => self.add(Direction::Lost, less),
            _ => {}
        }
    }

    /// A bound, of which `None` is no bound.
    fn bound(&mut self, what: &str, old: Option<u64>, new: Option<u64>, show: impl Fn(u64) -> String) {
        let rank = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
        let shown = |bound: Option<u64>| bound.map_or_else(|| "no limit".to_owned(), &show);
        let direction = match rank(new).cmp(&rank(old)) {
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => Direction::Gained,
            std::cmp::Ordering::Less => Direction::Lost,
        };
        self.add(direction, format!("{what}: {} -> {}", shown(old), shown(new)));
    }
}

fn program(changes: &mut Changes, old: &Spec, new: &Spec) {
    changes.subject = "program";
    let path = |spec: &Spec| spec.binary.display().to_string();
    changes.changed("name", old.name != new.name, &old.name, &new.name);
    changes.changed("binary", old.binary != new.binary, &path(old), &path(new));
    let words = |spec: &Spec| spec.args.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    changes.changed("arguments", old.args != new.args, &words(old), &words(new));
    for (name, value) in &new.env {
        if old.env.get(name) != Some(value) {
            changes.add(Direction::Changed, format!("environment: {name}={value}"));
        }
    }
    for name in old.env.keys().filter(|name| !new.env.contains_key(*name)) {
        changes.add(Direction::Changed, format!("environment: {name} is gone"));
    }
    let who = |spec: &Spec| format!("{}:{}", spec.uid, spec.gid);
    changes.changed("user and group", who(old) != who(new), &who(old), &who(new));
    changes.changed("host name", old.hostname != new.hostname, &old.hostname, &new.hostname);
}

fn life(changes: &mut Changes, old: &Spec, new: &Spec) {
    changes.subject = "life";
    let differing = [
        ("order", old.order != new.order || old.after != new.after),
        ("prepare steps", old.prepare != new.prepare),
        ("readiness", old.readiness != new.readiness),
        ("liveness", old.liveness != new.liveness),
        ("restart", old.restart != new.restart),
        ("stop", old.stop != new.stop),
        ("reload", old.reload != new.reload),
    ];
    for (what, _) in differing.iter().filter(|(_, differs)| *differs) {
        changes.add(Direction::Changed, format!("{what} differs"));
    }
}

fn files(changes: &mut Changes, old: &Spec, new: &Spec) {
    changes.subject = "files";
    let (before, after) = (&old.filesystem, &new.filesystem);
    let under = |path: &Path, roots: &[PathBuf]| roots.iter().any(|root| path.starts_with(root));
    for (from, to, direction) in [(before, after, Direction::Gained), (after, before, Direction::Lost)] {
        for path in to.writable.iter().filter(|path| !under(path, &from.writable)) {
            changes.add(direction, format!("may change {}", path.display()));
        }
        let seen = |path: &Path| under(path, &from.readable) || under(path, &from.writable);
        for path in to.readable.iter().filter(|path| !seen(path)) {
            changes.add(direction, format!("may read {}", path.display()));
        }
        for device in to.devices.iter().filter(|device| !from.devices.contains(device)) {
            changes.add(direction, format!("has /dev/{}", device.name()));
        }
    }
    changes.bound("private /tmp", Some(before.tmp_bytes), Some(after.tmp_bytes), size);
    changes.bound("data volume", before.disk_bytes, after.disk_bytes, size);
    changes.changed(
        "data directory",
        before.writable.first() != after.writable.first()
            && !before.writable.is_empty()
            && !after.writable.is_empty(),
        &before.writable.first().map(|path| path.display().to_string()).unwrap_or_default(),
        &after.writable.first().map(|path| path.display().to_string()).unwrap_or_default(),
    );
}

fn network(changes: &mut Changes, old: &Spec, new: &Spec) {
    changes.subject = "network";
    let own = |spec: &Spec| spec.namespaces.net;
    changes.toggled(
        !own(old),
        !own(new),
        "the machine's network",
        "the machine's network: only its own lo is left",
    );
    // Off is no restriction at all, whatever is listed: `check` refuses ports beside it.
    let ports = |spec: &Spec, bind: bool| match spec.landlock.mode {
        LandlockMode::Off => None,
        _ if bind => spec.landlock.tcp_bind.clone(),
        _ => spec.landlock.tcp_connect.clone(),
    };
    for (bind, verb) in [(true, "listen on"), (false, "connect to")] {
        match (ports(old, bind), ports(new, bind)) {
            (Some(_), None) => changes.add(Direction::Gained, format!("may {verb} any TCP port")),
            (None, Some(now)) => {
                changes.add(Direction::Lost, format!("may {verb} TCP ports other than {now:?}"))
            }
            (Some(before), Some(now)) => {
                for port in now.iter().filter(|port| !before.contains(port)) {
                    changes.add(Direction::Gained, format!("may {verb} TCP port {port}"));
                }
                for port in before.iter().filter(|port| !now.contains(port)) {
                    changes.add(Direction::Lost, format!("may {verb} TCP port {port}"));
                }
            }
            (None, None) => {}
        }
    }
}

fn rights(changes: &mut Changes, old: &Spec, new: &Spec) {
    changes.subject = "rights";
    for (from, to, direction) in [(old, new, Direction::Gained), (new, old, Direction::Lost)] {
        for capability in to.capabilities.iter().filter(|held| !from.capabilities.contains(held)) {
            changes.add(direction, format!("{} ({})", capability.name(), capability.means()));
        }
    }
    let shares = [
        (old.namespaces.uts, new.namespaces.uts, "the machine's host name"),
        (old.namespaces.ipc, new.namespaces.ipc, "System V IPC with the rest of the machine"),
        (old.namespaces.pid, new.namespaces.pid, "process numbers with the rest of the machine"),
    ];
    for (before, now, what) in shares {
        changes.toggled(!before, !now, &format!("shares {what}"), &format!("shares {what}"));
    }
    let strictness = |mode: LandlockMode| match mode {
        LandlockMode::Require => 2,
        LandlockMode::BestEffort => 1,
        LandlockMode::Off => 0,
    };
    let (before, now) = (strictness(old.landlock.mode), strictness(new.landlock.mode));
    let words = ["off", "as far as the kernel has it", "required"];
    let text = format!("Landlock: {} -> {}", words[before], words[now]);
    match now.cmp(&before) {
        std::cmp::Ordering::Less => changes.add(Direction::Gained, text),
        std::cmp::Ordering::Greater => changes.add(Direction::Lost, text),
        std::cmp::Ordering::Equal => {}
    }
}

fn limits(changes: &mut Changes, old: &Spec, new: &Spec) {
    changes.subject = "limits";
    let (before, after) = (&old.cgroup, &new.cgroup);
    changes.bound("memory", before.memory_bytes, after.memory_bytes, size);
    changes.bound("processes and threads", before.pids, after.pids, |pids| pids.to_string());
    changes.bound("CPU", before.cpu_quota_percent, after.cpu_quota_percent, |percent| format!("{percent} %"));
    // The kernel's own weight is 100.
    let weight = |weight: Option<u64>| Some(weight.unwrap_or(100));
    changes.bound("CPU weight", weight(before.cpu_weight), weight(after.cpu_weight), |w| w.to_string());
    changes.bound("disk weight", weight(before.io_weight), weight(after.io_weight), |w| w.to_string());
    // By kind; what is left out is as the agent has it, which counts as no limit.
    let by_kind = |spec: &Spec| -> BTreeMap<&'static str, u64> {
        let named = spec.limits.iter().map(|limit| match *limit {
            Rlimit::Nofile(value) => ("open files", value),
            Rlimit::Nproc(value) => ("processes of its user", value),
            Rlimit::CoreBytes(value) => ("core dump bytes", value),
            Rlimit::MemlockBytes(value) => ("locked bytes", value),
            Rlimit::FsizeBytes(value) => ("file size bytes", value),
            Rlimit::StackBytes(value) => ("stack bytes", value),
        });
        named.collect()
    };
    let (before, now) = (by_kind(old), by_kind(new));
    let kinds: BTreeSet<&str> = before.keys().chain(now.keys()).copied().collect();
    for what in kinds {
        changes.bound(what, before.get(what).copied(), now.get(what).copied(), |number| number.to_string());
    }
}
