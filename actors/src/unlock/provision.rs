//! Makes a node's volume: format, open, filesystem, mount, the agent's files, split, store at every guardian, read
//! back, and last the record in the header, which is the commit. Whatever fails before it leaves a node that is not
//! enrolled. Owns the order; each step is a crate's.

use std::net::Ipv4Addr;
use std::sync::Arc;

use futures_util::future::join_all;
use orama_keyshare::lifecycle::Custody;
use orama_keyshare::{
    CombineError, EncodeEnvelopeError, KeyError, ShareSetError, SplitError, Threshold, ThresholdError,
    VolumeKey, secret_name,
};
use orama_mesh::{Ipv4Prefix, PrivateKey};
use orama_protocol::Redacted;
use orama_volume::vault::{AgentToken, Vault, VaultError};
use orama_volume::{
    CloseError, DataVolume, EarlyState, EarlyStateError, FilesystemError, FormatError, MacKey, MountError,
    OpenError, PeerState, PrivateKeyText, Probe, RandomError, WireguardState, WriteStateError,
};
use orama_wallet::{PublicKey, SealError, seal_key};
use tokio::sync::{mpsc, oneshot};

use super::dealt::{SplitFor, deal, read_back, store};
use super::guardian_client::GuardianClient;
use crate::ports::Console;

/// The first split of a volume's key.
const FIRST_GENERATION: u64 = 1;

/// A configuration that was checked, with the node's own secrets. No Debug, no Clone.
pub struct NodeSetup {
    pub node_id: String,
    pub private_key: PrivateKey,
    pub address: Ipv4Prefix,
    pub listen_port: u16,
    pub peers: Vec<PeerState>,
    pub gateway_url: String,
    pub agent_token: AgentToken,
    pub cluster_secret: Redacted,
    pub keeper: Keeper,
    /// The owner wants the key too.
    pub recovery: Option<RecoverySeal>,
}

/// To whom the new key is sealed once more, and who takes it away. On no node it is kept.
pub struct RecoverySeal {
    pub owner: PublicKey,
    pub give: mpsc::Sender<Recovered>,
}

pub struct Recovered {
    /// Text, sealed to the owner's wallet.
    pub sealed_key: String,
    pub volume: [u8; 16],
    /// Whether it is in safe hands; without that nothing is committed.
    pub taken: oneshot::Sender<Result<(), String>>,
}

