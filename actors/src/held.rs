//! What the node's guardian keeps for others, on the agent's side: given out from the header before the volume is open,
//! changed through the header's one writer once it is. Owns what is in memory of it and what may be done when; its
//! requests are `held/requests.rs`, the socket is `held/socket.rs`.
//!
//! What is kept is replaced in memory when the header has it, and whoever reads never waits for a write. Whoever changes
//! something while the header is written goes into the next write together with all others who came meanwhile.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use orama_protocol::agent::HeldStatus;
use orama_volume::vault::{Vault, VaultError};
use orama_volume::{DataVolume, Held, HoldError, MacKey, MacMismatch, ProbeError, WriteStateError};
use tokio::sync::oneshot;

use crate::custody::{Record, RecordProblem};
use crate::describe;
use crate::ports::Console;
use crate::registry::Registry;
use crate::supervise::lock;

mod requests;
pub mod socket;

/// Why nothing can be changed before the volume is open.
const LOCKED: &str = "the volume of this node is not open yet: its guardian gives the shares that it has, and takes and \
                      deletes none; try again when the node is running";
/// Pause before what failed when the volume was opened is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A handle; all clones see the same.
#[derive(Clone)]
pub struct HeldShares(Arc<Inner>);

struct Inner {
    volume: Arc<dyn DataVolume>,
    record: Record,
    registry: Registry,
    console: Arc<dyn Console>,
    memory: Mutex<Memory>,
    /// Changes that wait for the next write: at most as many as the socket has places, and the agent's own.
    waiting: Mutex<Vec<Waiting>>,
}

/// Says whether there is something to write.
type Edit = Box<dyn FnOnce(&mut Held) -> Result<bool, HoldError> + Send>;

struct Waiting {
    edit: Edit,
    answer: oneshot::Sender<Result<bool, HeldProblem>>,
}

#[derive(Default)]
struct Memory {
    /// `None`: what the header has is not known.
    kept: Option<Kept>,
    /// Counts what became known, so that a slow reader does not put something old into its place.
    epoch: u64,
    /// The guardian has said hello since this agent started.
    greeted: bool,
}

#[derive(Clone)]
struct Kept {
    /// `None`: the header holds nothing.
    held: Option<Arc<Held>>,
    /// Its MAC was found right.
    genuine: bool,
}

