//! Who may call: the operator's key in front of every operator route.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::middleware::Next;
use actix_web::{HttpRequest, web};
use orama_protocol::Redacted;

use super::ApiError;
use crate::state::State;
use crate::token;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `Authorization: Bearer <admin key>`.
    AdminKey,
    /// An invite token, as bearer or in the body.
    Invite,
    /// A node that is not enrolled has no credential; what it says is only an identifier.
    Anyone,
}

/// Middleware of the operator's routes. Runs before the body is read.
pub async fn require_admin_key(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, actix_web::Error> {
    check(request.request()).await?;
    next.call(request).await
}

async fn check(request: &HttpRequest) -> Result<(), ApiError> {
    let Some(key) = bearer(request) else {
        return Err(unauthorized("this call needs the admin API key as bearer token"));
    };
    let state = state(request)?;
    let known = state.blocking(|state| state.registry.admin_key_digest()).await;
    let known =
        known.map_err(|error| ApiError::internal(&error))?.map_err(|error| ApiError::internal(&error))?;
    if known.is_some_and(|known| token::same_digest(&known, &token::digest(&key))) {
        return Ok(());
    }
    Err(wrong_credential(&state, request, unauthorized("the admin API key is wrong")))
}

/// Counts a wrong credential; who presents too many is told only that.
pub fn wrong_credential(state: &State, request: &HttpRequest, error: ApiError) -> ApiError {
    if state.failures.record(peer(request), Instant::now()) {
        return ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many wrong credentials from this address");
    }
    error
}

pub fn unauthorized(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNAUTHORIZED, message)
}

pub fn bearer(request: &HttpRequest) -> Option<Redacted> {
    token::bearer(request.headers().get(AUTHORIZATION)?.to_str().ok()?)
}

/// The address of the connection. Forwarding headers are not believed: nothing trusted stands in front.
pub fn peer(request: &HttpRequest) -> IpAddr {
    request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

pub fn state(request: &HttpRequest) -> Result<std::sync::Arc<State>, ApiError> {
    let data = request.app_data::<web::Data<State>>();
    let missing = || ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "the gateway has no state");
    data.map(|data| std::sync::Arc::clone(data)).ok_or_else(missing)
}
