//! What the filter of a policy makes of a call, and which lines say so. The same answer as the compiled filter's:
//! a test of the sandbox compares them.

use std::fmt;
use std::sync::LazyLock;

use crate::call::Call;
use crate::phrase;
use crate::rules::{Action, Comparison, Condition, Denial, Mode, Origin, Rule, Seccomp, Sysno};
use crate::space::Space;

/// Calls of the x32 architecture carry this bit.
pub(crate) const X32_BIT: u32 = 0x4000_0000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Allowed by the sandbox itself.
    Always(&'static Rule),
    Allowed(&'a Rule),
    /// Answered with an errno in every mode, quietly.
    Denied(&'a Denial),
    /// clone3: ENOSYS in every mode, so that libraries fall back to clone.
    Absent,
    /// A call of another architecture: the process is killed in every mode.
    Foreign,
    /// No rule holds. `near` are the rules that name the call, the nearest first.
    Refused {
        consequence: Consequence,
        near: Vec<NearMiss<'a>>,
    },
}

/// What a call outside the rules meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// Mode audit: recorded, and it runs.
    Runs,
    Killed,
    Errno(u32),
}

/// A rule for the call whose conditions do not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NearMiss<'a> {
    pub call: Sysno,
    pub rule: &'a Rule,
    pub failed: Vec<Condition>,
}

/// What runs whatever the policy says: what the sandbox needs to get to the service's first instruction, and ends
/// and signal returns, which no recording sees and without which an error path becomes a riddle.
pub fn always() -> &'static [Rule] {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let rule = |syscalls: &[Sysno], conditions: &[(u8, u64)], why: &str| Rule {
            syscalls: syscalls.to_vec(),
            conditions: conditions
                .iter()
                .map(|(index, value)| Condition {
                    index: *index,
                    wide: false,
                    comparison: Comparison::Eq,
                    value: *value,
                })
                .collect(),
            why: why.to_owned(),
            origin: Origin { set: None, file: "the sandbox itself".to_owned(), line: 0 },
        };
        vec![
            rule(&[Sysno::execve], &[], "the sandbox starts the binary under the filter"),
            rule(&[Sysno::dup3], &[], "the sandbox puts stdin, stdout and stderr in their places"),
            // CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC of linux/close_range.h.
            rule(
                &[Sysno::close_range],
                &[(0, 3), (1, u64::from(u32::MAX)), (2, 6)],
                "the sandbox closes all other descriptors",
            ),
            // RLIMIT_NOFILE of asm-generic/resource.h.
            rule(
                &[Sysno::prlimit64],
                &[(0, 0), (1, 7)],
                "the sandbox limits the open files, when the filter's listener is open",
            ),
            rule(
                &[
                    Sysno::exit,
                    Sysno::exit_group,
                    Sysno::rt_sigreturn,
                    Sysno::restart_syscall,
                    Sysno::gettid,
                    Sysno::tgkill,
                ],
                &[],
                "ends, signal returns and aborts: what no recording sees",
            ),
        ]
    });
    &RULES
}

/// prot of mmap and mprotect with PROT_WRITE and PROT_EXEC.
pub(crate) const WRITE_AND_EXECUTE: Condition =
    Condition { index: 2, wide: false, comparison: Comparison::MaskedEq(6), value: 6 };

/// The arguments with which these rules allow a call. Rules too complex or too many to decide are left out: what is
/// said to be allowed already surely is.
pub(crate) fn surely<'r>(call: Sysno, rules: impl Iterator<Item = &'r Rule>) -> Space {
    /// More alternatives of one call than any profile has.
    const MOST: usize = 64;
    let mut space = Space::none();
    for rule in rules.filter(|rule| rule.syscalls.contains(&call)).take(MOST) {
        if let Some(more) = Space::of(&rule.conditions_of(call)) {
            space.join(more);
        }
    }
    space
}

