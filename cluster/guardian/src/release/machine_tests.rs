//! The machine in simulated time: the rules one by one, and whole lives against what may never happen.

use std::time::Duration;

use proptest::prelude::*;

use super::machine::{ApproveError, Machine, OWNERS_MAX, Place, RELEASED_FOR, Rules, Sign, Verdict, Why};
use crate::names::{Identity, SecretName};

const WINDOW: u64 = 900;
const HOLD: u64 = 600;
const RULES: Rules = Rules { window: Duration::from_secs(WINDOW), hold_down: Duration::from_secs(HOLD) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(1_000_000 + seconds)
}

fn place(last: u8) -> Place {
    Place { overlay: [10, 0, 0, 4].into(), public: Some([203, 0, 113, last].into()) }
}

fn name(generation: u64) -> SecretName {
    SecretName::parse(&format!("luks-00-g{generation}")).unwrap()
}

/// One owner with a share, seen last at 0 from place 4.
struct Life {
    machine: Machine,
    owner: Identity,
}

impl Life {
    fn new(rules: Rules) -> Self {
        let owner = Identity::parse(&"a".repeat(64)).unwrap();
        let mut life = Self { machine: Machine::new(rules), owner };
        life.machine.show(&life.owner, place(4), Sign::Stored(&name(1)), at(0));
        life
    }

    fn show(&mut self, from: u8, sign: Sign<'_>, seconds: u64) {
        self.machine.show(&self.owner, place(from), sign, at(seconds));
    }

    fn ask(&mut self, from: u8, seconds: u64) -> Verdict {
        self.machine.ask(&self.owner, &name(1), place(from), at(seconds))
    }

    fn approve(&mut self, from: Option<u8>, seconds: u64) -> Result<(), ApproveError> {
        let address = from.and_then(|last| place(last).public);
        self.machine.approve(&self.owner.digest(), address, at(seconds))
    }
}

fn held(until: u64, why: Why) -> Verdict {
    Verdict::Held { until: at(until), why }
}

#[test]
fn who_was_seen_lately_at_its_usual_address_is_served_at_once() {
    let mut life = Life::new(RULES);
    assert_eq!(life.ask(4, WINDOW), Verdict::Release);
    // The request was a sign of life itself.
    assert_eq!(life.ask(4, 2 * WINDOW), Verdict::Release);
    life.show(4, Sign::Alive, 3 * WINDOW);
    assert_eq!(life.ask(4, 4 * WINDOW), Verdict::Release);
    assert_eq!(life.ask(4, 5 * WINDOW + 1), held(5 * WINDOW + 1 + HOLD, Why::Absent));
}

#[test]
fn an_absent_owner_waits_once_and_is_then_here_again() {
    let mut life = Life::new(RULES);
    assert_eq!(life.ask(4, 1000), held(1600, Why::Absent));
    assert_eq!(life.ask(4, 1599), held(1600, Why::Absent));
    assert_eq!(life.ask(4, 1600), Verdict::Release);
    assert_eq!(life.ask(4, 1600 + WINDOW), Verdict::Release);
    // Who never came back for it starts again.
    let mut life = Life::new(RULES);
    life.ask(4, 1000);
    let lapsed = 1600 + RELEASED_FOR.as_secs();
    assert_eq!(life.ask(4, lapsed), held(lapsed + HOLD, Why::Absent));
}

#[test]
fn signs_of_life_do_not_bring_an_absent_owner_back_sooner() {
    let mut life = Life::new(RULES);
    life.show(4, Sign::Alive, 1000);
    life.show(4, Sign::Rebooting(Duration::from_secs(3600)), 1001);
    life.show(4, Sign::Stored(&name(2)), 1002);
    assert_eq!(life.ask(4, 1003), held(1600, Why::Absent));
    // What it stored a moment ago it gets back, and nobody else does.
    let read_back = life.machine.ask(&life.owner, &name(2), place(4), at(1030));
    assert_eq!(read_back, Verdict::Release);
    let elsewhere = life.machine.ask(&life.owner, &name(2), place(5), at(1031));
    assert!(matches!(elsewhere, Verdict::Held { why: Why::OtherAddress, .. }));
    let later = life.machine.ask(&life.owner, &name(2), place(4), at(1033));
    assert_eq!(later, held(1600, Why::Absent));
    life.show(4, Sign::Alive, 1600);
    assert_eq!(life.ask(4, 1600 + WINDOW), Verdict::Release);
}

