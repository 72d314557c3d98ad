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
    every: Duration,
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
        let (url, version) = (url.into(), version.into());
        Self { registry, url, version, every: REPORT_EVERY, started, failing: None, tried: false }
    }

    /// Another interval than [`REPORT_EVERY`].
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every, ..self }
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
        context.run_interval(self.every, |actor, context| {
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::{Arc, Mutex};

    use actix_web::{App, HttpResponse, HttpServer, web};

    use super::*;
    use crate::facts::Identity;

    type Taken = Mutex<Vec<HealthReport>>;

    async fn take(taken: web::Data<Taken>, report: web::Json<HealthReport>) -> HttpResponse {
        taken.lock().unwrap().push(report.into_inner());
        HttpResponse::NoContent().finish()
    }

    #[actix::test]
    async fn reports_while_running_and_not_before() {
        let taken: Arc<Taken> = Arc::default();
        let reports = web::Data::from(taken.clone());
        let server = HttpServer::new(move || {
            App::new().app_data(reports.clone()).route("/v1/node/health", web::post().to(take))
        });
        let server = server.workers(1).disable_signals().bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/v1/node/health", server.addrs()[0]);
        actix_rt::spawn(server.run());

        let registry = Registry::default();
        let actor = HealthActor::new(registry.clone(), url, "1.2.3", Instant::now());
        actor.every(Duration::from_millis(20)).start();
        let identity = Identity { node_id: "node-10.0.0.4".into(), wg_ip: Ipv4Addr::new(10, 0, 0, 4) };
        registry.facts.set_identity(identity);
        registry.facts.set_phase(Phase::Unlocking, "");
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(taken.lock().unwrap().is_empty(), "a node that is not up yet has no gateway to report to");
        registry.facts.set_phase(Phase::Running, "");
        for _ in 0..200 {
            if let Some(report) = taken.lock().unwrap().first() {
                assert_eq!((report.node_id.as_str(), report.version.as_str()), ("node-10.0.0.4", "1.2.3"));
                assert!(report.healthy && report.timestamp.ends_with('Z'));
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no report came");
    }

    #[test]
    fn a_failure_is_remembered_until_it_changes() {
        let mut actor = HealthActor::new(Registry::default(), "http://127.0.0.1:1", "1", Instant::now());
        actor.note(Err("refused".into()));
        assert_eq!(actor.failing.as_deref(), Some("refused"));
        actor.note(Ok(()));
        assert_eq!(actor.failing, None);
    }
}