#[derive(Debug, thiserror::Error)]
enum HeldProblem {
    #[error("{LOCKED}")]
    Locked,
    #[error(transparent)]
    Hold(HoldError),
    #[error("reading what the header holds")]
    Read(#[source] ProbeError),
    #[error("{0}")]
    Edited(#[source] MacMismatch),
    #[error("writing the header")]
    Write(#[source] Arc<WriteStateError>),
    #[error("the header's record")]
    Record(#[source] RecordProblem),
    #[error("reading the agent's files in the volume")]
    Files(#[source] VaultError),
    #[error("a blocking volume call panicked")]
    Panicked,
    /// The one who wrote for all said why.
    #[error("the header was not written")]
    NotWritten,
}

impl HeldShares {
    pub fn new(
        volume: Arc<dyn DataVolume>,
        record: Record,
        registry: Registry,
        console: Arc<dyn Console>,
    ) -> Self {
        Self(Arc::new(Inner {
            volume,
            record,
            registry,
            console,
            memory: Mutex::default(),
            waiting: Mutex::default(),
        }))
    }

    /// Follows the volume for as long as the agent lives: what was read before it was open is not believed after, and the
    /// operators' digest is made from its token.
    pub async fn follow_volume(self) {
        let mut facts = self.0.registry.facts.watch();
        loop {
            if facts.wait_for(|node| node.volume_ready).await.is_err() {
                return;
            }
            self.keep(None);
            while let Err(error) = self.know_operators().await {
                if !self.is_open() {
                    break;
                }
                tracing::error!("what is held for others: {}", describe(&error));
                tokio::time::sleep(AGAIN).await;
            }
            self.publish();
            if facts.wait_for(|node| !node.volume_ready).await.is_err() {
                return;
            }
            self.publish();
        }
    }

    fn is_open(&self) -> bool {
        self.0.registry.facts.node().volume_ready
    }

    /// What is held, from memory if it is known.
    async fn read<T>(&self, look: impl FnOnce(Option<&Held>) -> T) -> Result<T, HeldProblem> {
        let (kept, epoch) = {
            let memory = lock(&self.0.memory);
            (memory.kept.clone(), memory.epoch)
        };
        if let Some(kept) = kept {
            return Ok(look(kept.held.as_deref()));
        }
        let volume = Arc::clone(&self.0.volume);
        let read = tokio::task::spawn_blocking(move || volume.read_held()).await;
        let read = read.map_err(|_| HeldProblem::Panicked)?.map_err(HeldProblem::Read)?;
        let held = read.map(|(held, _)| Arc::new(held));
        let seen = look(held.as_deref());
        let mut memory = lock(&self.0.memory);
        if memory.epoch == epoch {
            memory.kept = Some(Kept { held, genuine: false });
        }
        Ok(seen)
    }

    /// Changes what is held, if `edit` says that there is something to write; on the disk when it returns.
    async fn change(
        &self,
        edit: impl FnOnce(&mut Held) -> Result<bool, HoldError> + Send + 'static,
    ) -> Result<bool, HeldProblem> {
        if !self.is_open() {
            return Err(HeldProblem::Locked);
        }
        let (answer, answered) = oneshot::channel();
        lock(&self.0.waiting).push(Waiting { edit: Box::new(edit), answer });
        let this = self.clone();
        let turn = self.0.record.with_key(move |volume, uuid, mac_key| {
            let waiting = std::mem::take(&mut *lock(&this.0.waiting));
            this.write_all(waiting, volume, uuid, mac_key)
        });
        match turn.await {
            Ok(written) => written?,
            Err(problem) => {
                // Nobody writes for those who wait behind this one: they are told by the loss of their answer.
                lock(&self.0.waiting).clear();
                return Err(HeldProblem::Record(problem));
            }
        }
        let changed = answered.await.unwrap_or(Err(HeldProblem::NotWritten))?;
        self.publish();
        Ok(changed)
    }

    /// One write for all changes that wait. Called by the header's one writer only.
    fn write_all(
        &self,
        waiting: Vec<Waiting>,
        volume: &dyn DataVolume,
        uuid: [u8; 16],
        mac_key: &MacKey,
    ) -> Result<(), HeldProblem> {
        if waiting.is_empty() {
            return Ok(());
        }
        let mut held = match self.genuine(volume, mac_key)? {
            Some(held) => held.duplicate(),
            None => Held::empty(uuid),
        };
        let mut done = Vec::with_capacity(waiting.len());
        let mut changed = false;
        for Waiting { edit, answer } in waiting {
            let result = edit(&mut held);
            changed |= matches!(result, Ok(true));
            done.push((result, answer));
        }
        let written = match changed {
            true => volume.write_held(&held, mac_key).map_err(Arc::new),
            false => Ok(()),
        };
        if changed {
            // After a failure only the disk knows what it has.
            self.keep(written.is_ok().then(|| Kept { held: Some(Arc::new(held)), genuine: true }));
        }
        for (result, answer) in done {
            let result = match (result, &written) {
                (Ok(true), Err(source)) => Err(HeldProblem::Write(Arc::clone(source))),
                (result, _) => result.map_err(HeldProblem::Hold),
            };
            // Whoever asked may be gone.
            let _ = answer.send(result);
        }
        Ok(())
    }

    /// What is held, its MAC checked. Called by the header's one writer only.
    fn genuine(&self, volume: &dyn DataVolume, mac_key: &MacKey) -> Result<Option<Arc<Held>>, HeldProblem> {
        if let Some(kept) = lock(&self.0.memory).kept.as_ref().filter(|kept| kept.genuine) {
            return Ok(kept.held.clone());
        }
        let held = match volume.read_held().map_err(HeldProblem::Read)? {
            Some((held, sealed)) => {
                sealed.verify(mac_key).map_err(HeldProblem::Edited)?;
                Some(Arc::new(held))
            }
            None => None,
        };
        self.keep(Some(Kept { held: held.clone(), genuine: true }));
        Ok(held)
    }

    fn keep(&self, kept: Option<Kept>) {
        let mut memory = lock(&self.0.memory);
        memory.kept = kept;
        memory.epoch += 1;
    }

    /// The token that operators present is made from the agent's own; its digest must be known at the next boot too.
    async fn know_operators(&self) -> Result<(), HeldProblem> {
        let volume = Arc::clone(&self.0.volume);
        let digest = tokio::task::spawn_blocking(move || {
            Vault::at(volume.root()).agent_token().map(|token| token.operator_sha256())
        });
        let digest = digest.await.map_err(|_| HeldProblem::Panicked)?.map_err(HeldProblem::Files)?;
        self.change(move |held| {
            let known = held.operator_sha256() == Some(&digest);
            held.set_operator_sha256(digest);
            Ok(!known)
        })
        .await?;
        Ok(())
    }

    /// For status: only where there is a guardian.
    fn publish(&self) {
        let memory = lock(&self.0.memory);
        let (Some(kept), true) = (&memory.kept, memory.greeted) else { return };
        let (secrets, owners) = kept.held.as_ref().map_or((0, 0), |held| held.count());
        self.0.registry.facts.set_held(HeldStatus {
            secrets: secrets as u64,
            owners: owners as u64,
            writable: self.is_open(),
        });
    }
}
