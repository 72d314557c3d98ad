//! The enroll actor's part in provisioning: the boot actor's leave, the interface, the volume, and what the operator
//! hears of it. Also what a new generation of the actor does about a provisioning that its predecessor began.

use std::time::Duration;

use actix::{ActorFutureExt, AsyncContext, Context, WrapFuture};
use orama_protocol::enroll::NodeMessage;
use tokio::sync::{mpsc, oneshot};

use super::machine::Event;
use super::recovery::Answerer;
use super::{Agreed, EnrollActor, recovery};
use crate::boot::machine as boot;
use crate::boot::{BootEvent, mesh_state};
use crate::describe;
use crate::registry::Registry;
use crate::unlock::{NodeSetup, Provision, Recovered, RecoverySeal};
use crate::wg::BringUp;

/// Names of steps that may wait for the socket: provisioning has eight.
const STEPS: usize = 16;
/// How long a new generation waits for the end of a provisioning that its predecessor began: formatting a slow disk
/// and storing at slow guardians, with room.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(300);

impl EnrollActor {
    pub(super) fn provision(&mut self, context: &mut Context<Self>) {
        let Some(mut agreed) = self.agreed.take() else {
            return self.apply(Event::ProvisioningFailed("the configuration is lost".into()), context);
        };
        let (progress, mut steps) = mpsc::channel::<String>(STEPS);
        let outgoing = self.outgoing.clone();
        let shown = self.progress.clone();
        let forward = async move {
            while let Some(step) = steps.recv().await {
                shown.step(&step);
                if let Some(outgoing) = &outgoing {
                    let _ = outgoing.try_send(NodeMessage::Progress { step });
                }
            }
        };
        let (seal, hand_out) = self.recovery(&mut agreed).unzip();
        let hand_out = async move {
            if let Some((answerer, keys)) = hand_out {
                Answerer::hand_out(answerer, keys).await;
            }
        };
        let registry = self.registry.clone();
        let gateway_url = self.settings.gateway_url.clone();
        let work = async move {
            // Steps are forwarded while the work goes on, and the last of them before its end is told.
            let run = run(&registry, agreed, seal, gateway_url, progress);
            let (result, (), ()) = tokio::join!(run, forward, hand_out);
            if let Err(why) = &result {
                let failed = boot::Event::ProvisioningFailed { why: why.clone() };
                let _ = registry.boot.ask(BootEvent(failed)).await;
            }
            result
        };
        context.spawn(work.into_actor(self).map(|result, actor, context| {
            let event = match result {
                Ok(()) => Event::Provisioned,
                Err(why) => {
                    tracing::error!("provisioning failed: {why}");
                    actor.progress.failed(&why);
                    Event::ProvisioningFailed(why)
                }
            };
            actor.apply(event, context);
        }));
    }

    /// For the provisioning: to whom the key is sealed once more. For us: who gives that away, and where it comes from.
    fn recovery(
        &mut self,
        agreed: &mut Agreed,
    ) -> Option<(RecoverySeal, (Answerer, mpsc::Receiver<Recovered>))> {
        let (wish, own) = (agreed.recovery.take()?, agreed.wireguard.private_key.as_ref()?);
        // One key is sealed.
        let (give, keys) = mpsc::channel(1);
        let (kept, waits) = oneshot::channel();
        self.recovery_kept = Some(kept);
        let seal = RecoverySeal { owner: wish.owner, give };
        let answer = recovery::answer(agreed);
        Some((seal, (Answerer::new(wish, own, answer, self.outgoing.clone(), waits), keys)))
    }

    /// A new generation after a panic: the phase says where the node stands.
    pub(super) fn resume(&mut self, context: &mut Context<Self>) {
        match self.registry.facts.node().phase {
            boot::Phase::Enrolling => self.apply(Event::Open, context),
            boot::Phase::Provisioning => self.await_predecessor(context),
            boot::Phase::Starting
            | boot::Phase::Joining
            | boot::Phase::Unlocking
            | boot::Phase::WaitingForPeers
            | boot::Phase::WaitingForOwner
            | boot::Phase::Mounting
            | boot::Phase::StartingServices
            | boot::Phase::Running
            | boot::Phase::Degraded
            | boot::Phase::Rebooting
            | boot::Phase::Leaving
            | boot::Phase::PoweringOff => {}
        }
    }

    /// The unlock actor may still be at work and will tell the boot actor when it succeeds. Only if nothing comes is
    /// the provisioning called failed.
    fn await_predecessor(&self, context: &mut Context<Self>) {
        let registry = self.registry.clone();
        let waited = async move {
            let mut facts = registry.facts.watch();
            let over = facts.wait_for(|node| node.phase != boot::Phase::Provisioning);
            if tokio::time::timeout(PREDECESSOR_PATIENCE, over).await.is_err() {
                let why = "its actor was lost".to_owned();
                let _ = registry.boot.ask(BootEvent(boot::Event::ProvisioningFailed { why })).await;
            }
        };
        context.spawn(waited.into_actor(self));
    }
}

async fn run(
    registry: &Registry,
    agreed: Agreed,
    recovery: Option<RecoverySeal>,
    gateway_url: String,
    progress: mpsc::Sender<String>,
) -> Result<(), String> {
    let Agreed { node_id, address, mut wireguard, keeper, cluster_secret, agent_token, recovery: _ } = agreed;
    let begin = boot::Event::BeginProvisioning { node_id: node_id.clone() };
    match registry.boot.ask(BootEvent(begin)).await {
        Ok(boot::Verdict::Accepted) => {}
        Ok(boot::Verdict::Denied(why)) => return Err(why),
        Ok(boot::Verdict::Ignored) => return Err("the node is not ready for it".into()),
        Err(error) => return Err(format!("boot actor: {error}")),
    }
    let _ = progress.try_send("bringing up wireguard".into());
    let peers = mesh_state::peer_states(&wireguard);
    let listen_port = wireguard.listen_port.unwrap_or(orama_protocol::WIREGUARD_PORT);
    let Some(private_key) = wireguard.private_key.take() else { return Err("no WireGuard key".into()) };
    let setup = NodeSetup {
        node_id,
        address,
        listen_port,
        peers,
        gateway_url,
        agent_token,
        cluster_secret,
        keeper,
        private_key,
        recovery,
    };
    let config = orama_mesh::WgConfig { private_key: Some(copy(&setup)), ..wireguard };
    match registry.wg.ask(BringUp(config)).await {
        Ok(result) => result.map_err(|error| describe(&error))?,
        Err(error) => return Err(format!("wireguard actor: {error}")),
    }
    match registry.unlock.ask(Provision { setup, progress }).await {
        Ok(result) => result.map_err(|error| describe(&error)),
        Err(error) => Err(format!("unlock actor: {error}")),
    }
}

/// The interface needs the key now and the volume keeps it: two owners, each wiping its own.
fn copy(setup: &NodeSetup) -> orama_mesh::PrivateKey {
    orama_mesh::PrivateKey::from_bytes(zeroize::Zeroizing::new(*setup.private_key.expose()))
}
