//! `GET /v1/agent/status` and `GET /v1/agent/health`: the boot actor's view, and what the machine says of itself.

use std::collections::BTreeMap;
use std::path::Path;

use actix_web::{HttpResponse, web};
use orama_actors::boot::{GetStatus, NodeStatus};
use orama_actors::update::GetUpdateState;
use orama_protocol::agent::{AgentStatus, Health, Status};

use super::{Node, unavailable};
use crate::console::uptime_seconds;
use crate::facts;

pub async fn status(node: web::Data<Node>) -> HttpResponse {
    match node.registry.boot.ask(GetStatus).await {
        Ok(state) => {
            let update = node.registry.update.ask(GetUpdateState).await;
            HttpResponse::Ok().json(to_wire(&node, state, update.unwrap_or_else(|error| error.to_string())))
        }
        Err(error) => unavailable(error),
    }
}

pub async fn health(node: web::Data<Node>) -> HttpResponse {
    match node.registry.boot.ask(GetStatus).await {
        Ok(state) => {
            let services: BTreeMap<String, bool> =
                state.services.into_iter().map(|(name, service)| (name, service.healthy)).collect();
            HttpResponse::Ok().json(Health { healthy: state.healthy, services })
        }
        Err(error) => unavailable(error),
    }
}

fn to_wire(node: &Node, state: NodeStatus, update: String) -> Status {
    let (custody, peers_revision) = match node.registry.facts.custody() {
        Some((custody, revision)) => (Some(custody), revision),
        None => (None, 0),
    };
    Status {
        node_id: state.node_id,
        version: node.version.to_string(),
        phase: state.phase.name().into(),
        reason: state.reason,
        healthy: state.healthy,
        uptime_seconds: uptime_seconds() as u64,
        slot: node.slot.into(),
        wireguard: state.wireguard,
        unlock: state.unlock,
        peers_revision,
        custody,
        held: node.registry.facts.held(),
        alarms: state.alarms,
        services: state.services,
        agent: AgentStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            rss_bytes: facts::rss_bytes(),
            root_processes: facts::root_processes(Path::new("/proc")),
            actor_restarts: state.actor_restarts,
        },
        update,
    }
}
