//! Following a node from "taken" to "running" by the gateway's fleet report, printing each step once.

use std::thread;
use std::time::{Duration, Instant};

use orama_protocol::enroll::EnrollResponse;
use orama_protocol::gateway::{FleetReport, NodeReport};

use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

pub const REPORT_PATH: &str = "/v1/fleet/report";
/// Between two looks: a step of provisioning takes seconds.
const PAUSE: Duration = Duration::from_secs(2);
/// Reports in a row without the node until it counts as gone.
const ABSENCES_MAX: u32 = 2;

/// What one look at the report says about the node.
enum Sight {
    Running(Box<NodeReport>),
    /// On its way, with a line for the operator.
    Step(String),
    Failed(String),
    /// Not in the report.
    Absent,
}

/// Looks until the node runs and is healthy, has failed, or the time is over.
pub fn until_running(
    enrolled: &EnrollResponse,
    wait: Duration,
    gateway: &Gateway,
    output: &Output,
) -> Result<NodeReport, Failure> {
    let node_id = text::printable(&enrolled.node_id, 64);
    let end = Instant::now() + wait;
    let mut absences = 0;
    let mut last = String::new();
    loop {
        match look(&enrolled.node_id, gateway) {
            Ok(Sight::Running(node)) => return Ok(*node),
            Ok(Sight::Failed(reason)) => return Err(failed(&node_id, &reason)),
            Ok(Sight::Absent) => absences += 1,
            Ok(Sight::Step(step)) => {
                absences = 0;
                say(output, &mut last, step);
            }
            // The gateway may be restarting; any other refusal will not get better.
            Err(error @ (CallError::Unreachable(..) | CallError::Timeout(_))) => {
                say(output, &mut last, Failure::because(Exit::Unreachable, &error).what().to_owned());
            }
            Err(error) => {
                return Err(error.into_failure(&format!("{node_id} is enrolled, but cannot be followed")));
            }
        }
        // The gateway stores a node before it answers the enrollment, and forgets it when provisioning fails.
        if absences >= ABSENCES_MAX {
            return Err(failed(&node_id, if last.is_empty() { "the gateway forgot it" } else { &last }));
        }
        if Instant::now() + PAUSE > end {
            let waited = text::span(wait.as_secs());
            let last = if last.is_empty() { "no step was reported" } else { &last };
            let what = format!("{node_id} is enrolled, but was not running after {waited}: {last}");
            return Err(Failure::new(Exit::Unfinished, what)
                .next(format!("look again with `orama node status --node-id {node_id}`")));
        }
        thread::sleep(PAUSE);
    }
}

fn look(node_id: &str, gateway: &Gateway) -> Result<Sight, CallError> {
    let body = gateway.get(REPORT_PATH)?;
    let report: FleetReport = gateway::decode(REPORT_PATH, &body)?;
    Ok(sight(report.nodes.into_iter().find(|node| node.node_id == node_id)))
}

fn sight(node: Option<NodeReport>) -> Sight {
    let Some(node) = node else { return Sight::Absent };
    let phase = text::printable(&node.phase, 64);
    let detail = text::printable(&node.detail, 300);
    if phase == "failed" {
        return Sight::Failed(if detail.is_empty() { "no reason given".to_owned() } else { detail });
    }
    if phase == "running" && node.reachable && node.healthy {
        return Sight::Running(Box::new(node));
    }
    let mut step = phase;
    if !detail.is_empty() {
        step.push_str(": ");
        step.push_str(&detail);
    }
    if !node.unhealthy_services.is_empty() {
        step.push_str(", waiting for ");
        step.push_str(&text::printable(&node.unhealthy_services.join(", "), 200));
    }
    Sight::Step(step)
}

fn failed(node_id: &str, reason: &str) -> Failure {
    Failure::new(Exit::Failed, format!("{node_id} could not be provisioned: {reason}"))
        .next("the node is back in enrollment mode with a new code: enroll it with a new invite")
}

/// Says a step when it is another one than the last.
fn say(output: &Output, last: &mut String, step: String) {
    if *last != step {
        output.progress(&step);
        *last = step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(phase: &str, reachable: bool, healthy: bool, detail: &str) -> Option<NodeReport> {
        Some(NodeReport {
            node_id: "node-10.0.0.4".into(),
            wg_ip: "10.0.0.4".into(),
            public_ip: "192.0.2.4".into(),
            role: "agent".into(),
            reachable,
            healthy,
            phase: phase.into(),
            version: "1.0.0".into(),
            uptime_seconds: None,
            unhealthy_services: if healthy { vec![] } else { vec!["rqlite".into()] },
            detail: detail.into(),
            leaving: false,
            custody: None,
        })
    }

    #[test]
    fn only_a_reachable_healthy_running_node_ends_the_wait() {
        assert!(matches!(sight(node("running", true, true, "")), Sight::Running(_)));
        for waiting in [
            node("running", false, true, ""),
            node("running", true, false, ""),
            node("enrolling", false, false, "formatting"),
        ] {
            assert!(matches!(sight(waiting), Sight::Step(_)));
        }
        let Sight::Step(step) = sight(node("enrolling", false, false, "storing share 2 of 5\u{1b}[2J"))
        else {
            panic!("an enrolling node is on its way");
        };
        assert_eq!(step, "enrolling: storing share 2 of 5 [2J, waiting for rqlite");
    }

    #[test]
    fn failure_and_absence_are_told_apart() {
        let failed = sight(node("failed", false, false, "guardian 10.0.0.13 refused"));
        assert!(matches!(failed, Sight::Failed(reason) if reason == "guardian 10.0.0.13 refused"));
        assert!(matches!(sight(None), Sight::Absent));
    }
}
