//! The temporary HTTP server on port 9999: shows the registration code, and in the compatibility mode takes the sealed
//! configuration. Reachable by anybody, so everything is bounded; owns no decision.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::{Server, ServerHandle};
use actix_web::http::header::{self, ContentType};
use actix_web::http::{KeepAlive, Method, StatusCode};
use actix_web::middleware::from_fn;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use orama_protocol::enroll::RegistrationCode;
use orama_protocol::genesis::{GENESIS_ENROLL_PATH, GENESIS_PROGRESS_PATH};
use orama_protocol::{BODY_LIMIT_BYTES, ErrorBody};

use super::genesis::Progress;
use super::{EnrollGenesis, GenesisRefused, PushRefused, SealedPush};
use crate::supervise::{Link, lock};

/// Connections at a time: one operator and a few who look.
const CONNECTIONS_MAX: usize = 32;
/// Connections waiting to be taken.
const QUEUE_MAX: u32 = 32;
/// How long a request's head may take, and how long a body.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a closing connection waits for the client's end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Running requests may finish after the port is closed for good, seconds.
const STOP_TIMEOUT_SECONDS: u64 = 2;
/// Path of the compatibility mode.
const PUSH_PATH: &str = "/v1/agent/enroll/complete";
/// Largest request of an owner, bytes: configuration, statement and signature with JSON's escapes.
const GENESIS_BODY_LIMIT_BYTES: usize = 16 * 1024;
const CODE_HEADER: &str = "X-Orama-Enrollment-Code";

/// What the page shows; none: the code is shown on the console only.
pub type Shown = Arc<Mutex<Option<RegistrationCode>>>;

#[derive(Clone)]
pub struct Page {
    pub shown: Shown,
    /// Present in the compatibility mode.
    pub push: Option<Link<super::EnrollActor>>,
    /// Present when the owner's wallet may enrol the node.
    pub genesis: Option<(Link<super::EnrollActor>, Progress)>,
}

/// Binds and starts; the port is open when this returns.
pub fn serve(listen: SocketAddr, page: Page) -> std::io::Result<(SocketAddr, ServerHandle, Server)> {
    let listener = orama_http::listen(listen)?;
    let address = listener.local_addr()?;
    let page = web::Data::new(page);
    let server = HttpServer::new(move || {
        App::new()
            .wrap(from_fn(orama_http::hold_body))
            .app_data(page.clone())
            .route("/", web::route().to(code))
            .route(PUSH_PATH, web::route().to(complete))
            .route(GENESIS_ENROLL_PATH, web::route().to(genesis))
            .route(GENESIS_PROGRESS_PATH, web::route().to(progress))
            .default_service(web::to(async || error(StatusCode::NOT_FOUND, "there is only / here")))
    })
    .workers(1)
    .worker_max_blocking_threads(1)
    .max_connections(CONNECTIONS_MAX)
    .backlog(QUEUE_MAX)
    .keep_alive(KeepAlive::Disabled)
    .client_request_timeout(REQUEST_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(STOP_TIMEOUT_SECONDS)
    .disable_signals()
    .listen(listener)?
    .run();
    let handle = server.handle();
    Ok((address, handle, server))
}

async fn code(request: HttpRequest, page: web::Data<Page>) -> HttpResponse {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return not_allowed("GET, HEAD");
    }
    let Some(shown) = lock(&page.shown).clone() else {
        return error(StatusCode::NOT_FOUND, "this node shows its code on the console only");
    };
    let mut response = HttpResponse::Ok();
    response.insert_header((header::CACHE_CONTROL, "no-store")).insert_header((header::VARY, "Accept"));
    response.insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff")).force_close();
    if prefers_html(&request) {
        response.insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ));
        response.content_type(ContentType::html()).body(html(&shown))
    } else {
        response.json(shown)
    }
}

