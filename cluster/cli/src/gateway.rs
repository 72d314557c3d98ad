//! HTTP to the gateway and, for the registration code, to a node: bounded in time and size, no redirects.
//! Knows status codes and error bodies; what an answer means is for the commands.

use std::time::Duration;

use orama_protocol::{BODY_LIMIT_BYTES, ErrorBody, Redacted};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::config::Config;
use ureq::http::{HeaderValue, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::WithBody;
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::Connector;
use ureq::{Agent, Body, RequestBuilder};

use crate::failure::{Exit, Failure};
use crate::text;

/// One call, in seconds. The gateway itself waits 15 s for an agent.
const CALL_SECONDS: u64 = 30;
/// A call before which the gateway asks the whole cluster, and waits for it, in seconds.
const PATIENT_SECONDS: u64 = 60;
/// Enrollment, in seconds: the gateway waits for the node meanwhile (PROTOCOL.md §2).
const ENROLL_SECONDS: u64 = 60;
/// Opening a connection, in seconds.
const CONNECT_SECONDS: u64 = 10;

/// Whose certificates are good.
pub enum Trust {
    System,
    /// PEM text of the only CA.
    Only(Vec<u8>),
}

/// Why a call brought no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("cannot reach {0}")]
    Unreachable(String, #[source] ureq::Error),
    #[error("{0} did not answer in time")]
    Timeout(String),
    #[error("the TLS certificate of {0} is not trusted")]
    Untrusted(String, #[source] ureq::Error),
    #[error("{0} answered with more than {BODY_LIMIT_BYTES} bytes")]
    TooLarge(String),
    #[error("{url} answered {status}: {error}")]
    Status { url: String, status: u16, error: String },
    #[error("the answer of {url} is not understood")]
    Malformed {
        url: String,
        #[source]
        source: serde_json::Error,
    },
}

impl CallError {
    /// As a failure of the command, with what to do about it.
    pub fn into_failure(self, doing: &str) -> Failure {
        let (exit, next) = match &self {
            Self::Unreachable(..) => {
                (Exit::Unreachable, "check the address, and that it is up and not behind a firewall")
            }
            Self::Timeout(_) => {
                (Exit::Unreachable, "try again; if it stays so, check the gateway and its mesh")
            }
            Self::Untrusted(..) => {
                (Exit::Unreachable, "give the gateway's CA with --ca FILE, or check whom you are talking to")
            }
            Self::TooLarge(_) | Self::Malformed { .. } => {
                (Exit::Failed, "check that this is an Orama gateway of a matching version")
            }
            Self::Status { status, .. } => match status {
                401 | 403 => {
                    (Exit::Unauthorized, "check the credential and that it is meant for this gateway")
                }
                404 => (Exit::NotFound, "see `orama monitor report` for the nodes there are"),
                502 | 504 => {
                    (Exit::Unreachable, "the gateway cannot reach the node: see `orama monitor report`")
                }
                429 => (Exit::Failed, "wait a minute, then try again"),
                _ => (Exit::Failed, "see the message; the gateway's log has more"),
            },
        };
        let cause = Failure::because(exit, &self);
        Failure::new(exit, format!("{doing}: {}", cause.what())).next(next)
    }
}

/// A gateway, and how to authenticate to it.
pub struct Gateway {
    agent: Agent,
    base: String,
    key: Option<Redacted>,
}

impl Gateway {
    pub fn new(url: &str, trust: Trust, key: Option<Redacted>) -> Result<Self, Failure> {
        let (base, secure) = check_url(url)?;
        let roots = match trust {
            Trust::System => RootCerts::PlatformVerifier,
            Trust::Only(pem) => RootCerts::from(certificates(&pem)?),
        };
        let tls = TlsConfig::builder().root_certs(roots).build();
        let mut config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS)));
        if !secure {
            // Loopback: a proxy would take it for its own.
            config = config.proxy(None);
        }
        Ok(Self { agent: config.build().into(), base, key })
    }

    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    pub fn get(&self, path: &str) -> Result<Vec<u8>, CallError> {
        self.get_as(path, self.key.as_ref())
    }

    /// Gets with an invite token in place of the API key.
    pub fn get_with_invite(&self, path: &str, token: &Redacted) -> Result<Vec<u8>, CallError> {
        self.get_as(path, Some(token))
    }

    fn get_as(&self, path: &str, key: Option<&Redacted>) -> Result<Vec<u8>, CallError> {
        let url = format!("{}{path}", self.base);
        let mut request =
            self.agent.get(&url).config().timeout_global(Some(Duration::from_secs(CALL_SECONDS))).build();
        if let Some(key) = key {
            request = request.header("authorization", bearer_header(key));
        }
        accept(&url, request.header("accept", "application/json").call())
    }

    pub fn post(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        self.post_as(path, body, self.key.as_ref(), CALL_SECONDS)
    }

    /// For orders that make the gateway ask the whole cluster first.
    pub fn post_patiently(&self, path: &str, body: &impl Serialize) -> Result<Vec<u8>, CallError> {
        self.post_as(path, body, self.key.as_ref(), PATIENT_SECONDS)
    }

    /// Posts with an invite token in place of the API key.
    pub fn post_enroll(
        &self,
        path: &str,
        body: &impl Serialize,
        token: &Redacted,
    ) -> Result<Vec<u8>, CallError> {
        self.post_as(path, body, Some(token), ENROLL_SECONDS)
    }

    fn post_as(
        &self,
        path: &str,
        body: &impl Serialize,
        key: Option<&Redacted>,
        seconds: u64,
    ) -> Result<Vec<u8>, CallError> {
        let url = format!("{}{path}", self.base);
        let mut request =
            self.agent.post(&url).config().timeout_global(Some(Duration::from_secs(seconds))).build();
        if let Some(key) = key {
            request = request.header("authorization", bearer_header(key));
        }
        // Ours, not the library's: it would leave a copy of an invite token in memory.
        let body = zeroize::Zeroizing::new(serde_json::to_vec(body).expect("wire types are JSON"));
        let request = request.header("accept", "application/json").content_type("application/json");
        accept(&url, request.send(&body[..]))
    }
}

