//! Checks on files, network, capabilities, namespaces and limits.

use std::path::Path;

use crate::explain::size;
use crate::names::Capability;
use crate::rules::Sysno;
use crate::score::{Check, check};
use crate::space::Space;
use crate::spec::{LandlockMode, Rlimit, Spec};
use crate::verdict::may;

/// Trees with other people's secrets in them.
const WIDE: [&str; 12] =
    ["/etc", "/usr", "/var", "/home", "/root", "/run", "/opt", "/boot", "/lib", "/srv", "/mnt", "/opt/orama"];

pub(super) fn checks(spec: &Spec) -> Vec<Check> {
    let mut checks = vec![capabilities(spec), network(spec), landlock(spec), writable(spec), readable(spec)];
    checks.push(namespaces(spec));
    checks.extend(limits(spec));
    checks
}

fn capabilities(spec: &Spec) -> Check {
    let weight_of = |capability: &Capability| match capability {
        Capability::NetBindService | Capability::NetBroadcast | Capability::IpcLock => 1,
        Capability::SysNice => 2,
        Capability::SysResource => 5,
        Capability::NetRaw => 7,
        Capability::NetAdmin => 10,
    };
    let openness = spec.capabilities.iter().map(weight_of).sum();
    let names: Vec<&str> = spec.capabilities.iter().map(|capability| capability.name()).collect();
    let state = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    check(
        ("capabilities", "Capabilities", 15),
        openness,
        state,
        "without the capability, if it can do without",
    )
}

fn network(spec: &Spec) -> Check {
    let any = may(&spec.seccomp, Sysno::socket, &Space::everything());
    let fenced = |ports: &Option<Vec<u16>>| ports.is_some() && spec.landlock.mode != LandlockMode::Off;
    let (bind, connect) = (fenced(&spec.landlock.tcp_bind), fenced(&spec.landlock.tcp_connect));
    let (openness, state) = match (any && !spec.namespaces.net, bind, connect) {
        (false, _, _) => (0, "none, or one of its own"),
        (true, true, true) => (2, "TCP ports are listed"),
        (true, true, false) => (5, "may connect to any TCP port"),
        (true, false, true) => (4, "may listen on any TCP port"),
        (true, false, false) => (6, "may listen on and connect to any TCP port"),
    };
    let remedy = if openness > 2 { "`tcp_bind` and `tcp_connect` in [landlock]" } else { "" };
    check(("network", "Network", 6), openness, state, remedy)
}

fn landlock(spec: &Spec) -> Check {
    let (openness, state) = match spec.landlock.mode {
        LandlockMode::Require => (0, "required"),
        LandlockMode::BestEffort => (2, "as far as the kernel has it"),
        LandlockMode::Off => (10, "off"),
    };
    check(("landlock", "Landlock", 3), openness, state, "[landlock] mode = \"require\"")
}

fn is_wide(path: &Path) -> bool {
    WIDE.iter().any(|wide| path == Path::new(wide))
}

fn writable(spec: &Spec) -> Check {
    let paths = &spec.filesystem.writable;
    let count = u32::try_from(paths.len()).unwrap_or(10);
    let (openness, state) = match paths.iter().find(|path| is_wide(path)) {
        Some(wide) => (10, format!("all of {}", wide.display())),
        None if count == 0 => (0, "none but a private /tmp".to_owned()),
        None => (count, if count == 1 { "one folder".to_owned() } else { format!("{count} folders") }),
    };
    let remedy = if openness > 1 { "one folder below its own data directory" } else { "" };
    check(("writable", "Writable paths", 6), openness, state, remedy)
}

fn readable(spec: &Spec) -> Check {
    let paths = &spec.filesystem.readable;
    let (openness, state) = match paths.iter().find(|path| is_wide(path)) {
        Some(wide) => (10, format!("all of {}", wide.display())),
        None if paths.is_empty() => (0, "nothing beyond what every service sees".to_owned()),
        None => (1, format!("{} listed", paths.len())),
    };
    let remedy = if openness > 1 { "list files, not trees" } else { "" };
    check(("readable", "Readable paths", 4), openness, state, remedy)
}

fn namespaces(spec: &Spec) -> Check {
    let shared: Vec<(&str, u32)> = [
        (spec.namespaces.ipc, "System V IPC", 5),
        (spec.namespaces.uts, "host name", 2),
        // Other users' processes are invisible all the same, and cannot be signalled.
        (spec.namespaces.pid, "process numbers", 2),
    ]
    .iter()
    .filter_map(|(own, name, open)| (!own).then_some((*name, *open)))
    .collect();
    let openness = shared.iter().map(|(_, open)| open).sum();
    let names: Vec<&str> = shared.iter().map(|(name, _)| *name).collect();
    let state =
        if names.is_empty() { "all its own".to_owned() } else { format!("shared: {}", names.join(", ")) };
    let remedy = if names == ["process numbers"] {
        "[namespaces] pid = true, if it handles SIGTERM and reaps"
    } else {
        "[namespaces] uts, ipc and pid = true"
    };
    check(("namespaces", "Namespaces", 4), openness, state, remedy)
}

fn limits(spec: &Spec) -> Vec<Check> {
    let unlimited = |bound: Option<String>| match bound {
        Some(bound) => (0, bound),
        None => (10, "no limit".to_owned()),
    };
    let (memory, memory_state) = unlimited(spec.cgroup.memory_bytes.map(size));
    let (pids, pids_state) = unlimited(spec.cgroup.pids.map(|pids| pids.to_string()));
    let (disk, disk_state) = match spec.filesystem.writable.is_empty() {
        true => (0, "nothing to write to".to_owned()),
        false => unlimited(spec.filesystem.disk_bytes.map(size)),
    };
    let (cpu, cpu_state) = match (spec.cgroup.cpu_quota_percent, spec.cgroup.cpu_weight) {
        (Some(percent), _) => (0, format!("{percent} %")),
        (None, Some(weight)) => (4, format!("weight {weight}, no limit")),
        (None, None) => (10, "no limit".to_owned()),
    };
    let dumps = spec.limits.iter().any(|limit| matches!(limit, Rlimit::CoreBytes(1..)));
    let (core, core_state) = if dumps { (10, "written") } else { (0, "none") };
    vec![
        check(("memory", "Memory", 4), memory, memory_state, "[cgroup] memory_bytes"),
        check(("pids", "Processes and threads", 4), pids, pids_state, "[cgroup] pids"),
        check(("disk", "Disk", 2), disk, disk_state, "[filesystem] disk_bytes"),
        check(("cpu", "CPU", 1), cpu, cpu_state, "[cgroup] cpu_quota_percent"),
        check(("core-dumps", "Core dumps", 1), core, core_state, "[rlimits] core_bytes = 0"),
    ]
}