#[test]
fn an_announced_reboot_may_take_longer_than_the_window() {
    let hour = Duration::from_secs(3600);
    let mut life = Life::new(RULES);
    life.show(4, Sign::Rebooting(hour), 100);
    assert_eq!(life.ask(4, 3700), Verdict::Release);
    let mut life = Life::new(RULES);
    life.show(4, Sign::Rebooting(hour), 100);
    assert_eq!(life.ask(4, 3701), held(3701 + HOLD, Why::Absent));
    // A short one does not make the window shorter; from elsewhere it does not count.
    let mut life = Life::new(RULES);
    life.show(4, Sign::Rebooting(Duration::ZERO), 100);
    assert_eq!(life.ask(4, 100 + WINDOW), Verdict::Release);
    let mut life = Life::new(RULES);
    life.show(5, Sign::Rebooting(hour), 100);
    assert_eq!(life.ask(4, WINDOW + 1), held(WINDOW + 1 + HOLD, Why::Absent));
}

#[test]
fn another_address_becomes_usual_when_its_hold_ran_out() {
    let mut life = Life::new(RULES);
    assert_eq!(life.ask(5, 100), held(700, Why::OtherAddress));
    assert_eq!(life.ask(4, 101), Verdict::Release, "the owner itself is not bothered");
    assert_eq!(life.ask(5, 700), Verdict::Release);
    assert_eq!(life.ask(5, 700 + WINDOW), Verdict::Release);
    assert!(matches!(life.ask(4, 700 + WINDOW), Verdict::Held { why: Why::OtherAddress, .. }));
    // Behind the same public address, but another member of the overlay.
    let mut life = Life::new(RULES);
    let member = Place { overlay: [10, 0, 0, 9].into(), ..place(4) };
    let verdict = life.machine.ask(&life.owner, &name(1), member, at(1));
    assert_eq!(verdict, held(601, Why::OtherNode));
}

#[test]
fn a_copy_waits_as_long_as_the_owner_is_alive() {
    let mut life = Life::new(RULES);
    life.ask(5, 100);
    for seconds in (120..6000).step_by(60) {
        life.show(4, Sign::Alive, seconds);
        assert!(matches!(life.ask(5, seconds + 30), Verdict::Held { .. }), "at {seconds}");
        assert_eq!(life.ask(4, seconds + 31), Verdict::Release);
    }
    // Once the owner is silent, the copy's time runs.
    assert_eq!(life.ask(5, 5940 + HOLD), Verdict::Release);
}

#[test]
fn an_unknown_public_address_is_never_usual() {
    let unknown = Place { overlay: [10, 0, 0, 4].into(), public: None };
    let mut life = Life::new(RULES);
    let mut ask = |seconds| life.machine.ask(&life.owner, &name(1), unknown, at(seconds));
    assert_eq!(ask(1), held(601, Why::AddressUnknown));
    assert_eq!(ask(601), Verdict::Release);
    let over = 601 + RELEASED_FOR.as_secs();
    assert_eq!(ask(over), held(over + HOLD, Why::AddressUnknown));
    assert!(life.machine.facts().contains("present 10.0.0.4 203.0.113.4"));
}

