//! BootActor: carries out what `boot/machine.rs` decides, by messages to the other actors, and publishes phase and
//! reason to console, log and facts. Owns the order of things; does none of them itself but reading the header.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, WrapFuture, fut,
};
use orama_protocol::agent::{ServiceStatus, UnlockStatus, WireguardStatus};
use orama_volume::{DataVolume, EarlyState, Probe, ProbeError, SealedRecord};

use crate::custody::{OPEN_LIMIT, UntilOpen};
use crate::enroll::OpenEnrollment;
use crate::ports::{Console, Power};
use crate::registry::Registry;
use crate::services::{StartAll, StartEarly, StopAll};
use crate::wg::GetWireguard;

mod execute;
pub mod machine;
pub(crate) mod mesh_state;

use execute::{until_answered, withdraw_shares};
use machine::{Action, Event, Exit, Phase, RETRY, State, Verdict};

/// How long services and volume get to stop before the node leaves all the same. Services have their own grace
/// time (10 s by default) in at most a few groups.
pub const CLOSE_DOWN_TIMEOUT: Duration = Duration::from_secs(45);

pub struct BootActor {
    registry: Registry,
    volume: Arc<dyn DataVolume>,
    console: Arc<dyn Console>,
    power: Arc<dyn Power>,
    state: State,
    enrolled: Option<Enrolled>,
}

/// What the header said, shared with the actors that need it.
#[derive(Clone)]
pub struct Enrolled {
    pub state: Arc<EarlyState>,
    pub sealed: Arc<SealedRecord>,
}

/// Something happened that the boot machine wants to know. Answered with what became of it.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Verdict")]
pub struct BootEvent(pub Event);

/// Leaves gracefully: stops services in reverse, unmounts, closes, then reboots or powers off. Answered when the order
/// is taken.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), Denied>")]
pub struct Leave {
    pub exit: Exit,
    pub why: String,
}

/// Leaves the cluster for good: the header is marked, everything stopped, key slots and header erased, and the node boots
/// blank. Answered when the mark is on the disk, from then on nothing keeps the node, not even a power cut; and the guardians
/// have deleted its shares, or had their time: whoever gave the order takes the node out of WireGuard then.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<(), LeaveRefused>")]
pub struct LeaveCluster {
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LeaveRefused {
    #[error("the node is {}, not running", .0.name())]
    NotNow(Phase),
    #[error("the header cannot be marked: {0}")]
    Mark(String),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Denied(pub String);

/// Everything that `GET /v1/agent/status` needs and that is not a property of the machine or the image.
#[derive(Debug, Message)]
#[rtype(result = "NodeStatus")]
pub struct GetStatus;

#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub node_id: Option<String>,
    pub phase: Phase,
    pub reason: String,
    pub healthy: bool,
    pub wireguard: Option<WireguardStatus>,
    pub unlock: Option<UnlockStatus>,
    pub alarms: Vec<String>,
    pub services: BTreeMap<String, ServiceStatus>,
    pub actor_restarts: BTreeMap<String, u32>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Probed(Result<Probe, ProbeError>);

impl BootActor {
    pub fn new(
        registry: Registry,
        volume: Arc<dyn DataVolume>,
        console: Arc<dyn Console>,
        power: Arc<dyn Power>,
    ) -> Self {
        Self { registry, volume, console, power, state: State::default(), enrolled: None }
    }

    fn apply(&mut self, event: Event, context: &mut Context<Self>) -> Verdict {
        let step = machine::step(&self.state, event.clone());
        if let Verdict::Denied(why) = &step.verdict {
            tracing::info!("boot: {event:?} denied: {why}");
        }
        let changed = (step.state.phase, &step.state.reason) != (self.state.phase, &self.state.reason);
        self.state = step.state;
        if changed {
            self.publish();
        }
        for action in step.actions {
            self.execute(action, context);
        }
        step.verdict
    }

    fn publish(&self) {
        let (phase, reason) = (self.state.phase, self.state.reason.as_str());
        self.registry.facts.set_phase(phase, reason);
        self.console.line(&format!("phase {}: {reason}", phase.name()));
        tracing::info!("phase {}: {reason}", phase.name());
    }

    fn execute(&mut self, action: Action, context: &mut Context<Self>) {
        match action {
            Action::Probe => self.probe(context),
            Action::Retry => {
                context.notify_later(BootEvent(Event::RetryDue), RETRY);
            }
            Action::OpenEnrollment => {
                let enroll = self.registry.enroll.clone();
                let open = async move { until_answered(|| enroll.ask(OpenEnrollment)).await };
                context.spawn(open.into_actor(self));
            }
            Action::BringUpMesh => self.bring_up_mesh(context),
            Action::StartEarly => {
                let services = self.registry.services.clone();
                let start = async move { until_answered(|| services.ask(StartEarly)).await };
                context.spawn(start.into_actor(self));
            }
            Action::StopEarly { why } => {
                let services = self.registry.services.clone();
                let stop = async move { until_answered(|| services.ask(StopAll { why: why.clone() })).await };
                context.spawn(stop.into_actor(self));
            }
            Action::Unlock => self.unlock(context),
            Action::Mount => self.mount(context),
            Action::StartServices => {
                let services = self.registry.services.clone();
                let start = async move { until_answered(|| services.ask(StartAll)).await };
                context.spawn(start.into_actor(self));
            }
            Action::CloseDown => self.close_down(context),
            Action::Erase => self.erase(context),
            Action::Exit { exit, why } => self.exit(exit, &why),
            Action::Alarm(text) => self.registry.facts.raise_alarm(&text),
            Action::AnnounceSpawned => self.console.line("all services spawned"),
        }
    }
}

impl Actor for BootActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(event) = self.resumed() {
            self.apply(event, context);
            return;
        }
        self.publish();
        self.apply(Event::Started, context);
    }
}

