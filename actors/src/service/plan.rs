//! What a service actor needs to know about its service, taken from its policy. The confinement is not here: that
//! part of the policy is the launcher's.

use std::sync::Arc;
use std::time::Duration;

use orama_policy::{Liveness, Mode, Policy, Probe, Readiness, Variables};

use super::machine::Rules;
use super::probe::Target;
use super::reasons::Limits;

/// A text that is known once the node knows its own name and address.
pub type Address = Arc<dyn Fn(&Variables) -> String + Send + Sync>;

pub struct ServicePlan {
    pub name: String,
    /// Services that start before this one.
    pub after: Vec<String>,
    pub rules: Rules,
    pub stop_signal: i32,
    /// None: it cannot read its configuration again.
    pub reload_signal: Option<i32>,
    /// Its processes run as this user and no others do.
    pub uid: u32,
    /// For what status says; the kernel holds them.
    pub limits: Limits,
    pub readiness: ReadinessPlan,
    pub liveness: Option<LivenessPlan>,
    /// `audit` or `enforce`.
    pub seccomp: String,
}

#[derive(Clone)]
pub enum ReadinessPlan {
    None,
    Probe(ProbePlan),
    /// It says `READY=1` on its notify socket.
    Notify,
}

#[derive(Clone)]
pub enum ProbePlan {
    Tcp(Address),
    Http(Address),
}

#[derive(Clone)]
pub struct LivenessPlan {
    pub probe: ProbePlan,
    pub interval: Duration,
    pub timeout: Duration,
    pub failures: u32,
}

impl ProbePlan {
    pub(crate) fn resolve(&self, variables: &Variables) -> Target {
        match self {
            Self::Tcp(address) => Target::Tcp(address(variables)),
            Self::Http(url) => Target::Http(url(variables)),
        }
    }
}

impl ServicePlan {
    pub fn from_policy(policy: &Arc<Policy>) -> Self {
        let (readiness, ready_within) = match &policy.readiness {
            Readiness::None => (ReadinessPlan::None, None),
            Readiness::Notify { timeout } => (ReadinessPlan::Notify, Some(*timeout)),
            Readiness::Probe { probe, timeout } => {
                (ReadinessPlan::Probe(plan_probe(policy, probe)), Some(*timeout))
            }
        };
        let liveness =
            policy.liveness.as_ref().map(|Liveness { probe, interval, timeout, failures }| LivenessPlan {
                probe: plan_probe(policy, probe),
                interval: *interval,
                timeout: *timeout,
                failures: *failures,
            });
        Self {
            name: policy.name.clone(),
            after: policy.after.clone(),
            rules: Rules {
                steps: policy.prepare.iter().map(|step| step.timeout).collect(),
                ready_within,
                backoff_initial: policy.restart.initial,
                backoff_maximum: policy.restart.maximum,
                intensity: policy.restart.intensity,
                window: policy.restart.window,
                stop_grace: policy.stop.grace,
            },
            stop_signal: policy.stop.signal.number(),
            reload_signal: policy.reload.map(|signal| signal.number()),
            uid: policy.uid,
            limits: Limits { memory_bytes: policy.cgroup.memory_bytes, pids: policy.cgroup.pids },
            readiness,
            liveness,
            seccomp: match policy.seccomp.mode {
                Mode::Audit => "audit".into(),
                Mode::Enforce => "enforce".into(),
            },
        }
    }
}

fn plan_probe(policy: &Arc<Policy>, probe: &Probe) -> ProbePlan {
    let policy = Arc::clone(policy);
    match probe.clone() {
        Probe::Tcp(template) => ProbePlan::Tcp(Arc::new(move |vars| policy.expand(&template, vars))),
        Probe::Http(template) => ProbePlan::Http(Arc::new(move |vars| policy.expand(&template, vars))),
    }
}
