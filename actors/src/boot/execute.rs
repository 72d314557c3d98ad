//! How the boot actor carries out the actions of its machine: which actor is asked what, and which event the answer
//! becomes. An actor that panics on a request is asked again once its next generation is there.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures_util::future::join;
use orama_volume::{LeaveError, Probe, ProbeError};

use super::machine::{Event, Exit, Found, Phase};
use super::{BootActor, CLOSE_DOWN_TIMEOUT, Enrolled, Probed, mesh_state};
use crate::custody::{AnnounceReboot, MAY_BE_LEFT, WITHDRAW_LIMIT, WithdrawShares};
use crate::describe;
use crate::facts::{ApiToken, Identity, Scope};
use crate::registry::Registry;
use crate::services::StopAll;
use crate::supervise::Unavailable;
use crate::unlock::{Close, Mount, MountProblem, Unlock};
use crate::wg::BringUp;

/// Pause before an actor that did not answer is asked again: its supervisor needs 50 ms to make it anew.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long WireGuard waits for the uplink's address. Its first handshake goes out as it comes up; one that finds no
/// network is lost, and the next comes 5 s later. A network that takes longer than this is found by those.
const NETWORK_LIMIT: Duration = Duration::from_secs(30);
/// How long the announcement of a reboot may hold it up.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);

impl BootActor {
    pub(super) fn probe(&self, context: &mut Context<Self>) {
        let volume = Arc::clone(&self.volume);
        let probe = async move { tokio::task::spawn_blocking(move || volume.probe()).await };
        context.spawn(probe.into_actor(self).map(|result, actor, context| match result {
            Ok(result) => context.notify(Probed(result)),
            Err(_) => {
                let why = "reading the header panicked".to_owned();
                actor.apply(Event::ProbeFailed { why }, context);
            }
        }));
    }

    pub(super) fn probed(&mut self, result: Result<Probe, ProbeError>) -> Event {
        match result {
            Ok(Probe::Blank) => Event::Probed(Found::NotEnrolled { why: "no data volume yet".into() }),
            Ok(Probe::Unfinished { why }) => {
                Event::Probed(Found::NotEnrolled { why: format!("data volume was never finished: {why}") })
            }
            Ok(Probe::Enrolled { state, sealed }) => {
                self.take_early_state(Enrolled { state: Arc::new(state), sealed: Arc::new(sealed) })
            }
            Ok(Probe::Leaving) => Event::Probed(Found::Leaving),
            Err(error @ ProbeError::Damaged { .. }) => {
                Event::Probed(Found::Damaged { why: describe(&error) })
            }
            Err(error) => Event::ProbeFailed { why: describe(&error) },
        }
    }

    fn take_early_state(&mut self, enrolled: Enrolled) -> Event {
        let state = &enrolled.state;
        let address = match mesh_state::own_address(state) {
            Ok(address) => address,
            Err(why) => return Event::Probed(Found::Damaged { why }),
        };
        if self.registry.facts.node().volume_ready {
            // This actor was made anew while the node was up; identity and token are known and better than these.
            self.enrolled = Some(enrolled);
            return Event::Probed(Found::StillMounted);
        }
        let node_id = state.node_id.clone();
        self.registry.facts.set_identity(Identity { node_id: node_id.clone(), wg_ip: address });
        let token = ApiToken { digest: state.agent_token_sha256, scope: Scope::ReadOnly };
        self.registry.facts.set_api_token(token);
        self.enrolled = Some(enrolled);
        Event::Probed(Found::Enrolled { node_id })
    }

