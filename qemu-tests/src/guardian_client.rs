//! Fetches and stores a share as its owner would: challenge, session, secret. Written from the protocol
//! alone, beside the product's own client, so that a scenario can tell whether stored shares suffice.

use std::net::{IpAddr, SocketAddr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use orama_protocol::guardian::{Challenge, SESSION_HEADER, Secret, Session, SessionRequest, Stored};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::http::{HttpError, Request, send, send_from};
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

/// Every share of the split that the early state records, in the order of the guardians: as each guardian hands it out
/// to its own host. For anybody else who is not where the owner was, they are held down.
pub fn fetch_all(
    network: &Namespace,
    guardians: &[SocketAddr],
    early_state: &serde_json::Value,
) -> Result<Vec<Vec<u8>>, FetchError> {
    let (identity, name) = wanted(early_state);
    let fetch = |address: &SocketAddr| {
        Guardian { network, address: *address, from: Some(address.ip()) }.fetch(&identity, &name)
    };
    guardians.iter().map(fetch).collect()
}

/// Identity of the node and name of its shares, as its early state has them: all that a copy of its disk has.
pub fn wanted(early_state: &serde_json::Value) -> (String, String) {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let volume = text(&early_state["volume_uuid"]).replace('-', "");
    let name = format!("luks-{volume}-g{}", early_state["custody"]["shares"]["generation"]);
    (identity(&text(&early_state["wireguard"]["private_key"])), name)
}

/// The bytes that the guardian keeps under this name for this identity.
pub fn fetch(
    network: &Namespace,
    address: SocketAddr,
    identity: &str,
    name: &str,
) -> Result<Vec<u8>, FetchError> {
    Guardian { network, address, from: None }.fetch(identity, name)
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
    let guardian = Guardian { network, address, from: None };
    let token = guardian.open_session(identity)?;
    let body = serde_json::json!({ "share": BASE64.encode(bytes), "version": version }).to_string();
    guardian.ask("PUT", &format!("/v2/vault/secrets/{name}"), &token, &body)
}

/// One to ask, and from where; none: as the kernel chooses.
struct Guardian<'a> {
    network: &'a Namespace,
    address: SocketAddr,
    from: Option<IpAddr>,
}

impl Guardian<'_> {
    fn fetch(&self, identity: &str, name: &str) -> Result<Vec<u8>, FetchError> {
        let token = self.open_session(identity)?;
        let path = format!("/v2/vault/secrets/{name}");
        let secret: Secret = self.ask("GET", &path, &token, "")?;
        let share = secret.share.expose();
        let answer = |_| FetchError::Answer { address: self.address, path, body: share.to_owned() };
        BASE64.decode(share).map_err(answer)
    }

    /// The text of the session header.
    fn open_session(&self, identity: &str) -> Result<String, FetchError> {
        let body = serde_json::json!({ "identity": identity }).to_string();
        let challenge: Challenge = self.ask("POST", "/v2/vault/auth/challenge", "", &body)?;
        let request = SessionRequest {
            identity: identity.to_owned(),
            nonce: challenge.nonce,
            created_ns: challenge.created_ns,
            tag: challenge.tag,
        };
        let body = serde_json::to_string(&request).unwrap_or_default();
        let session: Session = self.ask("POST", "/v2/vault/auth/session", "", &body)?;
        Ok(format!("{}:{}:{}", session.identity, session.expiry_ns, session.tag))
    }

    fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &str,
    ) -> Result<T, FetchError> {
        let address = self.address;
        let headers = [("Content-Type", "application/json"), (SESSION_HEADER, token)];
        let headers = if token.is_empty() { &headers[..1] } else { &headers[..] };
        let request = Request { method, path, headers, body: body.as_bytes() };
        let answer = match self.from {
            Some(own) => send_from(self.network, own, address, &request, PATIENCE),
            None => send(self.network, address, &request, PATIENCE),
        };
        let answer = answer.map_err(|source| FetchError::Http { address, source })?;
        let (path, body) = (path.to_owned(), answer.text());
        if answer.status != 200 {
            return Err(FetchError::Refused {
                address,
                method: method.to_owned(),
                path,
                status: answer.status,
                body,
            });
        }
        serde_json::from_slice(&answer.body).map_err(|_| FetchError::Answer { address, path, body })
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_identity_is_the_hash_of_the_text() {
        let identity = super::identity("");
        assert_eq!(identity, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
