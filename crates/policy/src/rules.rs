//! Seccomp rules as a policy states them, and their validation. Compiling them to BPF is the sandbox's part.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use crate::spanned::Spanned;
pub use syscalls::Sysno;

use crate::error::{Report, did_you_mean};
use crate::verdict::always;
use crate::{names, raw};

/// Longest `why` in bytes: a sentence, not a chapter.
const MAX_WHY: usize = 400;
/// Most rules of a kind in one file; the real ones have fewer than fifty.
const MAX_RULES: usize = 512;
/// Most conditions of a rule: all six arguments from both sides, and some.
const MAX_CONDITIONS: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seccomp {
    pub mode: Mode,
    /// What a call outside the rules meets in `enforce`.
    pub default_action: Action,
    /// Everything allowed, sets first. Several rules for one call are alternatives.
    pub allow: Vec<Rule>,
    /// Calls answered with an errno in both modes, without a trace: what a runtime probes and lives without.
    pub deny: Vec<Denial>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A call outside the rules is logged and runs.
    Audit,
    /// A call outside the rules meets the default action.
    Enforce,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// The whole process dies of SIGSYS.
    Kill,
    Errno(u32),
}

/// Allowed calls. `conditions` must all hold; none = always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub syscalls: Vec<Sysno>,
    pub conditions: Vec<Condition>,
    pub why: String,
    pub origin: Origin,
}

impl Rule {
    /// What must hold for this call: the rule's conditions, and for calls that can make namespaces that they make
    /// none. A user namespace gives its maker all capabilities within it, so namespaces are the sandbox's to make.
    pub fn conditions_of(&self, call: Sysno) -> Cow<'_, [Condition]> {
        let Some(mask) = namespace_flags(call) else { return Cow::Borrowed(&self.conditions) };
        let excluded = |condition: &Condition| match condition.comparison {
            Comparison::MaskedEq(own) if condition.index == 0 => {
                own & mask == mask && condition.value & mask == 0
            }
            Comparison::Eq => condition.index == 0 && condition.value & mask == 0,
            _ => false,
        };
        if self.conditions.iter().any(excluded) {
            return Cow::Borrowed(&self.conditions);
        }
        let none = Condition { index: 0, wide: false, comparison: Comparison::MaskedEq(mask), value: 0 };
        Cow::Owned(self.conditions.iter().copied().chain([none]).collect())
    }
}

/// The flags of the call's first argument that make namespaces (linux/sched.h). CLONE_NEWTIME lies where clone has
/// the exit signal, so only unshare takes it.
pub(crate) fn namespace_flags(call: Sysno) -> Option<u64> {
    match call {
        Sysno::clone => Some(0x7e02_0000),
        Sysno::unshare => Some(0x7e02_0080),
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub syscalls: Vec<Sysno>,
    pub errno: u32,
    pub why: String,
    pub origin: Origin,
}

/// The line that says so, for explanations. Line 0 = the sandbox itself, whatever the policy says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The set that the rule came with; `None` = the policy itself.
    pub set: Option<String>,
    pub file: String,
    pub line: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => out.write_str(&self.file),
            line => write!(out, "{}:{line}", self.file),
        }
    }
}

/// A comparison of one argument, 0 to 5, with a constant. Only the lower 32 bits are looked at unless `wide`:
/// that is how the kernel reads int arguments, whose upper half is the caller's garbage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    pub index: u8,
    pub wide: bool,
    pub comparison: Comparison,
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// The bits of the mask equal those of the value.
    MaskedEq(u64),
}

impl Condition {
    /// What the kernel will say of these arguments.
    pub fn holds(&self, args: &[u64; 6]) -> bool {
        let cut = |number: u64| if self.wide { number } else { number & u64::from(u32::MAX) };
        let argument = args.get(usize::from(self.index)).map_or(0, |argument| cut(*argument));
        match self.comparison {
            Comparison::Eq => argument == self.value,
            Comparison::Ne => argument != self.value,
            Comparison::Lt => argument < self.value,
            Comparison::Le => argument <= self.value,
            Comparison::Gt => argument > self.value,
            Comparison::Ge => argument >= self.value,
            Comparison::MaskedEq(mask) => argument & mask == self.value & mask,
        }
    }
}

