//! The TOML schema as written by authors. Every table refuses unknown fields; every value that can be wrong
//! carries its span. Nothing here is validated: `check` turns it into a `Spec`. The comments on fields are what
//! editors show: they go into the JSON Schema.

mod seccomp;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub(crate) use seccomp::{Allow, Argument, Deny, Number, Seccomp, SetFile};

use crate::schema;
use crate::spanned::Spanned;

type Text = Spanned<String>;

/// A service of a node: how to start it, when it is ready, how to stop it, and the box it lives in.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "OramaOS service profile")]
pub(crate) struct File {
    /// Version of this schema.
    #[schemars(range(min = 1, max = 1))]
    pub version: Spanned<i64>,
    /// Name of the service, its cgroup, its log and its host. Once per node.
    #[schemars(regex(pattern = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"))]
    pub name: Text,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// A 64-bit x86 ELF program, executable by everybody; absolute path. No shell, no script.
    #[schemars(regex(pattern = "^/"))]
    pub binary: Text,
    /// argv after the binary. ${node_id}, ${wg_ip}, ${name} and ${data} are filled in; $$ is a dollar.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub arguments: Vec<Text>,
    /// The whole environment: nothing is inherited. Variables are filled in.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, String>")]
    pub environment: BTreeMap<Text, Text>,
    /// Host name inside; the service's name if left out.
    #[schemars(regex(pattern = "^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$"))]
    pub hostname: Option<Text>,
    /// Among services that do not depend on each other the lower starts first. Default 100.
    #[schemars(range(min = 0, max = 10_000))]
    pub order: Option<Spanned<i64>>,
    /// Services that must be ready before this one starts.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub after: Vec<Text>,
    /// Who it runs as.
    pub user: Spanned<User>,
    /// Steps before each start, such as init: the same binary in the same sandbox.
    #[serde(default)]
    #[schemars(length(max = 16))]
    pub prepare: Vec<Spanned<Prepare>>,
    /// When it counts as ready; without this section as soon as it has been executed.
    pub readiness: Option<Spanned<Readiness>>,
    /// A question asked again and again; without this section only the end of the process counts.
    pub liveness: Option<Spanned<Liveness>>,
    /// How it is restarted when it ends.
    #[serde(default)]
    pub restart: Restart,
    /// How it is stopped.
    #[serde(default)]
    pub stop: Stop,
    /// How it is told to read its configuration again; without this section it cannot.
    pub reload: Option<Reload>,
    /// What it sees of the file system.
    #[serde(default)]
    pub filesystem: Filesystem,
    /// What it has of its own.
    #[serde(default)]
    pub namespaces: Namespaces,
    /// What it keeps of root's powers.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// Resource limits; soft and hard are the same.
    #[serde(default)]
    pub rlimits: Rlimits,
    /// Limits of the service as a whole. A field that is left out is no limit.
    #[serde(default)]
    pub cgroup: Cgroup,
    /// Restrictions by Landlock on top of the mounts.
    #[serde(default)]
    pub landlock: Landlock,
    /// Which system calls it may make.
    pub seccomp: Seccomp,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// Once per node; root is refused.
    #[schemars(range(min = 1, max = 65_533))]
    pub uid: Spanned<i64>,
    /// The only group; the uid if left out.
    #[schemars(range(min = 1, max = 65_533))]
    pub gid: Option<Spanned<i64>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prepare {
    /// argv after the binary. Variables are filled in.
    #[schemars(length(max = 256))]
    pub arguments: Vec<Text>,
    /// The step is left out when this exists: a path below a writable one, such as ${data}/config.
    pub unless_exists: Option<Text>,
    /// Not done by then is a failed start. Default 60.
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<Spanned<i64>>,
}

/// Exactly one of tcp, http and notify.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Readiness {
    /// Ready when address:port accepts a connection.
    pub tcp: Option<Text>,
    /// Ready when http://address:port/path answers 2xx.
    #[schemars(regex(pattern = "^http://"))]
    pub http: Option<Text>,
    /// Ready when it says READY=1 to the socket in NOTIFY_SOCKET (sd_notify).
    pub notify: Option<Spanned<bool>>,
    /// Not ready by then is a failed start. Default 60.
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<Spanned<i64>>,
}

