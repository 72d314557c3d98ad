//! The V2 secrets API: wire type in, one call, wire type out. Owns routes, bodies and their bounds; sessions
//! are `auth`'s, the disk is `store`'s.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::guardian::{
    ChallengeRequest, Deleted, Noted, Presence, PutSecret, REVOKED, SESSION_HEADER, SHARE_LIMIT_BYTES,
    Secret, SecretList, SessionRequest, Stored,
};
use orama_protocol::{BODY_LIMIT_BYTES, Redacted};
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::auth::{Authority, TokenError};
use crate::clock::Clock;
use crate::error::ApiError;
use crate::names::{Identity, SecretName};
use crate::operator;
use crate::release::Watch;
use crate::store::Store;

/// How long a request's body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest body of a challenge or session request, bytes; a real one has about 250.
const AUTH_BODY_LIMIT_BYTES: usize = 4096;

/// What the handlers share.
pub(crate) struct State {
    pub(crate) authority: Authority,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) clock: Clock,
    pub(crate) watch: Arc<Watch>,
    /// SHA-256 of the operators' token, hex; none: the store may know it.
    pub(crate) operator_sha256: Option<String>,
}

pub(crate) fn routes(config: &mut web::ServiceConfig) {
    config
        .service(
            web::resource("/v2/vault/auth/challenge")
                .route(web::post().to(challenge))
                .default_service(web::to(|request| wrong_method(request, "POST"))),
        )
        .service(
            web::resource("/v2/vault/auth/session")
                .route(web::post().to(session))
                .default_service(web::to(|request| wrong_method(request, "POST"))),
        )
        .service(
            web::resource("/v2/vault/presence")
                .route(web::put().to(presence))
                .default_service(web::to(|request| wrong_method(request, "PUT"))),
        )
        .service(
            web::resource("/v2/vault/holds")
                .route(web::get().to(operator::list))
                .route(web::post().to(operator::decide))
                .default_service(web::to(|request| wrong_method(request, "GET, POST"))),
        )
        .service(
            web::resource("/v2/vault/secrets")
                .route(web::get().to(list))
                .default_service(web::to(|request| wrong_method(request, "GET"))),
        )
        .service(
            web::resource("/v2/vault/secrets/{name}")
                .route(web::get().to(get))
                .route(web::put().to(put))
                .route(web::delete().to(delete))
                .default_service(web::to(|request| wrong_method(request, "GET, PUT, DELETE"))),
        )
        .default_service(web::to(unknown_path));
}

async fn unknown_path() -> Result<HttpResponse, ApiError> {
    Err(ApiError::NotFound("unknown path"))
}

async fn wrong_method(request: HttpRequest, allow: &'static str) -> Result<HttpResponse, ApiError> {
    Err(ApiError::MethodNotAllowed { method: request.method().to_string(), allow })
}

async fn challenge(state: web::Data<State>, body: web::Payload) -> Result<HttpResponse, ApiError> {
    let request: ChallengeRequest = read_json(body, AUTH_BODY_LIMIT_BYTES).await?;
    let identity = Identity::parse(&request.identity)
        .ok_or_else(|| ApiError::BadRequest("identity must be 64 lowercase hex characters".into()))?;
    Ok(HttpResponse::Ok().json(state.authority.challenge(&identity, state.clock.steady_ns())?))
}

async fn session(state: web::Data<State>, body: web::Payload) -> Result<HttpResponse, ApiError> {
    let request: SessionRequest = read_json(body, AUTH_BODY_LIMIT_BYTES).await?;
    let session = state.authority.session(&request, state.clock.steady_ns())?;
    refuse_revoked(&state, Identity::parse(&session.identity)).await?;
    Ok(HttpResponse::Ok().json(session))
}

async fn presence(
    state: web::Data<State>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (identity, source) = (identity(&state, &request).await?, source(&request)?);
    let presence: Presence = read_json(body, AUTH_BODY_LIMIT_BYTES).await?;
    let watch = state.watch.clone();
    web::block(move || watch.presence(&identity, presence, source)).await?;
    Ok(HttpResponse::Ok().json(Noted { status: "noted".into() }))
}

