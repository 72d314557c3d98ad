//! What the actors need from a data volume, and every way in which it can fail.
//! Two implementations: the real LUKS2 partition, and a directory that exists in test builds only.

use std::path::Path;

use orama_keyshare::VolumeKey;

use crate::{
    EarlyState, EarlyStateError, GrowError, Held, HeldError, LeaveError, MacKey, RandomError, RunError,
    SealedRecord,
};

/// The node's data volume. Every call blocks; a call is never made from an async thread.
///
/// ```text
///            format             open              make_filesystem, mount
///   Blank ───────────► Unfinished ─────► (open) ─────────────────────► (mounted)
///     ▲                    │  ▲                                            │ write_early_state = commit
///     │ erase              └──┘ format again          mark_leaving         ▼
///     └──────────────────────────────────── Leaving ◄───────────────── Enrolled
/// ```
pub trait DataVolume: Send + Sync {
    /// Reads the header and says how far the volume has come. Changes nothing.
    fn probe(&self) -> Result<Probe, ProbeError>;

    /// Makes a new header with a new UUID, which it returns. Refuses when the header is a record of enrollment
    /// or too damaged to tell, whatever the caller believes.
    fn format(&self, key: &VolumeKey) -> Result<[u8; 16], FormatError>;

    /// Whether the key opens the volume, without opening it.
    fn test_key(&self, key: &VolumeKey) -> Result<(), OpenError>;

    /// Opens the volume. When it is open already (the caller restarted), the key is still tested.
    fn open(&self, key: &VolumeKey) -> Result<(), OpenError>;

    /// Makes an empty filesystem on the open volume.
    fn make_filesystem(&self) -> Result<(), FilesystemError>;

    /// Mounts the open volume at [`DataVolume::root`]. When it is mounted there already, does nothing.
    fn mount(&self) -> Result<(), MountError>;

    /// Undoes mount and open as far as they were done.
    fn unmount_and_close(&self) -> Result<(), CloseError>;

    /// Replaces the record in the header; when it returns, the record is on the disk. A crash leaves old or new.
    fn write_early_state(&self, state: &EarlyState, mac_key: &MacKey) -> Result<(), WriteStateError>;

    /// What the header holds for others, believed only as far as giving it out needs until it is verified. `None`: it
    /// holds nothing.
    fn read_held(&self) -> Result<Option<(Held, SealedRecord)>, ProbeError>;

    /// Replaces what is held, as [`DataVolume::write_early_state`] does the record.
    fn write_held(&self, held: &Held, mac_key: &MacKey) -> Result<(), WriteStateError>;

    /// Writes down that the node leaves its cluster: from now on every probe says [`Probe::Leaving`], and the record is
    /// not written any more. The volume may be open and in use.
    fn mark_leaving(&self) -> Result<(), LeaveError>;

    /// Erases key slots, record and header of a marked volume; a crash on the way leaves it marked.
    fn erase(&self) -> Result<(), LeaveError>;

    /// Where the volume is mounted.
    fn root(&self) -> &Path;
}

/// What a header says about the volume.
#[expect(clippy::large_enum_variant, reason = "one value a boot, taken apart at once")]
pub enum Probe {
    /// No LUKS header: the node was never enrolled, or its header was erased.
    Blank,
    /// A header without a record of enrollment: provisioning did not reach its commit. Formatting again is safe.
    Unfinished { why: String },
    /// The header carries a record. It is believed only as far as fetching shares needs, until
    /// [`SealedRecord::verify`] has been called with the key from inside the volume.
    Enrolled { state: EarlyState, sealed: SealedRecord },
    /// The node leaves its cluster: nothing is left to do but [`DataVolume::erase`].
    Leaving,
}

