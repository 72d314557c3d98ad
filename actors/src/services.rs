//! ServicesActor: the set of services as one thing. Starts them in dependency order, stops them in reverse, hands
//! orders on to the one actor that each service has, and keeps refused policies visible. Spawns no process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use actix::{Actor, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use orama_protocol::agent::{LOG_LINES_MAX, ServiceStatus};

use crate::boot::BootEvent;
use crate::boot::machine::Event;
use crate::ports::Console;
use crate::registry::Registry;
use crate::service::launch::LaunchThread;
use crate::service::{self, ServiceActor, ServicePlan, log};
use crate::supervise::{GaveUp, INTENSITY, Link, supervise};

pub mod order;

use order::Node;

/// The one service that runs before the volume is open: other nodes wait for the shares that it keeps, which are in the
/// header and not on the volume.
pub const EARLY_SERVICE: &str = "vault-guardian";

/// Every service of this image: those with a valid policy, and those whose policy was refused.
#[derive(Default)]
pub struct Roster {
    pub plans: Vec<Arc<ServicePlan>>,
    pub refused: Vec<RefusedService>,
}

/// A policy that did not load: the service stays down and says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedService {
    pub name: String,
    pub reason: String,
}

/// The addresses of the service actors, by name. They outlive a generation of the services actor.
pub type ServiceLinks = Arc<BTreeMap<String, Link<ServiceActor>>>;

pub struct ServicesActor {
    registry: Registry,
    roster: Arc<Roster>,
    launch: LaunchThread,
    links: ServiceLinks,
    /// Services that were told to start in the start that is under way; none is under way: `None`.
    starting: Option<BTreeSet<String>>,
}

/// Starts every service in dependency order and tells the boot actor when each had its chance. Those that run are
/// left alone.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StartAll;

/// Starts [`EARLY_SERVICE`], where the image has it. It is left alone if it runs.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct StartEarly;

/// Stops every service in reverse order; answered when all have stopped.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct StopAll {
    pub why: String,
}

#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct StartService {
    pub name: String,
}

#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct RestartService {
    pub name: String,
}

/// Answered when the service has stopped.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct StopService {
    pub name: String,
}

/// Answered when the signal is sent, not when the service has read its configuration.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), OrderError>")]
pub struct ReloadService {
    pub name: String,
}

/// The last lines of a service's log, its rotated file included; more than 1000 lines are cut to 1000.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<String, TailError>")]
pub struct TailLog {
    pub name: String,
    pub lines: usize,
}

/// A service actor's state is another one in the facts.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct ServiceChanged;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("there is no service {0} on this node")]
    Unknown(String),
    #[error("service {name} stays down, its policy was refused: {reason}")]
    Refused { name: String, reason: String },
    #[error("service {name} cannot run while the node is {phase}: {reason}")]
    NotNow { name: String, phase: &'static str, reason: String },
    #[error("service {name} cannot be reloaded: {why}")]
    NotReloaded { name: String, why: service::CannotReload },
    #[error("the actor of service {0} does not answer")]
    Unavailable(String),
}

#[derive(Debug, thiserror::Error)]
pub enum TailError {
    #[error("there is no service {0} on this node")]
    Unknown(String),
    #[error("the logs are on the data volume, which is not open")]
    Locked,
    #[error("reading the log of {name}")]
    Read {
        name: String,
        #[source]
        source: std::io::Error,
    },
}

/// Starts one supervised actor per service and gives back their addresses.
pub fn supervise_services(
    registry: &Registry,
    roster: &Roster,
    launch: &LaunchThread,
    console: &Arc<dyn Console>,
    escalate: impl Fn(GaveUp) + Clone + 'static,
) -> ServiceLinks {
    let links = roster.plans.iter().map(|plan| {
        let link = Link::default();
        let (plan, registry, launch) = (Arc::clone(plan), registry.clone(), launch.clone());
        let (console, name) = (Arc::clone(console), plan.name.clone());
        let restarts = registry.restarts.clone();
        supervise(format!("service-{name}"), &link, &restarts, INTENSITY, escalate.clone(), move |_| {
            ServiceActor::new(Arc::clone(&plan), registry.clone(), launch.clone(), Arc::clone(&console))
        });
        (name, link)
    });
    Arc::new(links.collect())
}

