//! Opening by the owner: the node gives out a challenge (with the sealed key, while the owner's wallet keeps that), and
//! opens the volume with a key that comes with the owner's signature over it. No signature, no try of a key.

use std::sync::Arc;
use std::time::Instant;

use actix::{ActorFutureExt, AsyncContext, Handler, Message, ResponseActFuture, WrapFuture, fut};
use orama_keyshare::VolumeKey;
use orama_protocol::genesis::GenesisKey;
use orama_protocol::recovery::UnlockChallenge;
use orama_volume::{DataVolume, EarlyState, OpenError, Probe, uuid_text};
use orama_wallet::statement::{Unlock as UnlockStatement, UnlockKind, VolumeId};
use orama_wallet::{Address, Signature, VerifyError};
use tokio::sync::oneshot;

use super::UnlockActor;
use super::challenges::{Challenge, ChallengeError, Challenges, LIFETIME, TooSoon};
use super::gather::{OpenProblem, open_volume};
use super::recovery::Kept;
use crate::boot::BootEvent;
use crate::boot::machine::Event;

/// The wait of one boot.
pub(super) struct OwnerWait {
    state: Arc<EarlyState>,
    /// `None`: guardians have the key, and are being asked.
    sealed_key: Option<String>,
    challenges: Challenges,
    opened: Option<oneshot::Sender<()>>,
}

impl OwnerWait {
    /// With what hears that the volume is open.
    pub fn new(state: Arc<EarlyState>, sealed_key: Option<String>) -> (Self, oneshot::Receiver<()>) {
        let (opened, wait) = oneshot::channel();
        (Self { state, sealed_key, challenges: Challenges::default(), opened: Some(opened) }, wait)
    }

    pub fn stop(&mut self) {
        self.opened = None;
    }
}

/// What the wallet has to open, and a fresh challenge.
#[derive(Debug, Message)]
#[rtype(result = "Result<GenesisKey, OwnerRefusal>")]
pub struct GetGenesisKey;

/// A fresh challenge for the recovery key.
#[derive(Debug, Message)]
#[rtype(result = "Result<UnlockChallenge, OwnerRefusal>")]
pub struct GetChallenge;

/// A key, and the owner's answer to a challenge; opens the volume.
#[derive(Message)]
#[rtype(result = "Result<(), OwnerRefusal>")]
pub struct OwnerUnlock {
    pub key: VolumeKey,
    /// Which statement was signed.
    pub kind: UnlockKind,
    pub answer: Option<(Challenge, Signature)>,
}

#[derive(Debug, thiserror::Error)]
pub enum OwnerRefusal {
    /// In words: who has the key, or that nobody needs it now.
    #[error("{0}")]
    NotWaiting(String),
    #[error(
        "this image names no owner, so nobody's signature can open this node: boot the image that enrolled it"
    )]
    NoOwner,
    #[error(
        "a key needs the owner's signature over a challenge of this node: GET /v1/agent/genesis-key, or /v1/agent/unlock/challenge"
    )]
    NoAnswer,
    #[error(transparent)]
    Challenge(ChallengeError),
    #[error("the answer to the challenge: {0}")]
    Signer(VerifyError),
    #[error("{0}; try again in a second")]
    TooSoon(TooSoon),
    #[error("this is not the key of this volume")]
    WrongKey,
    #[error("the volume does not open: {0}")]
    Open(String),
    #[error("no challenge can be made: {0}")]
    Random(getrandom::Error),
    #[error("the record in the header has a node id that no statement can name")]
    NodeId,
}