#[test]
fn operators_approve_one_address() {
    let mut life = Life::new(RULES);
    assert_eq!(life.approve(None, 1), Err(ApproveError::NothingHeld));
    assert_eq!(life.machine.approve("nobody", None, at(1)), Err(ApproveError::NoOwner));
    life.ask(5, 1000);
    life.approve(None, 1010).unwrap();
    assert_eq!(life.ask(5, 1011), Verdict::Release);
    assert!(life.machine.facts().contains("203.0.113.5"), "it is the usual one now");
    life.ask(6, 1012);
    life.ask(7, 1013);
    assert_eq!(life.approve(None, 1014), Err(ApproveError::WhichAddress));
    life.approve(Some(7), 1015).unwrap();
    assert_eq!(life.ask(7, 1016), Verdict::Release);
    assert!(matches!(life.ask(6, 1017), Verdict::Held { .. }));
    // Ahead of a move.
    life.approve(Some(8), 5000).unwrap();
    assert_eq!(life.ask(8, 5600), Verdict::Release);
}

#[test]
fn an_approval_lasts_although_the_window_is_none() {
    let mut life = Life::new(Rules { window: Duration::ZERO, ..RULES });
    assert_eq!(life.ask(4, 31), held(600, Why::Absent));
    life.approve(None, 40).unwrap();
    assert_eq!(life.ask(4, 41), Verdict::Release);
    assert_eq!(life.ask(4, 40 + RELEASED_FOR.as_secs() - 1), Verdict::Release);
    assert!(matches!(life.ask(4, 40 + RELEASED_FOR.as_secs()), Verdict::Held { .. }));
}

#[test]
fn the_revoked_are_refused_for_good() {
    let mut life = Life::new(RULES);
    let digest = life.owner.digest();
    assert!(life.machine.revoke(&digest).unwrap().as_ref() == Some(&life.owner));
    assert_eq!(life.ask(4, 1), Verdict::Revoked);
    life.show(4, Sign::Alive, 2);
    assert_eq!(life.ask(4, 1_000_000), Verdict::Revoked);
    let mut later = Machine::restore(RULES, life.machine.facts().as_bytes(), at(0)).unwrap();
    assert_eq!(later.ask(&life.owner, &name(1), place(4), at(1)), Verdict::Revoked);
}

#[test]
fn without_a_hold_nothing_is_held_down() {
    let mut life = Life::new(Rules { hold_down: Duration::ZERO, ..RULES });
    assert_eq!(life.ask(5, 1_000_000), Verdict::Release);
    life.show(5, Sign::Alive, 1_000_001);
    life.machine.revoke(&life.owner.digest()).unwrap();
    assert_eq!(life.ask(5, 1_000_002), Verdict::Revoked);
}

#[test]
fn facts_change_with_absence_and_not_with_signs_of_life() {
    let mut life = Life::new(RULES);
    assert!(life.machine.is_dirty());
    life.machine.set_dirty(false);
    for seconds in (60..6000).step_by(60) {
        life.show(4, Sign::Alive, seconds);
        life.ask(4, seconds + 1);
        life.machine.tick(at(seconds + 2));
    }
    assert!(!life.machine.is_dirty());
    life.machine.tick(at(5941 + WINDOW));
    assert!(!life.machine.is_dirty());
    life.machine.tick(at(5942 + WINDOW));
    assert!(life.machine.is_dirty());
}

#[test]
fn many_places_do_not_crowd_the_owner_out() {
    let mut life = Life::new(RULES);
    for other in 10..60 {
        life.ask(other, 1000);
    }
    assert_eq!(life.ask(60, 1001), held(1601, Why::TooManyPlaces));
    assert_eq!(life.ask(4, 1002), held(1602, Why::Absent));
    assert_eq!(life.ask(4, 1602), Verdict::Release);
}