impl ServicesActor {
    /// `links` come from [`supervise_services`] with the same roster.
    pub fn new(registry: Registry, roster: Arc<Roster>, launch: LaunchThread, links: ServiceLinks) -> Self {
        Self { registry, roster, launch, links, starting: None }
    }

    fn order(&self) -> Vec<Node> {
        let node = |plan: &Arc<ServicePlan>| Node { name: plan.name.clone(), after: plan.after.clone() };
        self.roster.plans.iter().map(node).collect()
    }

    /// Tells every service whose turn has come, and the boot actor when all had their chance.
    fn advance(&mut self) {
        let order = self.order();
        let Some(told) = &mut self.starting else { return };
        let services = self.registry.facts.services();
        let settled: BTreeMap<String, bool> = order
            .iter()
            .map(|node| {
                let state = services.get(&node.name).map_or("waiting", |status| status.state.as_str());
                (node.name.clone(), !matches!(state, "waiting" | "preparing" | "starting" | "stopping"))
            })
            .collect();
        for name in order::may_start(&order, told, &settled) {
            if let Some(link) = self.links.get(&name) {
                // A full mailbox or an actor between two generations: told again at its next change.
                if link.tell(service::Start).is_ok() {
                    told.insert(name);
                }
            }
        }
        let all_told = order.iter().all(|node| told.contains(&node.name));
        // Readiness is each service's own matter from here on, and its status tells.
        let had_its_chance = |name: &str| {
            settled.get(name).is_some_and(|settled| *settled)
                || services
                    .get(name)
                    .is_some_and(|status| status.state != "preparing" && status.pid.is_some())
        };
        if all_told && order.iter().all(|node| had_its_chance(&node.name)) {
            self.starting = None;
            let _ = self.registry.boot.tell(BootEvent(Event::AllSpawned));
        }
    }

    fn start_early(&self) {
        let Some(link) = self.links.get(EARLY_SERVICE) else { return };
        if link.tell(service::Start).is_err() {
            tracing::warn!(
                "{EARLY_SERVICE} is not started before the volume is open: its actor does not answer"
            );
        }
    }

    fn link(&self, name: &str) -> Result<Link<ServiceActor>, OrderError> {
        if let Some(refused) = self.roster.refused.iter().find(|refused| refused.name == name) {
            return Err(OrderError::Refused { name: name.into(), reason: refused.reason.clone() });
        }
        self.links.get(name).cloned().ok_or_else(|| OrderError::Unknown(name.into()))
    }

    /// The link, when services may run at all: never before the volume is mounted and found genuine, but for the one.
    fn startable(&self, name: &str) -> Result<Link<ServiceActor>, OrderError> {
        let link = self.link(name)?;
        let node = self.registry.facts.node();
        let early = name == EARLY_SERVICE && node.phase.serves_early();
        if early || node.volume_ready && node.phase.may_run_services() {
            return Ok(link);
        }
        Err(OrderError::NotNow { name: name.into(), phase: node.phase.name(), reason: node.reason })
    }
}

impl Actor for ServicesActor {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        for refused in &self.roster.refused {
            let status = ServiceStatus {
                state: "refused".into(),
                healthy: false,
                pid: None,
                restarts: 0,
                uptime_seconds: None,
                reason: refused.reason.clone(),
                seccomp: String::new(),
                refusals: 0,
                message: String::new(),
            };
            self.registry.facts.set_service(&refused.name, status);
        }
        // A generation that replaces one that panicked half-way through a start goes on with it.
        let node = self.registry.facts.node();
        if node.volume_ready && node.phase.may_run_services() {
            self.starting = Some(BTreeSet::new());
            self.advance();
        } else if node.phase.serves_early() {
            self.start_early();
        }
    }
}

impl Handler<StartEarly> for ServicesActor {
    type Result = ();

