//! The HTTP surface: one table of routes, who may call each, and the shape of every error.
//! The files below translate requests to the rest of the crate and back; they decide nothing else.

mod access;
mod adopt;
mod alarms;
mod enroll;
mod fleet;
mod invite;
mod leave;
mod local;
mod node;
mod request;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{HttpResponse, web};
use orama_protocol::ErrorBody;
use orama_protocol::enroll::ENROLL_SOCKET_PATH;
use orama_protocol::recovery::RECOVERY_PATH;

pub use access::Access;

use crate::state::State;

/// One row of the public listener's route table.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub access: Access,
}

/// Everything that the public listener serves. The application is built from this table, so a route that is not
/// in it does not exist, and the tests that walk it miss none.
pub const PUBLIC_ROUTES: [Route; 16] = [
    Route { method: "POST", path: "/v1/node/invite", access: Access::AdminKey },
    Route { method: "POST", path: "/v1/node/enroll", access: Access::Invite },
    Route { method: "GET", path: RECOVERY_PATH, access: Access::Invite },
    Route { method: "GET", path: ENROLL_SOCKET_PATH, access: Access::Anyone },
    Route { method: "GET", path: "/v1/node/status", access: Access::AdminKey },
    Route { method: "POST", path: "/v1/node/command", access: Access::AdminKey },
    Route { method: "GET", path: "/v1/node/logs", access: Access::AdminKey },
    Route { method: "GET", path: "/v1/node/refusals", access: Access::AdminKey },
    Route { method: "GET", path: "/v1/node/metrics", access: Access::AdminKey },
    Route { method: "POST", path: "/v1/node/adopt", access: Access::AdminKey },
    Route { method: "POST", path: "/v1/node/leave", access: Access::AdminKey },
    Route { method: "GET", path: "/v1/node/leave", access: Access::AdminKey },
    Route { method: "GET", path: "/v1/node/alarms", access: Access::AdminKey },
    Route { method: "POST", path: "/v1/node/approve", access: Access::AdminKey },
    Route { method: "POST", path: "/v1/node/revoke", access: Access::AdminKey },
    Route { method: "GET", path: "/v1/fleet/report", access: Access::AdminKey },
];

/// Any failed request: a status and a sentence for a person.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// Logs what happened; the caller learns only that it was us.
    pub fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed; its log says why")
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl actix_web::ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        HttpResponse::build(self.status).json(ErrorBody { error: self.message.clone() })
    }
}

/// Headers of every answer: nothing here is for a browser to guess at or for anybody to cache.
pub fn headers() -> DefaultHeaders {
    DefaultHeaders::new().add(("Cache-Control", "no-store")).add(("X-Content-Type-Options", "nosniff"))
}

/// Configures one worker of the public listener.
pub fn public(state: Arc<State>, config: &mut web::ServiceConfig) {
    config.app_data(web::Data::from(state));
    for (index, route) in PUBLIC_ROUTES.iter().enumerate() {
        // All methods of a path are one resource, made at its first row.
        if PUBLIC_ROUTES[..index].iter().any(|earlier| earlier.path == route.path) {
            continue;
        }
        let rows = PUBLIC_ROUTES.iter().filter(|row| row.path == route.path);
        let resource = rows.fold(web::resource(route.path), |resource, row| resource.route(handler(row)));
        let resource = resource.default_service(web::to(wrong_method));
        match route.access {
            Access::AdminKey => config.service(resource.wrap(from_fn(access::require_admin_key))),
            Access::Invite | Access::Anyone => config.service(resource),
        };
    }
    config.default_service(web::to(unknown_path));
}

fn handler(row: &Route) -> actix_web::Route {
    match (row.method, row.path) {
        ("POST", "/v1/node/invite") => web::post().to(invite::create),
        ("POST", "/v1/node/enroll") => web::post().to(enroll::enroll),
        ("GET", RECOVERY_PATH) => web::get().to(enroll::recovery),
        ("GET", ENROLL_SOCKET_PATH) => web::get().to(enroll::socket),
        ("GET", "/v1/node/status") => web::get().to(node::status),
        ("POST", "/v1/node/command") => web::post().to(node::command),
        ("GET", "/v1/node/logs") => web::get().to(node::logs),
        ("GET", "/v1/node/refusals") => web::get().to(node::refusals),
        ("GET", "/v1/node/metrics") => web::get().to(node::metrics),
        ("POST", "/v1/node/adopt") => web::post().to(adopt::order),
        ("POST", "/v1/node/leave") => web::post().to(leave::order),
        ("GET", "/v1/node/leave") => web::get().to(leave::show),
        ("GET", "/v1/node/alarms") => web::get().to(alarms::list),
        ("POST", "/v1/node/approve") => web::post().to(alarms::approve),
        ("POST", "/v1/node/revoke") => web::post().to(alarms::revoke),
        ("GET", "/v1/fleet/report") => web::get().to(fleet::report),
        // A row without a handler would be a hole in the table: the first request of any test finds it.
        other => panic!("no handler for {other:?}"),
    }
}

/// Configures the loopback listener.
pub fn local(state: Arc<State>, config: &mut web::ServiceConfig) {
    config.app_data(web::Data::from(state));
    let routes =
        [("/v1/node/health", web::post().to(local::health)), ("/healthz", web::get().to(local::alive))];
    for (path, handler) in routes {
        config.service(web::resource(path).route(handler).default_service(web::to(wrong_method)));
    }
    config.default_service(web::to(unknown_path));
}

async fn unknown_path() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
}

async fn wrong_method() -> Result<HttpResponse, ApiError> {
    Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method"))
}
