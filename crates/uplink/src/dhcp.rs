//! One DHCP client on one interface, as two steps: get a first lease within a time, then wait for the next change.
//! Configures nothing; times and messages are mozim's (RFC 2131).

use std::time::Duration;

use mozim::{DhcpError, DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};

/// How long one attempt waits, in seconds: mozim sends again after 3 to 5, so this is two questions.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(8);

pub(crate) struct Client(DhcpV4Client);

#[derive(Debug, thiserror::Error)]
pub(crate) enum DhcpFailure {
    #[error("no DHCP answer on {interface}")]
    NoAnswer { interface: String },
    #[error("DHCP failed on {interface}")]
    Client {
        interface: String,
        #[source]
        source: DhcpError,
    },
}

/// What a running client has to say.
pub(crate) enum Event {
    /// Acquired or renewed.
    Lease(Box<DhcpV4Lease>),
    /// The lease ran out and nobody renewed it; asking for a new one.
    Expired,
}

impl Client {
    /// Asks until there is a lease or the attempt's time is over. The link must be up.
    pub async fn acquire(interface: &str) -> Result<(Self, Box<DhcpV4Lease>), DhcpFailure> {
        let failed = |source| DhcpFailure::Client { interface: interface.to_owned(), source };
        let attempt = async {
            let mut client = DhcpV4Client::init(DhcpV4Config::new(interface), None).await.map_err(failed)?;
            loop {
                if let DhcpV4State::Done(lease) = client.run().await.map_err(failed)? {
                    return Ok((Self(client), lease));
                }
            }
        };
        // Not mozim's own timeout: that would also cut renewals short.
        match tokio::time::timeout(ATTEMPT_TIMEOUT, attempt).await {
            Ok(result) => result,
            Err(_) => Err(DhcpFailure::NoAnswer { interface: interface.to_owned() }),
        }
    }

    /// Renews in the background of the lease's own clock; returns when there is something to tell.
    pub async fn next(&mut self, interface: &str) -> Result<Event, DhcpFailure> {
        loop {
            match self.0.run().await {
                Ok(DhcpV4State::Done(lease)) => return Ok(Event::Lease(lease)),
                Ok(DhcpV4State::InitReboot) => return Ok(Event::Expired),
                Ok(DhcpV4State::Selecting | DhcpV4State::Renewing | DhcpV4State::Rebinding) => {}
                Err(source) => return Err(DhcpFailure::Client { interface: interface.to_owned(), source }),
            }
        }
    }
}
