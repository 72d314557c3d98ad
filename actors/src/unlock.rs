//! UnlockActor: everything that is done with the volume key. Provisions a new volume, opens an enrolled one with
//! shares from guardians, mounts it and checks its early state, closes it. Volume calls block and run on blocking
//! threads. Decides no phase: it tells the boot actor what happens.

use std::sync::Arc;

use actix::{Actor, ActorFutureExt, Context, Handler, Message, ResponseActFuture, WrapFuture};
use orama_volume::vault::{AgentToken, Vault, VaultError};
use orama_volume::{
    CloseError, DataVolume, EarlyState, MacKey, MacMismatch, MountError, ProbeError, SealedRecord,
};
use orama_wallet::Address;
use tokio::sync::{Mutex, mpsc};

use crate::boot::BootEvent;
use crate::boot::machine::Event;
use crate::facts::{ApiToken, Identity, Scope};
use crate::ports::Console;
use crate::registry::Registry;

mod ahead;
mod challenges;
mod comeback;
mod dealt;
mod gather;
mod guardian_client;
mod machine;
mod owner;
mod provision;
mod recovery;

pub(crate) use dealt::{Encoded, SplitFor, deal};
pub(crate) use gather::ask_all;
pub use guardian_client::{GUARDIAN_TIMEOUT, GuardianClient};
pub use owner::{GetChallenge, GetGenesisKey, OwnerRefusal, OwnerUnlock};
pub use provision::{Guardian, Keeper, NodeSetup, ProvisionError, Recovered, RecoverySeal};
pub use recovery::GetRecoveryKey;

pub struct UnlockActor {
    pub(crate) registry: Registry,
    pub(crate) volume: Arc<dyn DataVolume>,
    pub(crate) console: Arc<dyn Console>,
    pub(crate) settings: UnlockSettings,
    /// While the node waits for somebody's shares or for its owner, and after.
    owner: Option<owner::OwnerWait>,
    /// A key that the owner brought although guardians have it: for the custody actor, once the volume is mounted.
    recovered: Option<recovery::Kept>,
    /// One opening at a time: the owner may bring the key while enough guardians answer.
    opening: Arc<Mutex<()>>,
}

#[derive(Clone, Copy, Debug)]
pub struct UnlockSettings {
    /// TCP port on which every guardian listens, on its overlay address.
    pub guardian_port: u16,
    /// Address of the owner's wallet, from the verified image.
    pub owner: Option<Address>,
}

/// Gathers shares and opens the volume, for as long as it takes. Progress goes to the boot actor and the facts.
#[derive(Clone, Message)]
#[rtype(result = "()")]
pub struct Unlock {
    pub state: Arc<EarlyState>,
}

/// Mounts the open volume, checks the header's record against the key inside, and takes the API token from it.
#[derive(Clone, Message)]
#[rtype(result = "Result<(), MountProblem>")]
pub struct Mount {
    pub sealed: Arc<SealedRecord>,
}

