//! A node's side of the guardians' V2 secrets API: challenge, session, one request. Turns every way in which a
//! guardian can fail into a [`Refusal`]. Judges no share and decides no retry.

use std::net::Ipv4Addr;
use std::time::Duration;

use awc::error::{ConnectError, JsonPayloadError, PayloadError, SendRequestError};
use awc::http::StatusCode;
use awc::http::header::RETRY_AFTER;
use awc::{ClientRequest, ClientResponse};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_keyshare::collector::Refusal;
use orama_protocol::guardian::{
    Challenge, ChallengeRequest, HELD_DOWN, Presence, PutSecret, SESSION_HEADER, Secret, SecretList, Session,
    SessionRequest, Stored,
};
use orama_protocol::{ErrorBody, Redacted};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::ahead;

/// Longest a guardian may take for everything, from the first connection to the share.
pub const GUARDIAN_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, bytes. A share envelope has under 300; a guardian that sends more lies.
const ANSWER_LIMIT_BYTES: usize = 16 * 1024;
/// Largest list that is read, bytes: 1000 secrets with the longest names.
const LIST_LIMIT_BYTES: usize = 512 * 1024;

/// Requests that one errand takes: challenge, session, and what it is about.
const REQUESTS: u8 = 3;

/// Asks guardians in the name of one node. Every guardian listens on the same port of its own address. An errand takes
/// four round trips, the first connection included.
#[derive(Clone)]
pub struct GuardianClient {
    /// Lowercase hex SHA-256 of the base64 text of the node's WireGuard private key.
    identity: String,
    port: u16,
}

impl GuardianClient {
    pub fn new(identity: String, port: u16) -> Self {
        Self { identity, port }
    }

    /// The secret of this name.
    pub async fn get(&self, guardian: Ipv4Addr, name: &str) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        in_time(async {
            let (client, session) = self.session(guardian).await?;
            let request = client.get(self.url(guardian, &format!("secrets/{name}")));
            let response = send(request.insert_header((SESSION_HEADER, session))).await?;
            if response.status() == StatusCode::NOT_FOUND {
                return Err(Refusal::NoShare);
            }
            let secret: Secret = answer(response).await?;
            STANDARD
                .decode(secret.share.expose())
                .map(Zeroizing::new)
                .map_err(|_| Refusal::Malformed("its share is not base64".into()))
        })
        .await
    }

    /// Stores a secret that the guardian does not have yet.
    pub async fn put(
        &self,
        guardian: Ipv4Addr,
        name: &str,
        version: u64,
        secret: &[u8],
    ) -> Result<(), Refusal> {
        in_time(async {
            let (client, session) = self.session(guardian).await?;
            let request = client.put(self.url(guardian, &format!("secrets/{name}")));
            let body = PutSecret { share: Redacted::new(STANDARD.encode(secret)), version };
            let request = request.insert_header((SESSION_HEADER, session));
            let stored: Stored = answer(send_json(request, &body).await?).await?;
            if stored.status == "stored" && stored.name == name && stored.version == version {
                Ok(())
            } else {
                Err(Refusal::Malformed(format!(
                    "it says {} {} {}",
                    stored.status, stored.name, stored.version
                )))
            }
        })
        .await
    }

    /// Names of all secrets that the guardian keeps for this node.
    pub async fn list(&self, guardian: Ipv4Addr) -> Result<Vec<String>, Refusal> {
        in_time(async {
            let (client, session) = self.session(guardian).await?;
            let request = client.get(self.url(guardian, "secrets"));
            let response = send(request.insert_header((SESSION_HEADER, session))).await?;
            let list: SecretList = answer_within(response, LIST_LIMIT_BYTES).await?;
            Ok(list.secrets.into_iter().map(|secret| secret.name).collect())
        })
        .await
    }

    /// Deletes a secret; one that is not there is success.
    pub async fn delete(&self, guardian: Ipv4Addr, name: &str) -> Result<(), Refusal> {
        in_time(async {
            let (client, session) = self.session(guardian).await?;
            let request = client.delete(self.url(guardian, &format!("secrets/{name}")));
            let mut response = send(request.insert_header((SESSION_HEADER, session))).await?;
            match response.status() {
                status if status.is_success() || status == StatusCode::NOT_FOUND => Ok(()),
                _ => Err(refused(&mut response).await),
            }
        })
        .await
    }

    /// Tells the guardian that the node is there or goes down for a while. False when it does not know of such things.
    pub async fn show(&self, guardian: Ipv4Addr, presence: Presence) -> Result<bool, Refusal> {
        in_time(async {
            let (client, session) = self.session(guardian).await?;
            let request = client.put(self.url(guardian, "presence"));
            let mut response = send_json(request.insert_header((SESSION_HEADER, session)), &presence).await?;
            match response.status() {
                status if status.is_success() => Ok(true),
                StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Ok(false),
                _ => Err(refused(&mut response).await),
            }
        })
        .await
    }

    /// A session, and a client that has the connection for the next request.
    async fn session(&self, guardian: Ipv4Addr) -> Result<(awc::Client, String), Refusal> {
        let client = ahead::client((guardian, self.port).into(), REQUESTS);
        let ask = ChallengeRequest { identity: self.identity.clone() };
        let request = client.post(self.url(guardian, "auth/challenge"));
        let challenge: Challenge = answer(send_json(request, &ask).await?).await?;
        // Back exactly as received: created_ns is an i128 on the way in and on the way out.
        let proof = SessionRequest {
            identity: self.identity.clone(),
            nonce: challenge.nonce,
            created_ns: challenge.created_ns,
            tag: challenge.tag,
        };
        let request = client.post(self.url(guardian, "auth/session"));
        let session: Session = answer(send_json(request, &proof).await?).await?;
        let token = format!("{}:{}:{}", session.identity, session.expiry_ns, session.tag);
        let printable = token.bytes().all(|byte| byte.is_ascii_graphic());
        if printable {
            Ok((client, token))
        } else {
            Err(Refusal::Malformed("its session is not printable".into()))
        }
    }

    fn url(&self, guardian: Ipv4Addr, path: &str) -> String {
        format!("http://{guardian}:{}/v2/vault/{path}", self.port)
    }
}

