//! What a validated policy says, in Rust types: durations, numbers in range, parsed addresses, resolved rules.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::names::{Capability, Device, Signal};
use crate::rules::Seccomp;
use crate::template::{Template, Variables};

/// The fields of a [`crate::Policy`]. docs/policies.md describes each of them for authors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// Lower-case letters, digits and inner dashes, at most 32: also the name of its cgroup and log.
    pub name: String,
    pub description: String,
    pub binary: PathBuf,
    /// Without argv[0], which is the binary.
    pub args: Vec<Template>,
    pub env: BTreeMap<String, Template>,
    pub hostname: String,
    pub uid: u32,
    pub gid: u32,
    /// Among services that do not depend on each other the lower order starts first.
    pub order: u32,
    pub after: Vec<String>,
    /// Run one after the other before each start, with the same binary in the same sandbox.
    pub prepare: Vec<Prepare>,
    pub readiness: Readiness,
    pub liveness: Option<Liveness>,
    pub restart: Restart,
    pub stop: Stop,
    /// What makes the running service read its configuration again; `None` = it cannot.
    pub reload: Option<Signal>,
    pub filesystem: Filesystem,
    pub namespaces: Namespaces,
    /// Ambient capabilities; the bounding set holds these and nothing else.
    pub capabilities: Vec<Capability>,
    pub limits: Vec<Rlimit>,
    pub cgroup: CgroupLimits,
    pub landlock: Landlock,
    pub seccomp: Seccomp,
}

impl Spec {
    /// What `${data}` stands for: the first writable path.
    pub fn data_dir(&self) -> Option<&PathBuf> {
        self.filesystem.writable.first()
    }

    /// argv[1..] with the variables filled in.
    pub fn expand_args(&self, variables: &Variables) -> Vec<String> {
        self.args.iter().map(|template| self.expand(template, variables)).collect()
    }

    /// The whole environment with the variables filled in: a service gets nothing else.
    pub fn expand_env(&self, variables: &Variables) -> Vec<(String, String)> {
        self.env.iter().map(|(name, template)| (name.clone(), self.expand(template, variables))).collect()
    }

    /// One template of this policy (also those in [`Probe`]) with the variables filled in.
    pub fn expand(&self, template: &Template, variables: &Variables) -> String {
        template.expand(variables, &self.name, self.data_dir())
    }
}

/// One step before the start, such as `init`. A step that fails or takes too long is a failed start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepare {
    /// Without argv[0], which is the service's binary.
    pub args: Vec<Template>,
    /// The step is left out when this path exists. It lies below a writable path.
    pub unless_exists: Option<Template>,
    pub timeout: Duration,
}

/// When a started service counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// As soon as it has been executed.
    None,
    /// When the probe succeeds; not ready within `timeout` is a failed start.
    Probe { probe: Probe, timeout: Duration },
    /// When it says `READY=1` in the sd_notify protocol.
    Notify { timeout: Duration },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// `host:port` that accepts a connection.
    Tcp(Template),
    /// `http://host:port/path` that answers 2xx.
    Http(Template),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    pub probe: Probe,
    pub interval: Duration,
    pub timeout: Duration,
    /// Consecutive failures after which the service is restarted.
    pub failures: u32,
}

/// Back-off doubles from `initial` to `maximum`; more than `intensity` restarts within `window` is `failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restart {
    pub initial: Duration,
    pub maximum: Duration,
    pub intensity: u32,
    pub window: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stop {
    pub signal: Signal,
    /// From the signal to the kill of the whole cgroup.
    pub grace: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    pub writable: Vec<PathBuf>,
    /// Beyond what every service sees (its binary, libraries when dynamic, the public part of /etc).
    pub readable: Vec<PathBuf>,
    pub tmp_bytes: u64,
    /// Most that its uid may own on the data volume; `None` = 80 % of it. Enforced on nodes, by a quota.
    pub disk_bytes: Option<u64>,
    pub devices: Vec<Device>,
}

/// The mount namespace is not here: it cannot be turned off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Namespaces {
    pub uts: bool,
    pub ipc: bool,
    pub pid: bool,
    pub net: bool,
}

/// One resource limit; soft and hard are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rlimit {
    /// Open files.
    Nofile(u64),
    /// Processes and threads of the uid.
    Nproc(u64),
    CoreBytes(u64),
    MemlockBytes(u64),
    FsizeBytes(u64),
    StackBytes(u64),
}

/// `None` = no limit, and the controller is not asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CgroupLimits {
    pub memory_bytes: Option<u64>,
    pub pids: Option<u64>,
    /// 1 to 10000, the kernel's default is 100.
    pub cpu_weight: Option<u64>,
    /// Percent of one CPU: 150 = one and a half.
    pub cpu_quota_percent: Option<u64>,
    /// 1 to 10000, the kernel's default is 100.
    pub io_weight: Option<u64>,
}

/// Restrictions by Landlock on top of the mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landlock {
    pub mode: LandlockMode,
    /// Ports that may be bound over TCP; `None` = not restricted.
    pub tcp_bind: Option<Vec<u16>>,
    /// Ports that may be connected to over TCP; `None` = not restricted.
    pub tcp_connect: Option<Vec<u16>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LandlockMode {
    /// A kernel that cannot do all of it refuses the start.
    Require,
    /// What the kernel can do is done.
    BestEffort,
    Off,
}
