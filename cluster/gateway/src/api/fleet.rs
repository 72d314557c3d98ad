//! `GET /v1/fleet/report`: every node at a glance, asked in parallel.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use actix_web::{HttpResponse, web};
use futures_util::{StreamExt, stream};
use orama_protocol::agent::HealthReport;
use orama_protocol::gateway::{FleetReport, NodeReport};
use orama_protocol::peers::CustodyStatus;

use super::ApiError;
use crate::agent::Agents;
use crate::custody::{self, Hosts};
use crate::look;
use crate::peers::is_past_enrollment;
use crate::registry::{Custodies, Failure, Node, Role};
use crate::state::{State, now, rfc3339};
use crate::store::SqlError;

/// How long one node may take.
const NODE_LIMIT: Duration = Duration::from_secs(5);
/// The same for a node that is enrolling: its agent is not up yet, and the operator waits for its next step.
const ENROLLING_LIMIT: Duration = Duration::from_secs(1);
/// Nodes asked at once: a fleet of 250 takes at most eight rounds.
const AT_ONCE: usize = 32;

pub async fn report(state: web::Data<State>, agents: web::Data<Agents>) -> Result<HttpResponse, ApiError> {
    let state = state.into_inner();
    let Read { nodes, failures, leaving, last } = state
        .blocking(Read::all)
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))?;

    let known: Vec<String> = nodes.iter().map(|node| node.node_id.clone()).collect();
    let asked = nodes.iter().cloned().map(|node| {
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
                state.membership.notify_one();
                confirmed.iter().try_for_each(|node_id| state.registry.confirm(node_id, now()))
            })
            .await
            .map_err(|error| ApiError::internal(&error))?
            .map_err(|error| ApiError::internal(&error))?;
    }

    let reachable = |answer: &&(Answer, &Node)| answer.0.report.reachable;
    let answers: Vec<(Answer, &Node)> = answers.into_iter().zip(&nodes).collect();
    let hosts = Hosts {
        known: nodes.iter().map(|node| node.wg_ip).collect(),
        reachable: answers.iter().filter(reachable).map(|(_, node)| node.wg_ip).collect(),
        leaving: nodes.iter().filter(|node| leaving.contains(&node.node_id)).map(|node| node.wg_ip).collect(),
    };
    let complete = |(answer, node): (Answer, &Node)| NodeReport {
        leaving: leaving.contains(&node.node_id),
        custody: match (&answer.custody, last.get(&node.node_id)) {
            (Some(fresh), _) => Some(custody::report(fresh, None, &hosts)),
            (None, Some((at, last))) => Some(custody::report(last, Some(*at), &hosts)),
            (None, None) => None,
        },
        ..answer.report
    };
    let mut reports: Vec<NodeReport> = answers.into_iter().map(complete).collect();
    // A failure is news until a node with the same id is enrolled.
    reports.extend(failures.iter().filter(|failure| !known.contains(&failure.node_id)).map(failed));
    let heard = state.health.fresh(Instant::now());
    reports.extend(heard.iter().filter(|report| !known.contains(&report.node_id)).map(heard_of));
    let alarms = state.watch.alarms(&nodes);
    Ok(HttpResponse::Ok().json(FleetReport { at: rfc3339(now()), nodes: reports, alarms }))
}

/// What the store knows, in one go.
struct Read {
    nodes: Vec<Node>,
    failures: Vec<Failure>,
    leaving: BTreeSet<String>,
    last: Custodies,
}

impl Read {
    fn all(state: &State) -> Result<Self, SqlError> {
        Ok(Self {
            nodes: state.registry.nodes()?,
            failures: state.registry.failures()?,
            leaving: state.registry.leaving()?.into_keys().collect(),
            last: state.registry.custody_seen()?,
        })
    }
}

struct Answer {
    report: NodeReport,
    custody: Option<CustodyStatus>,
    /// The node was still enrolling, and its agent says that it is past that.
    confirms: bool,
}

async fn ask_agent(agents: &Agents, node: Node) -> Answer {
    let enrolling = node.confirmed_at.is_none();
    let mut report = blank(&node, "agent");
    let limit = if enrolling { ENROLLING_LIMIT } else { NODE_LIMIT };
    match look::agent(agents, &node, limit).await {
        Err(why) => {
            // The last step says more about a node that is enrolling than "unreachable", which it is meanwhile.
            if report.detail.is_empty() {
                report.detail = why;
            }
            Answer { report, custody: None, confirms: false }
        }
        Ok(status) => {
            let past = is_past_enrollment(&status);
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
            Answer { report, custody: status.custody, confirms: enrolling && past }
        }
    }
}

/// A host without agent: all that can be seen of it is whether its guardian takes connections.
async fn ask_peer(node: Node) -> Answer {
    let mut report = blank(&node, "peer");
    if node.guardian {
        match look::guardian(node.wg_ip, NODE_LIMIT).await {
            Ok(()) => (report.reachable, report.healthy, report.phase) = (true, true, "guardian".into()),
            Err(why) => report.detail = why,
        }
    }
    Answer { report, custody: None, confirms: false }
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
        leaving: false,
        custody: None,
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
        leaving: false,
        custody: None,
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
        leaving: false,
        custody: None,
    }
}