/// A browser names `text/html` first; curl and the `orama` command do not name it at all.
fn prefers_html(request: &HttpRequest) -> bool {
    let accept = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let place = |wanted: &str| accept.split(',').position(|item| item.trim().starts_with(wanted));
    match (place("text/html"), place("application/json")) {
        (Some(html), Some(json)) => html < json,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

fn html(shown: &RegistrationCode) -> String {
    // Both texts are our own: a code of the alphabet and a time.
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>OramaOS enrollment</title>\
         <style>body{{font:1.2rem system-ui,sans-serif;margin:15vh auto;max-width:34rem;padding:0 1rem}}\
         code{{font-size:3rem;letter-spacing:.2em}}</style>\
         <h1>This node waits to be enrolled</h1><p>Registration code:<p><code>{}</code><p>It is valid until {}. \
         On your machine: <br>orama node enroll --node-ip &lt;this address&gt; --token &lt;invite&gt; \
         --gateway &lt;url&gt;</html>\n",
        shown.code, shown.expires
    )
}

async fn genesis(request: HttpRequest, page: web::Data<Page>, body: web::Payload) -> HttpResponse {
    let Some((enroll, _)) = &page.genesis else { return no_owner() };
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let bytes = match read_body(body, GENESIS_BODY_LIMIT_BYTES).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let request = match serde_json::from_slice(&bytes) {
        Ok(request) => EnrollGenesis(request),
        Err(problem) => return error(StatusCode::BAD_REQUEST, &format!("the body is no request: {problem}")),
    };
    match enroll.ask(request).await {
        Ok(Ok(accepted)) => HttpResponse::Ok().force_close().json(accepted),
        Ok(Err(refused)) => {
            let status = match &refused {
                GenesisRefused::NoOwner => StatusCode::NOT_FOUND,
                GenesisRefused::NotNow => StatusCode::CONFLICT,
                GenesisRefused::Problem(problem) if problem.is_unauthorized() => StatusCode::UNAUTHORIZED,
                GenesisRefused::Problem(_) => StatusCode::BAD_REQUEST,
                GenesisRefused::Seal(_) | GenesisRefused::Random(_) | GenesisRefused::Token(_) => {
                    StatusCode::INTERNAL_SERVER_ERROR
                }
            };
            error(status, &crate::describe(&refused))
        }
        Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "the node cannot be enrolled now"),
    }
}

async fn progress(request: HttpRequest, page: web::Data<Page>) -> HttpResponse {
    match &page.genesis {
        None => no_owner(),
        Some(_) if request.method() != Method::GET => not_allowed("GET"),
        Some((_, progress)) => HttpResponse::Ok().force_close().json(progress.read()),
    }
}

fn no_owner() -> HttpResponse {
    error(StatusCode::NOT_FOUND, "this node's image names no owner")
}

async fn read_body(body: web::Payload, limit: usize) -> Result<web::Bytes, HttpResponse> {
    match tokio::time::timeout(BODY_TIMEOUT, body.to_bytes_limited(limit)).await {
        Ok(Ok(Ok(bytes))) => Ok(bytes),
        Ok(Ok(Err(_))) => Err(error(StatusCode::BAD_REQUEST, "the body broke off")),
        Ok(Err(_)) => {
            Err(error(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body has more than {limit} bytes")))
        }
        Err(_) => Err(error(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
    }
}

async fn complete(request: HttpRequest, page: web::Data<Page>, body: web::Payload) -> HttpResponse {
    let Some(enroll) = &page.push else {
        return error(StatusCode::NOT_FOUND, "there is only / here");
    };
    if request.method() != Method::POST {
        return not_allowed("POST");
    }
    let code =
        request.headers().get(CODE_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("").to_owned();
    let bytes = match read_body(body, BODY_LIMIT_BYTES).await {
        Ok(bytes) => bytes,
        Err(refusal) => return refusal,
    };
    let Ok(body) = String::from_utf8(bytes.into()) else {
        return error(StatusCode::BAD_REQUEST, "the body is not text");
    };
    match enroll.ask(SealedPush { code, body }).await {
        Ok(Ok(sealed)) => {
            HttpResponse::Ok().force_close().content_type(ContentType::plaintext()).body(sealed)
        }
        Ok(Err(refused @ PushRefused::WrongCode)) => error(StatusCode::UNAUTHORIZED, &refused.to_string()),
        Ok(Err(refused @ PushRefused::NotNow)) => error(StatusCode::CONFLICT, &refused.to_string()),
        Ok(Err(refused)) => error(StatusCode::BAD_REQUEST, &crate::describe(&refused)),
        Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "the node cannot be enrolled now"),
    }
}

fn not_allowed(allow: &str) -> HttpResponse {
    let body = ErrorBody { error: format!("only {allow} here") };
    let mut response = HttpResponse::MethodNotAllowed();
    response.insert_header((header::ALLOW, allow)).force_close().json(body)
}

fn error(status: StatusCode, text: &str) -> HttpResponse {
    HttpResponse::build(status).force_close().json(ErrorBody { error: text.to_owned() })
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