impl UnlockActor {
    /// Waits until somebody brings the key.
    pub(super) fn wait_for_owner(
        &mut self,
        state: Arc<EarlyState>,
        sealed_key: String,
    ) -> ResponseActFuture<Self, ()> {
        let (owner_wait, wait) = OwnerWait::new(state, Some(sealed_key));
        let why = match self.settings.owner {
            Some(owner) => format!(
                "waiting for the owner {owner}: orama node unlock --genesis --node-ip <this node's address>, or \
                 --recovery FILE instead of --genesis when it joined through a gateway"
            ),
            None => OwnerRefusal::NoOwner.to_string(),
        };
        if self.registry.boot.tell(BootEvent(Event::WaitingForOwner { why })).is_err() {
            tracing::warn!("the boot actor does not hear that the node waits for its owner");
        }
        self.owner = Some(owner_wait);
        let waiting = async move {
            if wait.await.is_err() {
                // A later order to unlock took this one's place: whoever gave it is gone.
                std::future::pending::<()>().await;
            }
        };
        Box::pin(waiting.into_actor(self))
    }

    fn genesis_key(&mut self) -> Result<Option<GenesisKey>, OwnerRefusal> {
        let sealed = self.owner.as_ref().and_then(|wait| wait.sealed_key.clone());
        let (Some(sealed_key), Some(given)) = (sealed, self.challenge(UnlockKind::Genesis)?) else {
            return Ok(None);
        };
        let UnlockChallenge { challenge, node_id, volume, expires_seconds } = given;
        Ok(Some(GenesisKey { sealed_key, challenge, node_id, volume, expires_seconds }))
    }

    fn challenge(&mut self, kind: UnlockKind) -> Result<Option<UnlockChallenge>, OwnerRefusal> {
        let Some(wait) = self.waiting(kind) else { return Ok(None) };
        let mut challenge = Challenge::default();
        getrandom::fill(&mut challenge).map_err(OwnerRefusal::Random)?;
        wait.challenges.give(challenge, Instant::now());
        Ok(Some(UnlockChallenge {
            challenge: challenge.iter().map(|byte| format!("{byte:02x}")).collect(),
            node_id: wait.state.node_id.clone(),
            volume: uuid_text(wait.state.volume_uuid),
            expires_seconds: LIFETIME.as_secs(),
        }))
    }

    /// The wait that this kind of key ends: the recovery key every one, the genesis key only where it still is the key.
    fn waiting(&mut self, kind: UnlockKind) -> Option<&mut OwnerWait> {
        let wait = self.owner.as_mut().filter(|wait| wait.opened.is_some())?;
        (kind == UnlockKind::Recovery || wait.sealed_key.is_some()).then_some(wait)
    }

    /// Everything that can be judged without the disk. `None`: the node waits for nobody.
    fn admit(&mut self, message: &OwnerUnlock) -> Result<Option<()>, OwnerRefusal> {
        let owner = self.settings.owner;
        let Some(wait) = self.waiting(message.kind) else { return Ok(None) };
        let owner: Address = owner.ok_or(OwnerRefusal::NoOwner)?;
        let (challenge, signature) = message.answer.ok_or(OwnerRefusal::NoAnswer)?;
        let now = Instant::now();
        wait.challenges.may_try(now).map_err(OwnerRefusal::TooSoon)?;
        wait.challenges.take(&challenge, now).map_err(OwnerRefusal::Challenge)?;
        let statement = UnlockStatement {
            kind: message.kind,
            node: wait.state.node_id.parse().map_err(|_| OwnerRefusal::NodeId)?,
            volume: VolumeId::from_bytes(wait.state.volume_uuid),
            challenge,
        };
        signature.verify(&statement.to_string(), &owner).map_err(OwnerRefusal::Signer)?;
        wait.challenges.begin_try();
        Ok(Some(()))
    }

    fn tried(&mut self, result: Result<VolumeKey, OpenProblem>) -> Result<(), OwnerRefusal> {
        let Some(wait) = self.owner.as_mut() else { return Ok(()) };
        wait.challenges.tried(Instant::now());
        match result {
            Ok(key) => {
                if let Some(shares) = wait.state.custody.shares() {
                    self.console.line("the owner opens the volume with the recovery key");
                    self.recovered = Some(Kept { key, generation: shares.generation() });
                }
                self.console.line("volume open");
                // Nobody waits when the node is on its way down; the volume is closed then as always.
                if let Some(opened) = wait.opened.take() {
                    let _ = opened.send(());
                }
                Ok(())
            }
            Err(OpenProblem::Open(OpenError::WrongKey { .. })) => {
                tracing::warn!("the owner signed, but the key that came with it is not this volume's");
                Err(OwnerRefusal::WrongKey)
            }
            Err(problem) => Err(OwnerRefusal::Open(crate::describe(&problem))),
        }
    }

