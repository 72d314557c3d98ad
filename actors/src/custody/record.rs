//! The one writer of the header while the volume is open: every token in it is written behind this lock. What it has in memory is what is on the disk: after
//! a write that failed the disk is read again, and what it says is believed only with the volume's own MAC.

use std::sync::Arc;

use orama_keyshare::lifecycle::Custody;
use orama_keyshare::{ShareSet, VolumeKey};
use orama_protocol::peers::PeerList;
use orama_volume::vault::{Vault, VaultError};
use orama_volume::{
    DataVolume, EarlyState, MacKey, MacMismatch, OpenError, PeerState, Probe, ProbeError, WriteStateError,
};
use tokio::sync::Mutex;

use super::PeersProblem;
use super::peers;
use crate::describe;

#[derive(Debug, thiserror::Error)]
pub enum RecordProblem {
    #[error("reading the header")]
    Probe(#[source] ProbeError),
    #[error("the header carries no record of enrollment")]
    NotEnrolled,
    #[error("reading the agent's files in the volume")]
    Files(#[source] VaultError),
    #[error("{0}")]
    Edited(#[source] MacMismatch),
    #[error("writing the header")]
    Write(#[source] WriteStateError),
    #[error("a blocking volume call panicked")]
    Panicked,
}

/// A handle; all clones write one after the other.
#[derive(Clone)]
pub struct Record {
    volume: Arc<dyn DataVolume>,
    /// `None`: what the disk has is not known.
    kept: Arc<Mutex<Option<Kept>>>,
}

struct Kept {
    state: EarlyState,
    mac_key: MacKey,
}

/// What a list of peers changed.
pub(super) struct PeersChange {
    pub before: Vec<PeerState>,
    pub after: Vec<PeerState>,
}

impl Record {
    pub fn new(volume: Arc<dyn DataVolume>) -> Self {
        Self { volume, kept: Arc::default() }
    }

    /// From here on the disk is asked.
    pub(super) async fn forget(&self) {
        *self.kept.lock().await = None;
    }

    /// Lends the volume, its UUID and its MAC key, once the record is found genuine; nobody else writes the header
    /// meanwhile.
    pub(crate) async fn with_key<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn DataVolume, [u8; 16], &MacKey) -> T + Send + 'static,
    ) -> Result<T, RecordProblem> {
        self.blocking(move |volume, kept| {
            let now = take(volume, kept)?;
            let done = work(volume, now.state.volume_uuid, &now.mac_key);
            *kept = Some(now);
            Ok(done)
        })
        .await
    }

    /// Looks at the record.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&EarlyState) -> T + Send + 'static,
    ) -> Result<T, RecordProblem> {
        self.blocking(move |volume, kept| {
            let now = take(volume, kept)?;
            let seen = look(&now.state);
            *kept = Some(now);
            Ok(seen)
        })
        .await
    }

    /// What the disk has, whatever the memory says.
    pub(super) async fn reread(&self) -> Result<Custody, RecordProblem> {
        self.blocking(|volume, kept| {
            *kept = None;
            let now = take(volume, kept)?;
            let custody = now.state.custody.clone();
            *kept = Some(now);
            Ok(custody)
        })
        .await
    }

    /// The sealed key goes with the first split, and so does the copy inside the volume.
    pub(super) async fn write_custody(&self, custody: Custody) -> Result<(), RecordProblem> {
        self.blocking(move |volume, kept| {
            let shared = custody.shares().map(ShareSet::generation);
            change(volume, kept, |state| {
                if shared.is_some() {
                    state.sealed_key = None;
                }
                state.custody = custody;
            })?;
            if let Some(generation) = shared {
                forget_kept_keys(volume, generation);
            }
            Ok(())
        })
        .await
    }

    /// Takes a list of peers; `None` when it is the one that is there already.
    pub(super) async fn write_peers(&self, list: PeerList) -> Result<Option<PeersChange>, PeersProblem> {
        let written = self.blocking(move |volume, kept| {
            let now = take(volume, kept)?;
            let (known, revision) = (now.state.peers_revision, list.revision);
            let merged = peers::merged(&now.state, &list);
            let before = now.state.wireguard.peers.clone();
            *kept = Some(now);
            if revision < known {
                return Ok(Err(PeersProblem::Older { revision, known }));
            }
            if revision == known {
                return Ok(Ok(None));
            }
            let after = match merged {
                Ok(after) => after,
                Err(problem) => return Ok(Err(PeersProblem::List(problem))),
            };
            change(volume, kept, |state| {
                state.wireguard.peers.clone_from(&after);
                state.peers_revision = revision;
            })?;
            Ok(Ok(Some(PeersChange { before, after })))
        });
        written.await.map_err(PeersProblem::Record)?
    }

    /// The key that is kept inside the volume, if it is and if it opens the volume.
    pub(super) async fn kept_key(&self) -> Option<VolumeKey> {
        let key =
            self.blocking(|volume, _| Vault::at(volume.root()).volume_key().map_err(RecordProblem::Files));
        match key.await {
            Ok(key) => self.tested(key?).await,
            Err(error) => {
                tracing::error!("the key kept in the volume: {}", describe(&error));
                None
            }
        }
    }

    /// The key that the owner brought because the split of this generation was no help, if it is still there.
    pub async fn recovered_key(&self, generation: u64) -> Option<VolumeKey> {
        let key = self.blocking(move |volume, _| {
            Vault::at(volume.root()).recovered_key(generation).map_err(RecordProblem::Files)
        });
        match key.await {
            Ok(key) => self.tested(key?).await,
            Err(error) => {
                tracing::error!("the recovered key in the volume: {}", describe(&error));
                None
            }
        }
    }

    /// The key, if it opens the volume.
    pub(super) async fn tested(&self, key: VolumeKey) -> Option<VolumeKey> {
        let volume = Arc::clone(&self.volume);
        let test = tokio::task::spawn_blocking(move || {
            let tested = volume.test_key(&key);
            (key, tested)
        });
        match test.await {
            Ok((key, Ok(()))) => Some(key),
            Ok((_, Err(error @ OpenError::WrongKey { .. }))) => {
                tracing::error!("the gathered key is not the volume's: {error}");
                None
            }
            Ok((_, Err(error))) => {
                tracing::error!("testing the gathered key: {}", describe(&error));
                None
            }
            Err(_) => None,
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn DataVolume, &mut Option<Kept>) -> Result<T, RecordProblem> + Send + 'static,
    ) -> Result<T, RecordProblem> {
        let mut kept = Arc::clone(&self.kept).lock_owned().await;
        let volume = Arc::clone(&self.volume);
        let done = tokio::task::spawn_blocking(move || work(&*volume, &mut kept));
        done.await.unwrap_or(Err(RecordProblem::Panicked))
    }
}

/// Takes the record out of the memory, or from the disk; a panic on the way leaves the memory empty.
fn take(volume: &dyn DataVolume, kept: &mut Option<Kept>) -> Result<Kept, RecordProblem> {
    if let Some(now) = kept.take() {
        return Ok(now);
    }
    let Probe::Enrolled { state, sealed } = volume.probe().map_err(RecordProblem::Probe)? else {
        return Err(RecordProblem::NotEnrolled);
    };
    let mac_key = Vault::at(volume.root()).mac_key().map_err(RecordProblem::Files)?;
    sealed.verify(&mac_key).map_err(RecordProblem::Edited)?;
    if let Some(shares) = state.custody.shares() {
        // Power went between the commit and the removal.
        forget_kept_keys(volume, shares.generation());
    }
    Ok(Kept { state, mac_key })
}

fn change(
    volume: &dyn DataVolume,
    kept: &mut Option<Kept>,
    edit: impl FnOnce(&mut EarlyState),
) -> Result<(), RecordProblem> {
    let mut now = take(volume, kept)?;
    edit(&mut now.state);
    volume.write_early_state(&now.state, &now.mac_key).map_err(RecordProblem::Write)?;
    // Not reached after a failure: the next look reads the disk, which alone knows.
    *kept = Some(now);
    Ok(())
}

/// Those that the split of this generation has made superfluous.
fn forget_kept_keys(volume: &dyn DataVolume, generation: u64) {
    let vault = Vault::at(volume.root());
    for removed in [vault.remove_volume_key(), vault.remove_recovered_key_unless_of(generation)] {
        if let Err(error) = removed {
            tracing::error!("removing a key kept in the volume: {}", describe(&error));
        }
    }
}
