//! What all requests share, and the one way to blocking work. Handlers get it as `web::Data<Arc<State>>`'s inner Arc.

use std::sync::Arc;

use actix_web::web;
use orama_protocol::Redacted;

use crate::alarms;
use crate::config::Config;
use crate::enrollment::waiting::WaitingNodes;
use crate::failures::Failures;
use crate::guard::Departures;
use crate::health::HealthReports;
use crate::mesh::MeshControl;
use crate::peers::Visits;
use crate::recovery::RecoveryDesk;
use crate::registry::Registry;

pub struct State {
    pub config: Config,
    pub registry: Registry,
    /// None: this host has no say over WireGuard peers.
    pub mesh: Option<Box<dyn MeshControl>>,
    pub cluster_secret: Redacted,
    pub waiting: Arc<WaitingNodes>,
    pub failures: Failures,
    pub health: HealthReports,
    /// Wakes whoever tells the nodes of their peers, after a change of membership.
    pub membership: tokio::sync::Notify,
    pub recovery: RecoveryDesk,
    pub visits: Visits,
    pub departures: Departures,
    /// What guardians hold down.
    pub watch: alarms::Watch,
    /// Wakes whoever asks them, after an operator's decision.
    pub decided: tokio::sync::Notify,
    /// Held while a node is removed.
    pub finishing: tokio::sync::Mutex<()>,
}

/// The blocking thread was lost: its work panicked or the server stops.
#[derive(Debug, thiserror::Error)]
#[error("the gateway lost a blocking task")]
pub struct Lost;

impl State {
    /// Runs store and mesh calls where they may block.
    pub async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&State) -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let state = Arc::clone(self);
        web::block(move || work(&state)).await.map_err(|_| Lost)
    }
}

/// Seconds since the epoch.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// RFC 3339, UTC.
pub fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}
