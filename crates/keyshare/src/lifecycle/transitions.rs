//! What each event does to a key's life: the arrows of the diagram in `machine`.

use std::collections::BTreeSet;
use std::time::Duration;

use super::custody::{Custody, Guardian};
use super::machine::{Action, Lifecycle, Phase, RECORD_PAUSE, SWEEP_LIMIT, SWEEP_PAUSE, attempt_pause};
use super::members::{Blame, Members, Presence};
use super::note::{Failure, Note};
use super::round::{Answer, Progress, Round};
use crate::holders::ShareSet;

impl Lifecycle {
    pub(super) fn members_changed(&mut self, members: Members, now: Duration, actions: &mut Vec<Action>) {
        self.members = members;
        self.blamed.retain(|guardian, _| self.members.contains_key(guardian));
        let target = match &self.phase {
            Phase::Gathering { guardians } | Phase::Dealing { guardians } => guardians.clone(),
            Phase::Storing { set, .. } | Phase::ReadingBack { set, .. } | Phase::Comparing { set } => {
                guardians_of(set)
            }
            // A write that is under way is awaited: what the disk has must stay known. Nor does sweeping mind.
            Phase::Beginning { .. }
            | Phase::Committing { .. }
            | Phase::Tidying { .. }
            | Phase::Rereading { .. }
            | Phase::Sweeping { .. }
            | Phase::Settled => return,
        };
        if target.iter().any(|guardian| self.has_left(guardian)) {
            self.fail(Failure::MembersChanged, now, actions);
        }
    }

    pub(super) fn gathered(&mut self, got: bool, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Gathering { guardians } = &self.phase else { return };
        if !got {
            return self.fail(Failure::NoKey, now, actions);
        }
        match self.custody.begin(guardians) {
            Ok(writing) => {
                let guardians = guardians.clone();
                actions.push(Action::Tell(Note::Attempt {
                    generation: writing.begun(),
                    guardians: guardians.len(),
                }));
                actions.push(Action::WriteRecord(writing.clone()));
                self.phase = Phase::Beginning { guardians, writing };
            }
            Err(_) => self.fail(Failure::Record, now, actions),
        }
    }

    pub(super) fn recorded(&mut self, written: bool, now: Duration, actions: &mut Vec<Action>) {
        let (writing, guardians) = match &self.phase {
            Phase::Beginning { writing, guardians } => (writing, Some(guardians.clone())),
            Phase::Committing { writing } | Phase::Tidying { writing } => (writing, None),
            Phase::Settled
            | Phase::Gathering { .. }
            | Phase::Dealing { .. }
            | Phase::Storing { .. }
            | Phase::ReadingBack { .. }
            | Phase::Comparing { .. }
            | Phase::Sweeping { .. }
            | Phase::Rereading { .. } => return,
        };
        if !written {
            if self.holds_key() {
                actions.push(Action::Forget);
            }
            actions.push(Action::ReadRecord);
            self.phase = Phase::Rereading { again: None };
            return;
        }
        let before = std::mem::replace(&mut self.custody, writing.clone());
        match guardians {
            Some(guardians) if guardians.iter().any(|guardian| self.has_left(guardian)) => {
                self.fail(Failure::MembersChanged, now, actions);
            }
            Some(guardians) => {
                let generation = self.custody.begun();
                actions.push(Action::Deal { generation, guardians: guardians.clone() });
                self.phase = Phase::Dealing { guardians };
            }
            None => self.rest(&before, now, actions),
        }
    }

    pub(super) fn reread(&mut self, found: Option<Custody>, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Rereading { again: None } = self.phase else { return };
        let Some(found) = found else {
            actions.push(Action::Tell(Note::NoRecord));
            self.phase = Phase::Rereading { again: Some(now + RECORD_PAUSE) };
            return;
        };
        let before = std::mem::replace(&mut self.custody, found);
        self.next_attempt = now + RECORD_PAUSE;
        self.next_sweep = now + SWEEP_PAUSE;
        self.rest(&before, now, actions);
    }

    pub(super) fn dealt(
        &mut self,
        generation: u64,
        set: Option<ShareSet>,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Dealing { guardians } = &self.phase else { return };
        if generation != self.custody.begun() {
            return;
        }
        let sound = set.filter(|set| set.generation() == generation && guardians_of(set) == *guardians);
        let Some(set) = sound else {
            return self.fail(Failure::Deal, now, actions);
        };
        let round = Round::new(guardians.clone(), now);
        let put = |guardian: &Guardian| Action::Put { generation, guardian: guardian.clone() };
        actions.extend(guardians.iter().map(put));
        self.phase = Phase::Storing { set, round };
    }

    pub(super) fn stored(
        &mut self,
        generation: u64,
        guardian: &Guardian,
        answer: Answer,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Storing { set, round } = &mut self.phase else { return };
        if set.generation() != generation {
            return;
        }
        match round.answer(guardian, answer, true, now) {
            Progress::Open => {}
            Progress::Spoilt(guardian) => self.fail(blame(guardian), now, actions),
            Progress::Done => {
                let guardians = guardians_of(set);
                let get = |guardian: &Guardian| Action::Get { generation, guardian: guardian.clone() };
                actions.extend(guardians.iter().map(get));
                self.phase = Phase::ReadingBack { set: set.clone(), round: Round::new(guardians, now) };
            }
        }
    }

    pub(super) fn read_back(
        &mut self,
        generation: u64,
        guardian: &Guardian,
        answer: Answer,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Phase::ReadingBack { set, round } = &mut self.phase else { return };
        if set.generation() != generation {
            return;
        }
        match round.answer(guardian, answer, false, now) {
            Progress::Open => {}
            Progress::Spoilt(guardian) => self.fail(blame(guardian), now, actions),
            Progress::Done => {
                actions.push(Action::Compare { generation });
                self.phase = Phase::Comparing { set: set.clone() };
            }
        }
    }

