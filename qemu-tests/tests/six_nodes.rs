//! A cluster of nothing but OramaOS nodes: the first belongs to its owner's wallet, five join, and from then on they
//! keep each other's keys. Two die, the others reboot, one is replaced, one leaves, all lose power at once. Everything
//! is real; nobody else keeps a share, and nobody helps after the first minutes.

#[path = "six_nodes/cluster.rs"]
mod cluster;
#[path = "six_nodes/header.rs"]
mod header;
#[path = "six_nodes/owner.rs"]
mod owner;

use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT};

use cluster::Six;
use header::SealedKey;

/// The first six machines; the seventh is the replacement.
const SIX: [usize; 6] = [0, 1, 2, 3, 4, 5];
const REPLACEMENT: usize = 6;
const SECOND: usize = 1;
/// Those that die: one comes back later, one never.
const SLEEPER: usize = 4;
const DEAD: usize = 5;
/// Those that stay up meanwhile, and the one of them that leaves at the end.
const ALIVE: [usize; 4] = [0, 1, 2, 3];
const LEAVER: usize = 3;
/// Those that are the cluster at the end.
const AT_LAST: [usize; 5] = [0, 1, 2, SLEEPER, REPLACEMENT];

#[test]
fn six_nodes_keep_each_others_keys() {
    let mut six = Six::prepare("six-nodes", 7);
    six.fleet.start_enrolling(0..6).or_fail();
    six.told("six machines wait to be enrolled");
    genesis_and_adoption(&mut six);
    let sealed = SealedKey::in_header_of(&mut six.fleet, 0);
    five_join(&mut six);
    everybody_keeps_everybody_elses_key(&mut six);
    the_owner_is_needed_no_longer(&mut six, &sealed);
    two_die_and_the_others_reboot(&mut six);
    one_is_replaced(&mut six);
    one_leaves(&mut six);
    all_lose_power(&mut six);
}

fn genesis_and_adoption(six: &mut Six) {
    let public = six.fleet.public_address(0);
    let enrolled = six.owner.enroll(&six.fleet, public, cluster::FIRST);
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    six.ids.push("node-10.0.0.2".into());
    six.told("the owner's wallet has enrolled the first");
    let adopted = six.owner.adopt(&six.fleet, "node-10.0.0.2");
    assert_eq!(adopted.code, Some(0), "{adopted:?}");
    let again = six.owner.adopt(&six.fleet, "node-10.0.0.2");
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(six.status(0).custody.map(|custody| custody.keeper), Some("wallet".into()));
    six.told("the gateway has adopted it");
}

/// The operator has no tunnel to a node that joins now, so nobody could open it after a power cut.
fn nobody_joins_without_a_recovery_file(six: &mut Six) -> String {
    let public = six.fleet.public_address(SECOND);
    let shown = || node::registration_code_at(six.fleet.network(), public).or_fail().expect("it waits").code;
    let (code, invite) = (shown(), six.fleet.operator.invite("1h").or_fail());
    let refused = six.fleet.operator.enroll_when_registered(public, &invite).expect_err("without a file");
    for words in ["only the owner's wallet opens the new node", "orama node enroll --recovery FILE"] {
        assert!(refused.message().contains(words), "{}", refused.message());
    }
    assert!(!refused.is_not_found());
    assert_eq!(shown(), code, "it has a new code");
    let report = six.fleet.operator.report().or_fail();
    assert!(report.nodes.iter().all(|row| row.node_id == six.ids[0]), "{report:?}");
    invite
}

/// The second node, alone with the first: it loses its power, and its recovery file opens it.
fn the_second_is_opened_with_its_file(six: &mut Six, invite: &str) {
    six.join_with(SECOND, invite);
    let machine = six.fleet.machine(SECOND);
    machine.wait_for("orama: key sealed to the owner's wallet", PROVISION_LIMIT).or_fail();
    machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    machine.power_cut().or_fail();
    machine.power_on().or_fail();
    machine.wait_for("orama: phase waiting-for-owner", BOOT_LIMIT).or_fail();
    six.recover(SECOND);
    six.fleet.machine(SECOND).wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    six.told("the second has joined, lost its power, and was opened with its recovery file");
}

fn five_join(six: &mut Six) {
    let invite = nobody_joins_without_a_recovery_file(six);
    the_second_is_opened_with_its_file(six, &invite);
    for machine in &SIX[2..] {
        six.join(*machine);
    }
    for machine in &SIX[2..] {
        let machine = six.fleet.machine(*machine);
        machine.wait_for("orama: key sealed to the owner's wallet", PROVISION_LIMIT).or_fail();
        machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    }
    six.told("five have joined");
}

