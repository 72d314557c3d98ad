//! What a service can reach: files, network, capabilities, system calls.

use std::collections::BTreeMap;

use crate::call::INT;
use crate::explain::{Line, Section, consequence, listed, size};
use crate::names::errno_name;
use crate::phrase;
use crate::rules::{Comparison, Condition, Rule, Sysno};
use crate::space::Space;
use crate::spec::{LandlockMode, Spec};
use crate::verdict::may;

pub(super) fn files(spec: &Spec) -> Vec<String> {
    let shown = |paths: &[std::path::PathBuf]| {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        listed(&paths)
    };
    let filesystem = &spec.filesystem;
    let mut lines = Vec::new();
    lines.push(match spec.data_dir() {
        None => "may change nothing but its private /tmp".to_owned(),
        Some(data) => {
            let others = &filesystem.writable[1..];
            let more = if others.is_empty() { String::new() } else { format!(", and {}", shown(others)) };
            format!("may change {} (its data and working directory){more}", data.display())
        }
    });
    if !filesystem.readable.is_empty() {
        lines.push(format!("may read {}", shown(&filesystem.readable)));
    }
    let devices: Vec<&str> = filesystem.devices.iter().map(|device| device.name()).collect();
    lines.push(format!("has a private /tmp of {}, lost when it ends", size(filesystem.tmp_bytes)));
    lines.push(format!(
        "sees its binary, the libraries it is linked to, the public part of /etc, in /dev {}, in /proc only its own \
         processes",
        listed(&devices)
    ));
    lines.push("sees nothing else: no other service's files, no /sys, no /home, no disk".to_owned());
    lines
}

pub(super) fn network(spec: &Spec) -> Vec<String> {
    const FAMILIES: [(u64, &str); 6] = [
        (2, "IPv4"),
        (10, "IPv6"),
        (1, "unix"),
        (16, "netlink (the kernel's network configuration)"),
        (17, "packet (frames as they are on the wire)"),
        (40, "vsock"),
    ];
    const TYPES: [(u64, &str); 3] = [(1, "TCP"), (2, "UDP"), (3, "raw")];
    let socket = |family: u64, kind: Option<u64>| {
        let equal = |index, mask, value| Condition {
            index,
            wide: false,
            comparison: Comparison::MaskedEq(mask),
            value,
        };
        let mut wanted = vec![equal(0, INT, family)];
        wanted.extend(kind.map(|kind| equal(1, 0xf, kind)));
        Space::of(&wanted).is_none_or(|space| may(&spec.seccomp, Sysno::socket, &space))
    };
    let mut by_kinds: BTreeMap<Vec<&str>, Vec<&str>> = BTreeMap::new();
    let mut sockets = Vec::new();
    for (family, name) in FAMILIES {
        match family {
            2 | 10 => {
                let kinds: Vec<&str> = TYPES
                    .iter()
                    .filter(|(kind, _)| socket(family, Some(*kind)))
                    .map(|(_, name)| *name)
                    .collect();
                if !kinds.is_empty() {
                    by_kinds.entry(kinds).or_default().push(name);
                }
            }
            _ if socket(family, None) => sockets.push(format!("may open {name} sockets")),
            _ => {}
        }
    }
    let internet =
        by_kinds.iter().map(|(kinds, names)| format!("may use {} over {}", listed(kinds), listed(names)));
    let mut lines: Vec<String> = internet.chain(sockets).collect();
    if lines.is_empty() {
        return vec!["may open no sockets".to_owned()];
    }
    let any = |call| may(&spec.seccomp, call, &Space::everything());
    lines.push(match (any(Sysno::bind) && any(Sysno::listen), any(Sysno::connect)) {
        (true, true) => "may listen, and connect to others".to_owned(),
        (true, false) => "may listen, and connect to nobody".to_owned(),
        (false, true) => "may connect to others, and not listen".to_owned(),
        (false, false) => "may neither listen nor connect".to_owned(),
    });
    if spec.namespaces.net {
        lines.push(
            "in a network of its own with nothing but lo: it reaches nobody, and nobody reaches it"
                .to_owned(),
        );
    }
    let landlock = &spec.landlock;
    let certain = match landlock.mode {
        LandlockMode::Require => "",
        LandlockMode::BestEffort => " (where the kernel can see to it: Linux 6.7)",
        LandlockMode::Off => return lines,
    };
    for (ports, verb) in [(&landlock.tcp_bind, "listen on"), (&landlock.tcp_connect, "connect to")] {
        let Some(ports) = ports else { continue };
        let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
        let ports = if ports.is_empty() { "no port".to_owned() } else { format!("only {}", listed(&ports)) };
        lines.push(format!("over TCP may {verb} {ports}{certain}"));
    }
    lines
}