/// `GET` of a node's own page, over plain HTTP and without a credential.
pub fn get_from_node(url: &str) -> Result<Vec<u8>, CallError> {
    NodeClient::direct().get(url, None)
}

/// Plain HTTP to a node itself: to its public page without a credential, or inside of WireGuard with one.
pub struct NodeClient {
    agent: Agent,
}

impl NodeClient {
    pub fn direct() -> Self {
        Self { agent: node_config().into() }
    }

    /// By connections of this connector only, whatever address a URL names.
    pub fn through(connector: impl Connector) -> Self {
        Self { agent: Agent::with_parts(node_config(), connector, DefaultResolver::default()) }
    }

    pub fn get(&self, url: &str, token: Option<&Redacted>) -> Result<Vec<u8>, CallError> {
        let mut request = self.agent.get(url).header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", bearer_header(token));
        }
        accept(url, request.call())
    }

    pub fn post(
        &self,
        url: &str,
        body: &impl Serialize,
        token: Option<&Redacted>,
    ) -> Result<Vec<u8>, CallError> {
        self.send(self.agent.post(url), url, body, token)
    }

    pub fn put(
        &self,
        url: &str,
        body: &impl Serialize,
        token: Option<&Redacted>,
    ) -> Result<Vec<u8>, CallError> {
        self.send(self.agent.put(url), url, body, token)
    }

    fn send(
        &self,
        request: RequestBuilder<WithBody>,
        url: &str,
        body: &impl Serialize,
        token: Option<&Redacted>,
    ) -> Result<Vec<u8>, CallError> {
        let mut request = request.header("accept", "application/json");
        if let Some(token) = token {
            request = request.header("authorization", bearer_header(token));
        }
        // Ours, not the library's: it would leave a copy of a key in memory.
        let body = zeroize::Zeroizing::new(serde_json::to_vec(body).expect("wire types are JSON"));
        accept(url, request.content_type("application/json").send(&body[..]))
    }
}