fn everybody_keeps_everybody_elses_key(six: &mut Six) {
    six.wait_split(&SIX, 3, 5);
    for machine in SIX {
        let status = six.status(machine);
        let custody = status.custody.expect("who keeps its key");
        let holders: Vec<&str> = custody.holders.iter().map(|holder| holder.node_id.as_str()).collect();
        let mut others: Vec<&str> =
            six.ids.iter().map(String::as_str).filter(|id| *id != six.id(machine)).collect();
        others.sort_unstable();
        let mut sorted = holders.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, others, "the nodes keep it, and nobody else");
        assert!(status.alarms.is_empty(), "{:?}", status.alarms);
        let public = six.fleet.public_address(machine);
        assert!(
            node::is_closed(six.fleet.network(), node::enrollment_at(public)),
            "9999 answers at {public}"
        );
    }
    six.told("every node's key is with the five others");
}

fn the_owner_is_needed_no_longer(six: &mut Six, sealed: &SealedKey) {
    sealed.is_gone(&mut six.fleet, 0);
    let public = six.fleet.public_address(0);
    let refused = six.owner.unlock(&six.fleet, public);
    assert!(refused.code == Some(1), "{refused:?}");
    assert!(refused.errors.contains("no longer needed: the key is with 5 guardians"), "{refused:?}");
}

/// Three holders are left of each key, and all three reboot with its owner: each serves the others before its own
/// volume is open.
fn two_die_and_the_others_reboot(six: &mut Six) {
    for machine in [SLEEPER, DEAD] {
        six.fleet.machine(machine).power_cut().or_fail();
    }
    let refused = six.fleet.operator.command(six.id(0), "reboot", None).expect_err("two are down");
    assert!(
        refused.message().contains("would have 2 reachable holders and needs 3"),
        "{}",
        refused.message()
    );
    for machine in ALIVE {
        let order = ["node", "command", "reboot", six.id(machine), "--force"];
        six.fleet.operator.read::<serde_json::Value>(&order).or_fail();
    }
    for machine in ALIVE {
        six.fleet.machine(machine).wait_for("orama: rebooting", BOOT_LIMIT).or_fail();
    }
    for machine in ALIVE {
        six.comes_back(machine);
    }
    six.told("two died, and the four others have rebooted");
}

fn one_is_replaced(six: &mut Six) {
    let gone = six.id(DEAD).to_owned();
    let left = six.fleet.operator.run(&["node", "leave", &gone, "--force"]).or_fail();
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    six.fleet.start_enrolling(REPLACEMENT..REPLACEMENT + 1).or_fail();
    six.join(REPLACEMENT);
    assert_ne!(six.id(REPLACEMENT), gone, "somebody's share is still said to be at that address");
    // Of four each: the other sleeps still, and is no loss to those who have enough without it.
    six.wait_split(&ALIVE, 3, 4);
    six.told("one was replaced, and the keys of those who are awake have followed");
    six.fleet.machine(SLEEPER).power_on().or_fail();
    six.comes_back(SLEEPER);
    six.wait_split(&[0, 1, 2, 3, SLEEPER, REPLACEMENT], 3, 5);
    six.told("the other is back: every key is with five again");
}

fn one_leaves(six: &mut Six) {
    let gone = six.id(LEAVER).to_owned();
    let left = six.fleet.operator.run(&["node", "leave", &gone]).or_fail();
    assert!(left.status.success(), "{}", String::from_utf8_lossy(&left.stderr));
    let machine = six.fleet.machine(LEAVER);
    let told = machine.wait_for("orama: this node's shares are deleted at", PROVISION_LIMIT).or_fail();
    // The dead one may be named beside them: it has a share of a former split.
    assert!(told.contains("deleted at 5 of "), "{told}");
    six.wait_split(&AT_LAST, 3, 4);
    let report = six.fleet.operator.report().or_fail();
    assert!(report.nodes.iter().all(|node| node.node_id != gone), "{report:?}");
    six.told("one has left in order");
}

/// No node, no guardian, no gateway is needed but those that come up themselves.
fn all_lose_power(six: &mut Six) {
    six.fleet.power_cut().or_fail();
    for machine in AT_LAST {
        six.fleet.machine(machine).power_on().or_fail();
    }
    for machine in AT_LAST {
        six.comes_back(machine);
        let status = six.status(machine);
        assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    }
    six.wait_split(&AT_LAST, 3, 4);
    six.told("all lost power, and all are back by themselves");
}
