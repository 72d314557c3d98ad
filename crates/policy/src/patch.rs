//! The smallest addition to a profile that would allow what a service was seen to do, as TOML to append, with the
//! evidence as comments. Arguments become conditions where they tell calls apart; paths never do.

use std::collections::BTreeMap;
use std::fmt::Write;

use syscalls::Sysno;

use crate::call::classes::{Class, danger};
use crate::call::{Call, INT, Shape, table, telling};
use crate::verdict::Verdict;
use crate::{Policy, Sets};

/// A call that was seen, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub call: Call,
    pub count: u64,
}

/// Different calls shown as evidence for one rule.
const EXAMPLES: usize = 3;
/// A set is worth a mention when it would allow at least this many of the missing calls, or all it has.
const SET_WORTH: usize = 2;

/// Begins the `why` of a rule that nobody has explained yet; `check` warns of it.
pub(crate) const UNEXPLAINED: &str = "learned:";

/// TOML to append to the profile, with the evidence as comments; empty when the profile allows all of it.
pub fn patch(policy: &Policy, calls: &[Observed]) -> String {
    let missing: Vec<&Observed> = calls
        .iter()
        .filter(|seen| matches!(policy.seccomp.judge(&seen.call), Verdict::Refused { .. } | Verdict::Foreign))
        .collect();
    let mut text = String::new();
    if missing.is_empty() {
        return text;
    }
    sets_hint(&mut text, &missing);
    let (plain, shaped, other) = sort(&missing);
    for (class, by_call) in plain {
        let names: Vec<String> = by_call.keys().map(|call| format!("{:?}", call.name())).collect();
        for seen in by_call.values() {
            evidence(&mut text, seen);
        }
        let why = format!("{UNEXPLAINED} to {}", class.title());
        rule(&mut text, &names.join(", "), None, &why);
    }
    for (shape, seen) in shaped {
        evidence(&mut text, &seen);
        let Some(call) = seen[0].call.sysno() else { continue };
        let why = format!("{UNEXPLAINED} {}", purpose(&seen[0].call, call));
        rule(&mut text, &format!("{:?}", call.name()), Some(&conditions(call, &shape)), &why);
    }
    for (reason, seen) in other {
        evidence(&mut text, &seen);
        text.push_str(&reason);
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

type Plain<'a> = BTreeMap<Class, BTreeMap<Sysno, Vec<&'a Observed>>>;
type Shaped<'a> = BTreeMap<Shape, Vec<&'a Observed>>;
/// What no rule is written for, by the comment that says why.
type Unwritten<'a> = BTreeMap<String, Vec<&'a Observed>>;

fn sort<'a>(missing: &[&'a Observed]) -> (Plain<'a>, Shaped<'a>, Unwritten<'a>) {
    let (mut plain, mut shaped, mut other) = (Plain::new(), Shaped::new(), Unwritten::new());
    for seen in missing {
        let Some(call) = seen.call.sysno() else {
            let reason = "# No rule can allow this: it is no system call of x86-64, and the sandbox ends who makes it.\n";
            other.entry(reason.to_owned()).or_default().push(seen);
            continue;
        };
        if seen.call.makes_namespace() {
            let reason = "# No rule can allow this: namespaces are the sandbox's to make.\n";
            other.entry(reason.to_owned()).or_default().push(seen);
        } else if let Some(danger) = danger(call) {
            other.entry(dangerous(call, danger)).or_default().push(seen);
        } else if telling(call).is_empty() {
            plain.entry(Class::of(call)).or_default().entry(call).or_default().push(seen);
        } else {
            shaped.entry(seen.call.shape()).or_default().push(seen);
        }
    }
    (plain, shaped, other)
}

/// Nobody should get such a rule by pasting.
fn dangerous(call: Sysno, danger: &str) -> String {
    format!(
        "# No rule is written for {call}: it {danger}.\n\
         # If the service lives without it, let it fail quietly:\n\
         #   [[seccomp.deny]]\n\
         #   syscalls = [\"{call}\"]\n\
         #   errno = \"ENOSYS\"\n\
         #   why = \"…\"\n"
    )
}

