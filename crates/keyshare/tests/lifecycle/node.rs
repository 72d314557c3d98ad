//! What the agent does around the machine, in the simulation: asks guardians with a time limit, splits, judges
//! answers with the real collector, writes records. Everything in [`Up`] is gone when the power goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use orama_keyshare::collector::{Collector, Refusal};
use orama_keyshare::lifecycle::{Action, Answer, Custody, Event, Guardian, Lifecycle, Members};
use orama_keyshare::{VolumeKey, backoff};
use zeroize::Zeroizing;

use crate::world::{Envelopes, Happening, Id, Lie, Reply, Request, World, deal, id_of, volume};

/// A guardian that has not answered by then counts as silent.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// A node under power.
#[derive(Default)]
pub struct Up {
    /// How far this boot's clock has jumped ahead of the world's.
    pub ahead: Duration,
    /// `None` while the volume is closed.
    pub machine: Option<Lifecycle>,
    pub members: Members,
    /// When the machine is woken next.
    pub alarm: Option<Duration>,
    pub key: Option<VolumeKey>,
    envelopes: Envelopes,
    /// Collects shares of the current split, for the boot or for a new split.
    gathering: Option<Collector>,
    /// Collects what the guardians of a new split give back.
    reading: Option<Collector>,
    calls: BTreeMap<u64, Call>,
    next_call: u64,
}

#[derive(Clone, Debug)]
enum Call {
    Gather { index: usize },
    Put { generation: u64, guardian: Guardian },
    Get { generation: u64, guardian: Guardian },
    List { guardian: Guardian, custody: Custody },
    Delete { guardian: Guardian, left: Vec<u64> },
}

impl World {
    pub fn boot(&mut self, id: Id) {
        let node = &mut self.nodes[id];
        if node.up.is_some() || node.disk.is_none() || node.destroyed {
            return;
        }
        node.boots += 1;
        let boot = node.boots;
        node.up = Some(Up::default());
        self.tell_all();
        self.later(Duration::ZERO, Happening::Unlock { node: id, boot, attempt: 0 });
    }

    /// One round of asking all holders; a wallet-kept volume is opened by its owner's hand.
    pub fn unlock(&mut self, id: Id, boot: u32, attempt: u32) {
        let Some(custody) = self.booted(id, boot).and_then(|_| self.nodes[id].disk.clone()) else { return };
        if self.up(id).machine.is_some() {
            return;
        }
        let Some(set) = custody.shares() else {
            let hand = self.dice.millis(1_000, 60_000);
            if attempt == 0 {
                self.later(hand, Happening::Unlock { node: id, boot, attempt: 1 });
            } else {
                self.opened(id, custody);
            }
            return;
        };
        let node_id = format!("node-10.0.0.{id}");
        let mut collector =
            self.up_mut(id).gathering.take().unwrap_or(Collector::new(set.clone(), volume(id), node_id));
        let open = collector.ask_again();
        self.up_mut(id).gathering = Some(collector);
        self.ask_holders(id, &open);
        let pause = CALL_LIMIT + backoff::delay(attempt, 0.0);
        self.later(pause, Happening::Unlock { node: id, boot, attempt: attempt + 1 });
    }

    fn opened(&mut self, id: Id, custody: Custody) {
        self.up_mut(id).gathering = None;
        let now = self.clock_of(id);
        self.up_mut(id).machine = Some(Lifecycle::start(custody, now));
        self.learn(id);
    }

    pub fn learn(&mut self, id: Id) {
        let Some(up) = &self.nodes[id].up else { return };
        let members = self.members_for(id, &up.members);
        self.up_mut(id).members = members.clone();
        self.feed(id, Event::Members(members));
    }

    /// Gives an event to the machine and does what it asks for.
    pub fn feed(&mut self, id: Id, event: Event) {
        let now = self.clock_of(id);
        let Some(machine) = self.nodes[id].up.as_mut().and_then(|up| up.machine.take()) else { return };
        let (machine, actions) = machine.step(event, now);
        let wake = machine.wake(now);
        self.up_mut(id).machine = Some(machine);
        if let Some(wake) = wake.filter(|wake| self.up(id).alarm.is_none_or(|alarm| *wake < alarm)) {
            self.up_mut(id).alarm = Some(wake);
            let boot = self.nodes[id].boots;
            self.later(wake.saturating_sub(now), Happening::Clock { node: id, boot });
        }
        for action in actions {
            if self.nodes[id].up.is_none() {
                return;
            }
            self.carry_out(id, action);
        }
    }

