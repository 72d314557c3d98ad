//! Fetches and stores a share as its owner would: challenge, session, secret. Written from the protocol
//! alone, beside the product's own client, so that a scenario can tell whether stored shares suffice.

use std::net::SocketAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use orama_protocol::guardian::{Challenge, SESSION_HEADER, Secret, Session, SessionRequest, Stored};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::http::{HttpError, Request, send};
use crate::net::Namespace;
use crate::node::PATIENCE;

#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("asking guardian {address}")]
    Http {
        address: SocketAddr,
        #[source]
        source: HttpError,
    },
    #[error("guardian {address} answered {method} {path} with {status}: {body}")]
    Refused { address: SocketAddr, method: String, path: String, status: u16, body: String },
    #[error("guardian {address} answered {path} with what cannot be read: {body}")]
    Answer { address: SocketAddr, path: String, body: String },
}

/// The identity that belongs to a WireGuard private key in base64.
pub fn identity(private_key: &str) -> String {
    Sha256::digest(private_key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every share of the split that the early state records, in the order of the guardians.
pub fn fetch_all(
    network: &Namespace,
    guardians: &[SocketAddr],
    early_state: &serde_json::Value,
) -> Result<Vec<Vec<u8>>, FetchError> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let identity = identity(&text(&early_state["wireguard"]["private_key"]));
    let volume = text(&early_state["volume_uuid"]).replace('-', "");
    let name = format!("luks-{volume}-g{}", early_state["custody"]["shares"]["generation"]);
    guardians.iter().map(|address| fetch(network, *address, &identity, &name)).collect()
}

/// The bytes that the guardian keeps under this name for this identity.
pub fn fetch(
    network: &Namespace,
    address: SocketAddr,
    identity: &str,
    name: &str,
) -> Result<Vec<u8>, FetchError> {
    let token = open_session(network, address, identity)?;
    let path = format!("/v2/vault/secrets/{name}");
    let secret: Secret = ask(network, address, "GET", &path, &token, "")?;
    let share = secret.share.expose();
    BASE64.decode(share).map_err(|_| FetchError::Answer { address, path, body: share.to_owned() })
}

/// Gives the guardian bytes to keep under this name for this identity; each version is greater than the one before.
pub fn store(
    network: &Namespace,
    address: SocketAddr,
    identity: &str,
    name: &str,
    version: u64,
    bytes: &[u8],
) -> Result<Stored, FetchError> {
    let token = open_session(network, address, identity)?;
    let body = serde_json::json!({ "share": BASE64.encode(bytes), "version": version }).to_string();
    ask(network, address, "PUT", &format!("/v2/vault/secrets/{name}"), &token, &body)
}

/// The text of the session header.
fn open_session(network: &Namespace, address: SocketAddr, identity: &str) -> Result<String, FetchError> {
    let body = serde_json::json!({ "identity": identity }).to_string();
    let challenge: Challenge = ask(network, address, "POST", "/v2/vault/auth/challenge", "", &body)?;
    let request = SessionRequest {
        identity: identity.to_owned(),
        nonce: challenge.nonce,
        created_ns: challenge.created_ns,
        tag: challenge.tag,
    };
    let body = serde_json::to_string(&request).unwrap_or_default();
    let session: Session = ask(network, address, "POST", "/v2/vault/auth/session", "", &body)?;
    Ok(format!("{}:{}:{}", session.identity, session.expiry_ns, session.tag))
}

fn ask<T: DeserializeOwned>(
    network: &Namespace,
    address: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> Result<T, FetchError> {
    let headers = [("Content-Type", "application/json"), (SESSION_HEADER, token)];
    let headers = if token.is_empty() { &headers[..1] } else { &headers[..] };
    let request = Request { method, path, headers, body: body.as_bytes() };
    let answer =
        send(network, address, &request, PATIENCE).map_err(|source| FetchError::Http { address, source })?;
    if answer.status != 200 {
        let (method, path) = (method.to_owned(), path.to_owned());
        return Err(FetchError::Refused {
            address,
            method,
            path,
            status: answer.status,
            body: answer.text(),
        });
    }
    serde_json::from_slice(&answer.body).map_err(|_| FetchError::Answer {
        address,
        path: path.to_owned(),
        body: answer.text(),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_identity_is_the_hash_of_the_text() {
        let identity = super::identity("");
        assert_eq!(identity, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
