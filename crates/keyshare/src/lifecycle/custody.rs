//! Who keeps the volume key: the owner's wallet or a set of guardians. The durable record of a key's life; it
//! stands in the volume's header, and writing it is the only commit there is. A value of type [`Custody`] is sound.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::holders::{Holder, ShareSet};
use crate::text::is_node_id;
use crate::threshold::GUARDIANS_MAX;

/// Most guardians that may be remembered for sweeping: those of two whole splits.
const STALE_MAX: usize = 2 * GUARDIANS_MAX;

/// One who can keep a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guardian {
    /// Where it listens. First, so that guardians sort by address.
    pub wg_ip: Ipv4Addr,
    pub node_id: String,
}

impl From<&Holder> for Guardian {
    fn from(holder: &Holder) -> Self {
        Self { wg_ip: holder.wg_ip, node_id: holder.node_id.clone() }
    }
}

/// Why a record of custody cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CustodyError {
    #[error("generation {current} is kept, but only {begun} were ever begun")]
    Begun { current: u64, begun: u64 },
    #[error("{0} guardians with old shares are more than there can be")]
    TooManyStale(usize),
    #[error("guardian {0} with old shares has a node id that is none")]
    NodeId(usize),
    #[error("the split is of generation {found}, begun was {begun}")]
    NotBegun { found: u64, begun: u64 },
    #[error("no generation is left after {0}")]
    Exhausted(u64),
}

/// Who keeps the key, which generations there ever were, and who may still have shares of the others.
///
/// A generation is obsolete until it is committed: [`Custody::begin`] is on the disk before the first share of a
/// new generation leaves the node, and lists its guardians as ones to sweep. So nothing has to be remembered about
/// an attempt that was cut off, and no number is ever used for two splits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct Custody {
    begun: u64,
    shares: Option<ShareSet>,
    stale: BTreeSet<Guardian>,
}

/// How a [`Custody`] stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    begun: u64,
    shares: Option<ShareSet>,
    stale: Vec<Guardian>,
}

impl Custody {
    /// The key of a new cluster's first node: sealed to the wallet, split over nobody.
    pub fn wallet() -> Self {
        Self { begun: 0, shares: None, stale: BTreeSet::new() }
    }

    /// A key that was split when the node enrolled.
    pub fn shared(shares: ShareSet) -> Self {
        Self { begun: shares.generation(), shares: Some(shares), stale: BTreeSet::new() }
    }

    /// The split that opens the volume; `None` while the wallet has the key.
    pub fn shares(&self) -> Option<&ShareSet> {
        self.shares.as_ref()
    }

    /// Generation of the split that opens the volume; 0 while the wallet has the key.
    pub fn generation(&self) -> u64 {
        self.shares.as_ref().map_or(0, ShareSet::generation)
    }

    /// The highest generation that ever left this node.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Guardians that may keep shares of generations other than the current one.
    pub fn stale(&self) -> &BTreeSet<Guardian> {
        &self.stale
    }

    /// Those who hold the current split.
    pub fn guardians(&self) -> BTreeSet<Guardian> {
        self.shares.iter().flat_map(|set| set.holders()).map(Guardian::from).collect()
    }

    /// The record to write before a split over these guardians: the next generation is used up.
    pub fn begin(&self, guardians: &BTreeSet<Guardian>) -> Result<Self, CustodyError> {
        let begun = self.begun.checked_add(1).ok_or(CustodyError::Exhausted(self.begun))?;
        let stale: BTreeSet<_> = self.stale.union(guardians).cloned().collect();
        Self { begun, shares: self.shares.clone(), stale }.sound()
    }

    /// The record that makes a split the one that opens the volume. Its own guardians stay listed for sweeping
    /// too: they may have shares of an attempt before it.
    pub fn commit(&self, shares: ShareSet) -> Result<Self, CustodyError> {
        if shares.generation() != self.begun || self.generation() == self.begun {
            return Err(CustodyError::NotBegun { found: shares.generation(), begun: self.begun });
        }
        let stale = self.stale.union(&self.guardians()).cloned().collect();
        Self { begun: self.begun, shares: Some(shares), stale }.sound()
    }

    /// The record after these guardians were found to have nothing but the current generation.
    pub fn swept(&self, guardians: &BTreeSet<Guardian>) -> Self {
        let stale = self.stale.difference(guardians).cloned().collect();
        Self { begun: self.begun, shares: self.shares.clone(), stale }
    }

    /// Whether a share of this generation may be deleted: it is of this header's time and not the one that opens.
    /// A higher one than was ever begun belongs to a newer header of the same volume; it is none of ours.
    pub fn is_obsolete(&self, generation: u64) -> bool {
        generation <= self.begun && generation != self.generation()
    }

    fn sound(self) -> Result<Self, CustodyError> {
        if self.generation() > self.begun {
            return Err(CustodyError::Begun { current: self.generation(), begun: self.begun });
        }
        if self.stale.len() > STALE_MAX {
            return Err(CustodyError::TooManyStale(self.stale.len()));
        }
        match self.stale.iter().position(|guardian| !is_node_id(&guardian.node_id)) {
            Some(index) => Err(CustodyError::NodeId(index)),
            None => Ok(self),
        }
    }
}

impl TryFrom<Record> for Custody {
    type Error = CustodyError;

    fn try_from(record: Record) -> Result<Self, CustodyError> {
        if record.stale.len() > STALE_MAX {
            return Err(CustodyError::TooManyStale(record.stale.len()));
        }
        let stale = record.stale.into_iter().collect();
        Self { begun: record.begun, shares: record.shares, stale }.sound()
    }
}

impl From<Custody> for Record {
    fn from(custody: Custody) -> Self {
        Self { begun: custody.begun, shares: custody.shares, stale: custody.stale.into_iter().collect() }
    }
}