    fn carry_out(&mut self, id: Id, action: Action) {
        match action {
            Action::Gather => self.gather(id),
            Action::WriteRecord(custody) => self.write(id, custody),
            Action::ReadRecord => {
                let found = (!self.dice.percent(self.torn)).then(|| self.nodes[id].disk.clone()).flatten();
                self.locally(id, Event::Record(found));
            }
            Action::Deal { generation, guardians } => {
                let up = self.nodes[id].up.as_mut().unwrap();
                let dealt = up.key.as_ref().and_then(|key| deal(key, id, generation, &guardians));
                let set = dealt.map(|(set, envelopes)| {
                    let node_id = format!("node-10.0.0.{id}");
                    up.reading = Some(Collector::new(set.clone(), volume(id), node_id));
                    up.envelopes = envelopes;
                    set
                });
                self.locally(id, Event::Dealt { generation, set });
            }
            Action::Put { generation, guardian } => {
                let envelope = self.up(id).envelopes[&guardian].clone();
                let to = id_of(&guardian);
                let request = Request::Put { generation, envelope };
                self.call(id, to, request, Call::Put { generation, guardian });
            }
            Action::Get { generation, guardian } => {
                let to = id_of(&guardian);
                self.call(id, to, Request::Get { generation }, Call::Get { generation, guardian });
            }
            Action::Compare { generation } => {
                let up = self.up(id);
                let read = up.reading.as_ref().and_then(|reading| reading.key()).and_then(Result::ok);
                let same = match (&up.key, read) {
                    (Some(key), Some(read)) => key.matches(&read),
                    (None, _) | (_, None) => false,
                };
                self.locally(id, Event::Compared { generation, same });
            }
            Action::Sweep { guardian, custody } => {
                let to = id_of(&guardian);
                self.call(id, to, Request::List, Call::List { guardian, custody });
            }
            Action::Forget => {
                let up = self.up_mut(id);
                (up.key, up.reading, up.gathering) = (None, None, None);
                up.envelopes.clear();
                up.calls.retain(|_, call| !matches!(call, Call::Gather { .. }));
            }
            Action::Tell(note) => {
                if std::env::var("LIFECYCLE_SEED").is_ok() {
                    println!("{:>7} s node {id}: {note}", self.now.as_secs());
                }
            }
        }
    }

    fn gather(&mut self, id: Id) {
        let custody = self.nodes[id].disk.clone().unwrap();
        let Some(set) = custody.shares() else {
            // Kept inside the open volume until it is split.
            let key = VolumeKey::from_slice(self.nodes[id].secret.expose()).unwrap();
            self.up_mut(id).key = Some(key);
            return self.locally(id, Event::Gathered(true));
        };
        let mut collector = Collector::new(set.clone(), volume(id), format!("node-10.0.0.{id}"));
        let open = collector.ask_again();
        self.up_mut(id).gathering = Some(collector);
        self.ask_holders(id, &open);
    }

    fn ask_holders(&mut self, id: Id, open: &[usize]) {
        let Some(set) = self.up(id).gathering.as_ref().map(|collector| collector.set().clone()) else {
            return;
        };
        for &index in open {
            let to = usize::from(set.holders()[index].wg_ip.octets()[3]);
            self.call(id, to, Request::Get { generation: set.generation() }, Call::Gather { index });
        }
    }

    /// A write may be cut by a power loss on either side of it, or fail with the record on the disk or not.
    fn write(&mut self, id: Id, custody: Custody) {
        let (torn, reached) = (self.dice.percent(self.torn), self.dice.percent(50));
        if !torn || reached {
            self.nodes[id].disk = Some(custody);
        }
        if torn && self.dice.percent(50) {
            self.power_off(id);
            let dark = self.dice.millis(1_000, 120_000);
            self.later(dark, Happening::Boot { node: id });
        } else {
            self.locally(id, Event::Recorded(!torn));
        }
    }

