//! One question to every guardian of a split: who has answered, who is asked again and when.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::custody::Guardian;

/// How long the guardians of a new split have to take their shares, and as long again to give them back.
pub const ROUND_LIMIT: Duration = Duration::from_secs(60);
/// Pause before a guardian that did not answer is asked again within a round.
pub const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What a guardian said of one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It took the share, or gave the right one.
    Good,
    /// It refused, or gave something else.
    Bad,
    /// Nothing was heard; what was asked may have happened all the same.
    Silent,
}

/// Asking all guardians of a split the same thing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Round {
    /// Those not yet done: `None` while a question is under way, else when to ask again.
    open: BTreeMap<Guardian, Option<Duration>>,
    /// Those of whom a question was not answered: a refusal may then mean that it was heard.
    unheard: BTreeSet<Guardian>,
    until: Duration,
}

/// Where a round stands after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Open,
    /// Everybody answered well.
    Done,
    Spoilt(Guardian),
}

impl Round {
    /// Everybody counts as asked.
    pub fn new(guardians: BTreeSet<Guardian>, now: Duration) -> Self {
        let open = guardians.into_iter().map(|guardian| (guardian, None)).collect();
        Self { open, unheard: BTreeSet::new(), until: now + ROUND_LIMIT }
    }

    /// Takes an answer. With `lenient`, a refusal after silence counts as good: a guardian that took a share and
    /// whose answer was lost refuses it the second time, and reading back decides.
    pub fn answer(&mut self, guardian: &Guardian, answer: Answer, lenient: bool, now: Duration) -> Progress {
        let Some(again) = self.open.get_mut(guardian) else { return Progress::Open };
        match answer {
            Answer::Silent => {
                *again = Some(now + ASK_AGAIN);
                self.unheard.insert(guardian.clone());
                return Progress::Open;
            }
            Answer::Bad if !(lenient && self.unheard.contains(guardian)) => {
                return Progress::Spoilt(guardian.clone());
            }
            Answer::Good | Answer::Bad => self.open.remove(guardian),
        };
        if self.open.is_empty() { Progress::Done } else { Progress::Open }
    }

    /// Those whose pause is over; they count as asked from now on.
    pub fn due(&mut self, now: Duration) -> Vec<Guardian> {
        let mut due = Vec::new();
        for (guardian, again) in &mut self.open {
            if again.is_some_and(|at| at <= now) {
                *again = None;
                due.push(guardian.clone());
            }
        }
        due
    }

    /// Those who have not answered well in all the time there was.
    pub fn overdue(&self, now: Duration) -> Option<BTreeSet<Guardian>> {
        (self.until <= now).then(|| self.open.keys().cloned().collect())
    }

    /// When to look again.
    pub fn wake(&self) -> Duration {
        self.open.values().flatten().copied().min().map_or(self.until, |at| at.min(self.until))
    }
}
