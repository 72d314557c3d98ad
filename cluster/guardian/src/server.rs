//! Starts the HTTP server: binding, limits against slow and many clients, and what every answer has in
//! common (log line, rate limit, `Connection: close`).

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use actix_web::body::BoxBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::KeepAlive;
use actix_web::http::header::{CONNECTION, HeaderValue};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpServer, ResponseError as _, web};
use orama_protocol::guardian::RATE_WINDOW_SECONDS;

use crate::api::{self, State};
use crate::auth::Authority;
use crate::clock::{Clock, nanoseconds};
use crate::config::{Config, StorePlace};
use crate::error::ApiError;
use crate::rate::RateLimiter;
use crate::release::{Places, RestoreError, TICK, Watch};
use crate::store::{AgentStore, FileStore, OpenStoreError, Store};

/// How long a request's head may take to arrive.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a closing connection waits for the client's end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long running requests may finish after a stop, seconds.
const STOP_TIMEOUT_SECONDS: u64 = 5;
/// Open connections: every node of a /24 overlay at once. More wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// Connections waiting to be taken.
const QUEUE_MAX: u32 = 128;
/// Threads for the store. Files take one request at a time anyway; an agent puts all that arrive together into one write.
const STORE_THREADS: usize = 8;

/// Why a guardian did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("refusing to listen on every address ({0}): give one, or --listen-anywhere")]
    Anywhere(SocketAddr),
    #[error("cannot open the store")]
    Store(#[from] OpenStoreError),
    #[error(
        "cannot tell whose keys are watched over; without the note, every absent owner would count as present again"
    )]
    Facts(#[from] RestoreError),
    #[error("the kernel gave no random bytes for the session secret")]
    Random(#[source] getrandom::Error),
    #[error("cannot listen on {0}")]
    Bind(SocketAddr, #[source] io::Error),
}

/// Starts a guardian. Gives the address it listens on and the server: await it to run until it is stopped;
/// its `handle()` stops it. Signals are the caller's. Needs a running actix or tokio runtime.
pub fn serve(config: Config) -> Result<(SocketAddr, Server), ServeError> {
    let Config {
        listen,
        listen_anywhere,
        store,
        requests_per_minute,
        rules,
        operator_sha256,
        mesh_control,
        clock,
    } = config;
    if listen.ip().is_unspecified() && !listen_anywhere {
        return Err(ServeError::Anywhere(listen));
    }
    let (store, places): (Arc<dyn Store>, _) = match store {
        StorePlace::Files(data) => {
            (Arc::new(FileStore::open(&data)?), Places::on_host(listen.ip(), mesh_control))
        }
        StorePlace::Agent(socket) => (Arc::new(AgentStore::open(&socket)?), Places::by_agent()),
    };
    let watch = Arc::new(Watch::restore(rules, store.clone(), clock.clone(), places)?);
    let state = web::Data::new(State {
        store,
        watch: watch.clone(),
        operator_sha256,
        authority: Authority::new().map_err(ServeError::Random)?,
        clock: clock.clone(),
    });
    let gate = Arc::new(Gate::new(requests_per_minute, clock));
    let bind_error = |source| ServeError::Bind(listen, source);
    let listener = orama_http::listen(listen).map_err(bind_error)?;
    let address = listener.local_addr().map_err(bind_error)?;
    let server = HttpServer::new(move || {
        let gate = gate.clone();
        App::new()
            .app_data(state.clone())
            .configure(api::routes)
            .wrap(from_fn(move |request, next| gate.clone().pass(request, next)))
    })
    .workers(1)
    .worker_max_blocking_threads(STORE_THREADS)
    .max_connections(CONNECTIONS_MAX)
    .backlog(QUEUE_MAX)
    .keep_alive(KeepAlive::Disabled)
    .client_request_timeout(HEAD_TIMEOUT)
    .client_disconnect_timeout(DISCONNECT_TIMEOUT)
    .shutdown_timeout(STOP_TIMEOUT_SECONDS)
    .disable_signals()
    .listen(listener)
    .map_err(bind_error)?
    .run();
    tokio::spawn(watch_over(Arc::downgrade(&watch)));
    Ok((address, server))
}

/// Ends with the server, which owns what is watched over.
async fn watch_over(watch: Weak<Watch>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(watch) = watch.upgrade() else { return };
        if tokio::task::spawn_blocking(move || watch.tick()).await.is_err() {
            tracing::error!("watching over owners panicked");
        }
    }
}

/// What every request passes through.
struct Gate {
    limit: u32,
    limiter: Mutex<RateLimiter>,
    clock: Clock,
}

impl Gate {
    fn new(limit: u32, clock: Clock) -> Self {
        let window_ns = nanoseconds(Duration::from_secs(RATE_WINDOW_SECONDS));
        Self { limit, limiter: Mutex::new(RateLimiter::new(limit, window_ns)), clock }
    }

    async fn pass(
        self: Arc<Self>,
        mut request: ServiceRequest,
        next: Next<BoxBody>,
    ) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
        let start = Instant::now();
        let held = orama_http::HeldPayload::take_from(&mut request);
        let response = match self.admit(&request) {
            Ok(()) => next.call(request).await?,
            Err(error) => request.into_response(error.error_response()),
        };
        let mut response = held.keep_with(response);
        response.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        let request = response.request();
        // Debug output escapes what a client may have put into the path.
        tracing::debug!(
            client = ?request.peer_addr().map(|address| address.ip()),
            method = %request.method(),
            path = ?request.path().get(..request.path().len().min(160)),
            status = response.status().as_u16(),
            microseconds = start.elapsed().as_micros() as u64,
            "request"
        );
        Ok(response)
    }

    fn admit(&self, request: &ServiceRequest) -> Result<(), ApiError> {
        // A TCP connection always has a peer; without one there is nobody to count, so nobody to serve.
        let Some(peer) = request.peer_addr() else {
            return Err(ApiError::Internal("the client has no address".into()));
        };
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        limiter.admit(peer.ip(), self.clock.steady_ns()).map_err(|wait_ns| {
            let seconds = (wait_ns as u128).div_ceil(1_000_000_000) as u64;
            tracing::warn!(client = %peer.ip(), seconds, "too many requests");
            ApiError::TooManyRequests { limit: self.limit, seconds }
        })
    }
}