impl Handler<BootEvent> for BootActor {
    type Result = actix::MessageResult<BootEvent>;

    fn handle(&mut self, BootEvent(event): BootEvent, context: &mut Self::Context) -> Self::Result {
        actix::MessageResult(self.apply(event, context))
    }
}

impl Handler<Probed> for BootActor {
    type Result = ();

    fn handle(&mut self, Probed(result): Probed, context: &mut Self::Context) {
        let event = self.probed(result);
        self.apply(event, context);
    }
}

impl Handler<Leave> for BootActor {
    type Result = Result<(), Denied>;

    fn handle(&mut self, message: Leave, context: &mut Self::Context) -> Self::Result {
        match self.apply(Event::Leave { exit: message.exit, why: message.why }, context) {
            Verdict::Accepted | Verdict::Ignored => Ok(()),
            Verdict::Denied(why) => Err(Denied(why)),
        }
    }
}

impl Handler<LeaveCluster> for BootActor {
    type Result = ResponseActFuture<Self, Result<(), LeaveRefused>>;

    fn handle(&mut self, LeaveCluster { why }: LeaveCluster, _: &mut Self::Context) -> Self::Result {
        match self.state.phase {
            Phase::Leaving => {
                return Box::pin(
                    withdraw_shares(self.registry.clone()).into_actor(self).map(|_, _, _| Ok(())),
                );
            }
            phase if !phase.may_run_services() => {
                return Box::pin(fut::ready(Err(LeaveRefused::NotNow(phase))));
            }
            _ => {}
        }
        let volume = Arc::clone(&self.volume);
        let custody = self.registry.custody.clone();
        let mark = async move {
            // A node whose record cannot be read leaves all the same, and says what it could not do.
            let _ = tokio::time::timeout(OPEN_LIMIT, until_answered(|| custody.ask(UntilOpen))).await;
            tokio::task::spawn_blocking(move || volume.mark_leaving()).await
        };
        let marked = mark.into_actor(self).map(|marked, actor, context| {
            let problem = match marked {
                Ok(Ok(())) => {
                    actor.console.line("this node leaves its cluster: its data and its identity are erased");
                    actor.apply(Event::LeaveCluster { why }, context);
                    return Ok(());
                }
                Ok(Err(error)) => crate::describe(&error),
                Err(_) => "a blocking volume call panicked".to_owned(),
            };
            Err(LeaveRefused::Mark(problem))
        });
        Box::pin(marked.then(|marked, actor, _| {
            let registry = actor.registry.clone();
            fut::wrap_future::<_, Self>(async move {
                if marked.is_ok() {
                    withdraw_shares(registry).await;
                }
                marked
            })
        }))
    }
}

impl Handler<GetStatus> for BootActor {
    type Result = ResponseActFuture<Self, NodeStatus>;

    fn handle(&mut self, _: GetStatus, _: &mut Self::Context) -> Self::Result {
        let wg = self.registry.wg.clone();
        let registry = self.registry.clone();
        let read = async move {
            let identity = registry.facts.node().identity;
            let wireguard = match identity {
                Some(_) => wg.ask(GetWireguard).await.ok().and_then(Result::ok),
                None => None,
            };
            status(&registry, wireguard)
        };
        Box::pin(read.into_actor(self).map(|status, _, _| status))
    }
}

fn status(registry: &Registry, wireguard: Option<WireguardStatus>) -> NodeStatus {
    let node = registry.facts.node();
    let services = registry.facts.services();
    let panics = registry.restarts.read();
    NodeStatus {
        node_id: node.identity.map(|identity| identity.node_id),
        healthy: node.phase == Phase::Running && services.values().all(|service| service.healthy),
        phase: node.phase,
        reason: node.reason,
        wireguard,
        unlock: registry.facts.unlock(),
        alarms: node.alarms,
        services,
        actor_restarts: panics.into_iter().map(|(actor, panics)| (actor, panics.count)).collect(),
    }
}
