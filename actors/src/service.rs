//! ServiceActor: one service from its first start to its last stop. Carries out what `service/machine.rs` decides:
//! spawns through the launch thread, awaits the pidfd, probes, listens, signals, kills. Its child is a fact outside
//! of it ([`Run`]) and survives it; a new generation of the actor adopts what still runs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use orama_protocol::agent::ServiceStatus;
use tokio::sync::oneshot;

use crate::ports::{Child, Console};
use crate::registry::Registry;
use crate::services::ServiceChanged;

pub mod launch;
pub mod log;
pub mod machine;
pub mod notify;
pub mod output;
mod plan;
pub mod probe;
mod quota;
pub mod reasons;
mod run;
mod sandboxed;
mod watching;

pub use plan::{Address, LivenessPlan, ProbePlan, ReadinessPlan, ServicePlan};
pub use run::Run;
pub use sandboxed::SandboxLauncher;

use launch::LaunchThread;
use machine::{Action, Event, Phase, State};
use reasons::Wall;
use run::collect_leftover;

/// Pause between two readiness probes: short against the second that a service takes to start.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Longest single probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two looks at what a running service uses of its box. Limits hold without them: they are for status.
const LOOK_EVERY: Duration = Duration::from_secs(3);

pub struct ServiceActor {
    plan: Arc<ServicePlan>,
    registry: Registry,
    launch: LaunchThread,
    console: Arc<dyn Console>,
    started: Instant,
    state: State,
    run: Option<Run>,
    /// The probe that is under way, readiness or liveness.
    probing: Option<SpawnHandle>,
    /// Listens to what the child says of itself, when its policy has such a socket.
    hearing: Option<SpawnHandle>,
    /// The last `STATUS=` of this run.
    message: String,
    /// Walls of its box that the running service stands at.
    walls: Vec<Wall>,
    /// Who asked for a stop and waits for it.
    waiters: Vec<oneshot::Sender<()>>,
}

/// Starts the service; when it runs already nothing happens.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Start;

/// Stops the service; answered when its main process has ended and its control group was killed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop {
    pub why: String,
}

/// Stops and starts again; answered when the order is taken, not when it is carried out.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Restart {
    pub why: String,
}

/// Sends the profile's reload signal.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), CannotReload>")]
pub struct Reload;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotReload {
    #[error("its profile has no [reload] section; restart it instead")]
    NoSignal,
    #[error("it is {0}, and only a running service can be reloaded")]
    NotRunning(&'static str),
}

#[derive(Message)]
#[rtype(result = "()")]
struct Happened(Event);

/// The launch thread has answered; `None`: the prepare step has nothing to do.
#[derive(Message)]
#[rtype(result = "()")]
struct Launched(Result<Option<Run>, String>);

impl ServiceActor {
    pub fn new(
        plan: Arc<ServicePlan>,
        registry: Registry,
        launch: LaunchThread,
        console: Arc<dyn Console>,
    ) -> Self {
        Self {
            plan,
            registry,
            launch,
            console,
            started: Instant::now(),
            state: State::default(),
            run: None,
            probing: None,
            hearing: None,
            message: String::new(),
            walls: Vec::new(),
            waiters: Vec::new(),
        }
    }

    fn apply(&mut self, event: Event, context: &mut Context<Self>) {
        let before = self.state.phase;
        // Even a failed random number is only jitter lost.
        let jitter = getrandom::u32().unwrap_or(0);
        let (state, actions) =
            machine::step(&self.plan.rules, &self.state, event, self.started.elapsed(), jitter);
        self.state = state;
        if let (true, Some(probe)) = (self.state.phase != before, self.probing.take()) {
            context.cancel_future(probe);
        }
        if self.state.phase != before {
            self.walls.clear();
        }
        if self.state.phase == Phase::Stopped || self.state.phase == Phase::Failed {
            for waiter in self.waiters.drain(..) {
                let _ = waiter.send(());
            }
        }
        for action in actions {
            self.execute(action, context);
        }
        self.publish();
        if self.state.phase != before {
            tracing::info!(
                service = %self.plan.name,
                "service {}: {}", self.state.phase.name(), self.state.reason
            );
            let _ = self.registry.services.tell(ServiceChanged);
        }
    }

    fn execute(&mut self, action: Action, context: &mut Context<Self>) {
        match action {
            Action::Prepare(step) => self.spawn(Some(step), context),
            Action::Spawn => self.spawn(None, context),
            Action::AwaitReady => self.await_ready(context),
            Action::Watch => {
                if let Some(run) = &self.run {
                    run.ready.store(true, Ordering::Release);
                }
                self.watch_liveness(context);
            }
            Action::SetTimer { number, after } => {
                context.notify_later(Happened(Event::Timer(number)), after);
            }
            Action::Signal => self.on_child("signal", |plan, child| child.signal(plan.stop_signal)),
            Action::Reload => self.on_child("reload", |plan, child| {
                plan.reload_signal.map_or(Ok(()), |signal| child.signal(signal))
            }),
            Action::KillAll => self.on_child("kill", |_, child| child.kill_all()),
            Action::Announce => self.console.line(&format!("service {} running", self.plan.name)),
            Action::Report(why) => {
                let text = format!("service {} given up: {why}", self.plan.name);
                self.console.line(&text);
                self.registry.facts.raise_alarm(&text);
            }
        }
    }