    pub(super) fn bring_up_mesh(&self, context: &mut Context<Self>) {
        let Some(enrolled) = self.enrolled.clone() else { return };
        let wg = self.registry.wg.clone();
        let mut facts = self.registry.facts.watch();
        let up = async move {
            if tokio::time::timeout(NETWORK_LIMIT, facts.wait_for(|node| node.network_up)).await.is_err() {
                tracing::warn!(
                    "no network after {} s; WireGuard comes up all the same",
                    NETWORK_LIMIT.as_secs()
                );
            }
            loop {
                let config = match mesh_state::wg_config(&enrolled.state) {
                    Ok(config) => config,
                    Err(why) => return Event::MeshFailed { why },
                };
                match wg.ask(BringUp(config)).await {
                    Ok(Ok(())) => return Event::MeshUp,
                    Ok(Err(error)) => return Event::MeshFailed { why: describe(&error) },
                    Err(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        };
        self.then_apply(context, up);
    }

    pub(super) fn unlock(&self, context: &mut Context<Self>) {
        let Some(enrolled) = self.enrolled.clone() else { return };
        let unlock = self.registry.unlock.clone();
        let opened = async move {
            loop {
                match unlock.ask(Unlock { state: Arc::clone(&enrolled.state) }).await {
                    Ok(()) => return Event::VolumeOpen,
                    Err(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        };
        self.then_apply(context, opened);
    }

    pub(super) fn mount(&self, context: &mut Context<Self>) {
        let Some(enrolled) = self.enrolled.clone() else { return };
        let unlock = self.registry.unlock.clone();
        let mounted = async move {
            loop {
                match unlock.ask(Mount { sealed: Arc::clone(&enrolled.sealed) }).await {
                    Ok(Ok(())) => return Event::Mounted,
                    Ok(Err(MountProblem::Edited(error))) => {
                        return Event::EarlyStateEdited { why: error.to_string() };
                    }
                    Ok(Err(error @ MountProblem::HeldEdited(_))) => {
                        return Event::EarlyStateEdited { why: describe(&error) };
                    }
                    Ok(Err(error)) => return Event::MountFailed { why: describe(&error) },
                    Err(_) => tokio::time::sleep(ASK_AGAIN).await,
                }
            }
        };
        self.then_apply(context, mounted);
    }

    pub(super) fn close_down(&self, context: &mut Context<Self>) {
        let registry = self.registry.clone();
        let why = self.state.reason.clone();
        let comes_back = self.state.exit == Some(Exit::Reboot);
        let leaves = self.state.phase == Phase::Leaving;
        let console = Arc::clone(&self.console);
        let close = async move {
            if comes_back {
                // So that the holders of the key give it back at once. Without them it takes longer; no more.
                let _ = tokio::time::timeout(ANNOUNCE_TIMEOUT, registry.custody.ask(AnnounceReboot)).await;
            }
            let orderly = async {
                let stopped = until_answered(|| registry.services.ask(StopAll { why: why.clone() }));
                match leaves {
                    true => {
                        let (asked, _) = join(withdraw_shares(registry.clone()), stopped).await;
                        if !asked {
                            console.line(MAY_BE_LEFT);
                        }
                    }
                    false => stopped.await,
                }
                until_answered(|| registry.unlock.ask(Close)).await
            };
            match tokio::time::timeout(CLOSE_DOWN_TIMEOUT, orderly).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!("closing the volume: {}", describe(&error)),
                Err(_) => tracing::error!(
                    "services and volume were not closed within {} s",
                    CLOSE_DOWN_TIMEOUT.as_secs()
                ),
            }
            Event::Closed
        };
        self.then_apply(context, close);
    }

    pub(super) fn erase(&self, context: &mut Context<Self>) {
        let volume = Arc::clone(&self.volume);
        let erase = async move {
            match tokio::task::spawn_blocking(move || volume.erase()).await {
                // Not marked: it was erased by a generation of this actor that did not live to hear it.
                Ok(Ok(()) | Err(LeaveError::NotMarked { .. })) => Event::Erased,
                Ok(Err(error)) => Event::EraseFailed { why: describe(&error) },
                Err(_) => Event::EraseFailed { why: "a blocking volume call panicked".into() },
            }
        };
        self.then_apply(context, erase);
    }

    pub(super) fn exit(&self, exit: Exit, why: &str) {
        // The power port says so on the console: other ways to the end of a node go through it too.
        match exit {
            Exit::Reboot => self.power.reboot(why),
            Exit::PowerOff => self.power.power_off(why),
        }
    }

    fn then_apply(&self, context: &mut Context<Self>, event: impl Future<Output = Event> + 'static) {
        context.spawn(event.into_actor(self).map(|event, actor, context| {
            actor.apply(event, context);
        }));
    }

    /// What a restarted boot actor must not forget: a node on its way down stays on its way down.
    pub(super) fn resumed(&self) -> Option<Event> {
        let node = self.registry.facts.node();
        let exit = match node.phase {
            Phase::Rebooting => Exit::Reboot,
            Phase::PoweringOff => Exit::PowerOff,
            Phase::Leaving => return Some(Event::LeaveCluster { why: node.reason }),
            Phase::Starting
            | Phase::Enrolling
            | Phase::Provisioning
            | Phase::Joining
            | Phase::Unlocking
            | Phase::WaitingForPeers
            | Phase::WaitingForOwner
            | Phase::Mounting
            | Phase::StartingServices
            | Phase::Running
            | Phase::Degraded => return None,
        };
        Some(Event::Leave { exit, why: node.reason })
    }
}

/// What the guardians keep for a node that leaves is deleted; without them, and after a limit, it leaves all the same.
/// False when they were not asked.
pub(super) async fn withdraw_shares(registry: Registry) -> bool {
    let limit = WITHDRAW_LIMIT + Duration::from_secs(1);
    matches!(tokio::time::timeout(limit, registry.custody.ask(WithdrawShares)).await, Ok(Ok(true)))
}

/// Asks until an answer comes. An actor that is gone for good is the supervisor's to report: the node reboots then.
pub(super) async fn until_answered<T, F>(mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, Unavailable>>,
{
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(_) => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}
