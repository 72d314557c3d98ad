//! ServiceActor: one service from its first start to its last stop. Carries out what `service/machine.rs` decides:
//! spawns through the launch thread, awaits the pidfd, probes, signals, kills. Its child is a fact outside of it
//! ([`Run`]) and survives it; a new generation of the actor adopts what still runs.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseActFuture, SpawnHandle,
    WrapFuture,
};
use orama_protocol::agent::ServiceStatus;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use crate::ports::{Child, Console, Exit};
use crate::registry::Registry;
use crate::services::ServiceChanged;

pub mod launch;
pub mod log;
pub mod machine;
mod plan;
pub mod probe;
mod sandboxed;

pub use plan::{Address, LivenessPlan, ProbePlan, ServicePlan};
pub use sandboxed::SandboxLauncher;

use launch::LaunchThread;
use machine::{Action, Event, Phase, State};

/// Pause between two readiness probes: short against the second that a service takes to start.
const PROBE_EVERY: Duration = Duration::from_millis(100);
/// Longest single probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a killed child may take to become collectable before a new one is started all the same: after that
/// the start fails on its own (port taken) and is backed off.
const COLLECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A running child with what must be known about it to adopt it.
#[derive(Clone)]
pub struct Run {
    pub child: Arc<dyn Child>,
    pub since: Instant,
    pub ready: Arc<AtomicBool>,
}

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

#[derive(Message)]
#[rtype(result = "()")]
struct Happened(Event);

/// The launch thread has answered.
#[derive(Message)]
#[rtype(result = "()")]
struct Launched(Result<Run, String>);

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
            Action::Spawn => self.spawn(context),
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

    fn spawn(&mut self, context: &mut Context<Self>) {
        let previous = self.run.take();
        let (launch, plan) = (self.launch.clone(), Arc::clone(&self.plan));
        let facts = self.registry.facts.clone();
        let spawned = async move {
            if let Some(run) = previous {
                collect_leftover(&run).await;
                facts.set_run(&plan.name, None);
            }
            let launched = launch.spawn(&plan.name).await;
            let launched = launched.map(|child| Run {
                child: Arc::from(child),
                since: Instant::now(),
                ready: Arc::new(AtomicBool::new(false)),
            });
            if let Ok(run) = &launched {
                // Before anything else can fail: from here on the child is known to every later generation.
                facts.set_run(&plan.name, Some(run.clone()));
            }
            launched
        };
        context.spawn(spawned.into_actor(self).map(|launched, _, context| {
            context.notify(Launched(launched));
        }));
    }

    fn await_ready(&mut self, context: &mut Context<Self>) {
        let variables = self.registry.facts.variables();
        let Some(probe) = self.plan.readiness.as_ref().zip(variables).map(|(plan, vars)| plan.resolve(&vars))
        else {
            context.notify(Happened(Event::Ready));
            return;
        };
        let waiting = async move {
            while probe::check(&probe, PROBE_TIMEOUT).await.is_err() {
                tokio::time::sleep(PROBE_EVERY).await;
            }
        };
        let handle = context.spawn(waiting.into_actor(self).map(|(), actor, context| {
            actor.probing = None;
            actor.apply(Event::Ready, context);
        }));
        self.probing = Some(handle);
    }

    fn watch_liveness(&mut self, context: &mut Context<Self>) {
        let variables = self.registry.facts.variables();
        let Some((liveness, variables)) = self.plan.liveness.clone().zip(variables) else { return };
        let watching = async move {
            let probe = liveness.probe.resolve(&variables);
            let mut failures = 0;
            loop {
                tokio::time::sleep(liveness.interval).await;
                match probe::check(&probe, liveness.timeout).await {
                    Ok(()) => failures = 0,
                    Err(error) => {
                        failures += 1;
                        if failures >= liveness.failures {
                            return format!("not alive, {failures} probes failed, last: {error}");
                        }
                    }
                }
            }
        };
        let handle = context.spawn(watching.into_actor(self).map(|why, actor, context| {
            actor.probing = None;
            actor.apply(Event::Unresponsive(why), context);
        }));
        self.probing = Some(handle);
    }

    fn watch_exit(&mut self, run: &Run, context: &mut Context<Self>) {
        let child = Arc::clone(&run.child);
        let exited = async move { wait_for_exit(&*child).await };
        context.spawn(exited.into_actor(self).map(|exit, actor, context| {
            actor.registry.facts.set_run(&actor.plan.name, None);
            actor.apply(Event::Exited(exit.to_string()), context);
            // Kept until here because the machine's last kill goes through it.
            actor.run = None;
        }));
    }

    fn publish(&self) {
        let running = self.state.phase == Phase::Running;
        self.registry.facts.set_service(
            &self.plan.name,
            ServiceStatus {
                state: self.state.phase.name().into(),
                healthy: running,
                pid: self.run.as_ref().map(|run| run.child.pid()),
                restarts: self.state.restarts,
                uptime_seconds: None,
                reason: self.state.reason.clone(),
                seccomp: self.plan.seccomp.clone(),
                refusals: 0,
                message: String::new(),
            },
        );
    }
}

impl Actor for ServiceActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        if let Some(previous) = self.registry.facts.services().get(&self.plan.name) {
            self.state.restarts = previous.restarts;
        }
        match self.registry.facts.run(&self.plan.name) {
            Some(run) => {
                tracing::info!(service = %self.plan.name, pid = run.child.pid(), "adopted the running service");
                self.run = Some(run.clone());
                self.watch_exit(&run, context);
                let ready = run.ready.load(Ordering::Acquire);
                self.apply(Event::Adopted { ready }, context);
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
            Ok(run) => {
                self.run = Some(run.clone());
                self.watch_exit(&run, context);
                self.apply(Event::Spawned, context);
                // The phase is the same, but there is a process now.
                let _ = self.registry.services.tell(ServiceChanged);
            }
            Err(why) => self.apply(Event::SpawnFailed(why), context),
        }
    }
}

/// Waits until the main process has ended, and collects it.
async fn wait_for_exit(child: &dyn Child) -> Exit {
    // Deprecated because a type may change the descriptor behind the reactor's back; an `OwnedFd` that nobody else
    // sees cannot, and the replacement is an unsafe function, which this crate forbids.
    #[expect(deprecated)]
    let descriptor = match child.pidfd().as_fd().try_clone_to_owned().and_then(AsyncFd::new) {
        Ok(descriptor) => descriptor,
        Err(error) => {
            tracing::error!(pid = child.pid(), "cannot watch the process, asking in turns: {error}");
            return poll_for_exit(child).await;
        }
    };
    loop {
        let Ok(mut guard) = descriptor.readable().await else { return poll_for_exit(child).await };
        match child.try_reap() {
            Ok(Some(exit)) => return exit,
            Ok(None) => guard.clear_ready(),
            Err(_) => return Exit::Unknown,
        }
    }
}

async fn poll_for_exit(child: &dyn Child) -> Exit {
    loop {
        match child.try_reap() {
            Ok(Some(exit)) => return exit,
            Ok(None) => tokio::time::sleep(PROBE_EVERY).await,
            Err(_) => return Exit::Unknown,
        }
    }
}

async fn collect_leftover(run: &Run) {
    if let Err(error) = run.child.kill_all() {
        tracing::warn!(pid = run.child.pid(), "cannot kill what is left of the service: {error}");
    }
    let _ = tokio::time::timeout(COLLECT_TIMEOUT, wait_for_exit(&*run.child)).await;
}

#[cfg(test)]
#[path = "service/actor_tests.rs"]
mod tests;
