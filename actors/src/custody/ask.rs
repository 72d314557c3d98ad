//! What is asked of guardians for the machine of a key's life. Every question ends within the client's time limit,
//! so every action is answered.

use std::rc::Rc;
use std::time::Duration;

use futures_util::StreamExt;
use orama_keyshare::collector::{Collector, Refusal};
use orama_keyshare::lifecycle::{Answer, Custody, Guardian};
use orama_keyshare::{VolumeKey, secret_name};
use orama_protocol::guardian::Presence;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::unlock::{Encoded, GuardianClient, ask_all};

/// Guardians asked at a time: each question is three connections, and a split has at most 255 guardians.
const PARALLEL: usize = 32;
/// Most secrets that one sweep deletes at a guardian, which allows 120 requests a minute; the next sweep goes on.
const SWEPT_MAX: usize = 16;

#[derive(Clone)]
pub(super) struct Asker {
    client: GuardianClient,
    turns: Rc<Semaphore>,
    volume: [u8; 16],
}

impl Asker {
    pub fn new(client: GuardianClient, volume: [u8; 16]) -> Self {
        Self { client, turns: Rc::new(Semaphore::new(PARALLEL)), volume }
    }

    /// The key from the holders of the current split, not yet tested; ends at the first moment when there are enough
    /// good shares.
    pub async fn gather(&self, mut collector: Collector) -> Option<VolumeKey> {
        let name = secret_name(self.volume, collector.set().generation());
        let open = collector.ask_again();
        let mut asks = ask_all(&self.client, &name, &collector, &open);
        while let Some((index, answer)) = asks.next().await {
            if let Err(error) = collector.answer(index, answer) {
                tracing::error!("answer of an unknown guardian: {error}");
            }
            if let Some(key) = collector.key() {
                return key.inspect_err(|error| tracing::error!("combining the shares: {error}")).ok();
            }
        }
        tracing::warn!("gathering the volume key for a new split: {}", collector.describe());
        None
    }

    pub async fn put(&self, generation: u64, guardian: &Guardian, envelope: &Encoded) -> Answer {
        let _turn = self.turns.acquire().await;
        let name = secret_name(self.volume, generation);
        let put = self.client.put(guardian.wg_ip, &name, generation, envelope).await;
        judged(guardian, "storing a share", put.map(drop))
    }

    pub async fn get(&self, generation: u64, guardian: &Guardian) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let _turn = self.turns.acquire().await;
        self.client.get(guardian.wg_ip, &secret_name(self.volume, generation)).await
    }

    /// Tells a guardian that its owner is there or goes down for a while. False when it does not know of such things.
    pub async fn show(&self, guardian: &Guardian, presence: Presence) -> Result<bool, Refusal> {
        let _turn = self.turns.acquire().await;
        self.client.show(guardian.wg_ip, presence).await
    }

    /// Deletes what the custody calls obsolete.
    pub async fn sweep(&self, guardian: &Guardian, custody: &Custody) -> Answer {
        let _turn = self.turns.acquire().await;
        let mut obsolete = match self.generations(guardian).await {
            Ok(generations) => generations,
            Err(refusal) => return judged(guardian, "listing shares", Err(refusal)),
        };
        obsolete.retain(|generation| custody.is_obsolete(*generation));
        for generation in obsolete.iter().take(SWEPT_MAX) {
            let deleted = self.client.delete(guardian.wg_ip, &secret_name(self.volume, *generation)).await;
            let answer = judged(guardian, "deleting an old share", deleted);
            if answer != Answer::Good {
                return answer;
            }
        }
        if obsolete.len() > SWEPT_MAX { Answer::Silent } else { Answer::Good }
    }

    /// Deletes all shares of the volume's key, the newest first.
    pub async fn delete_all(&self, guardian: &Guardian) -> Result<(), Refusal> {
        let _turn = self.turns.acquire().await;
        let mut generations = self.generations(guardian).await?;
        generations.sort_unstable();
        for generation in generations.into_iter().rev() {
            self.client.delete(guardian.wg_ip, &secret_name(self.volume, generation)).await?;
        }
        Ok(())
    }

    /// Waits until no guardian is asked anything, but no longer than this.
    pub async fn until_idle(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.turns.acquire_many(PARALLEL as u32)).await;
    }

    /// Generations of this volume's key that the guardian has shares of.
    async fn generations(&self, guardian: &Guardian) -> Result<Vec<u64>, Refusal> {
        let prefix = secret_name(self.volume, 0);
        let prefix = prefix.trim_end_matches('0');
        let names = self.client.list(guardian.wg_ip).await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(prefix)?.parse().ok()).collect())
    }
}

fn judged(guardian: &Guardian, what: &str, result: Result<(), Refusal>) -> Answer {
    match result {
        Ok(()) => Answer::Good,
        Err(Refusal::TimedOut | Refusal::Unreachable(_)) => Answer::Silent,
        Err(Refusal::NoShare) => Answer::Bad,
        Err(Refusal::Refused(text) | Refusal::HeldDown { text, .. } | Refusal::Malformed(text)) => {
            let text = orama_keyshare::printable(&text);
            tracing::warn!("{what} at {}: {text}", guardian.node_id);
            Answer::Bad
        }
    }
}
