//! `POST /v1/node/enroll` by the operator and `GET /v1/node/enroll/socket` by the node.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use orama_protocol::Redacted;
use orama_protocol::enroll::EnrollResponse;
use orama_protocol::recovery::{RecoveryHandout, RecoveryRequest};
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{ApiError, access, request};
use crate::enrollment::attempt::{self, AttemptError};
use crate::enrollment::code::well_formed_code;
use crate::enrollment::socket as enrollment_socket;
use crate::invite::Unusable;
use crate::state::{State, now};
use crate::token;

/// When the operator is answered at the latest; the client gives up after 60 s.
const OPERATOR_LIMIT: Duration = Duration::from_secs(45);

/// `orama_protocol::enroll::EnrollRequest` without its token, which may also come in the header alone.
#[derive(Deserialize)]
struct Body {
    code: String,
    node_ip: String,
    #[serde(default)]
    wireguard_public_key: Option<String>,
    #[serde(default)]
    recovery: Option<RecoveryRequest>,
}

/// Its token, out of a body that may be wrong in everything else: who holds no invite learns nothing about it.
#[derive(Default, Deserialize)]
struct BodyToken {
    #[serde(default)]
    token: Option<Redacted>,
}

pub async fn enroll(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let state = state.into_inner();
    let bytes = request::body(payload).await?;
    let invite = invite(&request, &bytes)?;
    let digest = token::digest(&invite);
    let checked = {
        let digest = digest.clone();
        state.blocking(move |state| state.registry.check_invite(&digest, now())).await
    };
    let checked = checked.map_err(|error| ApiError::internal(&error))?;
    if let Err(why) = checked.map_err(|error| ApiError::internal(&error))? {
        return Err(unusable(&state, &request, why));
    }

    let body: Body = request::json(&bytes)?;
    let node_ip = node_ip(&body.node_ip)?;
    if !well_formed_code(&body.code) {
        return Err(ApiError::bad_request("code is not 8 characters of Crockford base32"));
    }
    let asked = attempt::Request {
        invite: digest,
        code: body.code,
        node_ip,
        wireguard_public_key: body.wireguard_public_key,
        recovery: body.recovery,
    };
    // A task of its own: when the operator hangs up, what was begun is still brought to an end.
    let task = actix_web::rt::spawn(attempt::run(Arc::clone(&state), asked));
    let enrolled = match tokio::time::timeout(OPERATOR_LIMIT, task).await {
        Ok(Ok(result)) => result.map_err(|error| refuse(&error))?,
        Ok(Err(error)) => return Err(ApiError::internal(&error)),
        Err(_) => return Err(refuse(&AttemptError::TooSlow)),
    };
    tracing::info!(node_id = enrolled.node_id, %node_ip, operator = %access::peer(&request), "registered");
    Ok(HttpResponse::Ok().json(EnrollResponse {
        status: "enrolled".into(),
        node_id: enrolled.node_id,
        wg_ip: enrolled.wg_ip.to_string(),
    }))
}

/// How far the recovery key is that was asked for with this invite, which is used up by then. A command asks here before,
/// too: a gateway that does not know this path would enrol without one.
pub async fn recovery(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let state = state.into_inner();
    let digest = token::digest(&invite(&request, b"")?);
    if let Some(handout) = state.recovery.show(&digest, std::time::Instant::now()) {
        return Ok(HttpResponse::Ok().json(handout));
    }
    let checked = state.blocking(move |state| state.registry.check_invite(&digest, now())).await;
    let checked = checked.map_err(|error| ApiError::internal(&error))?;
    match checked.map_err(|error| ApiError::internal(&error))? {
        Ok(()) | Err(Unusable::Used | Unusable::Reserved) => {
            Ok(HttpResponse::Ok().json(RecoveryHandout { state: "none".into(), ..Default::default() }))
        }
        Err(why @ (Unusable::Unknown | Unusable::Expired)) => Err(unusable(&state, &request, why)),
    }
}

fn unusable(state: &State, request: &HttpRequest, why: Unusable) -> ApiError {
    let error = access::unauthorized(why.to_string());
    match why {
        Unusable::Unknown => access::wrong_credential(state, request, error),
        Unusable::Used | Unusable::Expired | Unusable::Reserved => error,
    }
}

/// The invite token of header or body; both must agree when both are there.
fn invite(request: &HttpRequest, body: &[u8]) -> Result<Redacted, ApiError> {
    let header = access::bearer(request);
    let in_body = serde_json::from_slice::<BodyToken>(body).unwrap_or_default().token;
    match (header, in_body) {
        (Some(header), Some(in_body)) => {
            if !bool::from(header.expose().as_bytes().ct_eq(in_body.expose().as_bytes())) {
                return Err(access::unauthorized("the token in the body is not the one in the header"));
            }
            Ok(header)
        }
        (Some(token), None) | (None, Some(token)) => Ok(token),
        (None, None) => Err(access::unauthorized("this call needs an invite token as bearer token")),
    }
}

fn node_ip(text: &str) -> Result<Ipv4Addr, ApiError> {
    let address: Ipv4Addr =
        text.parse().map_err(|_| ApiError::bad_request("node_ip is not an IPv4 address"))?;
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() {
        return Err(ApiError::bad_request(format!("node_ip {address} is not the address of a host")));
    }
    Ok(address)
}

fn refuse(error: &AttemptError) -> ApiError {
    let status = match error {
        AttemptError::Invite(_) => StatusCode::UNAUTHORIZED,
        AttemptError::UnknownCode => StatusCode::NOT_FOUND,
        AttemptError::Busy
        | AttemptError::TooFewGuardians { .. }
        | AttemptError::NoRecoveryFile { .. }
        | AttemptError::KeyTaken(_)
        | AttemptError::OtherKey
        | AttemptError::Conflict => StatusCode::CONFLICT,
        AttemptError::NoMesh | AttemptError::Exhausted(_) | AttemptError::Mesh(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        AttemptError::Refused(_) | AttemptError::NodeLeft => StatusCode::BAD_GATEWAY,
        AttemptError::NoAnswer | AttemptError::TooSlow => StatusCode::GATEWAY_TIMEOUT,
        AttemptError::Store(_) | AttemptError::Random(_) | AttemptError::Lost(_) => {
            return ApiError::internal(error);
        }
    };
    tracing::info!(%error, "enrollment refused");
    ApiError::new(status, error.to_string())
}

pub async fn socket(
    state: web::Data<State>,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let seat = state
        .waiting
        .take_seat(access::peer(&request))
        .map_err(|error| ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string()))?;
    let (response, session, messages) = actix_ws::handle(&request, payload)
        .map_err(|error| ApiError::bad_request(format!("this path takes a WebSocket: {error}")))?;
    actix_web::rt::spawn(enrollment_socket::serve(state.into_inner(), seat, session, messages));
    Ok(response)
}