/// Who keeps the volume key from the start.
pub enum Keeper {
    /// At least three, all different.
    Guardians(Vec<Guardian>),
    /// The owner's: a genesis node has nobody else yet.
    Wallet(PublicKey),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guardian {
    pub node_id: String,
    pub wg_ip: Ipv4Addr,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("{0} guardians")]
    Guardians(usize, #[source] ThresholdError),
    #[error("making the volume key")]
    Key(#[source] KeyError),
    #[error("closing what an earlier attempt left")]
    Leftover(#[source] CloseError),
    #[error("formatting the volume")]
    Format(#[source] FormatError),
    #[error("opening the new volume")]
    Open(#[source] OpenError),
    #[error("making the filesystem")]
    Filesystem(#[source] FilesystemError),
    #[error("mounting the new volume")]
    Mount(#[source] MountError),
    #[error("making the key of the header's record")]
    MacKey(#[source] RandomError),
    #[error("writing the agent's files into the volume")]
    Files(#[source] VaultError),
    #[error("splitting the volume key")]
    Split(#[source] SplitError),
    #[error("packing share {x}")]
    Envelope {
        x: u8,
        #[source]
        source: EncodeEnvelopeError,
    },
    #[error("listing the holders of the shares")]
    ShareSet(#[source] ShareSetError),
    #[error("storing shares: {0}")]
    Store(String),
    #[error("reading the shares back: {0}")]
    ReadBack(String),
    #[error("combining the stored shares")]
    Combine(#[source] CombineError),
    #[error("the stored shares make another key")]
    OtherKey,
    #[error("sealing the volume key to the owner's wallet")]
    Seal(#[source] SealError),
    #[error("the recovery key did not reach the operator: {0}")]
    Recovery(String),
    #[error("the record of enrollment")]
    Record(#[source] EarlyStateError),
    #[error("writing the record of enrollment into the header")]
    Commit(#[source] WriteStateError),
    #[error("a blocking volume call panicked")]
    Panicked,
}

/// Does everything, and closes the volume again when it fails. `progress` takes a step's name at its begin; a
/// receiver that is gone or full misses steps, no more.
pub(super) async fn provision(
    volume: &Arc<dyn DataVolume>,
    console: &dyn Console,
    guardian_port: u16,
    setup: NodeSetup,
    progress: mpsc::Sender<String>,
) -> Result<AgentToken, ProvisionError> {
    let mut work = Work { volume, console, progress, stored: None };
    let client = GuardianClient::new(orama_mesh::identity(&setup.private_key), guardian_port);
    let guardians = setup.keeper.guardians().to_vec();
    let result = work.run(&client, setup).await;
    if result.is_err() {
        if let Some(name) = work.stored {
            // Best effort: shares of a volume that never was are noise, but they count against a limit.
            join_all(guardians.iter().map(|guardian| client.delete(guardian.wg_ip, &name))).await;
        }
        let volume = Arc::clone(volume);
        match tokio::task::spawn_blocking(move || volume.unmount_and_close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("closing the volume: {}", crate::describe(&error)),
            Err(_) => tracing::error!("closing the volume panicked"),
        }
    }
    result
}

impl Keeper {
    fn guardians(&self) -> &[Guardian] {
        match self {
            Self::Guardians(guardians) => guardians,
            Self::Wallet(_) => &[],
        }
    }

    fn plan(&self) -> Result<Plan, ProvisionError> {
        match self {
            Self::Guardians(guardians) => Threshold::for_guardians(guardians.len())
                .map(Plan::Share)
                .map_err(|error| ProvisionError::Guardians(guardians.len(), error)),
            Self::Wallet(owner) => Ok(Plan::Seal(*owner)),
        }
    }
}

/// What is done with the new key.
enum Plan {
    Share(Threshold),
    Seal(PublicKey),
}

/// Where the key is now, as the header will say it.
struct Kept {
    custody: Custody,
    sealed_key: Option<String>,
    /// For the console, once it is true for good.
    said: String,
}

struct Work<'a> {
    volume: &'a Arc<dyn DataVolume>,
    console: &'a dyn Console,
    progress: mpsc::Sender<String>,
    /// The secret's name, once a share may be at a guardian.
    stored: Option<String>,
}

impl Work<'_> {
    async fn run(
        &mut self,
        client: &GuardianClient,
        mut setup: NodeSetup,
    ) -> Result<AgentToken, ProvisionError> {
        let recovery = setup.recovery.take();
        let plan = setup.keeper.plan()?;
        let key = VolumeKey::generate().map_err(ProvisionError::Key)?;

        self.begin("formatting the volume");
        // An attempt that was cut off may have left its volume open; formatting refuses one that is enrolled.
        self.blocking((), |volume, ()| volume.unmount_and_close().map_err(ProvisionError::Leftover)).await?;
        let (key, volume_uuid) =
            self.blocking(key, |volume, key| volume.format(key).map_err(ProvisionError::Format)).await?;
        self.console.line("volume formatted");
        let (key, ()) =
            self.blocking(key, |volume, key| volume.open(key).map_err(ProvisionError::Open)).await?;
        self.console.line("volume open");
        self.begin("making the filesystem");
        let (key, ()) = self.blocking(key, |volume, _| make_filesystem(volume)).await?;
        let mac_key = MacKey::generate().map_err(ProvisionError::MacKey)?;
        let ((setup, mac_key), ()) = self
            .blocking((setup, mac_key), |volume, (setup, mac_key)| write_files(volume, setup, mac_key))
            .await?;

        let sealed = recovery.map(|recovery| {
            let sealed = seal_key(&recovery.owner, key.expose());
            sealed.map(|sealed| (recovery.give, sealed)).map_err(ProvisionError::Seal)
        });
        let sealed = sealed.transpose()?;
        let kept = match plan {
            Plan::Share(threshold) => self.share(client, threshold, volume_uuid, &setup, key).await?,
            Plan::Seal(owner) => self.seal(&owner, key).await?,
        };

        if let Some((give, sealed_key)) = sealed {
            self.begin("giving the recovery key to the operator");
            hand_out(give, sealed_key, volume_uuid).await?;
        }
        self.begin("writing the record of enrollment");
        let said = kept.said.clone();
        let (state, token) = record(setup, volume_uuid, kept)?;
        // From here on the shares stay where they are: a write that fails may have reached the disk all the same.
        self.stored = None;
        self.blocking((state, mac_key), |volume, (state, mac_key)| commit(volume, state, mac_key)).await?;
        self.console.line(&said);
        Ok(token)
    }

    /// Gives every guardian its share, and proves that the stored shares make the key.
    async fn share(
        &mut self,
        client: &GuardianClient,
        threshold: Threshold,
        volume_uuid: [u8; 16],
        setup: &NodeSetup,
        key: VolumeKey,
    ) -> Result<Kept, ProvisionError> {
        self.begin("splitting the key");
        let split_for = SplitFor {
            volume: volume_uuid,
            node_id: &setup.node_id,
            private_key: &setup.private_key,
            generation: FIRST_GENERATION,
        };
        let (set, envelopes) = deal(&key, threshold, &split_for, setup.keeper.guardians())?;
        let name = secret_name(volume_uuid, FIRST_GENERATION);
        self.begin(&format!("storing {} shares", set.n()));
        self.stored = Some(name.clone());
        store(client, &name, &set, &envelopes).await?;
        self.begin("reading the shares back");
        read_back(client, &name, &set, volume_uuid, setup, &key).await?;
        let (k, n) = (set.k(), set.n());
        let said = format!("key split {k} of {n}, generation {FIRST_GENERATION}, stored on {n} guardians");
        Ok(Kept { custody: Custody::shared(set), sealed_key: None, said })
    }

    /// Seals the key to the owner's wallet, and leaves it inside the volume for the first split.
    async fn seal(&self, owner: &PublicKey, key: VolumeKey) -> Result<Kept, ProvisionError> {
        self.begin("sealing the key to the owner's wallet");
        let sealed = seal_key(owner, key.expose()).map_err(ProvisionError::Seal)?;
        self.blocking(key, |volume, key| {
            Vault::at(volume.root()).write_volume_key(key).map_err(ProvisionError::Files)
        })
        .await?;
        let said = format!("key sealed to the owner's wallet {}", owner.address());
        Ok(Kept { custody: Custody::wallet(), sealed_key: Some(sealed), said })
    }

    fn begin(&self, step: &str) {
        tracing::info!("provisioning: {step}");
        let _ = self.progress.try_send(step.to_owned());
    }

    /// Runs a call on a blocking thread and hands the input back with the result.
    async fn blocking<I: Send + 'static, T: Send + 'static>(
        &self,
        input: I,
        call: impl FnOnce(&dyn DataVolume, &I) -> Result<T, ProvisionError> + Send + 'static,
    ) -> Result<(I, T), ProvisionError> {
        let volume = Arc::clone(self.volume);
        let work = move || call(&*volume, &input).map(|output| (input, output));
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(ProvisionError::Panicked))
    }
}

/// Before the commit, so that no enrolled node lacks a recovery key that was asked for.
async fn hand_out(
    give: mpsc::Sender<Recovered>,
    sealed_key: String,
    volume: [u8; 16],
) -> Result<(), ProvisionError> {
    let lost = || ProvisionError::Recovery("nobody takes it".to_owned());
    let (taken, answer) = oneshot::channel();
    give.send(Recovered { sealed_key, volume, taken }).await.map_err(|_| lost())?;
    answer.await.map_err(|_| lost())?.map_err(ProvisionError::Recovery)
}

fn make_filesystem(volume: &dyn DataVolume) -> Result<(), ProvisionError> {
    volume.make_filesystem().map_err(ProvisionError::Filesystem)?;
    volume.mount().map_err(ProvisionError::Mount)
}

fn write_files(volume: &dyn DataVolume, setup: &NodeSetup, mac_key: &MacKey) -> Result<(), ProvisionError> {
    let vault = Vault::at(volume.root());
    let write = || {
        vault.create()?;
        vault.write_mac_key(mac_key)?;
        vault.write_agent_token(&setup.agent_token)?;
        vault.write_cluster_secret(setup.cluster_secret.expose())
    };
    write().map_err(ProvisionError::Files)
}

/// Writes the record. When that fails, the header has the last word on whether it did.
fn commit(volume: &dyn DataVolume, state: &EarlyState, mac_key: &MacKey) -> Result<(), ProvisionError> {
    let Err(error) = volume.write_early_state(state, mac_key) else { return Ok(()) };
    match volume.probe() {
        Ok(Probe::Enrolled { state: found, sealed })
            if found.volume_uuid == state.volume_uuid && sealed.verify(mac_key).is_ok() =>
        {
            tracing::warn!(
                "the record is in the header although writing it failed: {}",
                crate::describe(&error)
            );
            Ok(())
        }
        Ok(_) | Err(_) => Err(ProvisionError::Commit(error)),
    }
}

fn record(
    setup: NodeSetup,
    volume_uuid: [u8; 16],
    kept: Kept,
) -> Result<(EarlyState, AgentToken), ProvisionError> {
    let private_key = PrivateKeyText::new(setup.private_key.to_base64()).map_err(ProvisionError::Record)?;
    let state = EarlyState {
        volume_uuid,
        node_id: setup.node_id,
        wireguard: WireguardState {
            private_key,
            address: setup.address.to_string(),
            listen_port: setup.listen_port,
            peers: named(setup.peers, setup.keeper.guardians()),
        },
        gateway_url: setup.gateway_url,
        agent_token_sha256: setup.agent_token.sha256(),
        peers_revision: 0,
        custody: kept.custody,
        sealed_key: kept.sealed_key,
    };
    Ok((state, setup.agent_token))
}

/// A peer with nothing but a guardian's address is that guardian.
fn named(mut peers: Vec<PeerState>, guardians: &[Guardian]) -> Vec<PeerState> {
    for peer in &mut peers {
        let [address] = peer.allowed_ips.as_slice() else { continue };
        if let Some(guardian) = guardians.iter().find(|g| *address == format!("{}/32", g.wg_ip)) {
            (peer.node_id, peer.guardian) = (Some(guardian.node_id.clone()), true);
        }
    }
    peers
}