    /// Why the node waits for nobody: what the header says now.
    fn not_waiting(&self, kind: UnlockKind) -> ResponseActFuture<Self, OwnerRefusal> {
        let volume = Arc::clone(&self.volume);
        let read = tokio::task::spawn_blocking(move || why_not(&*volume, kind));
        Box::pin(read.into_actor(self).map(|why, _, _| {
            OwnerRefusal::NotWaiting(why.unwrap_or_else(|_| "the node does not wait for its owner".into()))
        }))
    }
}

fn why_not(volume: &dyn DataVolume, kind: UnlockKind) -> String {
    match volume.probe() {
        Ok(Probe::Enrolled { state, .. }) => match state.custody.shares() {
            _ if kind == UnlockKind::Recovery => "not needed now: the volume is open, or about to be".into(),
            Some(shares) => format!("no longer needed: the key is with {} guardians", shares.n()),
            None => "not needed now: the volume is open, or about to be".into(),
        },
        Ok(Probe::Blank | Probe::Unfinished { .. } | Probe::Leaving) => "the node is not enrolled".into(),
        Err(error) => format!("the header cannot be read: {}", crate::describe(&error)),
    }
}

impl Handler<GetGenesisKey> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<GenesisKey, OwnerRefusal>>;

    fn handle(&mut self, _: GetGenesisKey, _: &mut Self::Context) -> Self::Result {
        match self.genesis_key() {
            Ok(Some(key)) => Box::pin(fut::ready(Ok(key))),
            Ok(None) => Box::pin(self.not_waiting(UnlockKind::Genesis).map(|refusal, _, _| Err(refusal))),
            Err(refusal) => Box::pin(fut::ready(Err(refusal))),
        }
    }
}

impl Handler<GetChallenge> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<UnlockChallenge, OwnerRefusal>>;

    fn handle(&mut self, _: GetChallenge, _: &mut Self::Context) -> Self::Result {
        match self.challenge(UnlockKind::Recovery) {
            Ok(Some(challenge)) => Box::pin(fut::ready(Ok(challenge))),
            Ok(None) => Box::pin(self.not_waiting(UnlockKind::Recovery).map(|refusal, _, _| Err(refusal))),
            Err(refusal) => Box::pin(fut::ready(Err(refusal))),
        }
    }
}

impl Handler<OwnerUnlock> for UnlockActor {
    type Result = ResponseActFuture<Self, Result<(), OwnerRefusal>>;

    fn handle(&mut self, message: OwnerUnlock, context: &mut Self::Context) -> Self::Result {
        match self.admit(&message) {
            Err(refusal) => {
                tracing::warn!("an unlock was refused: {refusal}");
                Box::pin(fut::ready(Err(refusal)))
            }
            Ok(None) => Box::pin(self.not_waiting(message.kind).map(|refusal, _, _| Err(refusal))),
            Ok(Some(())) => {
                let (volume, opening) = (Arc::clone(&self.volume), Arc::clone(&self.opening));
                let (answer, result) = oneshot::channel();
                // The try belongs to the actor, not to the request: one that is given up must not leave it "trying".
                let tried = async move { open_volume(&volume, &opening, message.key).await };
                context.spawn(tried.into_actor(self).map(|result, actor, _| {
                    // A client that is gone hears it from the status.
                    let _ = answer.send(actor.tried(result));
                }));
                let lost = || Err(OwnerRefusal::Open("its actor was lost".into()));
                Box::pin(async move { result.await.unwrap_or_else(|_| lost()) }.into_actor(self))
            }
        }
    }
}
