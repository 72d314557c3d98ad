//! What a person should know of a key's life. `Display` is the sentence.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::custody::Guardian;

/// Most guardians that a sentence names; the rest is counted.
const NAMED_MAX: usize = 8;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Note {
    Attempt {
        generation: u64,
        guardians: usize,
    },
    Committed {
        generation: u64,
        k: u8,
        n: u8,
    },
    /// The split before stays the one that opens.
    Failed {
        why: Failure,
        pause: Duration,
    },
    /// The header could not be written and cannot be read.
    NoRecord,
    /// A guardian that is no member any more was not swept.
    LeftBehind {
        guardian: Guardian,
    },
}

/// Why an attempt at a new split ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    NoKey,
    Record,
    Deal,
    /// Those who did not take their share or did not give it back.
    Guardians(BTreeSet<Guardian>),
    OtherKey,
    MembersChanged,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::Attempt { generation, guardians } => {
                write!(f, "splitting the volume key over {guardians} guardians as generation {generation}")
            }
            Note::Committed { generation, k, n } => {
                write!(f, "the volume key is split {k} of {n}, generation {generation}")
            }
            Note::Failed { why, pause } => {
                let seconds = pause.as_secs();
                write!(
                    f,
                    "the volume key was not split anew: {why}; what opened it before still does, next try in {seconds} s"
                )
            }
            Note::NoRecord => {
                f.write_str("the volume's header can neither be written nor read; it is tried again")
            }
            Note::LeftBehind { guardian } => {
                write!(
                    f,
                    "{} left before its old shares were deleted; they open nothing by themselves",
                    guardian.node_id
                )
            }
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoKey => f.write_str("too few guardians gave their present shares back"),
            Failure::Record => f.write_str("the header was not written"),
            Failure::Deal => f.write_str("the shares could not be made"),
            Failure::Guardians(guardians) => {
                let names: Vec<_> = guardians.iter().take(NAMED_MAX).map(|g| g.node_id.as_str()).collect();
                write!(f, "{} did not keep the share", names.join(", "))?;
                match guardians.len().saturating_sub(NAMED_MAX) {
                    0 => Ok(()),
                    more => write!(f, ", nor did {more} more"),
                }
            }
            Failure::OtherKey => f.write_str("the shares that were read back make another key"),
            Failure::MembersChanged => f.write_str("a guardian left meanwhile"),
        }
    }
}
