//! What an operator asks of an enrolled node, through the gateway: status, logs, commands.

use std::collections::BTreeMap;

use orama_protocol::agent::{CommandResponse, Status};
use orama_protocol::gateway::NodeCommand;

use super::{Node, leave, status};
use crate::failure::Failure;
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;

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

pub fn command(node: &Node, order: NodeCommand, gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let action = order.action.clone();
    let what = order.service.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
    let failed = |error: CallError| leave::refused(error, &format!("cannot {action}{what} on {node}"));
    let path = format!("/v1/node/command?{}", node.query());
    // Before a node goes down the gateway asks all the others.
    let body = gateway.post_patiently(&path, &order).map_err(failed)?;
    if action == "status" {
        let status: Status = gateway::decode(&path, &body).map_err(failed)?;
        output.pass(&body, || status::render(&status));
        return Ok(());
    }
    let response: CommandResponse = gateway::decode(&path, &body).map_err(failed)?;
    output.pass(&body, || format!("{node}:{what} {}", text::printable(&response.status, 200)));
    Ok(())
}