async fn in_time<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    tokio::time::timeout(GUARDIAN_TIMEOUT, work).await.unwrap_or(Err(Refusal::TimedOut))
}

type Response = ClientResponse;

async fn send(request: ClientRequest) -> Result<Response, Refusal> {
    request.force_close().send().await.map_err(|error| unsent(&error))
}

async fn send_json(request: ClientRequest, body: &impl Serialize) -> Result<Response, Refusal> {
    request.force_close().send_json(body).await.map_err(|error| unsent(&error))
}

async fn answer<T: DeserializeOwned>(response: Response) -> Result<T, Refusal> {
    answer_within(response, ANSWER_LIMIT_BYTES).await
}

async fn answer_within<T: DeserializeOwned>(mut response: Response, limit: usize) -> Result<T, Refusal> {
    if !response.status().is_success() {
        return Err(refused(&mut response).await);
    }
    response.json::<T>().limit(limit).await.map_err(|error| match error {
        JsonPayloadError::ContentType => Refusal::Malformed("its answer is not JSON".into()),
        JsonPayloadError::Deserialize(error) => Refusal::Malformed(format!("its answer: {error}")),
        JsonPayloadError::Payload(error) => unread(&error, limit),
    })
}

async fn refused(response: &mut Response) -> Refusal {
    let status = response.status();
    let seconds = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
    match response.json::<ErrorBody>().limit(ANSWER_LIMIT_BYTES).await {
        Ok(body) => match (seconds, body.error.strip_prefix(HELD_DOWN)) {
            (Some(seconds), Some(text)) => Refusal::HeldDown { seconds, text: text.to_owned() },
            _ => Refusal::Refused(body.error),
        },
        Err(_) => Refusal::Refused(format!("status {}", status.as_u16())),
    }
}

fn unsent(error: &SendRequestError) -> Refusal {
    match error {
        SendRequestError::Timeout | SendRequestError::Connect(ConnectError::Timeout) => Refusal::TimedOut,
        SendRequestError::Connect(error) => Refusal::Unreachable(error.to_string()),
        SendRequestError::Send(error) => Refusal::Unreachable(error.to_string()),
        SendRequestError::Response(error) => Refusal::Malformed(error.to_string()),
        other => Refusal::Unreachable(other.to_string()),
    }
}

fn unread(error: &PayloadError, limit: usize) -> Refusal {
    match error {
        PayloadError::Overflow => Refusal::Malformed(format!("its answer has more than {limit} bytes")),
        other => Refusal::Malformed(format!("its answer broke off: {other}")),
    }
}
