//! `orama monitor`: the fleet as the gateway sees it.

use std::collections::BTreeSet;

use clap::Subcommand;
use orama_protocol::gateway::{CustodyReport, FleetReport, NodeReport};

use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text::{printable, span, table};

const REPORT_PATH: &str = "/v1/fleet/report";

#[derive(Subcommand)]
pub enum MonitorCommand {
    /// Prints one line per node, and who keeps its key; ends with 1 when a node is not healthy or would
    /// not open again, or when guardians raise an alarm.
    Report,
}

pub fn report(gateway: &Gateway, output: &Output) -> Result<(), Failure> {
    let failed = |error: CallError| error.into_failure("cannot get the fleet report");
    let body = gateway.get(REPORT_PATH).map_err(failed)?;
    let report: FleetReport = gateway::decode(REPORT_PATH, &body).map_err(failed)?;
    output.pass(&body, || render(&report));
    let unhealthy: Vec<String> = report
        .nodes
        .iter()
        .filter(|node| is_node(node) && !(node.reachable && node.healthy))
        .map(|node| printable(&node.node_id, 64))
        .collect();
    if !report.alarms.is_empty() {
        let nodes: BTreeSet<String> =
            report.alarms.iter().map(|alarm| printable(&alarm.node_id, 64)).collect();
        let what = format!("alarm about {}", nodes.into_iter().collect::<Vec<_>>().join(", "));
        return Err(Failure::new(Exit::Failed, what)
            .next("find out whether it was you; then `orama node approve ID` or `orama node revoke ID`"));
    }
    let locked: Vec<String> = report
        .nodes
        .iter()
        .filter(|node| node.custody.as_ref().is_some_and(|custody| custody.reachable < custody.k))
        .map(|node| printable(&node.node_id, 64))
        .collect();
    if !locked.is_empty() {
        let what = format!("too few holders answer for the key of {}", locked.join(", "));
        return Err(Failure::new(Exit::Failed, what).next("bring the holders back before anything reboots"));
    }
    if unhealthy.is_empty() {
        return Ok(());
    }
    let verb = if unhealthy.len() == 1 { "is" } else { "are" };
    Err(Failure::new(Exit::Failed, format!("{} {verb} not healthy", unhealthy.join(", ")))
        .next("see `orama node status --node-id ID` for the reason"))
}

/// Hosts without an agent have no health of their own to report.
fn is_node(node: &NodeReport) -> bool {
    node.role != "peer"
}

fn render(report: &FleetReport) -> String {
    if report.nodes.is_empty() {
        return "the gateway knows no nodes; make an invite with `orama node invite`".to_owned();
    }
    let rows: Vec<Vec<String>> = report.nodes.iter().map(row).collect();
    let nodes = report.nodes.iter().filter(|node| is_node(node)).count();
    let healthy = report.nodes.iter().filter(|node| is_node(node) && node.reachable && node.healthy).count();
    let keys: Vec<Vec<String>> = report
        .nodes
        .iter()
        .filter_map(|node| node.custody.as_ref().map(|custody| key_row(node, custody)))
        .collect();
    let keys = if keys.is_empty() {
        String::new()
    } else {
        let head = ["KEY OF", "KEPT BY", "GENERATION", "NEEDED", "ANSWER", "STATE", "WARNINGS"];
        format!("\n{}", table(&head, &keys))
    };
    let alarms: String =
        report.alarms.iter().map(|alarm| format!("ALARM: {}\n", printable(&alarm.text, 400))).collect();
    format!(
        "{alarms}{}{keys}\n{healthy} of {nodes} nodes healthy at {}",
        table(
            &["NODE", "WG IP", "PUBLIC IP", "REACHABLE", "PHASE", "VERSION", "SERVICES", "UP", "DETAIL"],
            &rows
        ),
        printable(&report.at, 64)
    )
}

fn key_row(node: &NodeReport, custody: &CustodyReport) -> Vec<String> {
    let split = custody.keeper == "guardians";
    let or_dash = |text: String| if split { text } else { "-".to_owned() };
    let mut warnings: Vec<String> = custody.warnings.iter().map(|warning| printable(warning, 200)).collect();
    if let Some(seen) = &custody.seen {
        warnings.push(format!("as of {}", printable(seen, 32)));
    }
    vec![
        printable(&node.node_id, 64),
        printable(&custody.keeper, 16),
        or_dash(custody.generation.to_string()),
        or_dash(format!("{} of {}", custody.k, custody.n)),
        or_dash(custody.reachable.to_string()),
        printable(&custody.state, 32),
        if warnings.is_empty() { "-".to_owned() } else { warnings.join("; ") },
    ]
}

fn row(node: &NodeReport) -> Vec<String> {
    let or_dash = |text: &str, limit| {
        let text = printable(text, limit);
        if text.is_empty() { "-".to_owned() } else { text }
    };
    let leaving = if node.leaving { ", leaving" } else { "" };
    let phase = format!("{}{leaving}", or_dash(&node.phase, 32));
    let (phase, services) = match (is_node(node), node.unhealthy_services.as_slice()) {
        (false, _) if node.phase.is_empty() => ("no agent".to_owned(), "-".to_owned()),
        (false, _) => (or_dash(&node.phase, 32), "-".to_owned()),
        (true, []) if node.healthy => (phase, "all healthy".to_owned()),
        (true, []) => (phase, "-".to_owned()),
        (true, down) => (phase, format!("down: {}", printable(&down.join(", "), 100))),
    };
    vec![
        or_dash(&node.node_id, 64),
        or_dash(&node.wg_ip, 32),
        or_dash(&node.public_ip, 32),
        match (is_node(node), node.reachable) {
            (_, true) => "yes",
            (true, false) => "NO",
            // A host that nobody tried to reach has no reason for not being reached.
            (false, false) if node.detail.is_empty() => "-",
            (false, false) => "NO",
        }
        .to_owned(),
        phase,
        or_dash(&node.version, 32),
        services,
        node.uptime_seconds.map_or_else(|| "-".to_owned(), span),
        printable(&node.detail, 200),
    ]
}
