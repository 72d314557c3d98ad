//! The share envelope: what a guardian keeps for a node, byte for byte as docs/formats.md says. Owns its
//! layout and bounds; knows nothing of guardians or headers.

use rand_core::CryptoRng;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::codec;
use crate::key::KEY_BYTES;
use crate::seal::{NONCE_BYTES, SEALED_BYTES, ShareSeal};
use crate::shamir::Share;
use crate::text::{NODE_ID_LIMIT, is_node_id};
use crate::threshold::{Threshold, ThresholdError};

/// First byte of an envelope with the share in the clear: what nodes kept before there was a seal.
const PLAIN_VERSION: u8 = 1;
/// First byte of an envelope whose share is sealed to its owner. A change of the layout is a new number.
pub const ENVELOPE_VERSION: u8 = 2;
/// Longest public part, bytes: version, volume, length and text of the node id, generation, x, k, n.
const LABEL_MAX: usize = 1 + 16 + 1 + NODE_ID_LIMIT + 9 + 3;
/// Longest encoding, bytes.
const ENCODED_MAX: usize = LABEL_MAX + NONCE_BYTES + SEALED_BYTES;

/// Why bytes are not a share envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("the share is empty")]
    Empty,
    #[error("envelope version {0} is unknown, only versions 1 and 2 are known")]
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
    #[error("the share cannot be taken out of its envelope")]
    Open(#[from] OpenError),
}

/// Why the share stays in its envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the share is sealed and only its owner's key opens it")]
    Sealed,
    #[error("the share is sealed to another key")]
    OtherKey,
}

