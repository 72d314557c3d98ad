//! `orama node leave`: gives the order and follows it until the node has left.

use std::thread;
use std::time::{Duration, Instant};

use orama_protocol::gateway::{FleetReport, LeaveProgress, LeaveRequest, LeaveResponse};
use serde_json::Value;

use super::{LeaveArgs, Node, follow};
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

const PATH: &str = "/v1/node/leave";
/// Between two looks: moving a share takes seconds.
const PAUSE: Duration = Duration::from_secs(2);
/// Nodes named in one line of progress; the rest are counted.
const NAMED: usize = 4;

pub fn run(args: &LeaveArgs, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let node_id = id(&args.node, gateway)?;
    let failed = |error: CallError| refused(error, &format!("cannot take {node_id} out of the cluster"));
    output.progress(&format!("asking the gateway to remove {node_id}"));
    let request = LeaveRequest { node_id: node_id.clone(), force: args.force };
    let body = gateway.post_patiently(PATH, &request).map_err(failed)?;
    let answer: Value = gateway::decode(PATH, &body).map_err(failed)?;
    if answer["status"] != "leaving" {
        let left: LeaveResponse = gateway::decode(PATH, &body).map_err(failed)?;
        output.pass(&body, || {
            let status = text::printable(&left.status, 64);
            format!("{node_id} is {status} and takes no part in the cluster any more")
        });
        return Ok(());
    }
    let progress: LeaveProgress = gateway::decode(PATH, &body).map_err(failed)?;
    if args.no_wait {
        output.pass(&body, || format!("{node_id} leaves: {}", step(&progress)));
        return Ok(());
    }
    follow(&node_id, progress, Duration::from_secs(args.wait), gateway, output)
}

/// Until the gateway does not know the node any more.
fn follow(
    node_id: &str,
    begun: LeaveProgress,
    wait: Duration,
    gateway: &Gateway,
    output: &Output,
) -> Result<(), Failure> {
    let end = Instant::now() + wait;
    let path = format!("{PATH}?node_id={node_id}");
    let mut last = String::new();
    say(output, &mut last, step(&begun));
    while Instant::now() + PAUSE <= end {
        thread::sleep(PAUSE);
        let looked = gateway.get(&path).and_then(|body| gateway::decode::<LeaveProgress>(&path, &body));
        match looked {
            Ok(progress) if progress.status == "leaving" => say(output, &mut last, step(&progress)),
            Ok(_) => return Err(Failure::new(Exit::Failed, format!("{node_id} does not leave any more"))),
            Err(CallError::Status { status: 404, .. }) => {
                let json = serde_json::json!({ "status": "removed", "wg_ip": begun.wg_ip });
                output.answer(
                    &json,
                    &format!("{node_id} is removed and takes no part in the cluster any more"),
                );
                return Ok(());
            }
            // The gateway may be restarting: it goes on with the leave, and so do we.
            Err(error @ (CallError::Unreachable(..) | CallError::Timeout(_))) => {
                say(output, &mut last, Failure::because(Exit::Unreachable, &error).what().to_owned());
            }
            Err(error) => {
                return Err(error.into_failure(&format!("{node_id} leaves, but cannot be followed")));
            }
        }
    }
    let waited = text::span(wait.as_secs());
    let next = "the gateway goes on with it: give the order again to look, or with --force when a node that is \
                waited for is dead";
    Err(Failure::new(Exit::Unfinished, format!("{node_id} had not left after {waited}: {last}")).next(next))
}

fn step(progress: &LeaveProgress) -> String {
    if progress.waiting_for.is_empty() {
        return "nobody has shares with it any more; it is stopped and removed".to_owned();
    }
    let name = |wait: &orama_protocol::gateway::LeaveWait| {
        format!("{}: {}", text::printable(&wait.node_id, 64), text::printable(&wait.why, 200))
    };
    let named: Vec<String> = progress.waiting_for.iter().take(NAMED).map(name).collect();
    let more = match progress.waiting_for.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!("waiting for {}{more}", named.join("; "))
}

fn say(output: &Output, last: &mut String, step: String) {
    if *last != step {
        output.progress(&step);
        *last = step;
    }
}

/// A refusal for the sake of somebody's key has its own way out.
pub fn refused(error: CallError, doing: &str) -> Failure {
    let guarded = matches!(error, CallError::Status { status: 409, .. });
    let failure = error.into_failure(doing);
    if guarded {
        failure.next("bring the missing nodes back and try again; --force does it all the same")
    } else {
        failure
    }
}

/// The gateway's leave takes an id only.
pub(super) fn id(node: &Node, gateway: &Gateway) -> Result<String, Failure> {
    if let Some(id) = node.id() {
        return Ok(id.to_owned());
    }
    let Some(address) = node.address() else { return Err(Failure::new(Exit::Usage, "no node is given")) };
    let wg_ip = address.to_string();
    let failed = |error: CallError| error.into_failure(&format!("cannot find the node at {wg_ip}"));
    let body = gateway.get(follow::REPORT_PATH).map_err(failed)?;
    let report: FleetReport = gateway::decode(follow::REPORT_PATH, &body).map_err(failed)?;
    let found = report.nodes.into_iter().find(|node| node.wg_ip == wg_ip && node.role == "agent");
    found.map(|node| node.node_id).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no node has the overlay address {wg_ip}"))
            .next("see `orama monitor report` for the nodes there are")
    })
}