impl Comparison {
    pub(crate) const NAMES: [(&'static str, Comparison); 7] = [
        ("eq", Comparison::Eq),
        ("ne", Comparison::Ne),
        ("lt", Comparison::Lt),
        ("le", Comparison::Le),
        ("gt", Comparison::Gt),
        ("ge", Comparison::Ge),
        ("masked_eq", Comparison::MaskedEq(0)),
    ];
}

pub(crate) fn allow(
    report: &mut Report<'_>,
    set: Option<&str>,
    entries: &[Spanned<raw::Allow>],
) -> Vec<Rule> {
    too_many(report, entries, MAX_RULES, "rules");
    entries
        .iter()
        .take(MAX_RULES)
        .map(|entry| {
            let table = entry.get_ref();
            too_many(report, &table.arguments, MAX_CONDITIONS, "`arguments`");
            Rule {
                syscalls: calls(report, &table.syscalls, entry.span()),
                conditions: table.arguments.iter().filter_map(|a| condition(report, a)).collect(),
                why: why(report, &table.why),
                origin: origin(report, set, entry.span().start),
            }
        })
        .collect()
}

pub(crate) fn deny(report: &mut Report<'_>, entries: &[Spanned<raw::Deny>]) -> Vec<Denial> {
    too_many(report, entries, MAX_RULES, "denials");
    entries
        .iter()
        .take(MAX_RULES)
        .map(|entry| {
            let table = entry.get_ref();
            for name in &table.syscalls {
                let needed = |rule: &Rule| rule.syscalls.iter().any(|call| call.name() == name.get_ref());
                if let Some(rule) = always().iter().find(|rule| needed(rule)) {
                    let what = format!("`{}` cannot be denied: {}", name.get_ref(), rule.why);
                    report.add(name.span(), what);
                }
            }
            Denial {
                syscalls: calls(report, &table.syscalls, entry.span()),
                errno: errno(report, &table.errno),
                why: why(report, &table.why),
                origin: origin(report, None, entry.span().start),
            }
        })
        .collect()
}

fn too_many<T>(report: &mut Report<'_>, list: &[Spanned<T>], most: usize, what: &str) {
    if let Some(extra) = list.get(most) {
        report.add(extra.span(), format!("more than {most} {what}"));
    }
}

fn origin(report: &Report<'_>, set: Option<&str>, at: usize) -> Origin {
    Origin { set: set.map(str::to_owned), file: report.file().to_owned(), line: report.line(at) }
}

fn calls(report: &mut Report<'_>, list: &[Spanned<String>], whole: std::ops::Range<usize>) -> Vec<Sysno> {
    if list.is_empty() {
        report.add(whole, "`syscalls` is empty");
    }
    let mut found = Vec::with_capacity(list.len());
    for name in list {
        match Sysno::from_str(name.get_ref()) {
            Ok(number) if found.contains(&number) => {
                report.add(name.span(), format!("`{number}` is listed twice"));
            }
            Ok(number) => found.push(number),
            Err(_) => {
                let what = format!("unknown syscall `{}`", name.get_ref());
                match did_you_mean(name.get_ref(), Sysno::iter().map(|known| known.name())) {
                    Some(hint) => report.add_with(name.span(), what, hint),
                    None => report.add(name.span(), what),
                }
            }
        }
    }
    found
}

fn why(report: &mut Report<'_>, text: &Spanned<String>) -> String {
    let trimmed = text.get_ref().trim();
    if trimmed.is_empty() || trimmed.len() > MAX_WHY {
        report.add(text.span(), format!("`why` must say why, in 1 to {MAX_WHY} bytes"));
    }
    trimmed.to_owned()
}

pub(crate) fn errno(report: &mut Report<'_>, name: &Spanned<String>) -> u32 {
    names::find(&names::ERRNO, name.get_ref()).unwrap_or_else(|| {
        report.add_with(
            name.span(),
            format!("unknown errno `{}`", name.get_ref()),
            format!("known: {}", names::ERRNO.map(|(known, _)| known).join(", ")),
        );
        0
    })
}

fn condition(report: &mut Report<'_>, entry: &Spanned<raw::Argument>) -> Option<Condition> {
    let table = entry.get_ref();
    let Some(index) = u8::try_from(*table.index.get_ref()).ok().filter(|index| *index < 6) else {
        report.add(table.index.span(), "`index` must be 0 to 5");
        return None;
    };
    let comparison = match &table.op {
        None => Comparison::Eq,
        Some(op) => match names::find(&Comparison::NAMES, op.get_ref()) {
            Some(comparison) => comparison,
            None => {
                let known = Comparison::NAMES.map(|(name, _)| name).join(", ");
                report.add_with(
                    op.span(),
                    format!("unknown comparison `{}`", op.get_ref()),
                    format!("known: {known}"),
                );
                return None;
            }
        },
    };
    let value = number(report, &table.value)?;
    let comparison = match (comparison, &table.mask) {
        (Comparison::MaskedEq(_), Some(mask)) => Comparison::MaskedEq(number(report, mask)?),
        (Comparison::MaskedEq(_), None) => {
            report.add(entry.span(), "`masked_eq` needs a `mask`");
            return None;
        }
        (_, Some(mask)) => {
            report.add(mask.span(), "`mask` only goes with op = \"masked_eq\"");
            return None;
        }
        (plain, None) => plain,
    };
    let wide = table.bits.as_ref().is_some_and(|bits| *bits.get_ref() == 64);
    if let Some(bits) = table.bits.as_ref().filter(|bits| ![32, 64].contains(bits.get_ref())) {
        report.add(bits.span(), "`bits` must be 32 or 64");
        return None;
    }
    let mask = if let Comparison::MaskedEq(mask) = comparison { mask } else { 0 };
    if !wide && (value | mask) > u64::from(u32::MAX) {
        report.add_with(entry.span(), "the value needs more than 32 bits", "add bits = 64".into());
        return None;
    }
    if mask != 0 && value & !mask != 0 {
        report.add(entry.span(), "the value has bits outside the mask: it can never match");
        return None;
    }
    Some(Condition { index, wide, comparison, value })
}

fn number(report: &mut Report<'_>, value: &Spanned<raw::Number>) -> Option<u64> {
    match value.get_ref() {
        raw::Number::Integer(number) => {
            let number = u64::try_from(*number).ok();
            if number.is_none() {
                report.add(value.span(), "argument values are unsigned");
            }
            number
        }
        raw::Number::Name(name) => match names::constant(name) {
            Ok(number) => Some(number),
            Err(unknown) => {
                let hint = did_you_mean(unknown, names::constants())
                    .unwrap_or_else(|| "use the number of the kernel's header".to_owned());
                report.add_with(value.span(), format!("unknown constant `{unknown}`"), hint);
                None
            }
        },
    }
}
