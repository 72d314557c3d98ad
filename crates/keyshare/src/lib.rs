//! The volume key and its shares: GF(256), split, combine, the share envelope, the record of who holds
//! what, and the collector that judges the guardians' answers.
//! Pure: the only system calls are getrandom and the ones that lock the key's page. Asking guardians,
//! waiting and storing are the callers' business.

#![deny(unsafe_code)]

pub mod backoff;
mod codec;
pub mod collector;
mod envelope;
mod field;
mod holders;
mod key;
pub mod lifecycle;
mod page;
mod seal;
mod shamir;
mod text;
mod threshold;
mod weighted;

pub use envelope::{
    ENVELOPE_VERSION, EncodeEnvelopeError, Envelope, EnvelopeError, KeptEnvelope, OpenError, digest,
    secret_name,
};
pub use holders::{Digest, DigestError, Holder, ShareSet, ShareSetError};
pub use key::{KEY_BYTES, KeyError, VolumeKey};
pub use seal::ShareSeal;
pub use shamir::{CombineError, Share, SplitError, combine, split, split_with};
pub use text::{NODE_ID_LIMIT, TEXT_LIMIT, is_node_id, printable};
pub use threshold::{GUARDIANS_MAX, K_MIN, Threshold, ThresholdError};
