//! The data volume of a node: a LUKS2 partition with an ext4 inside, and the record of enrollment in its header.
//! Owns format, probe, open, mount, the header's two tokens, and the agent's private files inside the volume.
//! Does not own the key (made and split by orama-keyshare) nor any decision about when to do what (actors).

#![deny(unsafe_code)]

mod commands;
mod data_volume;
#[cfg(feature = "stand-in")]
mod directory;
mod early_state;
mod gpt;
mod grow;
mod header;
mod held;
mod leaving;
mod luks;
mod mapper;
mod mounting;
mod program;
mod seal;
mod uuid;
pub mod vault;

pub use commands::Programs;
pub use data_volume::{
    CloseError, Damage, DataVolume, FilesystemError, FormatError, MountError, OpenError, Probe, ProbeError,
    WriteStateError,
};
#[cfg(feature = "stand-in")]
pub use directory::{CrashPoint, DirectoryVolume};
pub use early_state::{EarlyState, EarlyStateError, PeerState, PrivateKeyText, WireguardState};
pub use gpt::TableError;
pub use grow::{GrowError, Growth, grow_data_partition};
pub use held::{
    HELD_FACTS_LIMIT_BYTES, HELD_LIMIT_BYTES, HELD_SECRETS_LIMIT_BYTES, Held, HeldError, HeldIdentity,
    HeldSecret, HoldError,
};
pub use leaving::LeaveError;
pub use luks::{DEFAULT_MAPPER_NAME, LuksVolume};
pub use program::RunError;
pub use seal::{MacKey, MacMismatch, RandomError, SealedRecord};
pub use uuid::uuid_text;