/// Exactly one of tcp and http.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Liveness {
    /// Alive when address:port accepts a connection.
    pub tcp: Option<Text>,
    /// Alive when http://address:port/path answers 2xx.
    #[schemars(regex(pattern = "^http://"))]
    pub http: Option<Text>,
    /// Between two probes. Default 10.
    #[schemars(range(min = 1, max = 86_400))]
    pub interval_seconds: Option<Spanned<i64>>,
    /// Of one probe. Default 5.
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: Option<Spanned<i64>>,
    /// Failed probes in a row after which it is restarted. Default 3.
    #[schemars(range(min = 1, max = 1000))]
    pub failures: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    /// Wait before the first restart, in milliseconds; doubles each time. Default 500.
    #[schemars(range(min = 10, max = 3_600_000))]
    pub initial_ms: Option<Spanned<i64>>,
    /// Longest wait, in milliseconds. Default 30000.
    #[schemars(range(min = 10, max = 3_600_000))]
    pub maximum_ms: Option<Spanned<i64>>,
    /// More restarts than this within the window, and it stays down. Default 5.
    #[schemars(range(min = 1, max = 1000))]
    pub intensity: Option<Spanned<i64>>,
    /// Default 300.
    #[schemars(range(min = 1, max = 86_400))]
    pub window_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stop {
    /// Sent to the main process. Default SIGTERM.
    #[serde(default)]
    #[schemars(schema_with = "schema::signal")]
    pub signal: Option<Text>,
    /// From the signal to the kill of all its processes. Default 10.
    #[schemars(range(min = 1, max = 86_400))]
    pub grace_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reload {
    /// Sent to the main process.
    #[schemars(schema_with = "schema::signal")]
    pub signal: Text,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Landlock {
    /// Whether the kernel must be able to do all of it. Default best_effort.
    #[serde(default)]
    #[schemars(schema_with = "schema::landlock_mode")]
    pub mode: Option<Text>,
    /// TCP ports it may listen on; without this field any.
    #[schemars(length(max = 256), inner(range(min = 1, max = 65_535)))]
    pub tcp_bind: Option<Vec<Spanned<i64>>>,
    /// TCP ports it may connect to; without this field any.
    #[schemars(length(max = 256), inner(range(min = 1, max = 65_535)))]
    pub tcp_connect: Option<Vec<Spanned<i64>>>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filesystem {
    /// Directories it may change; made when missing. The first is ${data} and the working directory.
    #[serde(default)]
    #[schemars(length(max = 256), inner(regex(pattern = "^/.")))]
    pub writable: Vec<Text>,
    /// Files and directories shown read-only. They must exist.
    #[serde(default)]
    #[schemars(length(max = 256), inner(regex(pattern = "^/.")))]
    pub readable: Vec<Text>,
    /// Size of the private /tmp in bytes. Default 67108864.
    #[schemars(range(min = 4096, max = 1_099_511_627_776_u64))]
    pub tmp_bytes: Option<Spanned<i64>>,
    /// Most that its user may own on the data volume, in bytes; without this field 80 % of it.
    #[schemars(range(min = 65_536, max = 1_125_899_906_842_624_u64))]
    pub disk_bytes: Option<Spanned<i64>>,
    /// Nodes in /dev; without this field all five.
    #[serde(default)]
    #[schemars(schema_with = "schema::devices")]
    pub devices: Option<Vec<Text>>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespaces {
    /// Own file tree. Cannot be turned off.
    pub mount: Option<Spanned<bool>>,
    /// Own host name. Default true.
    pub uts: Option<bool>,
    /// Own System V IPC and message queues. Default true.
    pub ipc: Option<bool>,
    /// It is PID 1 of its own: it must handle SIGTERM and reap. Default false.
    pub pid: Option<bool>,
    /// Own network with only lo: nobody reaches it, it reaches nobody. Default false.
    pub net: Option<bool>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capabilities {
    /// Held by the service from the start; nothing else can ever be gained.
    #[serde(default)]
    #[schemars(schema_with = "schema::capabilities")]
    pub ambient: Vec<Text>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rlimits {
    /// Open files. Default 16384.
    #[schemars(range(min = 3, max = 1_048_576))]
    pub nofile: Option<Spanned<i64>>,
    /// Processes and threads of its user; prefer cgroup.pids.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub nproc: Option<Spanned<i64>>,
    /// Core dumps would hold secrets. Default 0.
    #[schemars(range(min = 0, max = 1_125_899_906_842_624_u64))]
    pub core_bytes: Option<Spanned<i64>>,
    /// Locked memory.
    #[schemars(range(min = 0, max = 1_125_899_906_842_624_u64))]
    pub memlock_bytes: Option<Spanned<i64>>,
    /// Largest file.
    #[schemars(range(min = 0, max = 1_125_899_906_842_624_u64))]
    pub fsize_bytes: Option<Spanned<i64>>,
    /// The main thread's stack.
    #[schemars(range(min = 131_072, max = 1_125_899_906_842_624_u64))]
    pub stack_bytes: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cgroup {
    /// Memory in bytes, without swap; beyond that the service as a whole is killed.
    #[schemars(range(min = 1_048_576, max = 1_125_899_906_842_624_u64))]
    pub memory_bytes: Option<Spanned<i64>>,
    /// Processes and threads.
    #[schemars(range(min = 1, max = 4_194_304))]
    pub pids: Option<Spanned<i64>>,
    /// Share when the CPU is contended; the kernel's default is 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub cpu_weight: Option<Spanned<i64>>,
    /// Percent of one CPU: 150 is one and a half.
    #[schemars(range(min = 1, max = 100_000))]
    pub cpu_quota_percent: Option<Spanned<i64>>,
    /// Share when the disk is contended; the kernel's default is 100.
    #[schemars(range(min = 1, max = 10_000))]
    pub io_weight: Option<Spanned<i64>>,
}
