//! Schedules: a cluster grows, breaks in every way for a while, is mended, and must then come to rest by itself.

use std::time::Duration;

use orama_keyshare::lifecycle::Presence;

use crate::node::Up;
use crate::world::{Happening, Id, Lie, World, guardian, id_of};

/// Size and violence of a run.
struct Plan {
    /// Nodes that are there from the start, and the most there may be.
    start: usize,
    most: usize,
    /// Incidents before everything is mended.
    incidents: u32,
    /// Most happenings before a run counts as one that does not end.
    limit: u64,
}

const SMALL: Plan = Plan { start: 6, most: 9, incidents: 25, limit: 400_000 };
const LARGE: Plan = Plan { start: 40, most: 50, incidents: 8, limit: 6_000_000 };

/// Seeds of the normal tests.
const SMALL_SEEDS: u64 = 2_000;
const LARGE_SEEDS: u64 = 4;
/// Longer than a member has to be silent to be split around, with every pause that there is.
const CALM: Duration = Duration::from_secs(3 * 3600);

struct Run {
    world: World,
    plan: &'static Plan,
    incidents: u32,
}

fn run(seed: u64, plan: &'static Plan) -> World {
    let mut run = Run { world: World::new(seed), plan, incidents: 0 };
    let world = &mut run.world;
    for _ in 0..plan.start {
        world.enroll();
    }
    (world.loss, world.doubling, world.torn) = match seed % 4 {
        0 => (0, 0, 0),
        1 => (3, 2, 10),
        2 => (15, 10, 30),
        _ => (2, 30, 3),
    };
    world.later(Duration::from_secs(60), Happening::Chaos);
    let mut calm_at = None;
    while let Some(happening) = run.world.next() {
        assert!(run.world.handled < plan.limit, "the run does not end");
        run.handle(happening);
        if run.incidents >= plan.incidents {
            let since = *calm_at.get_or_insert_with(|| {
                run.mend();
                run.world.now
            });
            if run.world.now > since + CALM {
                break;
            }
        }
    }
    run.check_rest();
    run.world
}

impl Run {
    fn handle(&mut self, happening: Happening) {
        let world = &mut self.world;
        match happening {
            Happening::Asked { from, boot, call, to, request } => {
                if let Some(reply) = world.serve(from, to, request) {
                    world.send(to, from, || Happening::Replied {
                        to: from,
                        boot,
                        call,
                        reply: reply.clone(),
                    });
                }
                world.check(from);
            }
            Happening::Replied { to, boot, call, reply } => world.answered(to, boot, call, Some(reply)),
            Happening::TimedOut { node, boot, call } => world.answered(node, boot, call, None),
            Happening::Local { node, boot, event } => {
                if world.booted(node, boot).is_some() {
                    world.feed(node, event);
                    world.check(node);
                }
            }
            Happening::Clock { node, boot } => {
                if world.booted(node, boot).is_some() {
                    world.nodes[node].up.as_mut().unwrap().alarm = None;
                    world.feed(node, orama_keyshare::lifecycle::Event::Clock);
                    world.check(node);
                }
            }
            Happening::Unlock { node, boot, attempt } => world.unlock(node, boot, attempt),
            Happening::Boot { node } => world.boot(node),
            Happening::Learn { node } => world.learn(node),
            Happening::Chaos => self.chaos(),
        }
    }

    fn chaos(&mut self) {
        if self.incidents >= self.plan.incidents {
            return;
        }
        self.incidents += 1;
        let world = &mut self.world;
        let all: Vec<Id> = world.registry.keys().copied().collect();
        let (one, other) = (*world.dice.pick(&all).unwrap(), *world.dice.pick(&all).unwrap());
        match world.dice.below(12) {
            0 | 1 if world.nodes.len() < self.plan.most => world.enroll(),
            0..=3 => self.power_cut(one),
            4 => all.iter().for_each(|node| self.power_cut(*node)),
            5 => {
                world.cut.insert((one.min(other), one.max(other)));
            }
            6 => world.cut.clear(),
            7 => self.leave(one),
            8 => self.destroy(one),
            9 => self.turn(one),
            10 => {
                if let Some(up) = &mut world.nodes[one].up {
                    up.ahead += Duration::from_secs(7_200);
                }
            }
            _ => self.drop_left(),
        }
        let pause = self.world.dice.millis(100, 400_000);
        self.world.tell_all();
        self.world.later(pause, Happening::Chaos);
    }

    fn power_cut(&mut self, node: Id) {
        self.world.power_off(node);
        let dark = self.world.dice.millis(500, 900_000);
        self.world.later(dark, Happening::Boot { node });
    }

    /// A node says that it leaves; the others take their shares elsewhere before it goes.
    fn leave(&mut self, node: Id) {
        let staying = self.world.registry.values().filter(|leaving| !**leaving).count();
        if staying > 6 {
            self.world.registry.insert(node, true);
        }
    }

    /// Takes those who said that they leave off the registry as soon as nobody's key rests with them.
    fn drop_left(&mut self) {
        let world = &mut self.world;
        let leaving: Vec<Id> = world.registry.iter().filter(|(_, l)| **l).map(|(id, _)| *id).collect();
        for id in leaving {
            let held = world.nodes.iter().filter_map(|node| node.disk.as_ref());
            if held.flat_map(|custody| custody.guardians()).all(|holder| id_of(&holder) != id) {
                world.registry.remove(&id);
                world.nodes[id].disk = None;
                world.nodes[id].up = None;
            }
        }
    }

