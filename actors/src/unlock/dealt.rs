//! One split of a key: dealt to guardians, stored at each, read back and proven to make the key. The first one is stored
//! from here; later ones by the custody actor.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use orama_keyshare::collector::{Collector, Refusal};
use orama_keyshare::{Digest, Envelope, Holder, ShareSeal, ShareSet, Threshold, VolumeKey, digest, split};
use orama_mesh::PrivateKey;
use zeroize::Zeroizing;

use super::gather::ask_all;
use super::guardian_client::GuardianClient;
use super::provision::{Guardian, NodeSetup, ProvisionError};

/// How often a guardian that is not reached is asked to store its share, and the pause between.
const STORE_ATTEMPTS: u32 = 4;
const STORE_AGAIN: Duration = Duration::from_secs(2);

pub(crate) type Encoded = Zeroizing<Vec<u8>>;

/// Whose key is split, and which split it is.
pub(crate) struct SplitFor<'a> {
    pub volume: [u8; 16],
    pub node_id: &'a str,
    /// Shares are sealed to it.
    pub private_key: &'a PrivateKey,
    pub generation: u64,
}

/// One envelope per guardian, in the guardians' order, and the record of who holds which.
pub(crate) fn deal(
    key: &VolumeKey,
    threshold: Threshold,
    of: &SplitFor<'_>,
    guardians: &[Guardian],
) -> Result<(ShareSet, Vec<Encoded>), ProvisionError> {
    let mut holders = Vec::with_capacity(guardians.len());
    let mut envelopes = Vec::with_capacity(guardians.len());
    let seal = ShareSeal::new(of.private_key.expose(), of.volume);
    let shares = split(key, threshold).map_err(ProvisionError::Split)?;
    for (guardian, share) in guardians.iter().zip(shares) {
        let x = share.x();
        let (volume, node_id, generation) = (of.volume, of.node_id.to_owned(), of.generation);
        let envelope = Envelope { volume, node_id, generation, threshold, share };
        let encoded =
            envelope.encode_sealed(&seal).map_err(|source| ProvisionError::Envelope { x, source })?;
        let digest = Digest(digest(&encoded));
        holders.push(Holder { node_id: guardian.node_id.clone(), wg_ip: guardian.wg_ip, x, digest });
        envelopes.push(encoded);
    }
    let set = ShareSet::new(of.generation, threshold, holders).map_err(ProvisionError::ShareSet)?;
    Ok((set, envelopes))
}

/// All of them, in parallel: a guardian that has no share from the start would be a silent loss of redundancy. One that
/// is not reached is asked again a few times: its side of the mesh may learn of us a moment after the operator's.
pub(super) async fn store(
    client: &GuardianClient,
    name: &str,
    set: &ShareSet,
    envelopes: &[Encoded],
) -> Result<(), ProvisionError> {
    let puts = set.holders().iter().zip(envelopes).map(|(holder, envelope)| async move {
        let stored = store_one(client, name, set.generation(), holder, envelope).await;
        stored.map_err(|refusal| format!("{} {refusal}", holder.node_id))
    });
    let failures: Vec<_> = join_all(puts).await.into_iter().filter_map(Result::err).collect();
    if failures.is_empty() { Ok(()) } else { Err(ProvisionError::Store(failures.join("; "))) }
}

async fn store_one(
    client: &GuardianClient,
    name: &str,
    version: u64,
    holder: &Holder,
    envelope: &Encoded,
) -> Result<(), Refusal> {
    let mut unheard = false;
    for attempt in 1.. {
        match client.put(holder.wg_ip, name, version, envelope).await {
            Ok(()) => return Ok(()),
            // A version that is there already: stored by an attempt whose answer was lost. Reading back decides.
            Err(Refusal::Refused(_)) if unheard => return Ok(()),
            Err(Refusal::TimedOut | Refusal::Unreachable(_)) if attempt < STORE_ATTEMPTS => unheard = true,
            Err(refusal) => return Err(refusal),
        }
        tokio::time::sleep(STORE_AGAIN).await;
    }
    Err(Refusal::TimedOut)
}

pub(super) async fn read_back(
    client: &GuardianClient,
    name: &str,
    set: &ShareSet,
    volume: [u8; 16],
    setup: &NodeSetup,
    key: &VolumeKey,
) -> Result<(), ProvisionError> {
    let seal = ShareSeal::new(setup.private_key.expose(), volume);
    let mut collector = Collector::new(set.clone(), volume, setup.node_id.clone()).sealed_to(seal);
    let everyone = collector.ask_again();
    let mut asks = ask_all(client, name, &collector, &everyone);
    while let Some((index, answer)) = asks.next().await {
        let judged = collector.answer(index, answer);
        judged.map_err(|error| ProvisionError::ReadBack(error.to_string()))?;
    }
    if collector.good() != set.n() {
        return Err(ProvisionError::ReadBack(collector.describe()));
    }
    let combined = match collector.key() {
        Some(combined) => combined.map_err(ProvisionError::Combine)?,
        None => return Err(ProvisionError::ReadBack(collector.describe())),
    };
    if combined.matches(key) { Ok(()) } else { Err(ProvisionError::OtherKey) }
}
