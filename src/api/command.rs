//! `POST /v1/agent/command`: orders for services and for the node itself.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use orama_actors::boot::machine::Exit;
use orama_actors::boot::{Leave, LeaveCluster, LeaveRefused};
use orama_actors::services::{OrderError, ReloadService, RestartService, StartService, StopAll, StopService};
use orama_actors::supervise::Unavailable;
use orama_protocol::agent::{CommandRequest, CommandResponse};

use super::auth::Gate;
use super::{Node, refuse, status, unavailable};

/// Longest time an answer waits for services to stop: the gateway gives up after 15 s.
const STOP_WAIT: Duration = Duration::from_secs(12);
/// Longest name in a request, characters.
const NAME_LIMIT: usize = 64;

pub async fn command(
    request: HttpRequest,
    gate: web::Data<Gate>,
    node: web::Data<Node>,
    body: web::Json<CommandRequest>,
) -> HttpResponse {
    let CommandRequest { action, service } = body.into_inner();
    if action == "status" {
        return status::status(node).await;
    }
    if let Err(refusal) = gate.admit_change(&request) {
        return refusal.answer();
    }
    if service.as_ref().is_some_and(|name| name.len() > NAME_LIMIT) {
        return refuse(400, format!("service names have at most {NAME_LIMIT} characters"));
    }
    tracing::info!(
        action = action.chars().take(NAME_LIMIT).collect::<String>(),
        service,
        "command from the gateway"
    );
    let services = &node.registry.services;
    match (action.as_str(), service) {
        ("restart", Some(name)) => ordered(services.ask(RestartService { name }).await, "restarted"),
        ("start", Some(name)) => ordered(services.ask(StartService { name }).await, "started"),
        ("reload", Some(name)) => ordered(services.ask(ReloadService { name }).await, "reloaded"),
        ("stop", Some(name)) => {
            match tokio::time::timeout(STOP_WAIT, services.ask(StopService { name })).await {
                Ok(answer) => ordered(answer, "stopped"),
                Err(_) => done("stopping"),
            }
        }
        // What an existing gateway sends when a node leaves.
        ("stop", None) => {
            let stop = services.ask(StopAll { why: "stopped by the gateway".into() });
            match tokio::time::timeout(STOP_WAIT, stop).await {
                Ok(Ok(())) => done("stopped"),
                Ok(Err(error)) => unavailable(error),
                Err(_) => done("stopping"),
            }
        }
        ("reboot", None) => leave(&node, Exit::Reboot, "rebooting").await,
        ("poweroff", None) => leave(&node, Exit::PowerOff, "powering off").await,
        ("leave", None) => leave_cluster(&node).await,
        ("restart" | "start" | "reload", None) => refuse(400, format!("{action} needs a service")),
        ("reboot" | "poweroff" | "leave", Some(_)) => refuse(400, format!("{action} takes no service")),
        (unknown, _) => {
            let shown: String = unknown.chars().take(NAME_LIMIT).collect();
            refuse(
                400,
                format!(
                    "unknown action `{shown}`: restart, start, stop, reload, status, reboot, poweroff and leave exist"
                ),
            )
        }
    }
}

async fn leave(node: &Node, exit: Exit, status: &str) -> HttpResponse {
    match node.registry.boot.ask(Leave { exit, why: "asked for by the gateway".into() }).await {
        Ok(Ok(())) => done(status),
        Ok(Err(denied)) => refuse(409, denied.to_string()),
        Err(error) => unavailable(error),
    }
}

/// For good; the gateway says so when nobody's shares are here any more.
async fn leave_cluster(node: &Node) -> HttpResponse {
    match node.registry.boot.ask(LeaveCluster { why: "the gateway lets this node leave".into() }).await {
        Ok(Ok(())) => done("leaving"),
        Ok(Err(error @ LeaveRefused::NotNow(_))) => refuse(409, error.to_string()),
        Ok(Err(error @ LeaveRefused::Mark(_))) => refuse(500, error.to_string()),
        Err(error) => unavailable(error),
    }
}

fn ordered(answer: Result<Result<(), OrderError>, Unavailable>, status: &str) -> HttpResponse {
    match answer {
        Ok(Ok(())) => done(status),
        Ok(Err(error)) => {
            let code = match &error {
                OrderError::Unknown(_) => 404,
                OrderError::NotReloaded { .. } => 400,
                OrderError::Refused { .. } | OrderError::NotNow { .. } => 409,
                OrderError::Unavailable(_) => 503,
            };
            refuse(code, error.to_string())
        }
        Err(error) => unavailable(error),
    }
}

fn done(status: &str) -> HttpResponse {
    HttpResponse::Ok().json(CommandResponse { status: status.into() })
}
