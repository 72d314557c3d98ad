//! Reading bodies and query strings, bounded and with errors that name the field.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, web};
use futures_util::StreamExt;
use orama_protocol::BODY_LIMIT_BYTES;
use serde::de::DeserializeOwned;

use super::ApiError;

pub async fn body(mut payload: web::Payload) -> Result<web::Bytes, ApiError> {
    let mut body = web::BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let chunk =
            chunk.map_err(|error| ApiError::bad_request(format!("the body is cut short: {error}")))?;
        if body.len() + chunk.len() > BODY_LIMIT_BYTES {
            let message = format!("the body is larger than {BODY_LIMIT_BYTES} bytes");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body is not understood: {error}")))
}

pub fn query<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, ApiError> {
    web::Query::<T>::from_query(request.query_string())
        .map(web::Query::into_inner)
        .map_err(|error| ApiError::bad_request(format!("the query string is not understood: {error}")))
}