    /// A machine burns down, if everybody's key survives it: else the cluster has lost more than it promises to bear.
    fn destroy(&mut self, node: Id) {
        let staying = self.world.registry.values().filter(|leaving| !**leaving).count();
        if staying <= 6 || !self.everybody_survives_without(node) {
            return;
        }
        let world = &mut self.world;
        world.nodes[node].destroyed = true;
        world.nodes[node].up = None;
        world.nodes[node].disk = None;
        world.nodes[node].shares.clear();
        world.registry.remove(&node);
    }

    /// A guardian turns bad, if everybody's key survives it.
    fn turn(&mut self, node: Id) {
        let liars = self.world.nodes.iter().filter(|node| node.lie.is_some()).count();
        if liars > 0 || !self.everybody_survives_without(node) {
            return;
        }
        let lies = [Lie::Forgetful, Lie::Garbling, Lie::Refusing, Lie::Hoarding];
        self.world.nodes[node].lie = self.world.dice.pick(&lies).copied();
    }

    fn everybody_survives_without(&self, lost: Id) -> bool {
        let nodes = &self.world.nodes;
        nodes.iter().filter_map(|node| node.disk.as_ref()).filter_map(|custody| custody.shares()).all(|set| {
            let faithful = set.holders().iter().map(|holder| usize::from(holder.wg_ip.octets()[3]));
            let left = faithful.filter(|id| {
                *id != lost && !nodes[*id].destroyed && matches!(nodes[*id].lie, None | Some(Lie::Hoarding))
            });
            left.count() >= usize::from(set.k())
        })
    }

    /// The end of all trouble but what cannot be undone.
    fn mend(&mut self) {
        let world = &mut self.world;
        world.cut.clear();
        (world.loss, world.doubling, world.torn) = (0, 0, 0);
        for node in 0..world.nodes.len() {
            world.later(Duration::from_secs(1), Happening::Boot { node });
        }
        // Nodes are told what they missed for as long as the calm lasts.
        for minute in 0..CALM.as_secs() / 60 {
            for node in 0..world.nodes.len() {
                world.later(Duration::from_secs(60 * minute), Happening::Learn { node });
            }
        }
    }

    /// After the calm every volume is open, every key rests with the right guardians and nowhere else.
    fn check_rest(&self) {
        let world = &self.world;
        let honest = |id: &Id| world.nodes[*id].lie.is_none();
        for id in world.registry.keys() {
            let node = &world.nodes[*id];
            let now = world.clock_of(*id);
            let Some(Up { machine: Some(machine), .. }) = &node.up else {
                panic!("node {id} did not come back: {:?}", node.disk)
            };
            let custody = node.disk.as_ref().unwrap();
            // One that lies keeps the others trying: a write may be under way.
            let quiet = world.nodes.iter().all(|node| node.lie.is_none());
            assert!(!quiet || custody == machine.custody(), "node {id} and its disk disagree");
            let others: Vec<Id> =
                world.registry.iter().filter(|(p, l)| *p != id && !**l).map(|(p, _)| *p).collect();
            let fit = others.iter().filter(|peer| honest(peer)).count();
            if fit < 5 {
                continue;
            }
            let holders: Vec<Id> = custody.guardians().iter().map(id_of).collect();
            for peer in &others {
                let member = machine_believes(node.up.as_ref().unwrap(), *peer);
                assert_eq!(member, Some(Presence::Alive), "node {id} misses {peer}");
                assert!(
                    holders.contains(peer) || !honest(peer),
                    "node {id} does not use {peer}: {custody:?}"
                );
            }
            assert!(holders.iter().all(|holder| others.contains(holder)), "node {id} uses one that left");
            if quiet {
                assert!(machine.is_settled(now), "node {id} is not at rest: {machine:?}");
                for peer in &others {
                    let kept: Vec<u64> = world.nodes[*peer]
                        .shares
                        .keys()
                        .filter(|(of, _)| of == id)
                        .map(|(_, g)| *g)
                        .collect();
                    assert_eq!(kept, [custody.generation()], "{peer} keeps something else of node {id}");
                }
            }
        }
        for id in 0..world.nodes.len() {
            world.check_mixtures(id);
        }
    }
}

fn machine_believes(up: &Up, peer: Id) -> Option<Presence> {
    up.members.get(&guardian(peer)).copied()
}

/// Runs the seeds on all processors; names the first that fails.
fn seeds(count: u64, plan: &'static Plan, kind: &str) {
    if let Some(seed) = std::env::var("LIFECYCLE_SEED").ok().map(|text| text.parse::<u64>().unwrap()) {
        let world = run(seed, plan);
        println!("seed {seed}: {} happenings, {} s", world.handled, world.now.as_secs());
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..count).step_by(threads as usize) {
                    let failed = std::panic::catch_unwind(|| run(seed, plan)).is_err();
                    assert!(!failed, "{kind} seed {seed} failed; replay: LIFECYCLE_SEED={seed}");
                }
            });
        }
    });
}

#[test]
fn small_clusters() {
    seeds(SMALL_SEEDS, &SMALL, "small");
}

#[test]
fn large_clusters() {
    seeds(LARGE_SEEDS, &LARGE, "large");
}
