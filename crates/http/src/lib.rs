//! Bounds that every HTTP server of ours puts around actix-web: a client that does not send the rest of its body,
//! or does not read its answer, must not hold a connection for ever. Owns no route and no answer.

#![forbid(unsafe_code)]

mod held;

use std::net::{SocketAddr, TcpListener};

use actix_web::Error;
use actix_web::body::BoxBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Version;
use actix_web::middleware::Next;
use nix::sys::socket::{setsockopt, sockopt};

pub use held::HeldPayload;

/// How long sent bytes may stay unacknowledged before the kernel ends the connection, milliseconds. actix has no
/// timeout for a client that does not read its answer.
pub const SEND_TIMEOUT_MILLISECONDS: u32 = 20_000;

/// A listening socket whose connections end when a client does not read; accepted sockets inherit the option.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    bound(&listener)?;
    Ok(listener)
}

/// Gives a socket that somebody else bound the same bound.
pub fn bound(listener: &TcpListener) -> std::io::Result<()> {
    Ok(setsockopt(listener, sockopt::TcpUserTimeout, &SEND_TIMEOUT_MILLISECONDS)?)
}

/// Middleware: keeps the unread rest of a request's body until the answer is sent. See [`HeldPayload`].
pub async fn hold_body(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let is_http2 = request.version() == Version::HTTP_2;
    let held = HeldPayload::take_from(&mut request);
    let result = next.call(request).await;
    if is_http2 {
        held.drain().await;
    }
    result.map(|response| held.keep_with(response))
}
