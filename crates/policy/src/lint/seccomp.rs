//! Sets and rules that do nothing, do less than they look, or open what no service needs.

use crate::spanned::Spanned;

use crate::call::classes::danger;
use crate::lint::{Findings, Profile};
use crate::patch::UNEXPLAINED;
use crate::raw;
use crate::rules::{Rule, Sysno};
use crate::space::Space;
use crate::verdict::{WRITE_AND_EXECUTE, surely};

/// Calls that mean very different things by their arguments, and what the argument decides.
const MANY_FACES: [(Sysno, &str); 6] = [
    (Sysno::socket, "which protocols: raw, packet and netlink sockets among them"),
    (Sysno::ioctl, "which device command"),
    (Sysno::prctl, "which setting of the process"),
    (Sysno::clone, "threads, processes or namespaces"),
    (Sysno::personality, "which rules the program runs by"),
    (Sysno::socketpair, "which family"),
];

pub(super) fn lint(list: &mut Findings<'_>, profile: &Profile<'_>) {
    unused_sets(list, profile);
    let rules = &profile.policy.seccomp.allow;
    let own = rules.len() - profile.raw.seccomp.allow.len().min(rules.len());
    for (at, entry) in profile.raw.seccomp.allow.iter().enumerate() {
        shadowed(list, rules, own + at, entry);
        opened(list, &rules[own + at], entry);
        if entry.get_ref().why.get_ref().trim_start().starts_with(UNEXPLAINED) {
            let span = entry.get_ref().why.span();
            list.warn(
                "unexplained",
                span,
                "nobody has said yet why the service needs this",
                "say it in `why`",
            );
        }
    }
    denials(list, profile);
    writable_code(list, profile);
}

/// A set none of whose rules adds anything to the other sets.
fn unused_sets(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let rules = &profile.policy.seccomp.allow;
    for name in &profile.raw.seccomp.sets {
        let of_set = |rule: &&Rule| rule.origin.set.as_deref() == Some(name.get_ref());
        let others = || rules.iter().filter(|rule| rule.origin.set.is_some() && !of_set(rule));
        let adds = rules.iter().filter(of_set).any(|rule| {
            let calls = rule.syscalls.iter();
            calls.into_iter().any(|call| !is_covered(*call, rule, others()))
        });
        if !adds {
            let message = format!("set `{}` adds nothing to the other sets", name.get_ref());
            list.warn("unused-set", name.span(), message, "leave it out");
        }
    }
}

fn is_covered<'r>(call: Sysno, rule: &Rule, by: impl Iterator<Item = &'r Rule>) -> bool {
    let by: Vec<&Rule> = by.filter(|other| other.syscalls.contains(&call)).collect();
    if by.iter().any(|other| other.conditions.is_empty() || other.conditions == rule.conditions) {
        return true;
    }
    let space = Space::of(&rule.conditions_of(call));
    space.is_some_and(|space| space.is_covered_by(&surely(call, by.into_iter())))
}

/// Calls of a rule that other rules allow already. Of two equal rules the second is told.
fn shadowed(list: &mut Findings<'_>, rules: &[Rule], at: usize, entry: &Spanned<raw::Allow>) {
    let rule = &rules[at];
    let mut idle = Vec::new();
    for (call, name) in rule.syscalls.iter().zip(&entry.get_ref().syscalls) {
        let names_it = |other: &&(usize, &Rule)| other.0 != at && other.1.syscalls.contains(call);
        let others: Vec<(usize, &Rule)> = rules.iter().enumerate().filter(|r| names_it(&r)).collect();
        let always = others.iter().find(|(_, other)| other.conditions.is_empty());
        if let (Some((_, always)), false) = (always, rule.conditions.is_empty()) {
            let message =
                format!("these conditions have no effect: {} allows `{call}` always", always.origin);
            list.warn("no-effect", name.span(), message, "remove this rule or the one without conditions");
            continue;
        }
        // What comes later and says the same is itself the one too many.
        let earlier =
            others.iter().filter(|(index, other)| *index < at || other.conditions != rule.conditions);
        let earlier: Vec<&Rule> = earlier.map(|(_, other)| *other).collect();
        if is_covered(*call, rule, earlier.iter().copied()) {
            let origin = earlier.iter().find(|other| is_covered(*call, rule, std::iter::once(**other)));
            let origin = origin.or(earlier.first()).map(|other| other.origin.to_string());
            idle.push((call, name.span(), origin.unwrap_or_default()));
        }
    }
    if let [(_, _, origin), ..] = idle.as_slice()
        && idle.len() == rule.syscalls.len()
    {
        let message = format!("this rule adds nothing: {origin} allows it already");
        list.warn("shadowed-rule", entry.get_ref().syscalls[0].span(), message, "remove the rule");
        return;
    }
    for (call, span, origin) in idle {
        list.warn("shadowed-rule", span, format!("{origin} allows `{call}` already"), "leave it out");
    }
}

