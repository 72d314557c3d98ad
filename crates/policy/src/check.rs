//! From the TOML schema to a [`Spec`]: ranges, names, paths, addresses, defaults. Every error is collected.

pub(crate) mod filesystem;
mod running;
mod seccomp;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::spanned::Spanned;

use crate::error::{PolicyError, Report, deserialize};
use crate::fields::{MAX_ENTRIES, bounded, number, one_of, seconds, service_name, shown_path, template};
use crate::names::{Capability, Signal};
use crate::spec::{CgroupLimits, Namespaces, Restart, Rlimit, Spec, Stop};
use crate::template::Template;
use crate::{SCHEMA_VERSION, Sets, raw};

/// Open files unless the policy says otherwise: enough for a busy server, not enough to exhaust the kernel.
const DEFAULT_NOFILE: u64 = 16_384;

pub(crate) fn policy(file: &str, text: &str, sets: &Sets) -> Result<Spec, Vec<PolicyError>> {
    let raw: raw::File = deserialize(file, text).map_err(|error| vec![error])?;
    let mut report = Report::new(file, text);
    let spec = spec(&mut report, raw, sets);
    report.finish().map(|()| spec)
}

fn spec(report: &mut Report<'_>, raw: raw::File, sets: &Sets) -> Spec {
    if *raw.version.get_ref() != i64::from(SCHEMA_VERSION) {
        report.add(raw.version.span(), format!("`version` must be {SCHEMA_VERSION}"));
    }
    let name = service_name(report, "name", &raw.name);
    let filesystem = filesystem::filesystem(report, &raw.filesystem);
    let has_data = !filesystem.writable.is_empty();
    let (uid, gid) = user(report, &raw.user);
    let binary = shown_path(report, "binary", &raw.binary);
    if let Some(outer) = filesystem.writable.iter().find(|outer| binary.starts_with(outer)) {
        let what =
            format!("the service could replace its binary, which lies in writable `{}`", outer.display());
        report.add(raw.binary.span(), what);
    }
    Spec {
        description: raw.description,
        binary,
        args: bounded(report, &raw.arguments, "arguments")
            .map(|text| template(report, text, has_data))
            .collect(),
        env: environment(report, &raw.environment, has_data),
        hostname: match &raw.hostname {
            Some(hostname) => service_name(report, "hostname", hostname),
            None => name.clone(),
        },
        uid,
        gid,
        order: number(report, "order", &raw.order, 0..=10_000, 100) as u32,
        after: after(report, &name, &raw.after),
        prepare: running::prepare(report, &raw.prepare, &filesystem),
        readiness: running::readiness(report, &raw.readiness, has_data),
        liveness: running::liveness(report, &raw.liveness, has_data),
        restart: restart(report, &raw.restart),
        stop: stop(report, &raw.stop),
        reload: running::reload(report, &raw.reload),
        namespaces: namespaces(report, &raw.namespaces),
        capabilities: capabilities(report, &raw.capabilities.ambient),
        limits: rlimits(report, &raw.rlimits),
        cgroup: cgroup(report, &raw.cgroup),
        landlock: filesystem::landlock(report, &raw.landlock),
        seccomp: seccomp::seccomp(report, &raw.seccomp, sets),
        filesystem,
        name,
    }
}

fn user(report: &mut Report<'_>, user: &Spanned<raw::User>) -> (u32, u32) {
    let uid = &user.get_ref().uid;
    let mut id = |what: &str, value: &Spanned<i64>| match *value.get_ref() {
        0 => {
            report.add(value.span(), format!("`{what}` is 0: a service never runs as root"));
            0
        }
        // 65534 is nobody, which other things map to; above are the kernel's reserved values.
        number @ 1..65_534 => number as u32,
        _ => {
            report.add(value.span(), format!("`{what}` must be 1 to 65533"));
            0
        }
    };
    let uid = id("uid", uid);
    (uid, user.get_ref().gid.as_ref().map_or(uid, |gid| id("gid", gid)))
}

fn environment(
    report: &mut Report<'_>,
    entries: &BTreeMap<Spanned<String>, Spanned<String>>,
    has_data: bool,
) -> BTreeMap<String, Template> {
    let mut environment = BTreeMap::new();
    for (name, value) in entries.iter().take(MAX_ENTRIES) {
        let text = name.get_ref();
        let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
        if !good || text.starts_with("LD_") {
            report.add(name.span(), format!("`{text}` cannot be an environment variable here"));
        }
        environment.insert(text.clone(), template(report, value, has_data));
    }
    environment
}

