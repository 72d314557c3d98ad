//! The life of one node's volume key after it was made: from the wallet to guardians, from guardians to other
//! guardians, and the sweeping of what is obsolete. Pure: it reads no clock, asks nobody, and never sees the key.
//!
//! ```text
//!              want another split                   on the disk            all envelopes made
//!   Settled ─────────────────────► Gathering ─► Beginning ─► Dealing ─► Storing ─► Reading back ─► Comparing
//!    ▲  ▲ │                            │            │           │          │             │             │ same key
//!    │  │ │ somebody has old shares    └────────────┴───────────┴──────────┴─────────────┴─┐           ▼
//!    │  │ └──► Sweeping ─► Tidying                                     failed: pause, then │      Committing
//!    │  └──────────┴──────────┘                                                   again    ▼           │
//!    └──────────────────────────────────────────────────────────────────────────────────  Settled  ◄───┘
//!   A write of the record that failed may have reached the disk: Rereading asks the disk, and believes it.
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::custody::{Custody, Guardian};
use super::members::{self, Blame, Members};
use super::note::Note;
use super::round::{Answer, Round};
use crate::holders::ShareSet;

/// How long guardians have to answer a sweep.
pub const SWEEP_LIMIT: Duration = Duration::from_secs(30);
/// Longest pause between two attempts at a new split.
pub const ATTEMPT_PAUSE_MAX: Duration = Duration::from_secs(300);
/// Pause before guardians that did not answer are swept again; and before the first sweep after a boot or a failed
/// attempt, whose last shares may still be on their way.
pub const SWEEP_PAUSE: Duration = Duration::from_secs(120);
/// Pause before a record that can neither be written nor read is tried again.
pub const RECORD_PAUSE: Duration = Duration::from_secs(5);

/// The pause after a failed attempt, of which `failures` others went before: 2, 4, 8, … up to the longest.
pub(super) fn attempt_pause(failures: u32) -> Duration {
    Duration::from_secs(2).saturating_mul(1 << failures.min(16)).min(ATTEMPT_PAUSE_MAX)
}

/// What the caller shall do. Every one is answered by an event, except the last two.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Get the key: from the guardians of the current split or from whoever has it, and check it against the volume.
    Gather,
    /// Make this record durable.
    WriteRecord(Custody),
    /// Say what the disk has.
    ReadRecord,
    /// Split the gathered key over these guardians and keep the envelopes until [`Action::Forget`].
    Deal { generation: u64, guardians: BTreeSet<Guardian> },
    /// Give the guardian its share of the split dealt last.
    Put { generation: u64, guardian: Guardian },
    /// Ask the guardian for its share and judge it by its digest.
    Get { generation: u64, guardian: Guardian },
    /// Put the key together from the shares read back and compare it with the gathered one.
    Compare { generation: u64 },
    /// Delete at this guardian every share of this volume that [`Custody::is_obsolete`] says is.
    Sweep { guardian: Guardian, custody: Custody },
    /// Wipe the key and the envelopes.
    Forget,
    /// Something a person should know.
    Tell(Note),
}

/// What happened. Events of another phase or generation than the present one are late and change nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// Who could keep shares, as far as this node knows now.
    Members(Members),
    /// Time passed.
    Clock,
    Gathered(bool),
    /// Whether the record was written; `false` when nobody can tell.
    Recorded(bool),
    /// What the disk has; `None` when it does not say.
    Record(Option<Custody>),
    Dealt {
        generation: u64,
        set: Option<ShareSet>,
    },
    Put {
        generation: u64,
        guardian: Guardian,
        answer: Answer,
    },
    Got {
        generation: u64,
        guardian: Guardian,
        answer: Answer,
    },
    Compared {
        generation: u64,
        same: bool,
    },
    Swept {
        guardian: Guardian,
        answer: Answer,
    },
}

/// Where the key's life stands. `Hash` and `Eq` let a model checker run this very code.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lifecycle {
    pub(super) custody: Custody,
    pub(super) members: Members,
    /// Splits up to this generation are to be replaced even when the members stay: a copy of the header that was
    /// made before this boot shall not open the volume again.
    pub(super) rotate: u64,
    pub(super) phase: Phase,
    /// Attempts since the last split that each guardian spoilt.
    pub(super) blamed: BTreeMap<Guardian, Blame>,
    pub(super) failures: u32,
    pub(super) next_attempt: Duration,
    pub(super) next_sweep: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Phase {
    Settled,
    Gathering {
        guardians: BTreeSet<Guardian>,
    },
    Beginning {
        guardians: BTreeSet<Guardian>,
        writing: Custody,
    },
    Dealing {
        guardians: BTreeSet<Guardian>,
    },
    Storing {
        set: ShareSet,
        round: Round,
    },
    ReadingBack {
        set: ShareSet,
        round: Round,
    },
    Comparing {
        set: ShareSet,
    },
    Committing {
        writing: Custody,
    },
    Sweeping {
        open: BTreeSet<Guardian>,
        clean: BTreeSet<Guardian>,
        until: Duration,
    },
    Tidying {
        writing: Custody,
    },
    /// `None` while the disk is being read, else when to read it again.
    Rereading {
        again: Option<Duration>,
    },
}

