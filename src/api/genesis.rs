//! The genesis node's paths. A node that was enrolled by a gateway never had a wallet-sealed key, and says so.
//! Both paths ask for the bearer token, as all others do.

use actix_web::{HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::Redacted;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::refuse;

/// Bytes of a volume key.
const KEY_BYTES: usize = 32;

#[derive(Deserialize)]
pub struct Unlock {
    key: Redacted,
}

pub async fn unlock(body: web::Json<Unlock>) -> HttpResponse {
    let key = STANDARD.decode(body.key.expose()).map(Zeroizing::new);
    match key {
        Err(error) => refuse(400, format!("key is not base64: {error}")),
        Ok(key) if key.len() != KEY_BYTES => {
            refuse(400, format!("key has {} bytes instead of {KEY_BYTES}", key.len()))
        }
        Ok(_) => {
            refuse(409, "this node is not a genesis node: its key comes from the guardians of its peers")
        }
    }
}

pub async fn sealed_key() -> HttpResponse {
    refuse(404, "this node keeps no genesis key")
}
