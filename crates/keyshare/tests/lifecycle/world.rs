//! A simulated cluster: every node owns a volume and keeps shares for the others. Time is a queue of happenings;
//! messages are lost, late, doubled and overtaken; nodes lose power between any two of them and within every write.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use orama_keyshare::lifecycle::{Custody, Event, Guardian, Members, Presence};
use orama_keyshare::{Digest, Envelope, Holder, ShareSet, Threshold, VolumeKey, digest, split};

use crate::node::Up;
use crate::random::Dice;

/// Index of a node; also the last byte of its address and of its volume's UUID.
pub type Id = usize;

/// How a guardian fails those who trust it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Says "stored" and stores nothing.
    Forgetful,
    /// Gives bytes that are not the share.
    Garbling,
    /// Refuses everything.
    Refusing,
    /// Claims to have deleted and keeps everything.
    Hoarding,
}

pub struct Node {
    /// What the header on the disk says. `None`: not enrolled yet, left, or destroyed.
    pub disk: Option<Custody>,
    /// The key that opens the volume: what the simulation compares with, as the LUKS header would.
    pub secret: VolumeKey,
    /// What this node keeps for others: (owner, generation) → envelope. On its disk.
    pub shares: BTreeMap<(Id, u64), Vec<u8>>,
    pub lie: Option<Lie>,
    pub up: Option<Up>,
    /// Counts boots: an answer to a boot before this one reaches nobody.
    pub boots: u32,
    pub destroyed: bool,
}

/// What a guardian is asked.
#[derive(Clone, Debug)]
pub enum Request {
    Put { generation: u64, envelope: Vec<u8> },
    Get { generation: u64 },
    List,
    Delete { generation: u64 },
}

#[derive(Clone, Debug)]
pub enum Reply {
    Stored,
    Share(Vec<u8>),
    Generations(Vec<u64>),
    Deleted,
    Refused,
}

#[derive(Debug)]
pub enum Happening {
    Asked {
        from: Id,
        boot: u32,
        call: u64,
        to: Id,
        request: Request,
    },
    Replied {
        to: Id,
        boot: u32,
        call: u64,
        reply: Reply,
    },
    TimedOut {
        node: Id,
        boot: u32,
        call: u64,
    },
    /// Something local ended: a write, a split.
    Local {
        node: Id,
        boot: u32,
        event: Event,
    },
    Clock {
        node: Id,
        boot: u32,
    },
    Unlock {
        node: Id,
        boot: u32,
        attempt: u32,
    },
    Boot {
        node: Id,
    },
    /// The node hears how the cluster is.
    Learn {
        node: Id,
    },
    Chaos,
}

