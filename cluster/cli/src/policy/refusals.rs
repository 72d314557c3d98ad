//! Refused calls as the author of a profile reads them: each kind once, with the line that decided, and what to
//! add if it is to be allowed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use orama_policy::{Observed, Policy, Shape, patch};
use orama_sandbox::{Outcome, Refusal};
use serde_json::json;

use crate::text;

/// Kinds that are kept apart; a service that invents more is counted in one heap.
const MAX_KINDS: usize = 1000;

/// What has been refused so far.
#[derive(Default)]
pub struct Ledger {
    kinds: BTreeMap<Shape, Observed>,
    total: u64,
}

/// A ledger that the watcher writes and the command reads.
pub type Shared = Arc<Mutex<Ledger>>;

impl Ledger {
    /// Counts it; true when its kind is new and to be shown.
    pub fn add(&mut self, refusal: &Refusal) -> bool {
        self.total += 1;
        let shape = refusal.call.shape();
        if let Some(known) = self.kinds.get_mut(&shape) {
            known.count += 1;
            return false;
        }
        if self.kinds.len() >= MAX_KINDS {
            return false;
        }
        self.kinds.insert(shape, Observed { call: refusal.call.clone(), count: 1 });
        true
    }

    pub fn observed(&self) -> Vec<Observed> {
        self.kinds.values().cloned().collect()
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}

pub fn locked(ledger: &Shared) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What became of it, in words.
fn outcome(outcome: Outcome) -> String {
    match outcome {
        Outcome::Killed => "killed".to_owned(),
        Outcome::Errno(number) => format!("got {:?}", nix::errno::Errno::from_raw(number as i32)),
        Outcome::Ran => "ran, as the mode is audit".to_owned(),
    }
}

/// The patch that would allow this call and nothing else.
fn patch_for(policy: &Policy, refusal: &Refusal) -> String {
    patch(policy, &[Observed { call: refusal.call.clone(), count: 1 }])
}

/// Several lines for people.
pub fn in_words(policy: &Policy, refusal: &Refusal) -> String {
    let call = text::printable(&refusal.call.describe(), 600);
    let verdict = policy.seccomp.judge(&refusal.call);
    let mut words = format!("refused: {call}\n  pid {} {}; {verdict}", refusal.pid, outcome(refusal.outcome));
    let patch = patch_for(policy, refusal);
    if !patch.trim().is_empty() {
        let allows = patch.lines().any(|line| line.starts_with("[["));
        words.push_str(if allows { "\n  to allow it, append:" } else { "\n  what to do:" });
        for line in patch.trim_end().lines() {
            words.push_str("\n    ");
            words.push_str(line);
        }
    }
    words
}

pub fn as_json(policy: &Policy, refusal: &Refusal) -> serde_json::Value {
    let verdict = policy.seccomp.judge(&refusal.call);
    json!({ "refused": {
        "service": refusal.service,
        "pid": refusal.pid,
        "syscall": refusal.call.name(),
        "number": refusal.call.number,
        "args": refusal.call.args,
        "call": refusal.call.describe(),
        "outcome": outcome(refusal.outcome),
        "reason": verdict.to_string(),
        "line": verdict.line(),
        "patch": patch_for(policy, refusal),
    }})
}
