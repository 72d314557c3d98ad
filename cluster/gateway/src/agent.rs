//! Calls to the agents over the overlay: plain HTTP, bearer token, bounded in time and size, no redirects.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
use actix_web::web::Bytes;
use awc::Client;
use orama_protocol::BODY_LIMIT_BYTES;

use crate::config;
use crate::registry::Node;

pub struct Agents {
    client: Client,
    port: u16,
    timeout: Duration,
}

pub enum Ask<'a> {
    /// Path with query.
    Get(&'a str),
    Post(&'a str, Bytes),
    Put(&'a str, Bytes),
}

pub struct Reply {
    pub status: StatusCode,
    pub content_type: Option<HeaderValue>,
    pub body: Bytes,
}

#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("the agent of {node} at {address} is unreachable: {reason}")]
    Unreachable { node: String, address: String, reason: String },
    #[error("the agent of {node} at {address} did not answer in {seconds} s")]
    Timeout { node: String, address: String, seconds: u64 },
    #[error("the answer of the agent of {node} at {address} cannot be passed on: {reason}")]
    Answer { node: String, address: String, reason: String },
    #[error("{node} has no agent")]
    NoAgent { node: String },
}

impl Agents {
    /// One per worker thread: the client is not shared between threads.
    pub fn new(config: config::Agent) -> Self {
        // A redirect would carry the token elsewhere.
        let client = Client::builder().disable_redirects().timeout(config.timeout).finish();
        Self { client, port: config.port, timeout: config.timeout }
    }

    /// `limit` is for callers that cannot wait as long as the configuration says.
    pub async fn ask(&self, node: &Node, ask: Ask<'_>, limit: Option<Duration>) -> Result<Reply, AskError> {
        let limit = limit.map_or(self.timeout, |limit| limit.min(self.timeout));
        let late = || AskError::Timeout {
            node: node.node_id.clone(),
            address: self.address(node),
            seconds: limit.as_secs(),
        };
        tokio::time::timeout(limit, self.exchange(node, ask)).await.map_err(|_| late())?
    }

    fn address(&self, node: &Node) -> String {
        format!("{}:{}", node.wg_ip, self.port)
    }

    async fn exchange(&self, node: &Node, ask: Ask<'_>) -> Result<Reply, AskError> {
        let (name, address) = (|| node.node_id.clone(), self.address(node));
        let Some(token) = &node.agent_token else { return Err(AskError::NoAgent { node: name() }) };
        let sent = match ask {
            Ask::Get(path) => {
                self.client.get(format!("http://{address}{path}")).bearer_auth(token.expose()).send()
            }
            Ask::Post(path, body) => self
                .client
                .post(format!("http://{address}{path}"))
                .bearer_auth(token.expose())
                .insert_header((CONTENT_TYPE, "application/json"))
                .send_body(body),
            Ask::Put(path, body) => self
                .client
                .put(format!("http://{address}{path}"))
                .bearer_auth(token.expose())
                .insert_header((CONTENT_TYPE, "application/json"))
                .send_body(body),
        };
        let mut response = sent.await.map_err(|error| AskError::Unreachable {
            node: name(),
            address: address.clone(),
            reason: error.to_string(),
        })?;
        let status = response.status();
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let body = response.body().limit(BODY_LIMIT_BYTES).await;
        let body =
            body.map_err(|error| AskError::Answer { node: name(), address, reason: error.to_string() })?;
        Ok(Reply { status, content_type, body })
    }
}
