//! Which guardians a key should be split over. Pure: presence is told, time is passed in.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::custody::{Custody, Guardian};

/// Guardians that a wallet-kept key waits for before it is split (deployment guide, "Genesis Node").
pub const GENESIS_GUARDIANS: usize = 5;
/// Fewest guardians of a split that can lose one of them; smaller only when the cluster is.
const SPARE_GUARDIANS: usize = 4;
/// Fewest guardians of any split.
const GUARDIANS_MIN: usize = 3;
/// A member that was silent for so long is split around, until it is heard again. Longer than any reboot or update.
pub const DEAD_AFTER: Duration = Duration::from_secs(3600);
/// Attempts that one guardian may spoil before it is split around for as long, although it is alive.
pub const BLAMED_MAX: u32 = 3;

/// How often a guardian spoilt an attempt since the last split, and when it did so last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Blame {
    count: u32,
    last: Duration,
}

impl Blame {
    pub fn again(before: Option<&Blame>, now: Duration) -> Self {
        Self { count: before.map_or(1, |blame| blame.count.saturating_add(1)), last: now }
    }

    /// When it gets another chance; `None` while it still has one.
    fn until(&self) -> Option<Duration> {
        (self.count >= BLAMED_MAX).then_some(self.last + DEAD_AFTER)
    }
}

/// How a member is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Presence {
    Alive,
    /// Not heard of since then, or never since this node started.
    Silent {
        since: Duration,
    },
    /// It said that it leaves: no new shares go to it, but it can still be swept.
    Leaving,
}

/// Everybody in the cluster who keeps shares for others, this node not among them.
pub type Members = BTreeMap<Guardian, Presence>;

/// Guardians over which the key should be split now; `None` while the present custody is as good as can be had.
pub(super) fn wanted(
    custody: &Custody,
    members: &Members,
    blamed: &BTreeMap<Guardian, Blame>,
    rotate: u64,
    now: Duration,
) -> Option<BTreeSet<Guardian>> {
    let staying = || members.iter().filter(|(_, presence)| **presence != Presence::Leaving);
    // Whoever cuts a node off from most of its cluster for an hour must not thereby choose its few guardians.
    let majority = staying().count() / 2 + 1;
    let fit: BTreeSet<Guardian> = staying()
        .filter(|(_, presence)| **presence == Presence::Alive)
        .filter(|(guardian, _)| blamed.get(guardian).and_then(Blame::until).is_none_or(|until| until <= now))
        .map(|(guardian, _)| guardian.clone())
        .collect();
    if custody.shares().is_none() {
        return (fit.len() >= GENESIS_GUARDIANS.max(majority)).then_some(fit);
    }
    let current = custody.guardians();
    if fit == current && custody.generation() > rotate {
        return None;
    }
    // A holder that left takes its share with it: the others are enough now, but nobody knows for how long.
    let lost = current.iter().any(|holder| members.get(holder).is_none_or(|p| *p == Presence::Leaving));
    let missed = current.iter().any(|holder| match members.get(holder) {
        Some(Presence::Silent { since }) => now.saturating_sub(*since) < DEAD_AFTER,
        Some(Presence::Alive | Presence::Leaving) | None => false,
    });
    if missed && !lost {
        return None;
    }
    let fewest = staying().count().clamp(GUARDIANS_MIN, SPARE_GUARDIANS);
    (fit.len() >= fewest.max(majority)).then_some(fit)
}

/// When time alone may change what is wanted.
pub(super) fn wake(members: &Members, blamed: &BTreeMap<Guardian, Blame>, now: Duration) -> Option<Duration> {
    let dead = members.values().filter_map(|presence| match presence {
        Presence::Silent { since } => Some(*since + DEAD_AFTER),
        Presence::Alive | Presence::Leaving => None,
    });
    dead.chain(blamed.values().filter_map(Blame::until)).filter(|at| *at > now).min()
}
