//! `orama node approve` and `orama node revoke`: the operator's answer to an alarm of the guardians.

use std::net::IpAddr;

use orama_protocol::gateway::{Decision, DecisionRequest};

use super::{Node, leave};
use crate::failure::Failure;
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text::printable;

pub fn approve(
    node: &Node,
    address: Option<IpAddr>,
    gateway: &Gateway,
    output: &Output,
) -> Result<(), Failure> {
    let doing = format!("cannot approve {node}");
    let address = address.map(|address| address.to_string());
    decide("/v1/node/approve", node, address, &doing, gateway, output)
}

pub fn revoke(node: &Node, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let doing = format!("cannot revoke {node} completely");
    decide("/v1/node/revoke", node, None, &doing, gateway, output)
}

fn decide(
    path: &str,
    node: &Node,
    address: Option<String>,
    doing: &str,
    gateway: &Gateway,
    output: &Output,
) -> Result<(), Failure> {
    let request = DecisionRequest { node_id: leave::id(node, gateway)?, address };
    let failed = |error: CallError| error.into_failure(doing);
    // Every guardian writes to its disk before it answers.
    let body = gateway.post_patiently(path, &request).map_err(failed)?;
    let decision: Decision = gateway::decode(path, &body).map_err(failed)?;
    output.pass(&body, || render(&decision));
    Ok(())
}

fn render(decision: &Decision) -> String {
    let done = decision.guardians.iter().filter(|answer| answer.done).count();
    let mut text = format!(
        "{} is {} at {done} of {} guardians",
        printable(&decision.node_id, 64),
        printable(&decision.status, 32),
        decision.guardians.len()
    );
    for answer in decision.guardians.iter().filter(|answer| !answer.done) {
        text.push_str(&format!("\n  {}: {}", printable(&answer.node_id, 64), printable(&answer.answer, 200)));
    }
    if decision.status == "revoked" && done < decision.guardians.len() {
        text.push_str("\nthe gateway tells the others again until they have confirmed it");
    }
    text
}
