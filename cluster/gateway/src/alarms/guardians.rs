//! The operators' side of the guardians' API: what is held down, and decisions. Bounded in time and size.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use awc::error::{JsonPayloadError, PayloadError, SendRequestError};
use awc::{Client, ClientResponse};
use futures_util::Stream;
use hmac::{Hmac, KeyInit, Mac};
use orama_protocol::guardian::{HoldDecided, HoldDecision, HoldList};
use orama_protocol::{BODY_LIMIT_BYTES, ErrorBody, GUARDIAN_PORT, Redacted};
use serde::de::DeserializeOwned;
use sha2::Sha256;

use super::board;
use crate::registry::Node;
use crate::token;

/// How long a guardian may take; a revocation writes into the header of a node's volume.
const LIMIT: Duration = Duration::from_secs(10);
/// What the operator token of a node's guardian is derived for.
const TOKEN_CONTEXT: &[u8] = b"orama guardian operator v1";
/// Longest text of a guardian that is passed on, characters.
const WORDS: usize = 200;

pub struct Guardians {
    client: Client,
}

/// The token for the guardian of a node, which only its agent and its gateway can know. Lowercase hex.
pub fn operator_token(agent_token: &Redacted) -> Redacted {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(agent_token.expose().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(TOKEN_CONTEXT);
    Redacted::new(token::hex(&mac.finalize().into_bytes()))
}

impl Guardians {
    /// One per task: the client is not shared between threads.
    pub fn new() -> Self {
        Self { client: Client::builder().disable_redirects().timeout(LIMIT).finish() }
    }

    /// None: a guardian that holds nothing down, or does not know this token at all.
    pub async fn list(&self, node: &Node, token: &Redacted) -> Result<Option<HoldList>, String> {
        let sent = self.client.get(url(node)).bearer_auth(token.expose()).send();
        let list = answer::<HoldList, _>(sent).await?;
        Ok(list.map(board::tame))
    }

    pub async fn decide(
        &self,
        node: &Node,
        token: &Redacted,
        decision: &HoldDecision,
    ) -> Result<HoldDecided, String> {
        let sent = self.client.post(url(node)).bearer_auth(token.expose()).send_json(decision);
        let decided = answer(sent).await?;
        decided.ok_or_else(|| "it takes no decisions, or has nothing of this owner".to_owned())
    }
}

fn url(node: &Node) -> String {
    format!("http://{}:{GUARDIAN_PORT}/v2/vault/holds", node.wg_ip)
}

/// None: 404 or 405.
async fn answer<T, S>(
    sent: impl Future<Output = Result<ClientResponse<S>, SendRequestError>>,
) -> Result<Option<T>, String>
where
    T: DeserializeOwned,
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    let work = async {
        let mut response = sent.await.map_err(|error| format!("unreachable: {error}"))?;
        let status = response.status();
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) {
            return Ok(None);
        }
        if !status.is_success() {
            let said = response.json::<ErrorBody>().limit(BODY_LIMIT_BYTES).await;
            let said = said.map(|body| board::printable(&body.error, WORDS)).unwrap_or_default();
            return Err(format!("it answered {}: {said}", status.as_u16()));
        }
        let body = response.json::<T>().limit(BODY_LIMIT_BYTES).await;
        body.map(Some).map_err(|error| match error {
            JsonPayloadError::ContentType | JsonPayloadError::Deserialize(_) => {
                "its answer is not understood".to_owned()
            }
            JsonPayloadError::Payload(error) => format!("its answer broke off: {error}"),
        })
    };
    let late = |_| Err(format!("no answer in {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_nodes_guardian_follows_from_its_agents() {
        // printf 'orama guardian operator v1' | openssl dgst -sha256 -hmac "$(printf '0%.0s' $(seq 64))"
        let derived = operator_token(&Redacted::new("0".repeat(64)));
        assert_eq!(derived.expose(), "5d82e52e2e4dcaba4d245d5b62b1002000ffdcfadc8ea17a27e60f9ee2ec335d");
    }
}