impl Lifecycle {
    /// The key of a node whose volume is open and whose record was found genuine. Its split is replaced once, so
    /// that a copy of the header made before this boot opens nothing.
    pub fn start(custody: Custody, now: Duration) -> Self {
        Self {
            rotate: custody.generation(),
            custody,
            members: Members::new(),
            phase: Phase::Settled,
            blamed: BTreeMap::new(),
            failures: 0,
            next_attempt: Duration::ZERO,
            next_sweep: now + SWEEP_PAUSE,
        }
    }

    /// The key of a node that has just been enrolled: no copy of its header is older than this boot.
    pub fn enrolled(custody: Custody, now: Duration) -> Self {
        Self { rotate: 0, ..Self::start(custody, now) }
    }

    /// A word for what is under way, as the agent's status has it.
    pub fn state(&self) -> &'static str {
        match self.phase {
            Phase::Settled => "settled",
            Phase::Gathering { .. } => "gathering",
            Phase::Beginning { .. } | Phase::Rereading { .. } => "recording",
            Phase::Dealing { .. } => "dealing",
            Phase::Storing { .. } => "storing",
            Phase::ReadingBack { .. } => "reading-back",
            Phase::Comparing { .. } => "comparing",
            Phase::Committing { .. } => "committing",
            Phase::Sweeping { .. } | Phase::Tidying { .. } => "sweeping",
        }
    }

    /// When a split that is wanted and was put off is tried again.
    pub fn next_attempt(&self, now: Duration) -> Option<Duration> {
        let waits = self.phase == Phase::Settled && self.next_attempt > now;
        (waits && self.wanted(now).is_some()).then_some(self.next_attempt)
    }

    /// The record as it is on the disk, as far as known.
    pub fn custody(&self) -> &Custody {
        &self.custody
    }

    /// Whether nothing is under way and nothing is wanted.
    pub fn is_settled(&self, now: Duration) -> bool {
        self.phase == Phase::Settled && self.custody.stale().is_empty() && self.wanted(now).is_none()
    }

    /// Whether the key is in memory for a new split.
    pub fn holds_key(&self) -> bool {
        match self.phase {
            Phase::Gathering { .. }
            | Phase::Beginning { .. }
            | Phase::Dealing { .. }
            | Phase::Storing { .. }
            | Phase::ReadingBack { .. }
            | Phase::Comparing { .. }
            | Phase::Committing { .. } => true,
            Phase::Settled | Phase::Sweeping { .. } | Phase::Tidying { .. } | Phase::Rereading { .. } => {
                false
            }
        }
    }

    /// When to send [`Event::Clock`] if nothing else happens before; `None` while only an answer can move it.
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        match &self.phase {
            Phase::Settled => {
                let attempt = self.wanted(now).map(|_| self.next_attempt);
                let sweep = (!self.custody.stale().is_empty()).then_some(self.next_sweep);
                [attempt, sweep, members::wake(&self.members, &self.blamed, now)].into_iter().flatten().min()
            }
            Phase::Storing { round, .. } | Phase::ReadingBack { round, .. } => Some(round.wake()),
            Phase::Sweeping { until, .. } => Some(*until),
            Phase::Rereading { again } => *again,
            Phase::Gathering { .. }
            | Phase::Beginning { .. }
            | Phase::Dealing { .. }
            | Phase::Comparing { .. }
            | Phase::Committing { .. }
            | Phase::Tidying { .. } => None,
        }
    }

    /// Takes one event. An event that does not fit the phase, the generation or the guardian is late: it is ignored.
    pub fn step(mut self, event: Event, now: Duration) -> (Self, Vec<Action>) {
        let mut actions = Vec::new();
        match event {
            Event::Members(members) => self.members_changed(members, now, &mut actions),
            Event::Clock => {}
            Event::Gathered(got) => self.gathered(got, now, &mut actions),
            Event::Recorded(written) => self.recorded(written, now, &mut actions),
            Event::Record(found) => self.reread(found, now, &mut actions),
            Event::Dealt { generation, set } => self.dealt(generation, set, now, &mut actions),
            Event::Put { generation, guardian, answer } => {
                self.stored(generation, &guardian, answer, now, &mut actions);
            }
            Event::Got { generation, guardian, answer } => {
                self.read_back(generation, &guardian, answer, now, &mut actions);
            }
            Event::Compared { generation, same } => self.compared(generation, same, now, &mut actions),
            Event::Swept { guardian, answer } => self.swept(&guardian, answer, now, &mut actions),
        }
        self.pass_time(now, &mut actions);
        (self, actions)
    }

    pub(super) fn wanted(&self, now: Duration) -> Option<BTreeSet<Guardian>> {
        members::wanted(&self.custody, &self.members, &self.blamed, self.rotate, now)
    }
}