pub struct World {
    pub now: Duration,
    pub dice: Dice,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    pub nodes: Vec<Node>,
    /// Who belongs to the cluster, by the registry; `true`: it is leaving.
    pub registry: BTreeMap<Id, bool>,
    /// Pairs that do not hear each other, smaller index first.
    pub cut: BTreeSet<(Id, Id)>,
    /// Percent of messages that are lost, and that are doubled.
    pub loss: u64,
    pub doubling: u64,
    /// Percent of writes that end in a power cut or in an error, each one way or the other.
    pub torn: u64,
    pub handled: u64,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            dice: Dice::new(seed),
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            nodes: Vec::new(),
            registry: BTreeMap::new(),
            cut: BTreeSet::new(),
            loss: 0,
            doubling: 0,
            torn: 0,
            handled: 0,
        }
    }

    pub fn later(&mut self, after: Duration, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + after, self.sequence)));
        self.happenings.insert(self.sequence, happening);
    }

    /// The next happening, with the time moved to it.
    pub fn next(&mut self) -> Option<Happening> {
        let Reverse((at, sequence)) = self.queue.pop()?;
        self.now = self.now.max(at);
        self.handled += 1;
        self.happenings.remove(&sequence)
    }

    /// A new machine with a new volume: its key is with the wallet when the cluster is too small, else split over
    /// the members that are up.
    pub fn enroll(&mut self) {
        let id = self.nodes.len();
        let secret = VolumeKey::generate().unwrap();
        let members: Vec<Id> = self
            .registry
            .iter()
            .filter(|(peer, leaving)| !**leaving && self.nodes[**peer].up.is_some())
            .map(|(peer, _)| *peer)
            .collect();
        let honest = members.iter().all(|peer| self.nodes[*peer].lie.is_none());
        let custody = if members.len() < 5 || !honest {
            Custody::wallet()
        } else {
            let guardians = members.iter().map(|peer| guardian(*peer)).collect();
            let (set, envelopes) = deal(&secret, id, 1, &guardians).unwrap();
            for (holder, envelope) in &envelopes {
                self.nodes[id_of(holder)].shares.insert((id, 1), envelope.clone());
            }
            Custody::shared(set)
        };
        self.nodes.push(Node {
            disk: Some(custody),
            secret,
            shares: BTreeMap::new(),
            lie: None,
            up: None,
            boots: 0,
            destroyed: false,
        });
        self.registry.insert(id, false);
        self.later(Duration::ZERO, Happening::Boot { node: id });
        self.tell_all();
    }

    /// Everybody hears of a change, each in its own time.
    pub fn tell_all(&mut self) {
        for node in 0..self.nodes.len() {
            let after = self.dice.millis(10, 3_000);
            self.later(after, Happening::Learn { node });
        }
    }

    /// What a node believes of the others.
    pub fn members_for(&self, node: Id, known: &Members) -> Members {
        let others = self.registry.iter().filter(|(id, _)| **id != node);
        others
            .map(|(id, leaving)| {
                let name = guardian(*id);
                let presence = if *leaving {
                    Presence::Leaving
                } else if self.nodes[*id].up.is_some() && !self.is_cut(node, *id) {
                    Presence::Alive
                } else {
                    match known.get(&name) {
                        Some(silent @ Presence::Silent { .. }) => *silent,
                        Some(Presence::Alive | Presence::Leaving) | None => {
                            Presence::Silent { since: self.clock_of(node) }
                        }
                    }
                };
                (name, presence)
            })
            .collect()
    }

    /// The node's own clock: its boot clock may have jumped ahead.
    pub fn clock_of(&self, node: Id) -> Duration {
        self.nodes[node].up.as_ref().map_or(self.now, |up| self.now + up.ahead)
    }

    pub fn is_cut(&self, one: Id, other: Id) -> bool {
        self.cut.contains(&(one.min(other), one.max(other)))
    }

    /// Sends over the network as it is today.
    pub fn send(&mut self, from: Id, to: Id, message: impl Fn() -> Happening) {
        let copies = if self.is_cut(from, to) || self.dice.percent(self.loss) {
            0
        } else {
            1 + usize::from(self.dice.percent(self.doubling))
        };
        for _ in 0..copies {
            let slow = self.dice.percent(self.loss / 2);
            let delay = if slow { self.dice.millis(1_000, 12_000) } else { self.dice.millis(1, 120) };
            self.later(delay, message());
        }
    }

    /// A guardian answers, by the letter of its protocol or by its lie.
    pub fn serve(&mut self, owner: Id, to: Id, request: Request) -> Option<Reply> {
        let node = &mut self.nodes[to];
        // A guardian answers whenever its machine is up, its own volume open or not.
        if node.up.is_none() || node.lie == Some(Lie::Refusing) {
            return node.up.is_some().then_some(Reply::Refused);
        }
        Some(match request {
            Request::Put { .. } if node.lie == Some(Lie::Forgetful) => Reply::Stored,
            Request::Put { generation, envelope } => match node.shares.contains_key(&(owner, generation)) {
                true => Reply::Refused,
                false => {
                    node.shares.insert((owner, generation), envelope);
                    Reply::Stored
                }
            },
            Request::Get { .. } if node.lie == Some(Lie::Garbling) => Reply::Share(vec![7; 67]),
            Request::Get { generation } => match node.shares.get(&(owner, generation)) {
                Some(envelope) => Reply::Share(envelope.clone()),
                None => Reply::Refused,
            },
            Request::List => {
                let own = |(of, generation): &(Id, u64)| (*of == owner).then_some(*generation);
                Reply::Generations(node.shares.keys().filter_map(own).collect())
            }
            Request::Delete { .. } if node.lie == Some(Lie::Hoarding) => Reply::Deleted,
            Request::Delete { generation } => match node.shares.remove(&(owner, generation)) {
                Some(_) => Reply::Deleted,
                None => Reply::Refused,
            },
        })
    }

    pub fn power_off(&mut self, node: Id) {
        self.nodes[node].up = None;
        self.tell_all();
    }
}

pub fn guardian(id: Id) -> Guardian {
    Guardian { node_id: format!("node-10.0.0.{id}"), wg_ip: [10, 0, 0, id as u8].into() }
}

pub fn id_of(guardian: &Guardian) -> Id {
    usize::from(guardian.wg_ip.octets()[3])
}

pub fn volume(id: Id) -> [u8; 16] {
    [id as u8; 16]
}

pub type Envelopes = BTreeMap<Guardian, Vec<u8>>;

/// Splits for real: what is simulated is the cluster, not the cryptography.
pub fn deal(
    key: &VolumeKey,
    owner: Id,
    generation: u64,
    guardians: &BTreeSet<Guardian>,
) -> Option<(ShareSet, Envelopes)> {
    let threshold = Threshold::for_guardians(guardians.len()).ok()?;
    let (mut holders, mut envelopes) = (Vec::new(), BTreeMap::new());
    for (guardian, share) in guardians.iter().zip(split(key, threshold).ok()?) {
        let x = share.x();
        let node_id = format!("node-10.0.0.{owner}");
        let envelope = Envelope { volume: volume(owner), node_id, generation, threshold, share };
        let encoded = envelope.encode().ok()?.to_vec();
        let Guardian { node_id, wg_ip } = guardian.clone();
        holders.push(Holder { node_id, wg_ip, x, digest: Digest(digest(&encoded)) });
        envelopes.insert(guardian.clone(), encoded);
    }
    Some((ShareSet::new(generation, threshold, holders).ok()?, envelopes))
}
