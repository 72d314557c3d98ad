//! Asks a service whether it is there: a TCP connection or an HTTP answer in the 200s. Owns one attempt; how often
//! and how long is the service actor's.

use std::time::Duration;

use tokio::net::TcpStream;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `host:port` that accepts a connection.
    Tcp(String),
    /// A URL that answers 2xx.
    Http(String),
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("{0} does not answer in time")]
    TimedOut(String),
    #[error("connecting to {0}: {1}")]
    Connect(String, String),
    #[error("{0} answered {1}")]
    Status(String, u16),
}

/// One attempt, at most `limit` long.
pub async fn check(target: &Target, limit: Duration) -> Result<(), ProbeError> {
    match target {
        Target::Tcp(address) => match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ProbeError::Connect(address.clone(), error.to_string())),
            Err(_) => Err(ProbeError::TimedOut(address.clone())),
        },
        Target::Http(url) => {
            let client = awc::Client::builder().timeout(limit).disable_redirects().finish();
            match tokio::time::timeout(limit, client.get(url).insert_header(("connection", "close")).send())
                .await
            {
                Ok(Ok(response)) if response.status().is_success() => Ok(()),
                Ok(Ok(response)) => Err(ProbeError::Status(url.clone(), response.status().as_u16())),
                Ok(Err(error)) => Err(ProbeError::Connect(url.clone(), error.to_string())),
                Err(_) => Err(ProbeError::TimedOut(url.clone())),
            }
        }
    }
}
