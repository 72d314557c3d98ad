//! The same machine under a model checker: one node, four guardians, one of which joins and one of which leaves, and
//! every order of answers, losses, power cuts and torn writes within a budget. What the simulation throws dice for
//! is exhausted here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orama_keyshare::lifecycle::{Action, Answer, Custody, Event, Guardian, Lifecycle, Members, Presence};
use orama_keyshare::{Digest, Holder, ShareSet, Threshold};
use stateright::{Checker, Model, Property};

use crate::world::guardian;

/// How much may go wrong, and how often time may pass with nothing else to do.
#[derive(Clone)]
struct Budget {
    crashes: u8,
    losses: u8,
    ticks: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Cluster {
    disk: Custody,
    /// `None`: without power.
    machine: Option<Lifecycle>,
    /// What the machine asked for and nobody has answered yet.
    pending: Vec<Action>,
    /// Puts of before a power cut that are still on their way.
    adrift: Vec<Action>,
    /// Which generations each guardian keeps.
    stores: BTreeMap<Guardian, BTreeSet<u64>>,
    /// Generations that were split; one of them twice is a violation.
    dealt: BTreeSet<u64>,
    twice: bool,
    /// Which of the [`memberships`] holds.
    membership: usize,
    clock: Duration,
    crashes: u8,
    losses: u8,
    ticks: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    /// The pending action is done and its answer arrives.
    Done(usize),
    /// It is done, or not, and the answer is lost or is an error.
    Lost {
        index: usize,
        done: bool,
    },
    Arrives(usize),
    Crash {
        writing: bool,
    },
    Boot,
    MembersChange,
    TimePasses,
}

/// Who there is, in this order: four, then one leaves, then it is gone.
fn memberships() -> [Members; 3] {
    let all = |leaving: Option<Presence>| -> Members {
        let others = (2..=5).map(|id| (guardian(id), Presence::Alive));
        others.chain(leaving.map(|presence| (guardian(1), presence))).collect()
    };
    let mut first = all(Some(Presence::Alive));
    first.remove(&guardian(5));
    [first, all(Some(Presence::Leaving)), all(None)]
}

fn set_of(generation: u64, guardians: &BTreeSet<Guardian>) -> ShareSet {
    let holder = |(index, guardian): (usize, &Guardian)| Holder {
        node_id: guardian.node_id.clone(),
        wg_ip: guardian.wg_ip,
        x: index as u8 + 1,
        digest: Digest([generation as u8; 32]),
    };
    let holders = guardians.iter().enumerate().map(holder).collect();
    ShareSet::new(generation, Threshold::for_guardians(guardians.len()).unwrap(), holders).unwrap()
}

struct Life {
    budget: Budget,
}

impl Model for Life {
    type State = Cluster;
    type Action = Step;

    fn init_states(&self) -> Vec<Cluster> {
        let first = (1..=3).map(guardian).collect();
        let set = set_of(1, &first);
        let stores = (1..=5).map(|id| {
            let kept = if id <= 3 { BTreeSet::from([1]) } else { BTreeSet::new() };
            (guardian(id), kept)
        });
        vec![Cluster {
            disk: Custody::shared(set),
            machine: None,
            pending: Vec::new(),
            adrift: Vec::new(),
            stores: stores.collect(),
            dealt: BTreeSet::from([1]),
            twice: false,
            membership: 0,
            clock: Duration::ZERO,
            crashes: self.budget.crashes,
            losses: self.budget.losses,
            ticks: self.budget.ticks,
        }]
    }

    fn actions(&self, state: &Cluster, steps: &mut Vec<Step>) {
        steps.extend((0..state.adrift.len()).map(Step::Arrives));
        if state.machine.is_none() {
            return steps.push(Step::Boot);
        }
        steps.extend((0..state.pending.len()).map(Step::Done));
        if state.losses > 0 {
            steps.extend((0..state.pending.len()).map(|index| Step::Lost { index, done: true }));
            steps.extend((0..state.pending.len()).map(|index| Step::Lost { index, done: false }));
        }
        if state.crashes > 0 {
            steps.push(Step::Crash { writing: false });
            if state.pending.iter().any(|action| matches!(action, Action::WriteRecord(_))) {
                steps.push(Step::Crash { writing: true });
            }
        }
        if state.membership + 1 < memberships().len() && state.may_change() {
            steps.push(Step::MembersChange);
        }
        if state.pending.is_empty() && state.ticks > 0 && state.wake().is_some() {
            steps.push(Step::TimePasses);
        }
    }