async fn put(
    state: web::Data<State>,
    request: HttpRequest,
    body: web::Payload,
) -> Result<HttpResponse, ApiError> {
    let (identity, name) = (identity(&state, &request).await?, secret_name(&request)?);
    let source = source(&request)?;
    let PutSecret { share, version } = read_json(body, BODY_LIMIT_BYTES).await?;
    let share = STANDARD
        .decode(share.expose())
        .map(Zeroizing::new)
        .map_err(|_| ApiError::BadRequest("share is not base64".into()))?;
    if !(1..=SHARE_LIMIT_BYTES).contains(&share.len()) {
        return Err(ApiError::BadRequest(format!(
            "share has {} bytes, 1 to {SHARE_LIMIT_BYTES} are kept",
            share.len()
        )));
    }
    let (store, now) = (state.store.clone(), state.clock.wall_ns());
    let stored = Stored { status: "stored".into(), name: name.as_str().to_owned(), version };
    let short = identity.short().to_owned();
    let watch = state.watch.clone();
    let put = move || {
        if !watch.has_room_for(&identity, &name) {
            return Err(ApiError::BadRequest(
                "this guardian already watches over the keys of 300 nodes".into(),
            ));
        }
        store.put(&identity, &name, version, share, now)?;
        watch.stored(&identity, &name, source);
        Ok(())
    };
    web::block(put).await??;
    tracing::info!(identity = short, name = stored.name, version, "stored");
    Ok(HttpResponse::Ok().json(stored))
}

async fn get(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (identity, name) = (identity(&state, &request).await?, secret_name(&request)?);
    let (watch, source) = (state.watch.clone(), source(&request)?);
    let record = web::block(move || watch.fetch(&identity, &name, source)).await??;
    Ok(HttpResponse::Ok().json(Secret {
        share: Redacted::new(STANDARD.encode(record.share.as_slice())),
        name: record.name.as_str().to_owned(),
        version: record.version,
        created_ns: record.created_ns,
        updated_ns: record.updated_ns,
    }))
}

async fn list(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let identity = identity(&state, &request).await?;
    let store = state.store.clone();
    let secrets = web::block(move || store.list(&identity)).await??;
    Ok(HttpResponse::Ok().json(SecretList { secrets }))
}

async fn delete(state: web::Data<State>, request: HttpRequest) -> Result<HttpResponse, ApiError> {
    let (identity, name) = (identity(&state, &request).await?, secret_name(&request)?);
    let (store, watch) = (state.store.clone(), state.watch.clone());
    let deleted = Deleted { status: "deleted".into(), name: name.as_str().to_owned() };
    let short = identity.short().to_owned();
    let delete = move || {
        store.delete(&identity, &name)?;
        watch.deleted(&identity, &name);
        Ok::<_, ApiError>(())
    };
    web::block(delete).await??;
    tracing::info!(identity = short, name = deleted.name, "deleted");
    Ok(HttpResponse::Ok().json(deleted))
}

/// Whose session the request carries. Two token headers are none.
async fn identity(state: &State, request: &HttpRequest) -> Result<Identity, ApiError> {
    let mut tokens = request.headers().get_all(SESSION_HEADER);
    let (token, second) = (tokens.next(), tokens.next());
    if second.is_some() {
        return Err(TokenError::Form.into());
    }
    let token = token.map(|token| token.as_bytes());
    let identity = state.authority.verify(token, state.clock.steady_ns())?;
    refuse_revoked(state, Some(identity.clone())).await?;
    Ok(identity)
}

async fn refuse_revoked(state: &State, identity: Option<Identity>) -> Result<(), ApiError> {
    let (watch, Some(identity)) = (state.watch.clone(), identity) else { return Ok(()) };
    if web::block(move || watch.is_revoked(&identity)).await? {
        return Err(ApiError::Unauthorized(REVOKED.into()));
    }
    Ok(())
}

/// The overlay address that the request comes from.
fn source(request: &HttpRequest) -> Result<IpAddr, ApiError> {
    let peer = request.peer_addr().map(|address| address.ip().to_canonical());
    peer.ok_or_else(|| ApiError::Internal("the client has no address".into()))
}

fn secret_name(request: &HttpRequest) -> Result<SecretName, ApiError> {
    SecretName::parse(request.match_info().query("name")).ok_or_else(|| {
        ApiError::BadRequest("a secret's name has 1 to 128 characters of A-Z, a-z, 0-9, _ and -".into())
    })
}

/// Reads a bounded JSON body within [`BODY_TIMEOUT`]. The error never repeats what stood in the body: it may
/// be a share.
pub(crate) async fn read_json<T: DeserializeOwned>(body: web::Payload, limit: usize) -> Result<T, ApiError> {
    let bad = |text: String| Err(ApiError::BadRequest(text));
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, body.to_bytes_limited(limit)).await {
        Err(_) => return bad(format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs())),
        Ok(Err(_)) => return bad(format!("the body is larger than {limit} bytes")),
        Ok(Ok(Err(_))) => return bad("the body ended early".into()),
        Ok(Ok(Ok(bytes))) => bytes,
    };
    serde_json::from_slice(&bytes).or_else(|error| {
        let text = error.to_string();
        if text.starts_with("missing field") {
            return bad(format!("body: {text}"));
        }
        bad(format!(
            "the body is not the expected JSON object, at line {} column {}",
            error.line(),
            error.column()
        ))
    })
}
