//! The agent's API: plain HTTP on the node's WireGuard address, bearer token on every request.
//! Owns routes, bounds and the translation between wire types and messages; decides nothing.

pub mod auth;
mod command;
mod genesis;
mod logs;
mod metrics;
mod peers;
mod refusals;
mod status;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, JsonPayloadError};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, Error, HttpMessage, HttpRequest, HttpResponse, HttpServer, web};
use orama_actors::registry::Registry;
use orama_actors::supervise::Unavailable;
use orama_protocol::agent::LOG_SERVICES;
use orama_protocol::genesis::{UNLOCK_CHALLENGE_PATH, UNLOCK_PATH};
use orama_protocol::recovery::RECOVERY_KEY_PATH;
use orama_protocol::{AGENT_PORT, ErrorBody};

use crate::agent_log::AgentLog;
use auth::Gate;

/// Largest request body, bytes. The largest real one is a command of under 100 bytes.
const BODY_LIMIT_BYTES: usize = 64 * 1024;
/// Connections at a time: a gateway or two with a few requests each, and room for a busy moment.
const CONNECTIONS: usize = 64;
/// The agent's own log, kept in memory.
const AGENT: &str = "agent";
/// Time for a client to send its request line and headers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What every handler needs.
#[derive(Clone)]
pub struct Node {
    pub registry: Registry,
    pub log: AgentLog,
    /// Version of the image, from the verified root.
    pub version: Arc<str>,
    /// `a` or `b`.
    pub slot: char,
}

/// Binds the API to `address`, which must be an address of the WireGuard interface.
pub fn serve(node: Node, address: Ipv4Addr) -> std::io::Result<Server> {
    if address.is_unspecified() {
        return Err(std::io::Error::other("refusing to listen on every address"));
    }
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(check_token))
            .wrap(from_fn(orama_http::hold_body))
            .configure(|config| routes(config, node.clone()))
    });
    let server = server
        .workers(1)
        .max_connections(CONNECTIONS)
        .client_request_timeout(REQUEST_TIMEOUT)
        .client_disconnect_timeout(REQUEST_TIMEOUT)
        .disable_signals()
        .shutdown_timeout(2)
        .listen(orama_http::listen(SocketAddr::from((address, AGENT_PORT)))?)?;
    Ok(server.run())
}

fn routes(config: &mut web::ServiceConfig, node: Node) {
    let gate = Gate::new(node.registry.facts.clone());
    config
        .app_data(web::Data::new(node))
        .app_data(web::Data::new(gate))
        .app_data(
            web::JsonConfig::default()
                .limit(BODY_LIMIT_BYTES)
                .content_type_required(false)
                .error_handler(bad_json),
        )
        .app_data(web::QueryConfig::default().error_handler(|error, _| {
            let answer = refuse(400, format!("query string: {error}"));
            InternalError::from_response(error, answer).into()
        }))
        .service(resource("/v1/agent/status").route(web::get().to(status::status)))
        .service(resource("/v1/agent/health").route(web::get().to(status::health)))
        .service(resource("/v1/agent/command").route(web::post().to(command::command)))
        .service(resource("/v1/agent/peers").app_data(peers::body()).route(web::put().to(peers::peers)))
        .service(resource("/v1/agent/logs").route(web::get().to(logs::logs)))
        .service(resource("/v1/agent/refusals").route(web::get().to(refusals::refusals)))
        .service(resource("/v1/agent/metrics").route(web::get().to(metrics::metrics)))
        .service(resource(UNLOCK_PATH).route(web::post().to(genesis::unlock)))
        .service(resource(UNLOCK_CHALLENGE_PATH).route(web::get().to(genesis::challenge_for_recovery)))
        .service(resource(RECOVERY_KEY_PATH).route(web::get().to(genesis::recovery_key)))
        .service(resource("/v1/agent/genesis-key").route(web::get().to(genesis::sealed_key)))
        .default_service(web::to(|| async { refuse(404, "no such path") }));
}

/// Names that a request may use: the usual services, and whatever this image has a profile for.
fn known_service(node: &Node, name: &str) -> bool {
    name != AGENT && (LOG_SERVICES.contains(&name) || node.registry.facts.services().contains_key(name))
}

fn refuse_name(node: &Node) -> HttpResponse {
    let mut names: BTreeSet<String> = node.registry.facts.services().into_keys().collect();
    names.extend(LOG_SERVICES.map(str::to_owned));
    let names: Vec<String> = names.into_iter().collect();
    refuse(400, format!("service must be one of {}, or all", names.join(", ")))
}

fn resource(path: &str) -> actix_web::Resource {
    web::resource(path).default_service(web::to(|request: HttpRequest| async move {
        refuse(405, format!("{} is not a method of {}", request.method(), request.path()))
    }))
}

/// Stands before every route, so a stranger cannot tell a path that exists from one that does not.
async fn check_token(
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(gate) = request.app_data::<web::Data<Gate>>().cloned() else {
        return Ok(request.into_response(refuse(500, "the API has no token to compare with")));
    };
    match gate.admit(request.request()) {
        Ok(scope) => {
            request.extensions_mut().insert(scope);
            next.call(request).await
        }
        Err(refusal) => Ok(request.into_response(refusal.answer())),
    }
}

fn bad_json(error: JsonPayloadError, _: &HttpRequest) -> Error {
    let answer = match &error {
        JsonPayloadError::Overflow { limit } | JsonPayloadError::OverflowKnownLength { limit, .. } => {
            refuse(413, format!("the body is over {limit} bytes"))
        }
        _ => refuse(400, format!("the body is not the JSON that this path takes: {error}")),
    };
    InternalError::from_response(error, answer).into()
}

/// `{"error": …}` with a status.
fn refuse(status: u16, error: impl Into<String>) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status)
        .unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).json(ErrorBody { error: error.into() })
}

/// The answer when an actor is between two generations.
fn unavailable(error: Unavailable) -> HttpResponse {
    refuse(503, format!("{error}; try again in a second"))
}

#[cfg(test)]
mod tests;
