//! Checks on system calls. In mode audit every call runs, so each of them is open.

use crate::call::INT;
use crate::call::classes::danger;
use crate::rules::{Comparison, Condition, Rule, Sysno};
use crate::score::{Check, check};
use crate::space::Space;
use crate::spec::Spec;
use crate::verdict::{Consequence, WRITE_AND_EXECUTE, may, surely};

/// Calls that about every program makes; beyond them the kernel's surface grows.
const FEW_CALLS: usize = 100;
/// So many allowed calls count as all of them.
const MANY_CALLS: usize = 300;

pub(super) fn checks(spec: &Spec) -> Vec<Check> {
    let audit = spec.seccomp.consequence() == Consequence::Runs;
    let checks = vec![
        mode(spec),
        dangerous(spec),
        breadth(spec),
        faces(spec),
        processes(spec),
        code(spec),
        sockets(spec),
    ];
    if !audit {
        return checks;
    }
    let opened = |mut check: Check| {
        if check.code != "seccomp-mode" {
            check.openness = 10;
            "mode audit lets every call run".clone_into(&mut check.state);
            check.remedy = Some("mode = \"enforce\"".to_owned());
        }
        check
    };
    checks.into_iter().map(opened).collect()
}

fn mode(spec: &Spec) -> Check {
    let (openness, state, remedy) = match spec.seccomp.consequence() {
        Consequence::Killed => (0, "a call outside the rules ends the process", ""),
        Consequence::Errno(_) => (
            2,
            "a call outside the rules fails, and an intruder may go on trying",
            "default_action = \"kill\"",
        ),
        Consequence::Runs => (10, "a call outside the rules runs", "mode = \"enforce\""),
    };
    check(("seccomp-mode", "What a refused call meets", 20), openness, state, remedy)
}

fn may_any(spec: &Spec, call: Sysno) -> bool {
    may(&spec.seccomp, call, &Space::everything())
}

fn dangerous(spec: &Spec) -> Check {
    let calls: Vec<&str> = Sysno::iter()
        .filter(|call| danger(*call).is_some() && may_any(spec, *call))
        .map(|call| call.name())
        .collect();
    let openness = if calls.is_empty() { 0 } else { 4 + 2 * u32::try_from(calls.len()).unwrap_or(3) };
    let state = match calls.is_empty() {
        true => "none is allowed".to_owned(),
        false => format!("allowed: {}", calls.join(", ")),
    };
    let remedy = "remove them; [[seccomp.deny]] lets a call fail quietly";
    check(("dangerous-calls", "Calls that reach the kernel or other processes", 15), openness, state, remedy)
}

fn breadth(spec: &Spec) -> Check {
    let count = Sysno::iter().filter(|call| may_any(spec, *call)).count();
    let over = count.saturating_sub(FEW_CALLS) * 10 / (MANY_CALLS - FEW_CALLS);
    let remedy = "fewer sets, or single rules: `orama policy learn` shows what the service uses";
    let all = Sysno::iter().count();
    let openness = u32::try_from(over).unwrap_or(10);
    check(("calls", "System calls in reach", 8), openness, format!("{count} of {all}"), remedy)
}

/// Calls that are many calls by their arguments.
fn faces(spec: &Spec) -> Check {
    let many = [Sysno::socket, Sysno::ioctl, Sysno::prctl, Sysno::clone, Sysno::personality];
    let open: Vec<&str> = many
        .iter()
        .filter(|call| {
            // What a rule without conditions opens; that clone makes no namespaces is the sandbox's doing.
            let always = |rule: &Rule| rule.syscalls.contains(call) && rule.conditions.is_empty();
            let all = || Space::everything().is_covered_by(&surely(**call, spec.seccomp.allow.iter()));
            may_any(spec, **call) && (spec.seccomp.allow.iter().any(always) || all())
        })
        .map(|call| call.name())
        .collect();
    let state = match open.is_empty() {
        true => "each with argument rules".to_owned(),
        false => format!("with any arguments: {}", open.join(", ")),
    };
    let openness = 3 * u32::try_from(open.len()).unwrap_or(3);
    check(("arguments", "socket, ioctl, prctl, clone", 8), openness, state, "rules with `arguments`")
}

fn with(spec: &Spec, call: Sysno, wanted: &[(u8, u64, u64)]) -> bool {
    let conditions: Vec<Condition> = wanted
        .iter()
        .map(|(index, mask, value)| Condition {
            index: *index,
            wide: false,
            comparison: Comparison::MaskedEq(*mask),
            value: *value,
        })
        .collect();
    Space::of(&conditions).is_none_or(|space| may(&spec.seccomp, call, &space))
}

fn processes(spec: &Spec) -> Check {
    /// CLONE_THREAD.
    const THREAD: u64 = 0x1_0000;
    let forks = may_any(spec, Sysno::fork)
        || may_any(spec, Sysno::vfork)
        || with(spec, Sysno::clone, &[(0, THREAD, 0)]);
    let (openness, state) = match forks {
        true => (10, "may start processes"),
        false => (0, "is one process"),
    };
    check(
        ("processes", "Other processes", 4),
        openness,
        state,
        "without fork, and clone only with CLONE_THREAD",
    )
}

fn code(spec: &Spec) -> Check {
    let wanted = Space::of(&[WRITE_AND_EXECUTE]).unwrap_or_else(Space::everything);
    let maps = [Sysno::mmap, Sysno::mprotect, Sysno::pkey_mprotect];
    let both = maps.iter().any(|call| may(&spec.seccomp, *call, &wanted));
    let (openness, state) = match both {
        true => (10, "memory may be writable and executable at once"),
        false => (0, "memory is writable or executable, never both"),
    };
    let remedy = "a set in place of `base` that allows mmap and mprotect by prot, never both bits";
    check(("writable-code", "Injected code", 3), openness, state, remedy)
}

fn sockets(spec: &Spec) -> Check {
    /// SOCK_RAW.
    const RAW: u64 = 3;
    let raw = with(spec, Sysno::socket, &[(0, INT, 17)])
        || with(spec, Sysno::socket, &[(0, INT, 2), (1, 0xf, RAW)])
        || with(spec, Sysno::socket, &[(0, INT, 10), (1, 0xf, RAW)]);
    let netlink = with(spec, Sysno::socket, &[(0, INT, 16)]);
    let (openness, state, remedy) = match (raw, netlink) {
        (true, _) => (
            10,
            "raw or packet sockets",
            "socket only for AF_INET and AF_INET6 with SOCK_STREAM and SOCK_DGRAM",
        ),
        (false, true) => (
            3,
            "netlink, to ask the kernel about the network",
            "without the set `interfaces`, if it can do without",
        ),
        (false, false) => (0, "none", ""),
    };
    check(("sockets", "Unusual sockets", 6), openness, state, remedy)
}