fn node_config() -> Config {
    Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        // A node closes idle connections sooner than the next request comes.
        .max_idle_connections(0)
        .timeout_connect(Some(Duration::from_secs(CONNECT_SECONDS)))
        .timeout_global(Some(Duration::from_secs(CALL_SECONDS)))
        .build()
}

/// Reads an answer as the type it should have.
pub fn decode<T: DeserializeOwned>(url: &str, body: &[u8]) -> Result<T, CallError> {
    serde_json::from_slice(body).map_err(|source| CallError::Malformed { url: url.to_owned(), source })
}

fn bearer_header(key: &Redacted) -> HeaderValue {
    let text = zeroize::Zeroizing::new(format!("Bearer {}", key.expose()));
    // `connection::bearer` let only printable ASCII in.
    let mut value = HeaderValue::from_str(&text).expect("a checked credential fits into a header");
    value.set_sensitive(true);
    value
}

fn accept(url: &str, result: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, CallError> {
    let mut response = result.map_err(|error| classify(url, error))?;
    let status = response.status().as_u16();
    let body = response
        .body_mut()
        .with_config()
        .limit(BODY_LIMIT_BYTES as u64)
        .read_to_vec()
        .map_err(|error| classify(url, error))?;
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let error = match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(body) => text::printable(&body.error, 500),
        Err(_) if (300..400).contains(&status) => "a redirect, which is not followed".to_owned(),
        Err(_) => "no reason given".to_owned(),
    };
    Err(CallError::Status { url: url.to_owned(), status, error })
}

fn classify(url: &str, error: ureq::Error) -> CallError {
    match error {
        ureq::Error::Timeout(_) => CallError::Timeout(url.to_owned()),
        ureq::Error::BodyExceedsLimit(_) => CallError::TooLarge(url.to_owned()),
        error if is_certificate_error(&error) => CallError::Untrusted(url.to_owned(), error),
        error => CallError::Unreachable(url.to_owned(), error),
    }
}

fn is_certificate_error(error: &ureq::Error) -> bool {
    let refused = |error: &rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    match error {
        ureq::Error::Rustls(error) => refused(error),
        // The handshake's errors come wrapped in one of I/O.
        ureq::Error::Io(error) => {
            error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some_and(refused)
        }
        _ => false,
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, Failure> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(Failure::new(Exit::Usage, format!("the CA file is not PEM: {error}"))),
        }
    }
    if found.is_empty() {
        return Err(Failure::new(Exit::Usage, "the CA file has no certificate in it"));
    }
    Ok(found)
}

/// The URL without its last slash, and whether it is TLS. Without TLS only this machine is spoken to: a bearer
/// token must not cross a network in the clear.
fn check_url(url: &str) -> Result<(String, bool), Failure> {
    let wrong = |why: &str| {
        Failure::new(Exit::Usage, format!("gateway {url:?}: {why}"))
            .next("write it as https://gateway.example.com")
    };
    let uri: Uri = url.parse().map_err(|_| wrong("not a URL"))?;
    let host = uri.host().ok_or_else(|| wrong("no host in it"))?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(wrong("credentials do not belong into a URL"));
    }
    if uri.query().is_some() {
        return Err(wrong("a query does not belong into it"));
    }
    let bare = host.trim_matches(['[', ']']);
    let loopback = bare == "localhost" || bare.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok((url.trim_end_matches('/').to_owned(), true)),
        Some("http") if loopback => Ok((url.trim_end_matches('/').to_owned(), false)),
        Some("http") => Err(wrong("plain http is taken for this machine only, use https")),
        _ => Err(wrong("the scheme must be https")),
    }
}
