//! HealthActor: reports to the node's own gateway every 30 s while the node runs. Failures are logged when they
//! begin, change and end, not each time. Owns no judgement of health: that comes from the facts.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use orama_protocol::agent::HealthReport;

use crate::boot::machine::Phase;
use crate::registry::Registry;

/// PROTOCOL: agents report to their local gateway every 30 s.
pub const REPORT_EVERY: Duration = Duration::from_secs(30);
/// Where: the gateway service's local listener.
pub const REPORT_URL: &str = "http://127.0.0.1:6001/v1/node/health";
/// Longest wait for the gateway's answer; shorter than the interval, so that reports never pile up.
const REPORT_TIMEOUT: Duration = Duration::from_secs(5);

pub struct HealthActor {
    registry: Registry,
    url: String,
    version: String,
    /// When the agent started.
    started: Instant,
    /// The last attempt's failure; none: it was taken.
    failing: Option<String>,
    /// A first attempt was made.
    tried: bool,
}

impl HealthActor {
    /// `version` is the image's; `started` the start of the agent, not of this generation.
    pub fn new(
        registry: Registry,
        url: impl Into<String>,
        version: impl Into<String>,
        started: Instant,
    ) -> Self {
        Self { registry, url: url.into(), version: version.into(), started, failing: None, tried: false }
    }

    fn report(&self) -> Option<HealthReport> {
        let node = self.registry.facts.node();
        if node.phase != Phase::Running {
            return None;
        }
        let services: BTreeMap<String, bool> =
            self.registry.facts.services().into_iter().map(|(name, status)| (name, status.healthy)).collect();
        Some(HealthReport {
            node_id: node.identity?.node_id,
            version: self.version.clone(),
            uptime_seconds: self.started.elapsed().as_secs(),
            healthy: services.values().all(|healthy| *healthy),
            services,
            timestamp: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        })
    }

    fn note(&mut self, outcome: Result<(), String>) {
        match (&outcome, &self.failing) {
            (Err(why), before) if before.as_ref() != Some(why) => {
                tracing::warn!("health report not taken by the gateway: {why}");
            }
            (Ok(()), Some(_)) => tracing::info!("health report taken by the gateway again"),
            (Ok(()), None) if !self.tried => tracing::info!("health report taken by the gateway"),
            (Ok(()), None) | (Err(_), _) => {}
        }
        self.tried = true;
        self.failing = outcome.err();
    }
}

impl Actor for HealthActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(REPORT_EVERY, |actor, context| {
            let Some(report) = actor.report() else { return };
            let url = actor.url.clone();
            let sent = async move { send(&url, &report).await };
            context.spawn(sent.into_actor(actor).map(|outcome, actor, _| actor.note(outcome)));
        });
    }
}

async fn send(url: &str, report: &HealthReport) -> Result<(), String> {
    let client = awc::Client::builder().timeout(REPORT_TIMEOUT).disable_redirects().finish();
    let response = client.post(url).send_json(report).await.map_err(|error| error.to_string())?;
    if response.status().is_success() {
        Ok(())
    } else {
        Err(format!("answered {}", response.status().as_u16()))
    }
}
