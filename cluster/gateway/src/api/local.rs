//! The loopback listener: health reports of the agent on the same host, and a sign of life.

use std::time::Instant;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, web};
use orama_protocol::agent::HealthReport;

use super::{ApiError, request};
use crate::state::State;

/// Longest text field of a report, and most services.
const TEXT_LIMIT_CHARS: usize = 64;
const SERVICES_LIMIT: usize = 64;

pub async fn health(state: web::Data<State>, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let report: HealthReport = request::json(&request::body(payload).await?)?;
    let names = report.services.keys().chain([&report.node_id, &report.version, &report.timestamp]);
    for text in names {
        if text.len() > TEXT_LIMIT_CHARS || text.chars().any(char::is_control) {
            return Err(ApiError::bad_request(format!(
                "a text is longer than {TEXT_LIMIT_CHARS} or not printable"
            )));
        }
    }
    if report.services.len() > SERVICES_LIMIT {
        return Err(ApiError::bad_request(format!("more than {SERVICES_LIMIT} services")));
    }
    if !state.health.record(report, Instant::now()) {
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too many nodes report here"));
    }
    Ok(HttpResponse::Ok().json(serde_json::json!({ "status": "ok" })))
}

pub async fn alive() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}