    fn on_child(&self, what: &str, call: impl Fn(&ServicePlan, &dyn Child) -> std::io::Result<()>) {
        let Some(run) = &self.run else { return };
        if let Err(error) = call(&self.plan, &*run.child) {
            tracing::warn!(service = %self.plan.name, "cannot {what} the service: {error}");
        }
    }

    fn spawn(&mut self, step: Option<usize>, context: &mut Context<Self>) {
        let previous = self.run.take();
        if let Some(hearing) = self.hearing.take() {
            context.cancel_future(hearing);
        }
        self.message.clear();
        let (launch, plan) = (self.launch.clone(), Arc::clone(&self.plan));
        let facts = self.registry.facts.clone();
        let spawned = async move {
            if let Some(run) = previous {
                collect_leftover(&run).await;
                facts.set_run(&plan.name, None);
            }
            facts.refusals().forget_kill(&plan.name);
            let launched = launch.spawn(&plan.name, step).await?;
            let run = launched.map(|(child, output)| Run::new(child, step, output));
            if let Some(run) = &run {
                // Before anything else can fail: from here on the child is known to every later generation.
                facts.set_run(&plan.name, Some(run.clone()));
            }
            Ok(run)
        };
        context.spawn(spawned.into_actor(self).map(|launched, _, context| {
            context.notify(Launched(launched));
        }));
    }

    fn publish(&self) {
        let running = self.state.phase == Phase::Running;
        let walls: Vec<String> = self.walls.iter().map(ToString::to_string).collect();
        // What has ended is kept for the machine's last kill, and is no process any more.
        let alive = matches!(self.state.phase, Phase::Starting | Phase::Running | Phase::Stopping);
        let service = self.run.as_ref().filter(|run| alive && run.step.is_none());
        self.registry.facts.set_service(
            &self.plan.name,
            ServiceStatus {
                state: self.state.phase.name().into(),
                healthy: running,
                pid: service.map(|run| run.child.pid()),
                restarts: self.state.restarts,
                uptime_seconds: None,
                reason: if walls.is_empty() { self.state.reason.clone() } else { walls.join("; ") },
                seccomp: self.plan.seccomp.clone(),
                refusals: 0,
                message: self.message.clone(),
            },
        );
    }
}

impl Actor for ServiceActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(previous) = self.registry.facts.services().get(&self.plan.name) {
            self.state.restarts = previous.restarts;
            self.message.clone_from(&previous.message);
        }
        context.run_interval(LOOK_EVERY, |actor, _| actor.look());
        match self.registry.facts.run(&self.plan.name) {
            Some(run) => {
                tracing::info!(service = %self.plan.name, pid = run.child.pid(), "adopted the running service");
                self.run = Some(run.clone());
                self.watch_exit(&run, context);
                self.watch_words(&run, context);
                let ready = run.ready.load(Ordering::Acquire);
                self.apply(Event::Adopted { ready, step: run.step }, context);
            }
            None => self.publish(),
        }
        let _ = self.registry.services.tell(ServiceChanged);
    }
}

impl Handler<Start> for ServiceActor {
    type Result = ();

    fn handle(&mut self, _: Start, context: &mut Self::Context) {
        self.apply(Event::Start, context);
    }
}

impl Handler<Restart> for ServiceActor {
    type Result = ();

    fn handle(&mut self, message: Restart, context: &mut Self::Context) {
        self.apply(Event::Restart(message.why), context);
    }
}

impl Handler<Stop> for ServiceActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, message: Stop, context: &mut Self::Context) -> Self::Result {
        let (done, stopped) = oneshot::channel();
        self.waiters.push(done);
        self.apply(Event::Stop(message.why), context);
        Box::pin(async move { drop(stopped.await) }.into_actor(self))
    }
}

impl Handler<Reload> for ServiceActor {
    type Result = Result<(), CannotReload>;

    fn handle(&mut self, _: Reload, context: &mut Self::Context) -> Self::Result {
        if self.plan.reload_signal.is_none() {
            return Err(CannotReload::NoSignal);
        }
        if self.state.phase != Phase::Running {
            return Err(CannotReload::NotRunning(self.state.phase.name()));
        }
        self.apply(Event::Reload, context);
        Ok(())
    }
}

impl Handler<Happened> for ServiceActor {
    type Result = ();

    fn handle(&mut self, Happened(event): Happened, context: &mut Self::Context) {
        self.apply(event, context);
    }
}

impl Handler<Launched> for ServiceActor {
    type Result = ();

    fn handle(&mut self, Launched(result): Launched, context: &mut Self::Context) {
        match result {
            Ok(Some(run)) => {
                self.run = Some(run.clone());
                self.watch_exit(&run, context);
                self.watch_words(&run, context);
                self.apply(Event::Spawned, context);
                // The phase is the same, but there is a process now.
                let _ = self.registry.services.tell(ServiceChanged);
            }
            Ok(None) => self.apply(Event::StepDone, context),
            Err(why) => self.apply(Event::SpawnFailed(why), context),
        }
    }
}

#[cfg(test)]
#[path = "service/actor_tests.rs"]
mod tests;
