//! The operator's calls to one node: status, command, logs, refusals and metrics pass through to its agent.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use orama_keyshare::lifecycle::guard::Going;
use orama_protocol::agent::{LOG_LINES_DEFAULT, LOG_LINES_MAX};
use orama_protocol::gateway::NodeCommand;
use serde::Deserialize;

use super::{ApiError, request};
use crate::agent::{Agents, Ask, AskError, Reply};
use crate::guard::{self, GuardError};
use crate::registry::{Node, NodeKey, Role};
use crate::state::State;

/// Longest name of a service, as in profiles.
const SERVICE_LIMIT_CHARS: usize = 32;
/// Longest node id.
const NODE_ID_LIMIT_CHARS: usize = 64;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeQuery {
    pub node_id: Option<String>,
    pub wg_ip: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RefusalsQuery {
    node_id: Option<String>,
    wg_ip: Option<String>,
    service: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LogsQuery {
    node_id: Option<String>,
    wg_ip: Option<String>,
    service: Option<String>,
    lines: Option<String>,
}

pub async fn status(
    state: web::Data<State>,
    agents: web::Data<Agents>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let asked: NodeQuery = request::query(&request)?;
    let node = find(&state, asked.node_id, asked.wg_ip).await?;
    pass(agents.ask(&node, Ask::Get("/v1/agent/status"), None).await)
}

pub async fn command(
    state: web::Data<State>,
    agents: web::Data<Agents>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let asked: NodeQuery = request::query(&request)?;
    let body = request::body(payload).await?;
    // Only the form is checked: which actions and services there are is the agent's to say.
    let command: NodeCommand = request::json(&body)?;
    let node = find(&state, asked.node_id, asked.wg_ip).await?;
    if command.action == "leave" {
        // It would erase itself with everybody's shares.
        return Err(ApiError::bad_request("a node leaves by POST /v1/node/leave"));
    }
    let down = matches!(command.action.as_str(), "reboot" | "poweroff");
    if down && !command.force {
        let state = state.clone().into_inner();
        guard::check(&state, &agents, &node, Going::Down).await.map_err(refused)?;
    }
    let reply = agents.ask(&node, Ask::Post("/v1/agent/command", body), None).await;
    // After a timeout or a broken connection it may be on its way all the same.
    let stays = match &reply {
        Ok(reply) => !reply.status.is_success(),
        Err(AskError::NoAgent { .. }) => true,
        Err(AskError::Unreachable { .. } | AskError::Timeout { .. } | AskError::Answer { .. }) => false,
    };
    if down && stays {
        state.departures.stays(node.wg_ip);
    }
    pass(reply)
}

/// 409 with the keys that forbid it.
pub(super) fn refused(error: GuardError) -> ApiError {
    match &error {
        GuardError::Endangered(_) => ApiError::new(StatusCode::CONFLICT, error.to_string()),
        GuardError::Store(_) | GuardError::Lost(_) => ApiError::internal(&error),
    }
}

pub async fn logs(
    state: web::Data<State>,
    agents: web::Data<Agents>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let asked: LogsQuery = request::query(&request)?;
    let service = service_name(asked.service.as_deref())?;
    let lines = match asked.lines.as_deref() {
        None => LOG_LINES_DEFAULT,
        Some(text) => match text.parse::<u64>() {
            Ok(lines @ 1..) => usize::try_from(lines).unwrap_or(LOG_LINES_MAX).min(LOG_LINES_MAX),
            Ok(0) | Err(_) => return Err(ApiError::bad_request("lines is not a positive number")),
        },
    };
    let node = find(&state, asked.node_id, asked.wg_ip).await?;
    // A name of harmless characters and a number: nothing else of the caller's text goes into the path.
    let path = format!("/v1/agent/logs?service={service}&lines={lines}");
    pass(agents.ask(&node, Ask::Get(&path), None).await)
}

pub async fn refusals(
    state: web::Data<State>,
    agents: web::Data<Agents>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let asked: RefusalsQuery = request::query(&request)?;
    let service = service_name(asked.service.as_deref())?;
    let node = find(&state, asked.node_id, asked.wg_ip).await?;
    pass(agents.ask(&node, Ask::Get(&format!("/v1/agent/refusals?service={service}")), None).await)
}

pub async fn metrics(
    state: web::Data<State>,
    agents: web::Data<Agents>,
    request: HttpRequest,
) -> Result<HttpResponse, ApiError> {
    let asked: NodeQuery = request::query(&request)?;
    let node = find(&state, asked.node_id, asked.wg_ip).await?;
    pass(agents.ask(&node, Ask::Get("/v1/agent/metrics"), None).await)
}

/// The name as profiles may have it; which services a node has is its agent's to say. None and empty are all.
fn service_name(asked: Option<&str>) -> Result<&str, ApiError> {
    let name = asked.filter(|name| !name.is_empty()).unwrap_or("all");
    let harmless = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.len() <= SERVICE_LIMIT_CHARS && name.chars().all(harmless) {
        return Ok(name);
    }
    Err(ApiError::bad_request(format!(
        "service is not all or a name of at most {SERVICE_LIMIT_CHARS} lower-case letters, digits and dashes"
    )))
}

/// The enrolled node that the caller names, by id or by address.
pub(super) async fn find(
    state: &web::Data<State>,
    node_id: Option<String>,
    wg_ip: Option<String>,
) -> Result<Node, ApiError> {
    let key = match (node_id, wg_ip) {
        (Some(id), None) => {
            let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
            if id.is_empty() || id.len() > NODE_ID_LIMIT_CHARS || !id.chars().all(good) {
                return Err(ApiError::bad_request("node_id is not a node id"));
            }
            NodeKey::Id(id)
        }
        (None, Some(address)) => {
            let address =
                address.parse().map_err(|_| ApiError::bad_request("wg_ip is not an IPv4 address"))?;
            NodeKey::Address(address)
        }
        (None, None) | (Some(_), Some(_)) => {
            return Err(ApiError::bad_request("exactly one of node_id and wg_ip is needed"));
        }
    };
    let name = key.to_string();
    let found = state
        .clone()
        .into_inner()
        .blocking(move |state| state.registry.node(&key))
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))?;
    match found {
        Some(node) if node.role == Role::Agent => Ok(node),
        Some(_) => Err(ApiError::new(StatusCode::NOT_FOUND, format!("{name} is a host without an agent"))),
        None => Err(ApiError::new(StatusCode::NOT_FOUND, format!("no node {name}"))),
    }
}

fn pass(reply: Result<Reply, crate::agent::AskError>) -> Result<HttpResponse, ApiError> {
    let reply = reply.map_err(|error| ApiError::new(StatusCode::BAD_GATEWAY, error.to_string()))?;
    let mut response = HttpResponse::build(reply.status);
    if let Some(content_type) = reply.content_type {
        response.content_type(content_type);
    }
    Ok(response.body(reply.body))
}