/// Makes the volume of a new node and enrols it. Answered when the record of enrollment is on the disk; what failed
/// before that left the node as it was, with the volume closed.
#[derive(Message)]
#[rtype(result = "Result<(), ProvisionError>")]
pub struct Provision {
    pub setup: NodeSetup,
    /// Takes the name of each step at its begin.
    pub progress: mpsc::Sender<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum MountProblem {
    #[error("mounting the volume")]
    Mount(#[source] MountError),
    #[error("reading the agent's files in the volume")]
    Files(#[source] VaultError),
    #[error("{0}")]
    Edited(#[source] MacMismatch),
    /// Something else than this node wrote it.
    #[error("what the header holds for others")]
    HeldEdited(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("reading what the header holds for others")]
    Held(#[source] ProbeError),
    #[error("a blocking volume call panicked")]
    Panicked,
}

/// Unmounts and closes the volume; fine when it is not open.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<(), CloseProblem>")]
pub struct Close;

#[derive(Debug, thiserror::Error)]
pub enum CloseProblem {
    #[error("closing the volume")]
    Close(#[source] CloseError),
    #[error("a blocking volume call panicked")]
    Panicked,
}

impl UnlockActor {
    pub fn new(
        registry: Registry,
        volume: Arc<dyn DataVolume>,
        console: Arc<dyn Console>,
        settings: UnlockSettings,
    ) -> Self {
        Self { registry, volume, console, settings, owner: None, recovered: None, opening: Arc::default() }
    }
}

impl Actor for UnlockActor {
    type Context = Context<Self>;
}

impl Handler<Unlock> for UnlockActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, Unlock { state }: Unlock, _: &mut Self::Context) -> Self::Result {
        if let Some(sealed_key) = state.sealed_key.clone() {
            return self.wait_for_owner(state, sealed_key);
        }
        let gathering = gather::Gathering {
            registry: self.registry.clone(),
            volume: Arc::clone(&self.volume),
            console: Arc::clone(&self.console),
            guardian_port: self.settings.guardian_port,
            opening: Arc::clone(&self.opening),
        };
        let recovered = self.await_recovery(Arc::clone(&state));
        let opened = async move {
            tokio::select! {
                () = gathering.run(&state) => {}
                () = recovered => {}
            }
        };
        Box::pin(opened.into_actor(self).map(|(), actor, _| actor.stop_waiting()))
    }
}

impl Handler<Mount> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<(), MountProblem>>;

    fn handle(&mut self, Mount { sealed }: Mount, _: &mut Self::Context) -> Self::Result {
        let volume = Arc::clone(&self.volume);
        let recovered = self.recovered.take();
        let mounted = tokio::task::spawn_blocking(move || {
            let mounted = mount(&*volume, &sealed, recovered.as_ref());
            (mounted, recovered)
        });
        Box::pin(mounted.into_actor(self).map(|result, actor, _| {
            let (result, recovered) = result.unwrap_or((Err(MountProblem::Panicked), None));
            let (token, genuine) = result.inspect_err(|_| actor.recovered = recovered)?;
            // Also when the header was edited: this token is the volume's own, and somebody must be able to ask
            // the node why it stands still.
            actor.take_token(&token);
            genuine?;
            actor.registry.facts.set_volume_ready(true);
            Ok(())
        }))
    }
}

impl Handler<Provision> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<(), ProvisionError>>;

    fn handle(&mut self, Provision { setup, progress }: Provision, _: &mut Self::Context) -> Self::Result {
        let (volume, console) = (Arc::clone(&self.volume), Arc::clone(&self.console));
        let port = self.settings.guardian_port;
        let identity = Identity { node_id: setup.node_id.clone(), wg_ip: setup.address.address() };
        let work = async move { provision::provision(&volume, &*console, port, setup, progress).await };
        Box::pin(work.into_actor(self).map(|result, actor, _| {
            let token = result?;
            actor.registry.facts.set_identity(identity);
            actor.take_token(&token);
            actor.registry.facts.set_enrolled_now();
            actor.registry.facts.set_volume_ready(true);
            // Said from here and not by whoever asked: the node is enrolled now even if the asker is gone.
            let _ = actor.registry.boot.tell(BootEvent(Event::Provisioned));
            Ok(())
        }))
    }
}

impl Handler<Close> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<(), CloseProblem>>;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        self.registry.facts.set_volume_ready(false);
        let volume = Arc::clone(&self.volume);
        let closed = tokio::task::spawn_blocking(move || volume.unmount_and_close());
        Box::pin(closed.into_actor(self).map(|result, _, _| match result {
            Ok(result) => result.map_err(CloseProblem::Close),
            Err(_) => Err(CloseProblem::Panicked),
        }))
    }
}

impl UnlockActor {
    fn take_token(&self, token: &AgentToken) {
        self.registry.facts.set_api_token(ApiToken { digest: token.sha256(), scope: Scope::Full });
    }
}

/// Mounts, then judges the header by the key inside the volume. A key that the owner brought is left there for the next
/// split: power may go before it is made.
fn mount(
    volume: &dyn DataVolume,
    sealed: &SealedRecord,
    recovered: Option<&recovery::Kept>,
) -> Result<(AgentToken, Result<(), MountProblem>), MountProblem> {
    volume.mount().map_err(MountProblem::Mount)?;
    let vault = Vault::at(volume.root());
    let mac_key = vault.mac_key().map_err(MountProblem::Files)?;
    let genuine = sealed.verify(&mac_key).map_err(MountProblem::Edited);
    let token = vault.agent_token().map_err(MountProblem::Files)?;
    let genuine = genuine.and_then(|()| held_is_genuine(volume, &mac_key));
    if let (Some(kept), Ok(())) = (recovered, &genuine) {
        vault.write_recovered_key(&kept.key, kept.generation).map_err(MountProblem::Files)?;
    }
    Ok((token, genuine))
}

/// The same for what the guardian has given out until now.
fn held_is_genuine(volume: &dyn DataVolume, mac_key: &MacKey) -> Result<(), MountProblem> {
    match volume.read_held() {
        Ok(None) => Ok(()),
        Ok(Some((_, sealed))) => {
            sealed.verify(mac_key).map_err(|mismatch| MountProblem::HeldEdited(mismatch.into()))
        }
        Err(ProbeError::Damaged { source, .. }) => Err(MountProblem::HeldEdited(source.into())),
        Err(error @ (ProbeError::Read { .. } | ProbeError::Export { .. })) => Err(MountProblem::Held(error)),
    }
}
