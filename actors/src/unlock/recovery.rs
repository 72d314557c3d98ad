//! The recovery key: the owner opens a node with it while guardians are waited for in vain, and the key that came so is
//! left in the volume until it is split anew. And for the first node of a cluster: where the operator gets it from.

use std::sync::Arc;

use actix::{ActorFutureExt, Handler, Message, ResponseActFuture, WrapFuture};
use orama_keyshare::VolumeKey;
use orama_protocol::recovery::RecoveryKey;
use orama_volume::{DataVolume, EarlyState, Probe, uuid_text};

use super::UnlockActor;
use super::owner::{OwnerRefusal, OwnerWait};

/// A key that the owner brought, and the generation of the split that was no help.
pub(super) struct Kept {
    pub key: VolumeKey,
    pub generation: u64,
}

/// What the header keeps for the owner's wallet, also while the volume is open.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Result<RecoveryKey, OwnerRefusal>")]
pub struct GetRecoveryKey;

impl UnlockActor {
    /// Lets the owner open the volume while guardians are asked; ends when that happened, and else never.
    pub(super) fn await_recovery(&mut self, state: Arc<EarlyState>) -> impl Future<Output = ()> + 'static {
        let (wait, opened) = OwnerWait::new(state, None);
        self.owner = Some(wait);
        async move {
            if opened.await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The volume is open, whoever opened it.
    pub(super) fn stop_waiting(&mut self) {
        if let Some(wait) = self.owner.as_mut() {
            wait.stop();
        }
    }
}

fn read(volume: &dyn DataVolume) -> Result<RecoveryKey, OwnerRefusal> {
    let state = match volume.probe() {
        Ok(Probe::Enrolled { state, .. }) => state,
        Ok(Probe::Blank | Probe::Unfinished { .. } | Probe::Leaving) => {
            return Err(OwnerRefusal::NotWaiting("the node is not enrolled".into()));
        }
        Err(error) => return Err(OwnerRefusal::Open(crate::describe(&error))),
    };
    let (node_id, volume) = (state.node_id, uuid_text(state.volume_uuid));
    match state.sealed_key {
        Some(sealed_key) => Ok(RecoveryKey { sealed_key, node_id, volume }),
        None => Err(OwnerRefusal::NotWaiting(
            "the key is with guardians; a recovery key is made when a node enrols: orama node enroll --recovery"
                .into(),
        )),
    }
}

impl Handler<GetRecoveryKey> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<RecoveryKey, OwnerRefusal>>;

    fn handle(&mut self, _: GetRecoveryKey, _: &mut Self::Context) -> Self::Result {
        let volume = Arc::clone(&self.volume);
        let read = tokio::task::spawn_blocking(move || read(&*volume));
        let lost = || Err(OwnerRefusal::Open("a blocking volume call panicked".into()));
        Box::pin(read.into_actor(self).map(move |result, _, _| result.unwrap_or_else(|_| lost())))
    }
}