    fn next_state(&self, last: &Cluster, step: Step) -> Option<Cluster> {
        let mut state = last.clone();
        match step {
            Step::Done(index) => {
                let action = state.pending.remove(index);
                let event = state.perform(action);
                state.feed(event);
            }
            Step::Lost { index, done } => {
                state.losses -= 1;
                let action = state.pending.remove(index);
                let event = state.lose(action, done)?;
                state.feed(event);
            }
            Step::Arrives(index) => {
                let action = state.adrift.remove(index);
                state.perform(action);
            }
            Step::Crash { writing } => {
                state.crashes -= 1;
                state.machine = None;
                for action in std::mem::take(&mut state.pending) {
                    match action {
                        Action::WriteRecord(custody) if writing => state.disk = custody,
                        Action::Put { .. } => state.adrift.push(action),
                        Action::WriteRecord(_)
                        | Action::Gather
                        | Action::ReadRecord
                        | Action::Deal { .. }
                        | Action::Get { .. }
                        | Action::Compare { .. }
                        | Action::Sweep { .. }
                        | Action::Forget
                        | Action::Tell(_) => {}
                    }
                }
            }
            Step::Boot => {
                state.machine = Some(Lifecycle::start(state.disk.clone(), state.clock));
                state.feed(Event::Members(memberships()[state.membership].clone()));
            }
            Step::MembersChange => {
                state.membership += 1;
                state.feed(Event::Members(memberships()[state.membership].clone()));
            }
            Step::TimePasses => {
                state.ticks -= 1;
                state.clock = state.clock.max(state.wake()?);
                state.feed(Event::Clock);
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("what the header names is there", |_, state: &Cluster| {
                let generation = state.disk.generation();
                state.disk.guardians().iter().all(|holder| state.stores[holder].contains(&generation))
            }),
            Property::always("a generation is split once", |_, state: &Cluster| !state.twice),
            Property::always("nobody waits for ever", |_, state: &Cluster| {
                let stuck = state.pending.is_empty() && state.adrift.is_empty() && state.machine.is_some();
                !stuck || state.wake().is_some() || state.rests()
            }),
            Property::sometimes("the one that left is split around", |_, state: &Cluster| {
                state.disk.guardians() == (2..=5).map(guardian).collect() && state.rests()
            }),
            Property::sometimes("and keeps nothing", |_, state: &Cluster| {
                state.stores[&guardian(1)].is_empty() && state.rests()
            }),
            Property::sometimes("a power cut does not stop it", |_, state: &Cluster| {
                state.crashes == 0 && state.disk.generation() > 1 && state.rests()
            }),
            Property::sometimes("nor a torn write", |_, state: &Cluster| {
                state.losses == 0 && state.disk.generation() > 1 && state.rests()
            }),
        ]
    }
}

impl Cluster {
    fn wake(&self) -> Option<Duration> {
        self.machine.as_ref().and_then(|machine| machine.wake(self.clock))
    }

    fn rests(&self) -> bool {
        self.machine.as_ref().is_some_and(|machine| machine.is_settled(self.clock))
    }

    /// The one that leaves goes when nobody's key rests with it.
    fn may_change(&self) -> bool {
        self.membership == 0 || !self.disk.guardians().contains(&guardian(1))
    }

    fn feed(&mut self, event: Event) {
        let Some(machine) = self.machine.take() else { return };
        let (machine, actions) = machine.step(event, self.clock);
        self.machine = Some(machine);
        for action in actions {
            match action {
                // What was asked for the forgotten split is still under way, but nobody listens.
                Action::Forget | Action::Tell(_) => {}
                Action::Gather
                | Action::WriteRecord(_)
                | Action::ReadRecord
                | Action::Deal { .. }
                | Action::Put { .. }
                | Action::Get { .. }
                | Action::Compare { .. }
                | Action::Sweep { .. } => self.pending.push(action),
            }
        }
        // The order in which things were asked for is no difference.
        self.pending.sort_by_key(|action| format!("{action:?}"));
    }

    /// Does what was asked for, as it should be done.
    fn perform(&mut self, action: Action) -> Event {
        match action {
            Action::Gather => Event::Gathered(true),
            Action::WriteRecord(custody) => {
                self.disk = custody;
                Event::Recorded(true)
            }
            Action::ReadRecord => Event::Record(Some(self.disk.clone())),
            Action::Deal { generation, guardians } => {
                self.twice |= !self.dealt.insert(generation);
                Event::Dealt { generation, set: Some(set_of(generation, &guardians)) }
            }
            Action::Put { generation, guardian } => {
                let new = self.stores.get_mut(&guardian).is_some_and(|store| store.insert(generation));
                let answer = if new { Answer::Good } else { Answer::Bad };
                Event::Put { generation, guardian, answer }
            }
            Action::Get { generation, guardian } => {
                let kept = self.stores[&guardian].contains(&generation);
                let answer = if kept { Answer::Good } else { Answer::Bad };
                Event::Got { generation, guardian, answer }
            }
            Action::Compare { generation } => Event::Compared { generation, same: true },
            Action::Sweep { guardian, custody } => {
                if let Some(store) = self.stores.get_mut(&guardian) {
                    store.retain(|generation| !custody.is_obsolete(*generation));
                }
                Event::Swept { guardian, answer: Answer::Good }
            }
            Action::Forget | Action::Tell(_) => Event::Clock,
        }
    }

    /// The same, when it goes wrong; `done` says whether it happened all the same.
    fn lose(&mut self, action: Action, done: bool) -> Option<Event> {
        if done {
            self.perform(action.clone());
        }
        match action {
            Action::WriteRecord(_) => Some(Event::Recorded(false)),
            Action::Put { generation, guardian } => {
                Some(Event::Put { generation, guardian, answer: Answer::Silent })
            }
            Action::Sweep { guardian, .. } => Some(Event::Swept { guardian, answer: Answer::Silent }),
            Action::Get { generation, guardian } if !done => {
                Some(Event::Got { generation, guardian, answer: Answer::Silent })
            }
            Action::Gather if !done => Some(Event::Gathered(false)),
            Action::ReadRecord if !done => Some(Event::Record(None)),
            // Done and not heard of makes no difference for what only reads.
            Action::Get { .. }
            | Action::Gather
            | Action::ReadRecord
            | Action::Deal { .. }
            | Action::Compare { .. }
            | Action::Forget
            | Action::Tell(_) => None,
        }
    }
}

fn check(crashes: u8, losses: u8, ticks: u8) {
    let model = Life { budget: Budget { crashes, losses, ticks } };
    let checker = model.checker().threads(2).spawn_bfs().join();
    println!("{} states, {} unique", checker.state_count(), checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn every_order_of_a_power_cut_and_a_loss() {
    check(1, 1, 6);
}