    fn handle(&mut self, _: StartEarly, _: &mut Self::Context) {
        self.start_early();
    }
}

impl Handler<StartAll> for ServicesActor {
    type Result = ();

    fn handle(&mut self, _: StartAll, _: &mut Self::Context) {
        let node = self.registry.facts.node();
        if !node.volume_ready {
            tracing::error!("services are not started: the volume is not ready");
            return;
        }
        self.starting = Some(BTreeSet::new());
        self.advance();
    }
}

impl Handler<ServiceChanged> for ServicesActor {
    type Result = ();

    fn handle(&mut self, _: ServiceChanged, _: &mut Self::Context) {
        self.advance();
    }
}

impl Handler<StopAll> for ServicesActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: StopAll, _: &mut Self::Context) -> Self::Result {
        self.starting = None;
        let groups = order::stop_groups(&self.order());
        let links = Arc::clone(&self.links);
        let stop = async move {
            for group in groups {
                let stops = group.iter().filter_map(|name| links.get(name)).map(|link| {
                    let why = message.why.clone();
                    async move {
                        // An actor that is gone cannot stop its service; the volume's close will tell.
                        let _ = link.ask(service::Stop { why }).await;
                    }
                });
                futures_util::future::join_all(stops).await;
            }
        };
        Box::pin(stop.into_actor(self))
    }
}

impl Handler<StartService> for ServicesActor {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, message: StartService, _: &mut Self::Context) -> Self::Result {
        let link = self.startable(&message.name)?;
        link.tell(service::Start).map_err(|_| OrderError::Unavailable(message.name))
    }
}

impl Handler<RestartService> for ServicesActor {
    type Result = Result<(), OrderError>;

    fn handle(&mut self, message: RestartService, _: &mut Self::Context) -> Self::Result {
        let link = self.startable(&message.name)?;
        let restart = service::Restart { why: "restart ordered".into() };
        link.tell(restart).map_err(|_| OrderError::Unavailable(message.name))
    }
}

impl Handler<ReloadService> for ServicesActor {
    type Result = ResponseActFuture<Self, Result<(), OrderError>>;

    fn handle(&mut self, message: ReloadService, _: &mut Self::Context) -> Self::Result {
        let link = self.startable(&message.name);
        let reload = async move {
            let name = message.name;
            match link?.ask(service::Reload).await {
                Ok(done) => done.map_err(|why| OrderError::NotReloaded { name, why }),
                Err(_) => Err(OrderError::Unavailable(name)),
            }
        };
        Box::pin(reload.into_actor(self))
    }
}

impl Handler<StopService> for ServicesActor {
    type Result = ResponseActFuture<Self, Result<(), OrderError>>;

    fn handle(&mut self, message: StopService, _: &mut Self::Context) -> Self::Result {
        let link = self.link(&message.name);
        let stop = async move {
            let stop = service::Stop { why: "stop ordered".into() };
            link?.ask(stop).await.map_err(|_| OrderError::Unavailable(message.name))
        };
        Box::pin(stop.into_actor(self))
    }
}

impl Handler<TailLog> for ServicesActor {
    type Result = ResponseActFuture<Self, Result<String, TailError>>;

    fn handle(&mut self, message: TailLog, _: &mut Self::Context) -> Self::Result {
        let known = self.links.contains_key(&message.name)
            || self.roster.refused.iter().any(|refused| refused.name == message.name);
        let ready = self.registry.facts.node().volume_ready;
        let path = self.launch.logs().path_of(&message.name);
        let lines = message.lines.min(LOG_LINES_MAX);
        let read = async move {
            // The name is looked up before it becomes part of a path.
            if !known {
                return Err(TailError::Unknown(message.name));
            }
            if !ready && message.name != EARLY_SERVICE {
                return Err(TailError::Locked);
            }
            let read = tokio::task::spawn_blocking(move || log::tail(&path, lines)).await;
            read.unwrap_or_else(|_| Err(std::io::Error::other("the reader panicked")))
                .map_err(|source| TailError::Read { name: message.name, source })
        };
        Box::pin(read.into_actor(self).map(|result, _, _| result))
    }
}
