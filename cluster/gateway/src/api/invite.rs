//! `POST /v1/node/invite`.

use actix_web::{HttpResponse, web};
use orama_protocol::gateway::{InviteRequest, InviteResponse};

use super::{ApiError, request};
use crate::invite::LIFETIME_SECONDS;
use crate::state::{State, now, rfc3339};
use crate::token;

const CREATED_BY_LIMIT_CHARS: usize = 64;

pub async fn create(state: web::Data<State>, payload: web::Payload) -> Result<HttpResponse, ApiError> {
    let asked: InviteRequest = request::json(&request::body(payload).await?)?;
    if !LIFETIME_SECONDS.contains(&asked.expiry_seconds) {
        let (shortest, longest) = (LIFETIME_SECONDS.start(), LIFETIME_SECONDS.end());
        let message = format!("expiry_seconds {} is not {shortest} to {longest}", asked.expiry_seconds);
        return Err(ApiError::bad_request(message));
    }
    if asked.created_by.chars().count() > CREATED_BY_LIMIT_CHARS
        || asked.created_by.chars().any(char::is_control)
    {
        let message =
            format!("created_by is longer than {CREATED_BY_LIMIT_CHARS} characters or not printable");
        return Err(ApiError::bad_request(message));
    }
    let token = token::generate().map_err(|error| ApiError::internal(&error))?;
    let digest = token::digest(&token);
    let now = now();
    let expires_at = now.saturating_add_unsigned(asked.expiry_seconds);
    state
        .into_inner()
        .blocking(move |state| state.registry.add_invite(&digest, &asked.created_by, expires_at, now))
        .await
        .map_err(|error| ApiError::internal(&error))?
        .map_err(|error| ApiError::internal(&error))?;
    Ok(HttpResponse::Ok().json(InviteResponse { token, expires: rfc3339(expires_at) }))
}