    pub(super) fn compared(&mut self, generation: u64, same: bool, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Comparing { set } = &self.phase else { return };
        if set.generation() != generation {
            return;
        }
        if !same {
            return self.fail(Failure::OtherKey, now, actions);
        }
        match self.custody.commit(set.clone()) {
            Ok(writing) => {
                actions.push(Action::WriteRecord(writing.clone()));
                self.phase = Phase::Committing { writing };
            }
            Err(_) => self.fail(Failure::Record, now, actions),
        }
    }

    pub(super) fn swept(
        &mut self,
        guardian: &Guardian,
        answer: Answer,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Sweeping { open, clean, .. } = &mut self.phase else { return };
        if !open.remove(guardian) {
            return;
        }
        if answer == Answer::Good {
            clean.insert(guardian.clone());
        }
        if open.is_empty() {
            self.tidy(now, actions);
        }
    }

    /// What happens because of the time, and what begins when nothing is under way.
    pub(super) fn pass_time(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match &mut self.phase {
            Phase::Storing { set, round } => match round.overdue(now) {
                Some(late) => self.fail(Failure::Guardians(late), now, actions),
                None => {
                    let generation = set.generation();
                    let put = |guardian| Action::Put { generation, guardian };
                    actions.extend(round.due(now).into_iter().map(put));
                }
            },
            Phase::ReadingBack { set, round } => match round.overdue(now) {
                Some(late) => self.fail(Failure::Guardians(late), now, actions),
                None => {
                    let generation = set.generation();
                    let get = |guardian| Action::Get { generation, guardian };
                    actions.extend(round.due(now).into_iter().map(get));
                }
            },
            Phase::Sweeping { until, .. } if *until <= now => self.tidy(now, actions),
            Phase::Rereading { again } if again.is_some_and(|at| at <= now) => {
                *again = None;
                actions.push(Action::ReadRecord);
            }
            Phase::Settled
            | Phase::Gathering { .. }
            | Phase::Beginning { .. }
            | Phase::Dealing { .. }
            | Phase::Comparing { .. }
            | Phase::Committing { .. }
            | Phase::Sweeping { .. }
            | Phase::Tidying { .. }
            | Phase::Rereading { .. } => {}
        }
        if self.phase == Phase::Settled {
            self.begin_something(now, actions);
        }
    }

    fn begin_something(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Some(guardians) = self.wanted(now).filter(|_| self.next_attempt <= now) {
            actions.push(Action::Gather);
            self.phase = Phase::Gathering { guardians };
        } else if !self.custody.stale().is_empty() && self.next_sweep <= now {
            let (open, left): (BTreeSet<_>, BTreeSet<_>) = self
                .custody
                .stale()
                .iter()
                .cloned()
                .partition(|guardian| self.members.contains_key(guardian));
            let sweep = |guardian: &Guardian| Action::Sweep {
                guardian: guardian.clone(),
                custody: self.custody.clone(),
            };
            actions.extend(open.iter().map(sweep));
            actions.extend(left.iter().cloned().map(|guardian| Action::Tell(Note::LeftBehind { guardian })));
            self.phase = Phase::Sweeping { clean: left, until: now + SWEEP_LIMIT, open };
            if let Phase::Sweeping { open, .. } = &self.phase
                && open.is_empty()
            {
                self.tidy(now, actions);
            }
        }
    }

    /// Ends a sweep: those found clean are struck off the record, the others are swept again later.
    fn tidy(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Phase::Sweeping { clean, .. } = &self.phase else { return };
        self.next_sweep = now + SWEEP_PAUSE;
        if clean.is_empty() {
            self.phase = Phase::Settled;
            return;
        }
        let writing = self.custody.swept(clean);
        actions.push(Action::WriteRecord(writing.clone()));
        self.phase = Phase::Tidying { writing };
    }

    /// Back to rest with what the disk has now.
    fn rest(&mut self, before: &Custody, now: Duration, actions: &mut Vec<Action>) {
        if self.holds_key() {
            actions.push(Action::Forget);
        }
        self.phase = Phase::Settled;
        if self.custody.generation() != before.generation()
            && let Some(set) = self.custody.shares()
        {
            let (generation, k, n) = (set.generation(), set.k(), set.n());
            actions.push(Action::Tell(Note::Committed { generation, k, n }));
            self.blamed.clear();
            self.failures = 0;
            self.next_attempt = now;
        }
    }

    fn fail(&mut self, why: Failure, now: Duration, actions: &mut Vec<Action>) {
        if let Failure::Guardians(guardians) = &why {
            for guardian in guardians {
                let blame = Blame::again(self.blamed.get(guardian), now);
                self.blamed.insert(guardian.clone(), blame);
            }
        }
        let pause = attempt_pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        self.next_attempt = now + pause;
        self.next_sweep = now + SWEEP_PAUSE;
        actions.push(Action::Forget);
        actions.push(Action::Tell(Note::Failed { why, pause }));
        self.phase = Phase::Settled;
    }

    fn has_left(&self, guardian: &Guardian) -> bool {
        match self.members.get(guardian) {
            None | Some(Presence::Leaving) => true,
            Some(Presence::Alive | Presence::Silent { .. }) => false,
        }
    }
}

fn guardians_of(set: &ShareSet) -> BTreeSet<Guardian> {
    set.holders().iter().map(Guardian::from).collect()
}

fn blame(guardian: Guardian) -> Failure {
    Failure::Guardians(BTreeSet::from([guardian]))
}
