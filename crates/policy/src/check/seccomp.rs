//! `[seccomp]`: mode, sets, rules.

use crate::error::{Report, did_you_mean};
use crate::fields::{MAX_ENTRIES, one_of};
use crate::rules::{self, Action, Mode, Seccomp};
use crate::{Sets, raw};

pub(super) fn seccomp(report: &mut Report<'_>, raw: &raw::Seccomp, sets: &Sets) -> Seccomp {
    let modes = [("audit", Mode::Audit), ("enforce", Mode::Enforce)];
    let mode = one_of(report, "mode", &modes, &raw.mode).unwrap_or(Mode::Enforce);
    let mut allow = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for name in raw.sets.iter().take(MAX_ENTRIES) {
        if seen.contains(&name.get_ref().as_str()) {
            report.add(name.span(), format!("set `{}` is listed twice", name.get_ref()));
            continue;
        }
        seen.push(name.get_ref());
        match sets.get(name.get_ref()) {
            Some(Ok(rules)) => allow.extend_from_slice(rules),
            Some(Err(reason)) => report.add(name.span(), format!("set is broken: {reason}")),
            None => {
                let hint = did_you_mean(name.get_ref(), sets.names())
                    .unwrap_or_else(|| "no such file in sets/".to_owned());
                report.add_with(name.span(), format!("unknown set `{}`", name.get_ref()), hint);
            }
        }
    }
    allow.extend(rules::allow(report, None, &raw.allow));
    Seccomp { mode, default_action: default_action(report, raw), allow, deny: rules::deny(report, &raw.deny) }
}

fn default_action(report: &mut Report<'_>, raw: &raw::Seccomp) -> Action {
    let kinds = [("kill", false), ("errno", true)];
    let errno = raw
        .default_action
        .as_ref()
        .and_then(|action| one_of(report, "default_action", &kinds, action))
        .unwrap_or(false);
    match (&raw.errno, errno) {
        (Some(name), true) => Action::Errno(rules::errno(report, name)),
        (None, true) => Action::Errno(1),
        (Some(name), false) => {
            report.add(name.span(), "`errno` only goes with default_action = \"errno\"");
            Action::Kill
        }
        (None, false) => Action::Kill,
    }
}