    fn locally(&mut self, id: Id, event: Event) {
        let (boot, took) = (self.nodes[id].boots, self.dice.millis(1, 700));
        self.later(took, Happening::Local { node: id, boot, event });
    }

    fn call(&mut self, from: Id, to: Id, request: Request, what: Call) {
        let boot = self.nodes[from].boots;
        let up = self.up_mut(from);
        let call = up.next_call;
        up.next_call += 1;
        up.calls.insert(call, what);
        self.send(from, to, || Happening::Asked { from, boot, call, to, request: request.clone() });
        self.later(CALL_LIMIT, Happening::TimedOut { node: from, boot, call });
    }

    /// The answer of a call, or its silence.
    pub fn answered(&mut self, id: Id, boot: u32, call: u64, reply: Option<Reply>) {
        if self.booted(id, boot).is_none() {
            return;
        }
        let Some(what) = self.up_mut(id).calls.remove(&call) else { return };
        match what {
            Call::Gather { index } => self.gathered(id, index, reply),
            Call::Put { generation, guardian } => {
                let answer = match reply {
                    Some(Reply::Stored) => Answer::Good,
                    Some(_) => Answer::Bad,
                    None => Answer::Silent,
                };
                self.feed(id, Event::Put { generation, guardian, answer });
            }
            Call::Get { generation, guardian } => {
                let answer = match reply {
                    Some(Reply::Share(bytes)) => self.judge(id, generation, &guardian, bytes),
                    Some(_) => Answer::Bad,
                    None => Answer::Silent,
                };
                self.feed(id, Event::Got { generation, guardian, answer });
            }
            Call::List { guardian, custody } => match reply {
                Some(Reply::Generations(all)) => {
                    let left =
                        all.into_iter().filter(|generation| custody.is_obsolete(*generation)).collect();
                    self.sweep_on(id, guardian, left);
                }
                Some(_) => self.feed(id, Event::Swept { guardian, answer: Answer::Bad }),
                None => self.feed(id, Event::Swept { guardian, answer: Answer::Silent }),
            },
            Call::Delete { guardian, left } => match reply {
                // Deleted, or not there any more: a request that came twice.
                Some(_) => self.sweep_on(id, guardian, left),
                None => self.feed(id, Event::Swept { guardian, answer: Answer::Silent }),
            },
        }
    }

    fn sweep_on(&mut self, id: Id, guardian: Guardian, mut left: Vec<u64>) {
        match left.pop() {
            None => self.feed(id, Event::Swept { guardian, answer: Answer::Good }),
            Some(generation) => {
                let to = id_of(&guardian);
                self.call(id, to, Request::Delete { generation }, Call::Delete { guardian, left });
            }
        }
    }

    fn judge(&mut self, id: Id, generation: u64, guardian: &Guardian, bytes: Vec<u8>) -> Answer {
        let Some(reading) = self.up_mut(id).reading.as_mut() else { return Answer::Silent };
        if reading.set().generation() != generation {
            return Answer::Silent;
        }
        let holder = |set: &orama_keyshare::ShareSet| {
            set.holders().iter().position(|holder| Guardian::from(holder) == *guardian)
        };
        let index = holder(reading.set()).unwrap();
        match reading.answer(index, Ok(Zeroizing::new(bytes))) {
            Ok(verdict) if *verdict == orama_keyshare::collector::Verdict::Good => Answer::Good,
            Ok(_) | Err(_) => Answer::Bad,
        }
    }