fn evidence(text: &mut String, seen: &[&Observed]) {
    let mut by_text: BTreeMap<String, u64> = BTreeMap::new();
    for one in seen {
        let count = by_text.entry(one.call.describe()).or_default();
        *count = count.saturating_add(one.count);
    }
    let mut examples: Vec<(String, u64)> = by_text.into_iter().collect();
    examples.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    for (call, count) in examples.iter().take(EXAMPLES) {
        let _never_fails = writeln!(text, "# {count} × {call}");
    }
    if let Some(more @ 1..) = examples.len().checked_sub(EXAMPLES) {
        let _never_fails = writeln!(text, "#   and {more} more with other arguments");
    }
}

fn rule(text: &mut String, names: &str, arguments: Option<&str>, why: &str) {
    let _never_fails = writeln!(text, "[[seccomp.allow]]\nsyscalls = [{names}]");
    if let Some(arguments) = arguments {
        let _never_fails = writeln!(text, "arguments = [{arguments}]");
    }
    let _never_fails = writeln!(text, "why = {why:?}\n");
}

/// The inside of `arguments = […]` for calls of one shape.
fn conditions(call: Sysno, shape: &Shape) -> String {
    let masks = telling(call).iter().map(|(_, mask)| *mask);
    let one = |((index, value), mask): (&(u8, u64), u64)| {
        let names =
            table::arguments(call).get(usize::from(*index)).and_then(|argument| match argument.kind {
                table::Kind::Named(names) => Some(names),
                _ => None,
            });
        let quoted = |value: u64| match names {
            // Zero is the absence of bits, which has no name worth quoting in a masked comparison.
            Some(names) if mask == INT || value != 0 => {
                let shown = names.show(value);
                if shown.contains("0x") || shown.starts_with(|c: char| c.is_ascii_digit()) {
                    format!("{value:#x}")
                } else {
                    format!("{shown:?}")
                }
            }
            _ if value < 4096 => value.to_string(),
            _ => format!("{value:#x}"),
        };
        if mask == INT {
            format!("{{ index = {index}, value = {} }}", quoted(*value))
        } else {
            let mask = mask_text(call, mask);
            format!("{{ index = {index}, op = \"masked_eq\", mask = {mask}, value = {} }}", quoted(*value))
        }
    };
    shape.arguments.iter().zip(masks).map(one).collect::<Vec<_>>().join(", ")
}

/// The mask of a telling argument, with names where they say more than the number.
fn mask_text(call: Sysno, mask: u64) -> String {
    match call {
        Sysno::clone => "\"CLONE_THREAD|CLONE_NEW_ANY\"".to_owned(),
        Sysno::mmap | Sysno::mprotect | Sysno::pkey_mprotect => "\"PROT_WRITE|PROT_EXEC\"".to_owned(),
        _ => format!("{mask:#x}"),
    }
}

/// The telling arguments of the call, as a reader would say them.
fn purpose(seen: &Call, call: Sysno) -> String {
    let shown: Vec<String> =
        telling(call).iter().map(|(index, _)| seen.show(call, usize::from(*index))).collect();
    format!("{call} with {}", shown.join(", "))
}

/// Names the sets that would allow much of it: shorter to read than rules, and kept up with the runtimes.
fn sets_hint(text: &mut String, missing: &[&Observed]) {
    let sets = Sets::builtin();
    for name in sets.names() {
        let Some(Ok(rules)) = sets.get(name) else { continue };
        let allows = |seen: &Observed| {
            rules.iter().any(|rule| {
                seen.call.sysno().is_some_and(|call| {
                    rule.syscalls.contains(&call)
                        && rule.conditions_of(call).iter().all(|condition| condition.holds(&seen.call.args))
                })
            })
        };
        let covered: std::collections::BTreeSet<Shape> =
            missing.iter().filter(|seen| allows(seen)).map(|seen| seen.call.shape()).collect();
        let calls: usize = rules.iter().map(|rule| rule.syscalls.len()).sum();
        if covered.len() >= SET_WORTH.min(calls) {
            let _never_fails =
                writeln!(text, "# The set `{name}` would allow {} of the calls below.", covered.len());
        }
    }
    if !text.is_empty() {
        text.push_str(
            "# Add a set to `sets` in [seccomp] and learn again, and fewer rules are left to explain.\n\n",
        );
    }
}

#[cfg(test)]
#[path = "patch/tests.rs"]
mod tests;
