//! Who holds which share of a split: the record in the volume's header. Owns its bounds; a value of type
//! [`ShareSet`] has been checked, whether it was made here or read from JSON.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::text::is_node_id;
use crate::threshold::{Threshold, ThresholdError};

/// SHA-256 of an encoded envelope; 64 lowercase hex characters in text and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub [u8; 32]);

/// Why a text is no digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a share digest has 64 lowercase hex characters")]
pub struct DigestError;

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let mut digest = [0; 32];
        let lowercase = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if text.len() != 64 || !lowercase {
            return Err(DigestError);
        }
        for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| DigestError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| DigestError)?;
        }
        Ok(Self(digest))
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// One guardian and the share it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    pub node_id: String,
    /// Where the guardian listens: its overlay address.
    pub wg_ip: Ipv4Addr,
    /// Point of its share.
    pub x: u8,
    /// SHA-256 of the encoded envelope that it was given.
    pub digest: Digest,
}

/// Why a record of holders cannot be right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShareSetError {
    #[error("generation 0 does not exist")]
    Generation,
    #[error("the share set's threshold is nonsense")]
    Threshold(#[from] ThresholdError),
    #[error("the share set names {found} holders, its threshold says {n}")]
    Count { found: usize, n: u8 },
    #[error("holder {index} has a node id that is none")]
    NodeId { index: usize },
    #[error("holder {index} has point {x}, not one of 1 to {n}")]
    Point { index: usize, x: u8, n: u8 },
    #[error("holder {index} repeats a node id, an address or a point")]
    Repeated { index: usize },
}

/// One split: its generation, its threshold and its N holders, all different.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Record", into = "Record")]
pub struct ShareSet {
    generation: u64,
    threshold: Threshold,
    holders: Vec<Holder>,
}

/// How a [`ShareSet`] stands in JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    generation: u64,
    k: u8,
    n: u8,
    holders: Vec<Holder>,
}

impl ShareSet {
    pub fn new(generation: u64, threshold: Threshold, holders: Vec<Holder>) -> Result<Self, ShareSetError> {
        if generation == 0 {
            return Err(ShareSetError::Generation);
        }
        let n = threshold.n();
        if holders.len() != usize::from(n) {
            return Err(ShareSetError::Count { found: holders.len(), n });
        }
        let (mut names, mut addresses, mut points) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, holder) in holders.iter().enumerate() {
            if !is_node_id(&holder.node_id) {
                return Err(ShareSetError::NodeId { index });
            }
            if holder.x == 0 || holder.x > n {
                return Err(ShareSetError::Point { index, x: holder.x, n });
            }
            let new_name = names.insert(holder.node_id.as_str());
            if !(new_name && addresses.insert(holder.wg_ip) && points.insert(holder.x)) {
                return Err(ShareSetError::Repeated { index });
            }
        }
        Ok(Self { generation, threshold, holders })
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// Shares needed.
    pub fn k(&self) -> u8 {
        self.threshold.k()
    }

    /// Shares made.
    pub fn n(&self) -> u8 {
        self.threshold.n()
    }

    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }
}

impl TryFrom<Record> for ShareSet {
    type Error = ShareSetError;

    fn try_from(record: Record) -> Result<Self, ShareSetError> {
        Self::new(record.generation, Threshold::from_parts(record.k, record.n)?, record.holders)
    }
}

impl From<ShareSet> for Record {
    fn from(set: ShareSet) -> Record {
        Record { generation: set.generation, k: set.k(), n: set.n(), holders: set.holders }
    }
}