#[test]
fn there_is_room_for_so_many_owners_and_others_are_not_locked_out() {
    let mut machine = Machine::new(RULES);
    for number in 0..OWNERS_MAX {
        let identity = Identity::parse(&format!("{number:064x}")).unwrap();
        assert!(machine.has_room_for(&identity));
        machine.show(&identity, place(4), Sign::Stored(&name(1)), at(0));
    }
    let late = Identity::parse(&"f".repeat(64)).unwrap();
    assert!(!machine.has_room_for(&late));
    assert_eq!(machine.ask(&late, &name(1), place(4), at(10_000)), Verdict::Release);
    machine.forget(&Identity::parse(&"0".repeat(64)).unwrap());
    assert!(machine.has_room_for(&late));
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Pass(u64),
    Alive(u8),
    Reboot(u8),
    Store(u8),
    Ask(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let from = 4u8..7;
    let step = prop_oneof![
        4 => prop_oneof![1u64..90, 500u64..1200].prop_map(Step::Pass),
        2 => from.clone().prop_map(Step::Alive),
        1 => from.clone().prop_map(Step::Reboot),
        1 => from.clone().prop_map(Step::Store),
        4 => from.prop_map(Step::Ask),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// A second account of one life, kept by what an observer sees: an old share goes out only to the usual address
    /// of an owner that is not absent, or after a whole hold in which nobody was alive at the usual address.
    #[test]
    fn nothing_goes_out_early_and_everybody_is_served_in_the_end(steps in steps()) {
        let mut life = Life::new(RULES);
        let mut now = 40;
        let (mut usual, mut present_until, mut announced) = (4, WINDOW, 0);
        // Since when each place shows itself without being served.
        let mut waits: [Option<u64>; 8] = [None; 8];
        for step in steps {
            let present = now <= present_until;
            match step {
                Step::Pass(seconds) => now += seconds,
                Step::Alive(from) | Step::Reboot(from) | Step::Store(from) => {
                    let stored = name(2);
                    let sign = match step {
                        Step::Alive(_) => Sign::Alive,
                        Step::Reboot(_) => Sign::Rebooting(Duration::from_secs(3600)),
                        _ => Sign::Stored(&stored),
                    };
                    life.show(from, sign, now);
                    if present && from == usual {
                        announced = match step {
                            Step::Reboot(_) => now + 3600,
                            Step::Store(_) => announced,
                            _ => 0,
                        };
                        present_until = announced.max(now + WINDOW);
                        for (place, wait) in waits.iter_mut().enumerate() {
                            if place != usual as usize && wait.is_some_and(|since| since + HOLD > now) {
                                *wait = Some(now);
                            }
                        }
                    } else if waits[from as usize].is_some_and(|since| since + HOLD <= now) {
                        (usual, present_until, announced) = (from, now + WINDOW, 0);
                    } else {
                        waits[from as usize].get_or_insert(now);
                    }
                }
                Step::Ask(from) => match life.ask(from, now) {
                    Verdict::Release => {
                        let waited = waits[from as usize].is_some_and(|since| since + HOLD <= now);
                        prop_assert!(present && from == usual || waited, "early at {now} from {from}");
                        announced = if present && from == usual { announced } else { 0 };
                        (usual, present_until) = (from, announced.max(now + WINDOW));
                    }
                    Verdict::Held { until, .. } => {
                        prop_assert!(!(present && from == usual), "late at {now} from {from}");
                        prop_assert!(until > at(now) && until <= at(now + HOLD));
                        waits[from as usize].get_or_insert(now);
                    }
                    Verdict::Revoked => prop_assert!(false, "nobody was revoked"),
                },
                Step::Restart => {
                    let facts = life.machine.facts();
                    life.machine = Machine::restore(RULES, facts.as_bytes(), at(now)).unwrap();
                    waits = [None; 8];
                    let absent = facts.contains(" absent ");
                    prop_assert!(!absent || !present, "marked absent at {now} before its time");
                    // What was not marked yet counts as just seen.
                    (present_until, announced) = (if absent { 0 } else { now + WINDOW }, 0);
                }
            }
            life.machine.tick(at(now));
            // Holds that nobody came back for lapse.
            for wait in &mut waits {
                if wait.is_some_and(|since| since + HOLD + RELEASED_FOR.as_secs() <= now) {
                    *wait = None;
                }
            }
        }
        // Whatever happened: who keeps asking from one place is served after one hold, once the others are silent.
        let end = now + 2 * WINDOW + RELEASED_FOR.as_secs() + HOLD + 3600;
        for seconds in (end..=end + 2 * HOLD).step_by(30) {
            if life.ask(6, seconds) == Verdict::Release {
                return Ok(());
            }
        }
        prop_assert!(false, "never served");
    }
}
