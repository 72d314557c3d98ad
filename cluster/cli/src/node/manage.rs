//! What an operator asks of an enrolled node, through the gateway: status, logs, commands, leave.

use std::collections::BTreeMap;

use orama_protocol::agent::{CommandRequest, CommandResponse, Status};
use orama_protocol::gateway::{FleetReport, LeaveRequest, LeaveResponse};

use super::{Node, follow, status};
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

const LEAVE_PATH: &str = "/v1/node/leave";

pub fn status(node: &Node, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let failed = |error: CallError| error.into_failure(&format!("cannot get the status of {node}"));
    let path = format!("/v1/node/status?{}", node.query());
    let body = gateway.get(&path).map_err(failed)?;
    let status: Status = gateway::decode(&path, &body).map_err(failed)?;
    output.pass(&body, || status::render(&status));
    Ok(())
}

pub fn logs(
    node: &Node,
    service: Option<&str>,
    lines: u16,
    gateway: &Gateway,
    output: &Output,
) -> Result<(), Failure> {
    let failed = |error: CallError| error.into_failure(&format!("cannot get the logs of {node}"));
    let service = service.map(|name| format!("&service={name}")).unwrap_or_default();
    let path = format!("/v1/node/logs?{}{service}&lines={lines}", node.query());
    let body = gateway.get(&path).map_err(failed)?;
    let logs: BTreeMap<String, String> = gateway::decode(&path, &body).map_err(failed)?;
    output.pass(&body, || render_logs(&logs));
    Ok(())
}

fn render_logs(logs: &BTreeMap<String, String>) -> String {
    let mut shown = String::new();
    for (service, lines) in logs {
        if logs.len() > 1 {
            shown.push_str(&format!("==> {} <==\n", text::printable(service, 64)));
        }
        shown.push_str(text::printable_lines(lines).trim_end_matches('\n'));
        shown.push('\n');
    }
    shown
}

pub fn command(
    node: &Node,
    action: &str,
    service: Option<String>,
    gateway: &Gateway,
    output: &Output,
) -> Result<(), Failure> {
    let what = service.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let failed = |error: CallError| error.into_failure(&format!("cannot {action}{what} on {node}"));
    let path = format!("/v1/node/command?{}", node.query());
    let request = CommandRequest { action: action.to_owned(), service };
    let body = gateway.post(&path, &request).map_err(failed)?;
    if action == "status" {
        let status: Status = gateway::decode(&path, &body).map_err(failed)?;
        output.pass(&body, || status::render(&status));
        return Ok(());
    }
    let response: CommandResponse = gateway::decode(&path, &body).map_err(failed)?;
    output.pass(&body, || format!("{node}:{what} {}", text::printable(&response.status, 200)));
    Ok(())
}

pub fn leave(node: &Node, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let failed = |error: CallError| error.into_failure(&format!("cannot take {node} out of the cluster"));
    let node_id = match (&node.node_id, node.wg_ip) {
        (Some(id), _) => id.clone(),
        (None, Some(ip)) => find_by_address(&ip.to_string(), gateway)?,
        (None, None) => return Err(Failure::new(Exit::Usage, "no node is given")),
    };
    output.progress(&format!("asking the gateway to remove {node_id}"));
    let body = gateway.post(LEAVE_PATH, &LeaveRequest { node_id: node_id.clone() }).map_err(failed)?;
    let left: LeaveResponse = gateway::decode(LEAVE_PATH, &body).map_err(failed)?;
    output.pass(&body, || {
        let address = text::printable(&left.wg_ip, 64);
        format!("{node_id} is {}; its address {address} is free again", text::printable(&left.status, 64))
    });
    Ok(())
}

/// The gateway's leave takes an id only.
fn find_by_address(wg_ip: &str, gateway: &Gateway) -> Result<String, Failure> {
    let failed = |error: CallError| error.into_failure(&format!("cannot find the node at {wg_ip}"));
    let body = gateway.get(follow::REPORT_PATH).map_err(failed)?;
    let report: FleetReport = gateway::decode(follow::REPORT_PATH, &body).map_err(failed)?;
    let found = report.nodes.into_iter().find(|node| node.wg_ip == wg_ip && node.role == "agent");
    found.map(|node| node.node_id).ok_or_else(|| {
        Failure::new(Exit::NotFound, format!("no node has the overlay address {wg_ip}"))
            .next("see `orama monitor report` for the nodes there are")
    })
}
