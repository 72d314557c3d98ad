//! System calls of two policies: the argument spaces of each call are compared, so that rules that say the same in
//! other words are no difference.

use std::collections::BTreeSet;

use crate::diff::{Change, Changes, Direction};
use crate::names::errno_name;
use crate::phrase;
use crate::rules::{Rule, Seccomp, Sysno};
use crate::space::Space;
use crate::verdict::{Consequence, always, surely};

pub(super) fn compare(changes: &mut Changes, old: &Seccomp, new: &Seccomp) {
    changes.subject = "system calls";
    outside(changes, old, new);
    denials(changes, old, new);
    one_way(changes, old, new, Direction::Gained);
    one_way(changes, new, old, Direction::Lost);
}

/// What meets a call outside the rules.
fn outside(changes: &mut Changes, old: &Seccomp, new: &Seccomp) {
    let rank = |consequence: Consequence| match consequence {
        Consequence::Killed => 0,
        Consequence::Errno(_) => 1,
        Consequence::Runs => 2,
    };
    let words = |consequence: Consequence| match consequence {
        Consequence::Killed => "ends the process".to_owned(),
        Consequence::Errno(errno) => format!("fails with {}", errno_name(errno)),
        Consequence::Runs => "runs and is recorded".to_owned(),
    };
    let (before, now) = (old.consequence(), new.consequence());
    let text = format!("a call outside the rules: {} -> {}", words(before), words(now));
    match rank(now).cmp(&rank(before)) {
        std::cmp::Ordering::Greater => changes.add(Direction::Gained, text),
        std::cmp::Ordering::Less => changes.add(Direction::Lost, text),
        std::cmp::Ordering::Equal if before != now => changes.add(Direction::Changed, text),
        std::cmp::Ordering::Equal => {}
    }
}

fn denied(seccomp: &Seccomp, call: Sysno) -> Option<u32> {
    seccomp.deny.iter().find(|denial| denial.syscalls.contains(&call)).map(|denial| denial.errno)
}

/// A quiet refusal instead of a recorded one, or the other way round. What a denial takes from the rules is found
/// with the rules.
fn denials(changes: &mut Changes, old: &Seccomp, new: &Seccomp) {
    let named = |seccomp: &Seccomp| -> BTreeSet<Sysno> {
        seccomp.deny.iter().flat_map(|denial| denial.syscalls.iter().copied()).collect()
    };
    for call in named(old).union(&named(new)) {
        let shown = |errno: Option<u32>| match errno {
            Some(errno) => format!("fails quietly with {}", errno_name(errno)),
            None => "is recorded when refused".to_owned(),
        };
        let (before, now) = (denied(old, *call), denied(new, *call));
        if before != now {
            changes.add(Direction::Changed, format!("{call}: {} -> {}", shown(before), shown(now)));
        }
    }
}

/// The rules of `to` that allow what `from` does not.
fn one_way(changes: &mut Changes, from: &Seccomp, to: &Seccomp, direction: Direction) {
    let mut told: Vec<(Sysno, Space)> = Vec::new();
    for rule in &to.allow {
        let mut beyond = Vec::new();
        for call in rule.syscalls.iter().filter(|call| denied(to, **call).is_none()) {
            let mut known = match denied(from, *call) {
                Some(_) => Space::none(),
                None => surely(*call, from.allow.iter().chain(always())),
            };
            for (_, space) in told.iter().filter(|(told, _)| told == call) {
                known.join(space.clone());
            }
            // Too complex to decide counts as different: a difference too many is looked at, one too few is not.
            let same = |other: &Rule| other.syscalls.contains(call) && other.conditions == rule.conditions;
            if denied(from, *call).is_none() && from.allow.iter().any(same) {
                continue;
            }
            let space = Space::of(&rule.conditions_of(*call));
            if !space.as_ref().is_some_and(|space| space.is_covered_by(&known)) {
                beyond.push(*call);
                told.extend(space.map(|space| (*call, space)));
            }
        }
        if !beyond.is_empty() {
            let (text, origin) = (phrased(&beyond, rule), Some(rule.origin.to_string()));
            changes.found.push(Change { direction, subject: changes.subject, text, origin });
        }
    }
}

fn phrased(calls: &[Sysno], rule: &Rule) -> String {
    let names: Vec<&str> = calls.iter().map(|call| call.name()).collect();
    let when = calls.first().and_then(|call| phrase::conditions(*call, &rule.conditions_of(*call)));
    let when = when.map(|when| format!(" when {when}")).unwrap_or_default();
    format!("{}{when}", names.join(" "))
}
