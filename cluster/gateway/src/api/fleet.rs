//! `GET /v1/fleet/report`: every node at a glance, asked in parallel.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use orama_protocol::GUARDIAN_PORT;
use orama_protocol::agent::{HealthReport, Status};
use orama_protocol::gateway::{FleetReport, NodeReport};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ApiError;
use crate::agent::{Agents, Ask};
use crate::registry::{Failure, Node, Role};
use crate::state::{State, now, rfc3339};

/// How long one node may take.
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// The same for a node that is enrolling: its agent is not up yet, and the operator waits for its next step.
const ENROLLING_LIMIT: Duration = Duration::from_secs(1);
/// Nodes asked at once: a fleet of 250 takes at most eight rounds.
const AT_ONCE: usize = 32;

pub async fn report(state: web::Data<State>, agents: web::Data<Agents>) -> Result<HttpResponse, ApiError> {
    let state = state.into_inner();
    let (nodes, failures) = state
        .blocking(|state| {
            Ok::<_, crate::store::SqlError>((state.registry.nodes()?, state.registry.failures()?))
        })
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))?;

    let known: Vec<String> = nodes.iter().map(|node| node.node_id.clone()).collect();
    let asked = nodes.into_iter().map(|node| {
        let agents = agents.clone();
        async move {
            match node.role {
                Role::Agent => ask_agent(&agents, node).await,
                Role::Peer => ask_peer(node).await,
            }
        }
    });
    let answers: Vec<Answer> = stream::iter(asked).buffered(AT_ONCE).collect().await;

    // A node whose socket was lost after it committed is recognised by its agent's first answer.
    let confirmed: Vec<String> =
        answers.iter().filter(|answer| answer.confirms).map(|answer| answer.report.node_id.clone()).collect();
    if !confirmed.is_empty() {
        state
            .blocking(move |state| {
                confirmed.iter().try_for_each(|node_id| state.registry.confirm(node_id, now()))
            })
            .await
            .map_err(|error| ApiError::internal(&error))?
            .map_err(|error| ApiError::internal(&error))?;
    }

    let mut reports: Vec<NodeReport> = answers.into_iter().map(|answer| answer.report).collect();
    // A failure is news until a node with the same id is enrolled.
    reports.extend(failures.iter().filter(|failure| !known.contains(&failure.node_id)).map(failed));
    let heard = state.health.fresh(Instant::now());
    reports.extend(heard.iter().filter(|report| !known.contains(&report.node_id)).map(heard_of));
    Ok(HttpResponse::Ok().json(FleetReport { at: rfc3339(now()), nodes: reports }))
}

struct Answer {
    report: NodeReport,
    /// The node was still enrolling, and its agent says that it is past that.
    confirms: bool,
}

async fn ask_agent(agents: &Agents, node: Node) -> Answer {
    let enrolling = node.confirmed_at.is_none();
    let mut report = blank(&node, "agent");
    let limit = if enrolling { ENROLLING_LIMIT } else { NODE_LIMIT };
    let answer = agents.ask(&node, Ask::Get("/v1/agent/status"), Some(limit)).await;
    let status = match answer {
        Err(error) => Err(error.to_string()),
        Ok(reply) if !reply.status.is_success() => Err(format!("the agent answered {}", reply.status)),
        Ok(reply) => serde_json::from_slice::<Status>(&reply.body)
            .map_err(|error| format!("the agent's status is not understood: {error}")),
    };
    match status {
        Err(why) => {
            // The last step says more about a node that is enrolling than "unreachable", which it is meanwhile.
            if report.detail.is_empty() {
                report.detail = why;
            }
            Answer { report, confirms: false }
        }
        Ok(status) => {
            // The commit comes before any of these phases.
            let past = !matches!(status.phase.as_str(), "starting" | "enrolling" | "provisioning");
            report.reachable = true;
            report.healthy = status.healthy;
            report.version = status.version;
            report.uptime_seconds = Some(status.uptime_seconds);
            let unhealthy = status.services.into_iter().filter(|(_, service)| !service.healthy);
            report.unhealthy_services = unhealthy.map(|(name, _)| name).collect();
            if !enrolling || past {
                report.phase = status.phase;
                report.detail = status.reason;
            }
            Answer { report, confirms: enrolling && past }
        }
    }
}

/// A host without agent: all that can be seen of it is whether its guardian takes connections.
async fn ask_peer(node: Node) -> Answer {
    let mut report = blank(&node, "peer");
    if node.guardian {
        match guardian_answers(node.wg_ip).await {
            Ok(()) => (report.reachable, report.healthy, report.phase) = (true, true, "guardian".into()),
            Err(why) => report.detail = why,
        }
    }
    Answer { report, confirms: false }
}

async fn guardian_answers(address: Ipv4Addr) -> Result<(), String> {
    match timeout(NODE_LIMIT, TcpStream::connect((address, GUARDIAN_PORT))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("the guardian at {address}:{GUARDIAN_PORT} is unreachable: {error}")),
        Err(_) => Err(format!(
            "the guardian at {address}:{GUARDIAN_PORT} did not answer in {} s",
            NODE_LIMIT.as_secs()
        )),
    }
}

fn blank(node: &Node, role: &str) -> NodeReport {
    NodeReport {
        node_id: node.node_id.clone(),
        wg_ip: node.wg_ip.to_string(),
        public_ip: node.public_ip.to_string(),
        role: role.into(),
        reachable: false,
        healthy: false,
        phase: node.phase.clone(),
        version: String::new(),
        uptime_seconds: None,
        unhealthy_services: vec![],
        detail: node.detail.clone(),
    }
}

fn failed(failure: &Failure) -> NodeReport {
    NodeReport {
        node_id: failure.node_id.clone(),
        wg_ip: failure.wg_ip.clone(),
        public_ip: failure.public_ip.clone(),
        role: "agent".into(),
        reachable: false,
        healthy: false,
        phase: "failed".into(),
        version: String::new(),
        uptime_seconds: None,
        unhealthy_services: vec![],
        detail: format!("{}: {}", rfc3339(failure.failed_at), failure.reason),
    }
}

/// A node that reports to this gateway but is not in its registry: a gateway on a node knows its own agent so.
fn heard_of(report: &HealthReport) -> NodeReport {
    NodeReport {
        node_id: report.node_id.clone(),
        wg_ip: String::new(),
        public_ip: String::new(),
        role: "agent".into(),
        reachable: true,
        healthy: report.healthy,
        phase: "reporting".into(),
        version: report.version.clone(),
        uptime_seconds: Some(report.uptime_seconds),
        unhealthy_services: report
            .services
            .iter()
            .filter(|(_, good)| !**good)
            .map(|(name, _)| name.clone())
            .collect(),
        detail: format!("reported at {}", report.timestamp),
    }
}