/// A header that must not be used, and must not be formatted over either.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    #[error("the LUKS2 header cannot be read: {why}")]
    Header { why: String },
    #[error("the header carries {what} instead of one orama-node token in slot 0")]
    UnexpectedToken { what: String },
    #[error("the header carries {what} instead of an orama-held token in slot 1")]
    NotHeld { what: String },
    #[error("what the token says it holds is not usable")]
    Held(#[source] HeldError),
    #[error("the token is longer than {limit} bytes")]
    TokenTooLong { limit: usize },
    #[error("the token is not the JSON object it should be")]
    TokenSyntax(#[source] serde_json::Error),
    #[error("the token has version {found}; this agent reads version {known}")]
    TokenVersion { found: u64, known: u32 },
    #[error("the token's payload is not base64")]
    PayloadEncoding(#[source] base64::DecodeError),
    #[error("the token's mac is not 64 lowercase hex digits")]
    MacEncoding,
    #[error("the early state in the token is not usable")]
    State(#[source] EarlyStateError),
    #[error("the token belongs to volume {token}, the header is of volume {header}")]
    OtherVolume { token: String, header: String },
}

#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    #[error("cannot read {device}")]
    Read {
        device: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot export the header token of {device}")]
    Export {
        device: String,
        #[source]
        source: RunError,
    },
    /// Neither blank nor enrolled: a person has to look at it.
    #[error("the header of {device} is damaged")]
    Damaged {
        device: String,
        #[source]
        source: Damage,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    #[error("cannot tell what is on {device}")]
    Probe {
        device: String,
        #[source]
        source: ProbeError,
    },
    #[error("{device} holds the record of an enrolled node and is not formatted")]
    Enrolled { device: String },
    #[error("{device} is to be erased first: its node leaves the cluster")]
    Leaving { device: String },
    #[error("{device} is open as {mapper} and is not formatted")]
    InUse { device: String, mapper: String },
    #[error("cannot give the data partition the rest of the disk")]
    Grow(#[source] GrowError),
    #[error("cannot make a UUID for {device}")]
    Random {
        device: String,
        #[source]
        source: RandomError,
    },
    #[error("cannot format {device}")]
    Run {
        device: String,
        #[source]
        source: RunError,
    },
    #[error("cannot write {device}")]
    Write {
        device: String,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The header is fine and the key is not its key.
    #[error("the key does not open {device}")]
    WrongKey { device: String },
    #[error("cannot open {device}")]
    Run {
        device: String,
        #[source]
        source: RunError,
    },
    #[error("the name {mapper} is taken by another device ({other}), so {device} cannot be opened")]
    NameTaken { device: String, mapper: String, other: String },
    #[error("cannot read the state of {device}")]
    Facts {
        device: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot make the lock directory {path}")]
    LockDirectory {
        path: String,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    #[error("cannot make a filesystem on {device}: it is not open")]
    NotOpen { device: String },
    #[error("cannot make a filesystem on {device}")]
    Run {
        device: String,
        #[source]
        source: RunError,
    },
    #[error("cannot write {device}")]
    Write {
        device: String,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum MountError {
    #[error("cannot mount {device}: it is not open")]
    NotOpen { device: String },
    #[error("another filesystem ({other}) is mounted at {root}")]
    RootTaken { root: String, other: String },
    #[error("cannot read the mount table")]
    MountTable(#[source] std::io::Error),
    #[error("cannot mount {device} at {root}")]
    Mount {
        device: String,
        root: String,
        #[source]
        source: std::io::Error,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("cannot unmount {root}")]
    Unmount {
        root: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot read the mount table")]
    MountTable(#[source] std::io::Error),
    #[error("cannot read the state of {mapper}")]
    Facts {
        mapper: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot close {mapper}")]
    Run {
        mapper: String,
        #[source]
        source: RunError,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum WriteStateError {
    #[error("the early state is not fit to be written")]
    State(#[source] EarlyStateError),
    #[error("the record is for volume {state}, {device} is volume {header}")]
    OtherVolume { device: String, state: String, header: String },
    #[error("{device} has no LUKS2 header to write the record to")]
    NoHeader { device: String },
    #[error("{device} is to be erased: its node leaves the cluster")]
    Leaving { device: String },
    #[error("cannot read or sync {device}")]
    Device {
        device: String,
        #[source]
        source: std::io::Error,
    },
    #[error("cannot import the header token into {device}")]
    Import {
        device: String,
        #[source]
        source: RunError,
    },
    #[error("cannot read the header token of {device} back")]
    ReadBack {
        device: String,
        #[source]
        source: RunError,
    },
    #[error("the header of {device} does not hold what was just written to it")]
    NotStored { device: String },
}