fn opened(list: &mut Findings<'_>, rule: &Rule, entry: &Spanned<raw::Allow>) {
    for (call, name) in rule.syscalls.iter().zip(&entry.get_ref().syscalls) {
        if let Some(danger) = danger(*call) {
            let hint =
                "most programs live without it: try [[seccomp.deny]] with errno = \"ENOSYS\" or \"EPERM\"";
            list.warn("dangerous-call", name.span(), format!("`{call}` {danger}"), hint);
        }
        let faces = MANY_FACES.iter().find(|(many, _)| many == call);
        if let (Some((_, what)), true) = (faces, rule.conditions.is_empty()) {
            let message = format!("`{call}` without `arguments` allows all of it: they decide {what}");
            let hint = "add `arguments`; `orama policy learn` shows which ones the service uses";
            list.warn("unconditional", name.span(), message, hint);
        }
    }
}

fn denials(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let seccomp = &profile.policy.seccomp;
    for (at, (denial, entry)) in seccomp.deny.iter().zip(&profile.raw.seccomp.deny).enumerate() {
        for (call, name) in denial.syscalls.iter().zip(&entry.get_ref().syscalls) {
            let mut own = seccomp.allow.iter().filter(|rule| rule.origin.set.is_none());
            if let Some(rule) = own.find(|rule| rule.syscalls.contains(call)) {
                let message = format!("`{call}` is denied here and allowed in line {}", rule.origin.line);
                list.warn("denied-and-allowed", name.span(), message, "deny wins: remove one of them");
            }
            let earlier = seccomp.deny[..at].iter().find(|other| other.syscalls.contains(call));
            if let Some(earlier) = earlier {
                let message = format!("`{call}` is already denied in line {}", earlier.origin.line);
                list.warn("shadowed-rule", name.span(), message, "leave it out");
            }
        }
    }
}

/// Memory that is writable and executable at once is what injected code needs. What a set opens, the score tells.
fn writable_code(list: &mut Findings<'_>, profile: &Profile<'_>) {
    let wanted = Space::of(&[WRITE_AND_EXECUTE]).unwrap_or_else(Space::everything);
    let own = profile.policy.seccomp.allow.iter().filter(|rule| rule.origin.set.is_none());
    for (rule, entry) in own.zip(&profile.raw.seccomp.allow) {
        let both = Space::of(&rule.conditions).and_then(|space| space.cut(&wanted));
        for (call, name) in rule.syscalls.iter().zip(&entry.get_ref().syscalls) {
            let maps = matches!(call, Sysno::mmap | Sysno::mprotect | Sysno::pkey_mprotect);
            if maps && both.as_ref().is_none_or(|both| !both.is_empty()) {
                let message =
                    format!("`{call}` may make memory writable and executable, as injected code needs it");
                let hint = "allow it by { index = 2, op = \"masked_eq\", mask = \"PROT_WRITE|PROT_EXEC\", value = … } \
                            with 0, PROT_WRITE and PROT_EXEC, a rule each";
                list.warn("writable-code", name.span(), message, hint);
            }
        }
    }
}
