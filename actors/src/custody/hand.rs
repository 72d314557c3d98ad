//! What the actor holds of a key while a new split is under way: the key, the envelopes, the answers read back. All
//! of it is wiped when the machine says so, and when the actor goes. Asks nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use orama_keyshare::collector::{Collector, Refusal, Verdict};
use orama_keyshare::lifecycle::{Answer, Guardian};
use orama_keyshare::{ShareSeal, ShareSet, Threshold, VolumeKey};
use orama_mesh::PrivateKey;
use zeroize::Zeroizing;

use crate::describe;
use crate::unlock::{self, Encoded, SplitFor, deal};

/// Whose key it is.
pub(super) struct Owner {
    pub volume: [u8; 16],
    pub node_id: String,
    pub private_key: PrivateKey,
}

impl Owner {
    /// Takes the shares of this split, opened with the owner's key.
    pub fn collector(&self, set: ShareSet) -> Collector {
        let seal = ShareSeal::new(self.private_key.expose(), self.volume);
        Collector::new(set, self.volume, self.node_id.clone()).sealed_to(seal)
    }
}

/// No Debug, no Clone.
#[derive(Default)]
pub(super) struct Hand {
    pub key: Option<VolumeKey>,
    envelopes: BTreeMap<Guardian, Rc<Encoded>>,
    reading: Option<Collector>,
}

impl Hand {
    /// Splits the key; `None` when that is not possible.
    pub fn deal(&mut self, owner: &Owner, generation: u64, to: &BTreeSet<Guardian>) -> Option<ShareSet> {
        let key = self.key.as_ref()?;
        let threshold = Threshold::for_guardians(to.len()).ok()?;
        let guardians: Vec<_> = to.iter().map(named).collect();
        let (volume, node_id) = (owner.volume, owner.node_id.as_str());
        let split = SplitFor { volume, node_id, private_key: &owner.private_key, generation };
        match deal(key, threshold, &split, &guardians) {
            Ok((set, envelopes)) => {
                self.envelopes = to.iter().cloned().zip(envelopes.into_iter().map(Rc::new)).collect();
                self.reading = Some(owner.collector(set.clone()));
                Some(set)
            }
            Err(error) => {
                tracing::error!("splitting the volume key: {}", describe(&error));
                None
            }
        }
    }

    pub fn envelope(&self, guardian: &Guardian) -> Option<Rc<Encoded>> {
        self.envelopes.get(guardian).cloned()
    }

    /// What a guardian gave back, judged by its digest.
    pub fn judge(
        &mut self,
        generation: u64,
        guardian: &Guardian,
        given: Result<Zeroizing<Vec<u8>>, Refusal>,
    ) -> Answer {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.set().generation() == generation)
        else {
            return Answer::Silent;
        };
        if matches!(given, Err(Refusal::TimedOut | Refusal::Unreachable(_))) {
            return Answer::Silent;
        }
        let place = reading.set().holders().iter().position(|holder| Guardian::from(holder) == *guardian);
        match place.and_then(|index| reading.answer(index, given).ok()) {
            Some(Verdict::Good) => Answer::Good,
            Some(verdict) => {
                tracing::warn!("{} {verdict}", guardian.node_id);
                Answer::Bad
            }
            None => Answer::Bad,
        }
    }

    /// Whether the shares that were read back make the gathered key.
    pub fn same_key(&self, generation: u64) -> bool {
        let reading = self.reading.as_ref().filter(|reading| reading.set().generation() == generation);
        match (&self.key, reading.and_then(Collector::key)) {
            (Some(key), Some(Ok(read))) => key.matches(&read),
            (None, _) | (_, None | Some(Err(_))) => false,
        }
    }
}

fn named(guardian: &Guardian) -> unlock::Guardian {
    unlock::Guardian { node_id: guardian.node_id.clone(), wg_ip: guardian.wg_ip }
}