fn after(report: &mut Report<'_>, name: &str, list: &[Spanned<String>]) -> Vec<String> {
    bounded(report, list, "after")
        .map(|dependency| {
            if dependency.get_ref() == name {
                report.add(dependency.span(), "a service cannot start after itself");
            }
            service_name(report, "after", dependency)
        })
        .collect()
}

fn restart(report: &mut Report<'_>, raw: &raw::Restart) -> Restart {
    let initial = number(report, "initial_ms", &raw.initial_ms, 10..=3_600_000, 500);
    let maximum = number(report, "maximum_ms", &raw.maximum_ms, 10..=3_600_000, 30_000);
    if let Some(field) = raw.maximum_ms.as_ref().filter(|_| maximum < initial) {
        report.add(field.span(), format!("`maximum_ms` is below `initial_ms` ({initial})"));
    }
    Restart {
        initial: Duration::from_millis(initial),
        maximum: Duration::from_millis(maximum.max(initial)),
        intensity: number(report, "intensity", &raw.intensity, 1..=1000, 5) as u32,
        window: seconds(report, "window_seconds", &raw.window_seconds, 300),
    }
}

fn stop(report: &mut Report<'_>, raw: &raw::Stop) -> Stop {
    let signal = raw.signal.as_ref().map_or(Signal::Term, |signal| {
        one_of(report, "signal", &Signal::ALL, signal).unwrap_or(Signal::Term)
    });
    Stop { signal, grace: seconds(report, "grace_seconds", &raw.grace_seconds, 10) }
}

fn namespaces(report: &mut Report<'_>, raw: &raw::Namespaces) -> Namespaces {
    if let Some(mount) = raw.mount.as_ref().filter(|mount| !*mount.get_ref()) {
        report.add(mount.span(), "the mount namespace cannot be turned off: [filesystem] needs it");
    }
    Namespaces {
        uts: raw.uts.unwrap_or(true),
        ipc: raw.ipc.unwrap_or(true),
        pid: raw.pid.unwrap_or(false),
        net: raw.net.unwrap_or(false),
    }
}

fn capabilities(report: &mut Report<'_>, list: &[Spanned<String>]) -> Vec<Capability> {
    let mut found = Vec::new();
    for name in list.iter().take(MAX_ENTRIES) {
        match one_of(report, "capability", &Capability::ALL, name) {
            Some(capability) if found.contains(&capability) => {
                report.add(name.span(), format!("`{}` is listed twice", name.get_ref()));
            }
            Some(capability) => found.push(capability),
            None => {}
        }
    }
    found
}

fn rlimits(report: &mut Report<'_>, raw: &raw::Rlimits) -> Vec<Rlimit> {
    let bytes = 0..=1 << 50;
    let mut limits = vec![
        Rlimit::Nofile(number(report, "nofile", &raw.nofile, 3..=1 << 20, DEFAULT_NOFILE)),
        // No core files: they would hold secrets, and there is nobody to read them.
        Rlimit::CoreBytes(number(report, "core_bytes", &raw.core_bytes, bytes.clone(), 0)),
    ];
    let mut add = |field: &str, value: &Option<Spanned<i64>>, range, make: fn(u64) -> Rlimit| {
        if value.is_some() {
            limits.push(make(number(report, field, value, range, 0)));
        }
    };
    add("nproc", &raw.nproc, 1..=4_194_304, Rlimit::Nproc);
    add("memlock_bytes", &raw.memlock_bytes, bytes.clone(), Rlimit::MemlockBytes);
    add("fsize_bytes", &raw.fsize_bytes, bytes.clone(), Rlimit::FsizeBytes);
    // ARG_MAX, which the kernel leaves to arguments whatever the limit.
    add("stack_bytes", &raw.stack_bytes, 131_072..=1 << 50, Rlimit::StackBytes);
    limits
}

fn cgroup(report: &mut Report<'_>, raw: &raw::Cgroup) -> CgroupLimits {
    let mut limit = |field: &str, value: &Option<Spanned<i64>>, range| {
        value.as_ref().map(|_| number(report, field, value, range, 0))
    };
    CgroupLimits {
        memory_bytes: limit("memory_bytes", &raw.memory_bytes, 1 << 20..=1 << 50),
        pids: limit("pids", &raw.pids, 1..=4_194_304),
        cpu_weight: limit("cpu_weight", &raw.cpu_weight, 1..=10_000),
        cpu_quota_percent: limit("cpu_quota_percent", &raw.cpu_quota_percent, 1..=100_000),
        io_weight: limit("io_weight", &raw.io_weight, 1..=10_000),
    }
}
