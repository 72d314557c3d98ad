//! How exposed a service is by its policy: 0.0 is a box with nothing in reach, 10.0 is no box. One check per way out,
//! each with a weight; what counts is what an intruder in the service could do, not what the service does.

mod calls;
mod surroundings;

use crate::Policy;
use crate::spec::Spec;

/// One way out, and how far it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Stable, for machines: `seccomp-mode`.
    pub code: &'static str,
    pub title: &'static str,
    /// Against the other checks.
    pub weight: u32,
    /// 0 (shut) to 10 (open).
    pub openness: u32,
    /// How it stands in this policy.
    pub state: String,
    /// What would lower it, when something would.
    pub remedy: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Score {
    /// The largest share first.
    pub checks: Vec<Check>,
}

impl Score {
    fn weights(&self) -> u32 {
        self.checks.iter().map(|check| check.weight).sum::<u32>().max(1)
    }

    /// 0 to 100: tenths of the exposure.
    pub fn tenths(&self) -> u32 {
        let open: u32 = self.checks.iter().map(|check| check.weight * check.openness).sum();
        (open * 10).div_ceil(self.weights())
    }

    /// 0.0 to 10.0.
    pub fn exposure(&self) -> f64 {
        f64::from(self.tenths()) / 10.0
    }

    /// What this check adds to the exposure.
    pub fn share(&self, check: &Check) -> f64 {
        f64::from(check.weight * check.openness) / f64::from(self.weights())
    }

    /// The exposure in a word.
    pub fn word(&self) -> &'static str {
        match self.tenths() {
            0..=10 => "tight",
            11..=25 => "good",
            26..=50 => "fair",
            51..=75 => "exposed",
            _ => "open",
        }
    }
}

pub fn score(policy: &Policy) -> Score {
    let spec: &Spec = policy;
    let mut checks = calls::checks(spec);
    checks.extend(surroundings::checks(spec));
    checks.sort_by_key(|check| std::cmp::Reverse((check.weight * check.openness, check.weight)));
    Score { checks }
}

fn check(
    (code, title, weight): (&'static str, &'static str, u32),
    openness: u32,
    state: impl Into<String>,
    remedy: &str,
) -> Check {
    let remedy = (openness > 0 && !remedy.is_empty()).then(|| remedy.to_owned());
    Check { code, title, weight, openness: openness.min(10), state: state.into(), remedy }
}
