//! What a failed request is answered with: `{"error": "..."}` and the status that PROTOCOL lists.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use orama_protocol::ErrorBody;
use orama_protocol::guardian::REVOKED;

use crate::auth::{SessionError, TokenError};
use crate::release::{ApproveError, DecideError, FetchError, HeldDown};
use crate::store::{DeleteError, ListError, PutError, ReadError};

/// A failed request. The text goes to the client: it names what was wrong, never a path or a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Unauthorized(String),
    #[error("{0}")]
    NotFound(&'static str),
    #[error("{method} is not for this path")]
    MethodNotAllowed { method: String, allow: &'static str },
    #[error("more than {limit} requests in 60 s, try again in {seconds} s")]
    TooManyRequests { limit: u32, seconds: u64 },
    #[error("{0}")]
    HeldDown(HeldDown),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    Internal(String),
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        match self {
            ApiError::BadRequest(_) => StatusCode::BAD_REQUEST,
            ApiError::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            ApiError::NotFound(_) => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::TooManyRequests { .. } | ApiError::HeldDown(_) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::Conflict(_) => StatusCode::CONFLICT,
            ApiError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status_code());
        match self {
            ApiError::MethodNotAllowed { allow, .. } => {
                response.insert_header(("Allow", *allow));
            }
            ApiError::TooManyRequests { seconds, .. } => {
                response.insert_header(("Retry-After", seconds.to_string()));
            }
            ApiError::HeldDown(held) => {
                response.insert_header(("Retry-After", held.seconds.to_string()));
            }
            ApiError::BadRequest(_)
            | ApiError::Unauthorized(_)
            | ApiError::NotFound(_)
            | ApiError::Conflict(_)
            | ApiError::Internal(_) => {}
        }
        response.json(ErrorBody { error: self.to_string() })
    }
}

/// Logs the whole chain of causes and tells the client only the first line.
fn internal(error: impl std::error::Error) -> ApiError {
    let mut causes = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push_str(&format!(": {error}"));
        cause = error.source();
    }
    tracing::error!("{error}{causes}");
    ApiError::Internal(error.to_string())
}

/// No fault of anybody's: the sentence is for the client.
fn locked(why: String) -> ApiError {
    tracing::info!("refused: {why}");
    ApiError::Internal(why)
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Identity => ApiError::BadRequest(error.to_string()),
            SessionError::Tag | SessionError::Expired => ApiError::Unauthorized(error.to_string()),
        }
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        ApiError::Unauthorized(error.to_string())
    }
}

impl From<PutError> for ApiError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Version { .. }
            | PutError::TooManySecrets
            | PutError::TooManyIdentities
            | PutError::Full(_) => ApiError::BadRequest(error.to_string()),
            PutError::Locked(why) => locked(why),
            PutError::Damaged(_) | PutError::Read(_) | PutError::Write(_) | PutError::Agent(_) => {
                internal(error)
            }
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::None => ApiError::NotFound("no such secret"),
            ReadError::Damaged(_) | ReadError::Io(_) | ReadError::Agent(_) => internal(error),
        }
    }
}

impl From<FetchError> for ApiError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Read(error) => error.into(),
            FetchError::Held(held) => ApiError::HeldDown(held),
            FetchError::Revoked => ApiError::Unauthorized(REVOKED.into()),
        }
    }
}

impl From<DecideError> for ApiError {
    fn from(error: DecideError) -> Self {
        match &error {
            DecideError::Approve(ApproveError::NoOwner) => ApiError::NotFound("no such owner has keys here"),
            DecideError::Approve(_) | DecideError::Revoke(_) => ApiError::Conflict(error.to_string()),
        }
    }
}

impl From<DeleteError> for ApiError {
    fn from(error: DeleteError) -> Self {
        match error {
            DeleteError::None => ApiError::NotFound("no such secret"),
            DeleteError::Locked(why) => locked(why),
            DeleteError::Io(_) | DeleteError::Agent(_) => internal(error),
        }
    }
}

impl From<ListError> for ApiError {
    fn from(error: ListError) -> Self {
        internal(error)
    }
}

impl From<getrandom::Error> for ApiError {
    fn from(error: getrandom::Error) -> Self {
        tracing::error!("the kernel gave no random bytes: {error}");
        ApiError::Internal("no random bytes".into())
    }
}

impl From<actix_web::error::BlockingError> for ApiError {
    fn from(_: actix_web::error::BlockingError) -> Self {
        tracing::error!("a store operation panicked");
        ApiError::Internal("the store failed".into())
    }
}
