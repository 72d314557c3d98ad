//! A service profile: TOML text in, a [`Policy`] out, or an error that names file, line and column.
//!
//! Owns the schema, the named syscall sets, the variables, the start order, and what can be said of a policy without
//! running anything: lints, explanations, differences, scores. It starts nothing and looks at nothing but the policy
//! files: whether a binary exists or a kernel can do it is the sandbox's business.
#![forbid(unsafe_code)]

mod call;
mod check;
mod diff;
mod error;
mod explain;
mod fields;
mod lint;
mod load;
mod names;
mod order;
mod patch;
mod phrase;
mod raw;
mod rules;
mod schema;
mod score;
mod sets;
mod space;
mod spanned;
mod spec;
mod template;
mod verdict;

use std::ops::Deref;

pub use call::{Call, Shape, address_argument, path_arguments};
pub use diff::{Change, Direction, diff};
pub use error::PolicyError;
pub use explain::{Answer, CallExplanation, Line, RuleExplanation, Section, explain, explain_call};
pub use lint::{Finding, Severity, Source, lint};
pub use load::{Loaded, Refused, load_dir, read_bounded};
pub use names::{Capability, Device, Signal};
pub use patch::{Observed, patch};
pub use rules::{Action, Comparison, Condition, Denial, Mode, Origin, Rule, Seccomp, Sysno};
pub use schema::schema;
pub use score::{Check, Score, score};
pub use sets::Sets;
pub use spec::{
    CgroupLimits, Filesystem, Landlock, LandlockMode, Liveness, Namespaces, Prepare, Probe, Readiness,
    Restart, Rlimit, Spec, Stop,
};
pub use template::{Template, Variable, Variables};
pub use verdict::{Consequence, NearMiss, Verdict, always};

/// The only schema version there is. A file that says another one is refused, never guessed at.
pub const SCHEMA_VERSION: u32 = 1;

/// Largest policy or set file in bytes. The real ones are under 8 KiB; this only bounds the parser's work.
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// A validated policy. It can only be made by [`Policy::parse`], so holding one is the proof of validity;
/// its fields are read through [`Spec`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy(Spec);

impl Policy {
    /// Parses and validates one file; the first error in the order of the text. `file` is only used in messages.
    pub fn parse(file: &str, text: &str, sets: &Sets) -> Result<Policy, PolicyError> {
        Policy::check(file, text, sets).map_err(|mut errors| errors.swap_remove(0))
    }

    /// As [`Policy::parse`], but with every error that could be found, in the order of the text. Never empty.
    pub fn check(file: &str, text: &str, sets: &Sets) -> Result<Policy, Vec<PolicyError>> {
        check::policy(file, text, sets).map(Policy)
    }
}

impl Deref for Policy {
    type Target = Spec;

    fn deref(&self) -> &Spec {
        &self.0
    }
}
