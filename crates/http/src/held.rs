//! Keeps the unread rest of a request's body until the answer is sent. Without it, actix-http 3.20 waits for
//! the end of a chunked body that nobody reads, without a timeout: one client could hold a connection for
//! ever. With it, the connection lingers for the disconnect timeout and is closed.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::Stream;

/// How much of a body nobody wants is taken all the same, bytes, and for how long.
const DRAIN_LIMIT_BYTES: usize = 8 << 20;
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A request's body, shared by its reader and the answer.
pub struct HeldPayload(Rc<RefCell<Payload>>);

impl HeldPayload {
    /// Takes the body and leaves a reader of it in its place.
    pub fn take_from(request: &mut ServiceRequest) -> Self {
        let shared = Rc::new(RefCell::new(request.take_payload()));
        request.set_payload(Payload::Stream { payload: Box::pin(Reader(shared.clone())) });
        Self(shared)
    }

    /// Takes the rest of the body, within bounds. In HTTP/2 a stream that is dropped before its end is reset, and
    /// clients such as curl then report that instead of the answer they have.
    pub async fn drain(&self) {
        let rest = async {
            let mut left = DRAIN_LIMIT_BYTES;
            while let Some(Ok(chunk)) = poll_fn(|cx| Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)).await
            {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // What is over the bounds is cut off: that is what they are for.
        let _ = actix_web::rt::time::timeout(DRAIN_LIMIT, rest).await;
    }

    /// Ties the body to the answer's body, which lives until the last byte of it is written.
    pub fn keep_with(self, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        response.map_body(|_, body| BoxBody::new(Answer { body, _request: self.0 }))
    }
}

struct Reader(Rc<RefCell<Payload>>);

impl Stream for Reader {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_next(cx)
    }
}

struct Answer {
    body: BoxBody,
    _request: Rc<RefCell<Payload>>,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(cx)
    }
}
