//! The TOML schema as written by authors. Every table refuses unknown fields; every value that can be wrong
//! carries its span. Nothing here is validated: `check` turns it into a `Spec`.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub version: Spanned<i64>,
    pub name: Text,
    #[serde(default)]
    pub description: String,
    pub binary: Text,
    #[serde(default)]
    pub arguments: Vec<Text>,
    #[serde(default)]
    pub environment: BTreeMap<Text, Text>,
    pub hostname: Option<Text>,
    pub order: Option<Spanned<i64>>,
    #[serde(default)]
    pub after: Vec<Text>,
    pub user: Spanned<User>,
    #[serde(default)]
    pub prepare: Vec<Spanned<Prepare>>,
    pub readiness: Option<Spanned<Readiness>>,
    pub liveness: Option<Spanned<Liveness>>,
    #[serde(default)]
    pub restart: Restart,
    #[serde(default)]
    pub stop: Stop,
    pub reload: Option<Reload>,
    #[serde(default)]
    pub filesystem: Filesystem,
    #[serde(default)]
    pub namespaces: Namespaces,
    #[serde(default)]
    pub capabilities: Capabilities,
    #[serde(default)]
    pub rlimits: Rlimits,
    #[serde(default)]
    pub cgroup: Cgroup,
    #[serde(default)]
    pub landlock: Landlock,
    pub seccomp: Seccomp,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub uid: Spanned<i64>,
    pub gid: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Prepare {
    pub arguments: Vec<Text>,
    pub unless_exists: Option<Text>,
    pub timeout_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Readiness {
    pub tcp: Option<Text>,
    pub http: Option<Text>,
    pub notify: Option<Spanned<bool>>,
    pub timeout_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Liveness {
    pub tcp: Option<Text>,
    pub http: Option<Text>,
    pub interval_seconds: Option<Spanned<i64>>,
    pub timeout_seconds: Option<Spanned<i64>>,
    pub failures: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    pub initial_ms: Option<Spanned<i64>>,
    pub maximum_ms: Option<Spanned<i64>>,
    pub intensity: Option<Spanned<i64>>,
    pub window_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stop {
    pub signal: Option<Text>,
    pub grace_seconds: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reload {
    pub signal: Text,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Landlock {
    pub mode: Option<Text>,
    pub tcp_bind: Option<Vec<Spanned<i64>>>,
    pub tcp_connect: Option<Vec<Spanned<i64>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filesystem {
    #[serde(default)]
    pub writable: Vec<Text>,
    #[serde(default)]
    pub readable: Vec<Text>,
    pub tmp_bytes: Option<Spanned<i64>>,
    pub disk_bytes: Option<Spanned<i64>>,
    pub devices: Option<Vec<Text>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Namespaces {
    pub mount: Option<Spanned<bool>>,
    pub uts: Option<bool>,
    pub ipc: Option<bool>,
    pub pid: Option<bool>,
    pub net: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Capabilities {
    #[serde(default)]
    pub ambient: Vec<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rlimits {
    pub nofile: Option<Spanned<i64>>,
    pub nproc: Option<Spanned<i64>>,
    pub core_bytes: Option<Spanned<i64>>,
    pub memlock_bytes: Option<Spanned<i64>>,
    pub fsize_bytes: Option<Spanned<i64>>,
    pub stack_bytes: Option<Spanned<i64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cgroup {
    pub memory_bytes: Option<Spanned<i64>>,
    pub pids: Option<Spanned<i64>>,
    pub cpu_weight: Option<Spanned<i64>>,
    pub cpu_quota_percent: Option<Spanned<i64>>,
    pub io_weight: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seccomp {
    pub mode: Text,
    pub default_action: Option<Text>,
    pub errno: Option<Text>,
    #[serde(default)]
    pub sets: Vec<Text>,
    #[serde(default)]
    pub allow: Vec<Spanned<Allow>>,
    #[serde(default)]
    pub deny: Vec<Spanned<Deny>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Allow {
    pub syscalls: Vec<Text>,
    pub why: Text,
    #[serde(default)]
    pub arguments: Vec<Spanned<Argument>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Argument {
    pub index: Spanned<i64>,
    pub op: Option<Text>,
    pub mask: Option<Spanned<Number>>,
    pub value: Spanned<Number>,
    pub bits: Option<Spanned<i64>>,
}

/// An argument value: a number, or the name of a constant from the closed list in `names`.
#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Number {
    Integer(i64),
    Name(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Deny {
    pub syscalls: Vec<Text>,
    pub errno: Text,
    pub why: Text,
}

/// A file in `sets/`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetFile {
    pub version: Spanned<i64>,
    pub name: Text,
    #[serde(default)]
    #[allow(dead_code, reason = "for readers of the file; the schema must know it")]
    pub description: String,
    #[serde(default)]
    pub allow: Vec<Spanned<Allow>>,
}
