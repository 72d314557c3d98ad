//! What operators see and decide of held shares: `/v2/vault/holds`, with a token of their own. A guardian that was told
//! of no token has no such routes.

use std::net::IpAddr;

use actix_web::http::header::AUTHORIZATION;
use actix_web::{HttpRequest, HttpResponse, web};
use orama_protocol::guardian::HoldDecision;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::api::{State, read_json};
use crate::auth::hex;
use crate::error::ApiError;
use crate::names::Identity;

/// Longest operator token read, bytes.
const TOKEN_LIMIT: usize = 512;
/// Largest decision, bytes.
const BODY_LIMIT_BYTES: usize = 4096;

pub(crate) async fn list(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    admit(&state, &request).await?;
    let watch = state.watch.clone();
    Ok(HttpResponse::Ok().json(web::block(move || watch.list()).await?))
}

pub(crate) async fn decide(
    state: web::Data<State>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    admit(&state, &request).await?;
    let HoldDecision { owner, decision, address } = read_json(body, BODY_LIMIT_BYTES).await?;
    if Identity::parse(&owner).is_none() {
        return Err(ApiError::BadRequest("owner must be 64 lowercase hex characters".into()));
    }
    let address = match address.as_deref().map(str::parse::<IpAddr>) {
        None => None,
        Some(Ok(address)) => Some(address),
        Some(Err(_)) => return Err(ApiError::BadRequest("address must be an IP address".into())),
    };
    let watch = state.watch.clone();
    let decided = match decision.as_str() {
        "approve" => web::block(move || watch.approve(&owner, address)).await??,
        "revoke" => web::block(move || watch.revoke(&owner)).await??,
        _ => return Err(ApiError::BadRequest("decision must be `approve` or `revoke`".into())),
    };
    Ok(HttpResponse::Ok().json(decided))
}

async fn admit(state: &web::Data<State>, request: &HttpRequest) -> Result<(), ApiError> {
    let expected = match &state.operator_sha256 {
        Some(expected) => Some(expected.clone()),
        None => {
            let store = state.store.clone();
            web::block(move || store.operator_sha256()).await?.unwrap_or_else(|error| {
                tracing::warn!("the operators' token is not known: {error}");
                None
            })
        }
    };
    let Some(expected) = expected else { return Err(ApiError::NotFound("unknown path")) };
    let mut headers = request.headers().get_all(AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Err(ApiError::Unauthorized("the operator token is missing".into()));
    };
    let token = header.as_bytes().strip_prefix(b"Bearer ").filter(|token| token.len() <= TOKEN_LIMIT);
    let token = token.ok_or_else(|| ApiError::Unauthorized("the operator token is missing".into()))?;
    let found = hex(&Sha256::digest(token));
    if bool::from(found.as_bytes().ct_eq(expected.as_bytes())) {
        Ok(())
    } else {
        Err(ApiError::Unauthorized("the operator token is not right".into()))
    }
}