/// The policy may allow the call with some of these arguments: what cannot be decided counts.
pub(crate) fn may(seccomp: &Seccomp, call: Sysno, arguments: &Space) -> bool {
    if seccomp.deny.iter().any(|denial| denial.syscalls.contains(&call)) {
        return false;
    }
    let mut rules = seccomp.allow.iter().chain(always()).filter(|rule| rule.syscalls.contains(&call));
    rules.any(|rule| {
        let both = Space::of(&rule.conditions_of(call)).and_then(|space| space.cut(arguments));
        both.is_none_or(|both| !both.is_empty())
    })
}

impl Seccomp {
    /// What the filter does with this call.
    pub fn judge(&self, call: &Call) -> Verdict<'_> {
        if call.number & X32_BIT != 0 {
            return Verdict::Foreign;
        }
        let Some(number) = call.sysno() else {
            return Verdict::Refused { consequence: self.consequence(), near: Vec::new() };
        };
        if number == Sysno::clone3 {
            return Verdict::Absent;
        }
        if let Some(denial) = self.deny.iter().find(|denial| denial.syscalls.contains(&number)) {
            return Verdict::Denied(denial);
        }
        let holds =
            |rule: &Rule| rule.conditions_of(number).iter().all(|condition| condition.holds(&call.args));
        if let Some(rule) = always().iter().find(|rule| rule.syscalls.contains(&number) && holds(rule)) {
            return Verdict::Always(rule);
        }
        let named = || self.allow.iter().filter(|rule| rule.syscalls.contains(&number));
        if let Some(rule) = named().find(|rule| holds(rule)) {
            return Verdict::Allowed(rule);
        }
        let mut near: Vec<NearMiss<'_>> = named()
            .map(|rule| {
                let conditions = rule.conditions_of(number);
                let failed = conditions.iter().filter(|condition| !condition.holds(&call.args));
                NearMiss { call: number, rule, failed: failed.copied().collect() }
            })
            .collect();
        near.sort_by_key(|miss| miss.failed.len());
        Verdict::Refused { consequence: self.consequence(), near }
    }

    /// What a call outside the rules meets.
    pub fn consequence(&self) -> Consequence {
        match (self.mode, self.default_action) {
            (Mode::Audit, _) => Consequence::Runs,
            (Mode::Enforce, Action::Kill) => Consequence::Killed,
            (Mode::Enforce, Action::Errno(errno)) => Consequence::Errno(errno),
        }
    }
}

impl Verdict<'_> {
    /// The call is executed, in mode audit too.
    pub fn runs(&self) -> bool {
        matches!(
            self,
            Verdict::Always(_)
                | Verdict::Allowed(_)
                | Verdict::Refused { consequence: Consequence::Runs, .. }
        )
    }

    /// The line of the profile or set that decided, or came nearest; `None` when no line names the call.
    pub fn line(&self) -> Option<String> {
        match self {
            Verdict::Allowed(rule) => Some(rule.origin.to_string()),
            Verdict::Denied(denial) => Some(denial.origin.to_string()),
            Verdict::Refused { near, .. } => near.first().map(|miss| miss.rule.origin.to_string()),
            Verdict::Always(_) | Verdict::Absent | Verdict::Foreign => None,
        }
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Always(rule) => write!(out, "allowed by the sandbox itself: {}", rule.why),
            Verdict::Allowed(rule) => write!(out, "allowed by {}: {}", rule.origin, rule.why),
            Verdict::Denied(denial) => write!(out, "denied by {}: {}", denial.origin, denial.why),
            Verdict::Absent => out.write_str("ENOSYS in every sandbox, so that libraries fall back to clone"),
            Verdict::Foreign => out.write_str("another architecture's call: kills in every sandbox"),
            Verdict::Refused { near, .. } => match near.first() {
                None => out.write_str("no rule names it"),
                Some(miss) => miss.fmt(out),
            },
        }
    }
}

impl fmt::Display for NearMiss<'_> {
    /// `policies/sets/network.toml:9 allows it only when domain is AF_INET`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.rule.conditions_of(self.call);
        let wanted = self.failed.iter().map(|one| phrase::condition(self.call, one, &all));
        let wanted: Vec<String> = wanted.collect();
        write!(out, "{} allows it only when {}", self.rule.origin, wanted.join(" and "))
    }
}