pub(super) fn rights(spec: &Spec) -> Vec<String> {
    let held =
        spec.capabilities.iter().map(|capability| format!("{} ({})", capability.name(), capability.means()));
    let held: Vec<String> = held.collect();
    let own: Vec<&str> = [
        (true, "file tree"),
        (spec.namespaces.uts, "host name"),
        (spec.namespaces.ipc, "System V IPC and message queues"),
        (spec.namespaces.pid, "process numbers"),
        (spec.namespaces.net, "network"),
    ]
    .iter()
    .filter_map(|(own, name)| own.then_some(*name))
    .collect();
    vec![
        match held.is_empty() {
            true => "no capabilities: nothing of root's powers".to_owned(),
            false => format!("of root's powers {}, and no other", listed(&held)),
        },
        "can gain no rights by executing anything (no_new_privs)".to_owned(),
        format!("has of its own: {}", listed(&own)),
        match spec.landlock.mode {
            LandlockMode::Require => "Landlock must hold on top of that, or it does not start".to_owned(),
            LandlockMode::BestEffort => "Landlock on top of that, as far as the kernel has it".to_owned(),
            LandlockMode::Off => "no Landlock".to_owned(),
        },
    ]
}

/// One section on what happens outside the rules, one per set, one for the policy's own rules.
pub(super) fn calls(spec: &Spec) -> Vec<Section> {
    let outside = [
        format!("a call that nothing below allows {}", consequence(spec)),
        "whatever the profile says: calls of another architecture (32-bit, x32) kill; clone3 fails with ENOSYS; the \
         end of a process and the return from a signal are allowed"
            .to_owned(),
    ];
    let lines = outside.into_iter().map(Line::plain).collect();
    let mut sections = vec![Section { title: "System calls", lines }];
    let mut lines = Vec::new();
    let mut head = None;
    for rule in &spec.seccomp.allow {
        if head != Some(&rule.origin.set) {
            head = Some(&rule.origin.set);
            let text = match &rule.origin.set {
                Some(name) => format!("set `{name}`"),
                None => "the profile itself".to_owned(),
            };
            lines.push(Line::plain(text));
        }
        lines.push(allowed(rule));
    }
    sections.push(Section { title: "Allowed", lines });
    if !spec.seccomp.deny.is_empty() {
        let line = |denial: &crate::Denial| {
            let calls: Vec<&str> = denial.syscalls.iter().map(|call| call.name()).collect();
            let errno = errno_name(denial.errno);
            Line {
                text: format!("  {}: fails with {errno}, in every mode, unrecorded", calls.join(" ")),
                why: Some(denial.why.clone()),
                origin: Some(denial.origin.to_string()),
            }
        };
        sections.push(Section { title: "Denied", lines: spec.seccomp.deny.iter().map(line).collect() });
    }
    sections
}

fn allowed(rule: &Rule) -> Line {
    let calls: Vec<&str> = rule.syscalls.iter().map(|call| call.name()).collect();
    let when = rule.syscalls.first().and_then(|call| phrase::conditions(*call, &rule.conditions_of(*call)));
    let when = when.map(|when| format!(" when {when}")).unwrap_or_default();
    Line {
        text: format!("  {}{when}", calls.join(" ")),
        why: Some(rule.why.clone()),
        origin: Some(rule.origin.to_string()),
    }
}