    fn gathered(&mut self, id: Id, index: usize, reply: Option<Reply>) {
        let answer = match reply {
            Some(Reply::Share(bytes)) => Ok(Zeroizing::new(bytes)),
            Some(_) => Err(Refusal::NoShare),
            None => Err(Refusal::TimedOut),
        };
        let closed = self.up(id).machine.is_none();
        let Some(collector) = self.up_mut(id).gathering.as_mut() else { return };
        collector.answer(index, answer).unwrap();
        let (enough, all) = (collector.enough(), collector.all_answered());
        let key = collector.key().and_then(Result::ok);
        if enough {
            self.up_mut(id).calls.retain(|_, call| !matches!(call, Call::Gather { .. }));
            let key = key.expect("good shares make a key");
            assert!(key.matches(&self.nodes[id].secret), "good shares of node {id} make another key");
            self.up_mut(id).gathering = None;
            if closed {
                self.up_mut(id).calls.clear();
                let custody = self.nodes[id].disk.clone().unwrap();
                self.opened(id, custody);
            } else {
                self.up_mut(id).key = Some(key);
                self.feed(id, Event::Gathered(true));
            }
        } else if all && !closed {
            self.up_mut(id).gathering = None;
            self.feed(id, Event::Gathered(false));
        }
    }

    pub fn booted(&self, id: Id, boot: u32) -> Option<&Up> {
        self.nodes[id].up.as_ref().filter(|_| self.nodes[id].boots == boot)
    }

    fn up(&self, id: Id) -> &Up {
        self.nodes[id].up.as_ref().expect("the node is up")
    }

    fn up_mut(&mut self, id: Id) -> &mut Up {
        self.nodes[id].up.as_mut().expect("the node is up")
    }

    /// What must hold at every moment.
    pub fn check(&self, owner: Id) {
        let node = &self.nodes[owner];
        if let Some(machine) = node.up.as_ref().and_then(|up| up.machine.as_ref()) {
            let key = node.up.as_ref().is_some_and(|up| up.key.is_some());
            assert!(machine.holds_key() || !key, "node {owner} keeps its key for nothing");
        }
        let Some(set) = node.disk.as_ref().and_then(|custody| custody.shares().cloned()) else { return };
        let mut ready = 0;
        for holder in set.holders() {
            let keeper = &self.nodes[id_of(&Guardian::from(holder))];
            if keeper.destroyed {
                continue;
            }
            let kept = keeper.shares.get(&(owner, set.generation()));
            let right = kept.is_some_and(|kept| orama_keyshare::digest(kept) == holder.digest.0);
            let faithful = match keeper.lie {
                None | Some(Lie::Hoarding) => true,
                Some(Lie::Forgetful | Lie::Garbling | Lie::Refusing) => false,
            };
            assert!(
                right || !faithful,
                "{} has lost its share of generation {} of node {owner}",
                holder.node_id,
                set.generation()
            );
            ready += u8::from(right && faithful);
        }
        assert!(
            ready >= set.k(),
            "the volume of node {owner} cannot be opened any more: {ready} of {} shares are left",
            set.k()
        );
    }

    /// Nobody has two shares of one split, and shares of several splits do not make the key together.
    pub fn check_mixtures(&self, owner: Id) {
        let mut generations: BTreeMap<u64, Vec<&Vec<u8>>> = BTreeMap::new();
        for node in &self.nodes {
            for ((of, generation), envelope) in &node.shares {
                if *of == owner {
                    generations.entry(*generation).or_default().push(envelope);
                }
            }
        }
        let decode = |bytes: &&Vec<u8>| orama_keyshare::Envelope::decode(bytes).unwrap();
        let splits: Vec<Vec<_>> = generations.values().map(|all| all.iter().map(decode).collect()).collect();
        for envelopes in &splits {
            let points: BTreeSet<u8> = envelopes.iter().map(|envelope| envelope.share.x()).collect();
            assert_eq!(points.len(), envelopes.len(), "two guardians of node {owner} have the same share");
        }
        for pair in splits.windows(2) {
            let k = usize::from(pair[0][0].threshold.k()).max(usize::from(pair[1][0].threshold.k()));
            let half = pair[0].iter().take(k - 1);
            let points: BTreeSet<u8> = half.clone().map(|envelope| envelope.share.x()).collect();
            let others = pair[1].iter().filter(|envelope| !points.contains(&envelope.share.x()));
            let mixed: Vec<_> = half.chain(others.take(1)).map(|envelope| &envelope.share).collect();
            if mixed.len() == k {
                let key = orama_keyshare::combine(mixed, k as u8).unwrap();
                assert!(!key.matches(&self.nodes[owner].secret), "two half splits open node {owner}");
            }
        }
    }
}
