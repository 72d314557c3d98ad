//! What a service actor watches while its child lives: readiness, the service's own words, liveness, the end, the
//! walls of its box. Each watch is a future of the actor's, so that it ends with its generation.

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};

use super::machine::{Event, Phase};
use super::notify::{Ear, Said};
use super::reasons::{self, Ending};
use super::run::wait_for_exit;
use super::{Happened, PROBE_EVERY, PROBE_TIMEOUT, ReadinessPlan, Run, ServiceActor, probe};
use crate::ports::Exit;

impl ServiceActor {
    pub(super) fn await_ready(&mut self, context: &mut Context<Self>) {
        let probe = match &self.plan.readiness {
            ReadinessPlan::None => None,
            // It says so itself: see `hear`.
            ReadinessPlan::Notify => return,
            ReadinessPlan::Probe(plan) => self.registry.facts.variables().map(|vars| plan.resolve(&vars)),
        };
        let Some(probe) = probe else {
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

    /// Listens to the service itself; a prepare step has nothing to say.
    pub(super) fn watch_words(&mut self, run: &Run, context: &mut Context<Self>) {
        let Some(socket) = run.child.notify_socket().filter(|_| run.step.is_none()) else { return };
        match Ear::new(socket, self.plan.uid) {
            Ok(ear) => self.hear(ear, context),
            Err(error) => {
                tracing::error!(service = %self.plan.name, "cannot listen to the service: {error}");
            }
        }
    }

    fn hear(&mut self, ear: Ear, context: &mut Context<Self>) {
        let listening = async move { (ear.listen().await, ear) };
        let handle = context.spawn(listening.into_actor(self).map(|(said, ear), actor, context| {
            let Ok(Said { ready, status }) = said else { return };
            if let Some(text) = status {
                actor.message = text;
                actor.publish();
            }
            if ready {
                actor.apply(Event::Ready, context);
            }
            actor.hear(ear, context);
        }));
        self.hearing = Some(handle);
    }

    pub(super) fn watch_liveness(&mut self, context: &mut Context<Self>) {
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

    pub(super) fn watch_exit(&mut self, run: &Run, context: &mut Context<Self>) {
        let run = run.clone();
        let exited = async move {
            let exit = wait_for_exit(&*run.child).await;
            let last_words = match exit {
                Exit::Code(0) => String::new(),
                Exit::Code(_) | Exit::Signal(_) | Exit::Unknown => run.output.last_words().await,
            };
            (run, exit, last_words)
        };
        context.spawn(exited.into_actor(self).map(|(run, exit, last_words), actor, context| {
            if !actor.run.as_ref().is_some_and(|current| current.is(&run)) {
                // Collected as a leftover before another was started.
                return;
            }
            actor.registry.facts.set_run(&actor.plan.name, None);
            let event = match (run.step, exit) {
                (Some(_), Exit::Code(0)) => Event::StepDone,
                _ => Event::Exited(actor.ending(&run, exit, &last_words)),
            };
            actor.apply(event, context);
            // Kept until here because the machine's last kill goes through it.
            actor.run = None;
        }));
    }

    fn ending(&self, run: &Run, exit: Exit, last_words: &str) -> String {
        let kill = self.registry.facts.refusals().last_kill(&self.plan.name);
        reasons::ending(&Ending {
            exit,
            limits: &self.plan.limits,
            before: &run.before,
            after: &run.child.usage(),
            kill: kill.as_ref(),
            last_words,
        })
    }

    /// Compares what the running service uses with its limits.
    pub(super) fn look(&mut self) {
        let Some(run) = self.run.as_ref().filter(|_| self.state.phase == Phase::Running) else { return };
        let walls =
            reasons::walls(&self.plan.limits, &run.before, &run.child.usage(), run.output.is_closed());
        if walls == self.walls {
            return;
        }
        for wall in walls.iter().filter(|wall| !self.walls.iter().any(|old| old.is_like(wall))) {
            tracing::warn!(service = %self.plan.name, "{wall}");
        }
        self.walls = walls;
        self.publish();
    }
}