/// Why an envelope that this program put together cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum EncodeEnvelopeError {
    #[error("no guardian could read this share envelope")]
    Unreadable(#[source] EnvelopeError),
    #[error("the share envelope does not fit its layout")]
    Encode(#[source] bincode::error::EncodeError),
    #[error("the seal is of another volume than the share")]
    OtherVolume,
    #[error("the kernel gave no random bytes for the share's seal")]
    Random(#[source] getrandom::Error),
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

/// An envelope as a guardian keeps it: everybody can read what it is, its owner alone what is in it (unless
/// it is of version 1). No Debug, no Clone, no Serialize.
pub struct KeptEnvelope {
    label: Label,
    threshold: Threshold,
    content: Content,
}

enum Content {
    Plain(PlainShare),
    Sealed { nonce: [u8; NONCE_BYTES], sealed: [u8; SEALED_BYTES] },
}

/// The public part, and what the seal is bound to. Field order is the format, here and below.
#[derive(bincode::Encode, bincode::Decode)]
struct Label {
    version: u8,
    volume: [u8; 16],
    node_id: String,
    generation: u64,
    x: u8,
    k: u8,
    n: u8,
}

#[derive(bincode::Encode, bincode::Decode)]
struct PlainWire {
    label: Label,
    share: PlainShare,
}

/// Wiped on drop; on the heap, so that it can move.
#[derive(bincode::Encode, bincode::Decode)]
struct PlainShare(Box<[u8; KEY_BYTES]>);

impl Drop for PlainShare {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[derive(bincode::Encode, bincode::Decode)]
struct SealedWire {
    label: Label,
    nonce: [u8; NONCE_BYTES],
    sealed: [u8; SEALED_BYTES],
}

impl Envelope {
    /// Version 1, with the share in the clear. For reading old ones there is [`Envelope::decode`]; new shares
    /// are kept sealed.
    pub fn encode(&self) -> Result<Zeroizing<Vec<u8>>, EncodeEnvelopeError> {
        let wire =
            PlainWire { label: self.label(PLAIN_VERSION)?, share: PlainShare(Box::new(*self.share.bytes())) };
        codec::encode(&wire, ENCODED_MAX).map_err(EncodeEnvelopeError::Encode)
    }

    /// Version 2: the bytes that a guardian keeps, other ones at every call.
    pub fn encode_sealed(&self, seal: &ShareSeal) -> Result<Zeroizing<Vec<u8>>, EncodeEnvelopeError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(EncodeEnvelopeError::Random)?;
        self.encode_under(seal, nonce)
    }

    /// [`Envelope::encode_sealed`] with randomness from elsewhere, for simulations that are to be repeated. The
    /// same random bytes for two shares of one volume give both away.
    pub fn encode_sealed_with<R: CryptoRng + ?Sized>(
        &self,
        seal: &ShareSeal,
        random: &mut R,
    ) -> Result<Zeroizing<Vec<u8>>, EncodeEnvelopeError> {
        let mut nonce = [0; NONCE_BYTES];
        random.fill_bytes(&mut nonce);
        self.encode_under(seal, nonce)
    }

    fn encode_under(
        &self,
        seal: &ShareSeal,
        nonce: [u8; NONCE_BYTES],
    ) -> Result<Zeroizing<Vec<u8>>, EncodeEnvelopeError> {
        if seal.volume() != self.volume {
            return Err(EncodeEnvelopeError::OtherVolume);
        }
        let label = self.label(ENVELOPE_VERSION)?;
        let beside = codec::encode(&label, LABEL_MAX).map_err(EncodeEnvelopeError::Encode)?;
        let sealed = seal.close(&nonce, &beside, self.share.bytes());
        codec::encode(&SealedWire { label, nonce, sealed }, ENCODED_MAX).map_err(EncodeEnvelopeError::Encode)
    }

    fn label(&self, version: u8) -> Result<Label, EncodeEnvelopeError> {
        let label = Label {
            version,
            volume: self.volume,
            node_id: self.node_id.clone(),
            generation: self.generation,
            x: self.share.x(),
            k: self.threshold.k(),
            n: self.threshold.n(),
        };
        label.check().map_err(EncodeEnvelopeError::Unreadable)?;
        Ok(label)
    }

    /// Reads an envelope of version 1. A sealed one is an error.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        Ok(KeptEnvelope::decode(bytes)?.open(None)?)
    }

    /// Reads an envelope of either version, with its owner's seal.
    pub fn decode_sealed(bytes: &[u8], seal: &ShareSeal) -> Result<Self, EnvelopeError> {
        Ok(KeptEnvelope::decode(bytes)?.open(Some(seal))?)
    }
}

impl KeptEnvelope {
    /// Reads what a guardian keeps or answered. Every envelope has exactly one encoding; all others are
    /// refused.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        match bytes.first() {
            None => Err(EnvelopeError::Empty),
            Some(&PLAIN_VERSION) => {
                let wire: PlainWire = codec::decode(bytes)?;
                let threshold = wire.label.check()?;
                canonical(&wire, bytes)?;
                let PlainWire { label, share } = wire;
                Ok(Self { label, threshold, content: Content::Plain(share) })
            }
            Some(&ENVELOPE_VERSION) => {
                let wire: SealedWire = codec::decode(bytes)?;
                let threshold = wire.label.check()?;
                canonical(&wire, bytes)?;
                let SealedWire { label, nonce, sealed } = wire;
                Ok(Self { label, threshold, content: Content::Sealed { nonce, sealed } })
            }
            Some(&version) => Err(EnvelopeError::Version(version)),
        }
    }

    /// UUID of the volume whose key the share is of.
    pub fn volume(&self) -> [u8; 16] {
        self.label.volume
    }

    /// The node that owns the volume.
    pub fn node_id(&self) -> &str {
        &self.label.node_id
    }

    /// Which split.
    pub fn generation(&self) -> u64 {
        self.label.generation
    }

    pub fn threshold(&self) -> Threshold {
        self.threshold
    }

    /// The share's point.
    pub fn x(&self) -> u8 {
        self.label.x
    }

    /// Whether the share is sealed to its owner.
    pub fn is_sealed(&self) -> bool {
        matches!(self.content, Content::Sealed { .. })
    }

    /// Takes the share out. Version 1 needs no seal.
    pub fn open(self, seal: Option<&ShareSeal>) -> Result<Envelope, OpenError> {
        let Self { label, threshold, content } = self;
        let share = match content {
            Content::Plain(share) => Share::new(label.x, &share.0),
            Content::Sealed { nonce, sealed } => {
                let seal = seal.ok_or(OpenError::Sealed)?;
                // What was read in its only form has that form again.
                let beside = codec::encode(&label, LABEL_MAX).map_err(|_| OpenError::OtherKey)?;
                let bytes = seal.open(&nonce, &beside, &sealed).ok_or(OpenError::OtherKey)?;
                Share::new(label.x, &bytes)
            }
        };
        let share = share.expect("a label with the point 0 was not let in");
        let Label { version: _, volume, node_id, generation, x: _, k: _, n: _ } = label;
        Ok(Envelope { volume, node_id, generation, threshold, share })
    }
}

impl Label {
    fn check(&self) -> Result<Threshold, EnvelopeError> {
        if !is_node_id(&self.node_id) {
            return Err(EnvelopeError::NodeId);
        }
        if self.generation == 0 {
            return Err(EnvelopeError::Generation);
        }
        let threshold = Threshold::from_parts(self.k, self.n).map_err(EnvelopeError::Threshold)?;
        if self.x == 0 || self.x > self.n {
            return Err(EnvelopeError::Point { x: self.x, n: self.n });
        }
        Ok(threshold)
    }
}

/// Whether `wire` is encoded as these bytes and no longer ones.
fn canonical(wire: &impl bincode::Encode, bytes: &[u8]) -> Result<(), EnvelopeError> {
    let again = codec::encode(wire, ENCODED_MAX).map_err(|_| EnvelopeError::NotCanonical)?;
    if bool::from(again.as_slice().ct_eq(bytes)) { Ok(()) } else { Err(EnvelopeError::NotCanonical) }
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
