//! One system call: allowed always, sometimes, or never, by which lines, and what else happens.

use std::str::FromStr;

use syscalls::Sysno;

use crate::call::classes::danger;
use crate::call::table::arguments;
use crate::error::did_you_mean;
use crate::explain::consequence;
use crate::names::errno_name;
use crate::phrase;
use crate::rules::Rule;
use crate::space::Space;
use crate::verdict::{always, surely};
use crate::{Policy, Spec};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// With any arguments.
    Always,
    /// With some arguments.
    Sometimes,
    /// No rule names it.
    Never,
    /// Fails quietly in every mode.
    Denied,
    /// clone3.
    Absent,
}

impl Answer {
    pub fn name(self) -> &'static str {
        match self {
            Answer::Always => "always",
            Answer::Sometimes => "sometimes",
            Answer::Never => "never",
            Answer::Denied => "denied",
            Answer::Absent => "absent",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallExplanation {
    /// `socket(domain, type, protocol)`.
    pub signature: String,
    pub number: u32,
    pub answer: Answer,
    /// The lines that decide.
    pub rules: Vec<RuleExplanation>,
    /// What a call outside the rules meets.
    pub otherwise: String,
    /// What it lets an intruder do, of calls that have no place in a service.
    pub danger: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleExplanation {
    /// `domain is AF_INET`; `None` = always.
    pub when: Option<String>,
    pub why: String,
    pub origin: String,
    pub set: Option<String>,
}

/// `Err` when there is no such call, with the nearest name.
pub fn explain_call(policy: &Policy, name: &str) -> Result<CallExplanation, String> {
    let call = Sysno::from_str(name).map_err(|_| {
        did_you_mean(name, Sysno::iter().map(|known| known.name()))
            .unwrap_or_else(|| "x86-64 has no call of that name".to_owned())
    })?;
    let spec: &Spec = policy;
    let named: Vec<&'static str> = arguments(call).iter().map(|argument| argument.name).collect();
    let (answer, rules) = judged(spec, call);
    Ok(CallExplanation {
        signature: format!("{call}({})", named.join(", ")),
        number: u32::try_from(call.id()).unwrap_or_default(),
        answer,
        rules,
        otherwise: consequence(spec),
        danger: danger(call),
    })
}

fn judged(spec: &Spec, call: Sysno) -> (Answer, Vec<RuleExplanation>) {
    if call == Sysno::clone3 {
        return (Answer::Absent, Vec::new());
    }
    if let Some(denial) = spec.seccomp.deny.iter().find(|denial| denial.syscalls.contains(&call)) {
        let rule = RuleExplanation {
            when: Some(format!("fails with {}", errno_name(denial.errno))),
            why: denial.why.clone(),
            origin: denial.origin.to_string(),
            set: None,
        };
        return (Answer::Denied, vec![rule]);
    }
    let rules: Vec<&Rule> =
        always().iter().chain(&spec.seccomp.allow).filter(|rule| rule.syscalls.contains(&call)).collect();
    let everything = Space::everything().is_covered_by(&surely(call, rules.iter().copied()));
    let answer = match (rules.is_empty(), everything) {
        (true, _) => Answer::Never,
        (false, true) => Answer::Always,
        (false, false) => Answer::Sometimes,
    };
    let explained = rules.iter().map(|rule| RuleExplanation {
        when: phrase::conditions(call, &rule.conditions_of(call)),
        why: rule.why.clone(),
        origin: rule.origin.to_string(),
        set: rule.origin.set.clone(),
    });
    (answer, explained.collect())
}
