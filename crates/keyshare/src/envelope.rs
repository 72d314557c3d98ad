//! The share envelope: what a guardian keeps for a node, byte for byte as docs/formats.md says. Owns its
//! layout and bounds; knows nothing of guardians or headers.

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::codec;
use crate::key::KEY_BYTES;
use crate::shamir::Share;
use crate::text::{NODE_ID_LIMIT, is_node_id};
use crate::threshold::{Threshold, ThresholdError};

/// First byte of every envelope. A change of the layout is a new number.
pub const ENVELOPE_VERSION: u8 = 1;
/// Longest encoding, bytes: version, volume, length and text of the node id, generation, x, k, n, share.
const ENCODED_MAX: usize = 1 + 16 + 1 + NODE_ID_LIMIT + 9 + 3 + KEY_BYTES;

/// Why bytes are not a share envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the share is empty")]
    Empty,
    #[error("envelope version {0} is unknown, only version 1 is known")]
    Version(u8),
    #[error("the share envelope cannot be read")]
    Decode(#[from] codec::DecodeError),
    #[error("the share envelope is not in its shortest form")]
    NotCanonical,
    #[error("the share envelope names a node id that is none")]
    NodeId,
    #[error("generation 0 does not exist")]
    Generation,
    #[error("the share envelope's threshold is nonsense")]
    Threshold(#[source] ThresholdError),
    #[error("point {x} is not one of 1 to {n}")]
    Point { x: u8, n: u8 },
}

/// Why an envelope that this program put together cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EncodeEnvelopeError {
    #[error("no guardian could read this share envelope")]
    Unreadable(#[source] EnvelopeError),
    #[error("the share envelope does not fit its layout")]
    Encode(#[source] bincode::error::EncodeError),
}

/// One share and what it belongs to. Its x is the share's. No Debug, no Clone, no Serialize.
pub struct Envelope {
    /// UUID of the volume whose key this is a share of.
    pub volume: [u8; 16],
    /// The node that owns the volume, not the one that keeps the share.
    pub node_id: String,
    /// Which split; the first is 1.
    pub generation: u64,
    pub threshold: Threshold,
    pub share: Share,
}

/// The layout. Field order is the format.
#[derive(bincode::Encode, bincode::Decode)]
struct Wire {
    version: u8,
    volume: [u8; 16],
    node_id: String,
    generation: u64,
    x: u8,
    k: u8,
    n: u8,
    share: [u8; KEY_BYTES],
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.share.zeroize();
    }
}

impl Envelope {
    /// The bytes that a guardian keeps.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EncodeEnvelopeError> {
        let wire = Wire {
            version: ENVELOPE_VERSION,
            volume: self.volume,
            node_id: self.node_id.clone(),
            generation: self.generation,
            x: self.share.x(),
            k: self.threshold.k(),
            n: self.threshold.n(),
            share: *self.share.bytes(),
        };
        wire.check().map_err(EncodeEnvelopeError::Unreadable)?;
        codec::encode(&wire, ENCODED_MAX).map_err(EncodeEnvelopeError::Encode)
    }

    /// Reads what a guardian answered. Every envelope has exactly one encoding; all others are refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        match bytes.first() {
            None => return Err(EnvelopeError::Empty),
            Some(&ENVELOPE_VERSION) => {}
            Some(&version) => return Err(EnvelopeError::Version(version)),
        }
        let mut wire: Wire = codec::decode(bytes)?;
        let (threshold, share) = wire.check()?;
        let again = codec::encode(&wire, ENCODED_MAX).map_err(|_| EnvelopeError::NotCanonical)?;
        if !bool::from(again.as_slice().ct_eq(bytes)) {
            return Err(EnvelopeError::NotCanonical);
        }
        Ok(Self {
            volume: wire.volume,
            node_id: std::mem::take(&mut wire.node_id),
            generation: wire.generation,
            threshold,
            share,
        })
    }
}

impl Wire {
    fn check(&self) -> Result<(Threshold, Share), EnvelopeError> {
        if !is_node_id(&self.node_id) {
            return Err(EnvelopeError::NodeId);
        }
        if self.generation == 0 {
            return Err(EnvelopeError::Generation);
        }
        let threshold = Threshold::from_parts(self.k, self.n).map_err(EnvelopeError::Threshold)?;
        match Share::new(self.x, &self.share) {
            Some(share) if self.x <= self.n => Ok((threshold, share)),
            _ => Err(EnvelopeError::Point { x: self.x, n: self.n }),
        }
    }
}

/// SHA-256 of an encoded envelope: what the owner keeps to know a bad share by.
pub fn digest(encoded: &[u8]) -> [u8; 32] {
    Sha256::digest(encoded).into()
}

/// The name under which every guardian keeps its share of this split.
pub fn secret_name(volume: [u8; 16], generation: u64) -> String {
    let mut name = String::from("luks-");
    for byte in volume {
        name.push_str(&format!("{byte:02x}"));
    }
    name.push_str(&format!("-g{generation}"));
    name
}
