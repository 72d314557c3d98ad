//! A node leaves its cluster: everything that it was is erased, also when the power goes in the middle, and then it is a
//! blank machine that enrols like any other.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use qemu_tests::artifacts::Image;
use qemu_tests::disk;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

/// Two header copies and the key slots, bytes (docs/formats.md).
const HEAD_BYTES: usize = 4 << 20;
const GUARDIANS: usize = 5;
/// Three times the pause between two writes of a guardian's note.
const FORGET_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_node_that_leaves_is_blank_whenever_its_power_goes() {
    let (mut scenario, enrolled) = Scenario::enrolled("leave", Image::Small).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    cut_off_in_the_middle(&mut scenario, &enrolled);
    // A node whose power went in the middle may have left shares behind.
    let before = shares(&mut scenario);
    let again = scenario.enroll().or_fail();
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&again.node_id).or_fail();
    orderly(&mut scenario, &again, &before);
}

fn leave(scenario: &Scenario, node: &Enrolled) {
    let answer = scenario.operator.run(&["node", "leave", "--node-id", &node.node_id]).or_fail();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
}

/// The power goes when the order has just been taken, and once more while the next boot erases.
fn cut_off_in_the_middle(scenario: &mut Scenario, node: &Enrolled) {
    std::thread::scope(|scope| {
        let operator = &scenario.operator;
        // The gateway lets it go whether it answers or not.
        let leaving = scope.spawn(move || drop(operator.run(&["node", "leave", "--node-id", &node.node_id])));
        scenario.machine.wait_for("orama: this node leaves its cluster", PROVISION_LIMIT).or_fail();
        scenario.machine.power_cut().or_fail();
        leaving.join().expect("the leaving thread");
    });
    let from = scenario.machine.console().position();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("orama: phase leaving", BOOT_LIMIT).or_fail();
    scenario.machine.power_cut().or_fail();
    // Whether that was before or after the last write: it ends in enrollment mode, and nowhere else.
    scenario.machine.power_on().or_fail();
    scenario.wait_enrollment_mode().or_fail();
    for line in scenario.machine.console().lines_from(from).or_fail() {
        for never in ["phase joining", "phase degraded", "volume open"] {
            assert!(!line.contains(never), "a node that left did not stay away: {line}");
        }
    }
    assert!(is_blank(scenario), "the header is not erased");
    let report = scenario.operator.report().or_fail();
    assert!(report.nodes.iter().all(|row| row.node_id != node.node_id), "the gateway still has it");
}

fn orderly(scenario: &mut Scenario, node: &Enrolled, before: &[BTreeSet<PathBuf>]) {
    let kept = shares(scenario);
    assert_eq!(kept.len(), GUARDIANS);
    for (kept, before) in kept.iter().zip(before) {
        assert!(kept.difference(before).next().is_some(), "this guardian has no share of it: {kept:?}");
    }
    leave(scenario, node);
    for (left, before) in shares(scenario).iter().zip(before) {
        assert!(left.is_subset(before), "a share of the node that left: {left:?}");
    }
    let told =
        scenario.machine.wait_for("orama: this node's shares are deleted at", PROVISION_LIMIT).or_fail();
    assert!(told.contains("at 5 of 5 guardians"), "{told}");
    scenario
        .machine
        .wait_for("orama: rebooting: it has left its cluster and is blank", PROVISION_LIMIT)
        .or_fail();
    scenario.wait_enrollment_mode().or_fail();
    assert!(is_blank(scenario), "the header is not erased");
    nobody_remembers(scenario, &kept, before);
}

/// What every guardian keeps of anybody's disk key.
fn shares(scenario: &mut Scenario) -> Vec<BTreeSet<PathBuf>> {
    scenario.cluster.guardians().iter().map(|guardian| guardian.shares().or_fail()).collect()
}

/// No folder, and no line in the guardians' notes about owners, which are written every ten seconds.
fn nobody_remembers(scenario: &mut Scenario, kept: &[BTreeSet<PathBuf>], before: &[BTreeSet<PathBuf>]) {
    for (index, (kept, before)) in kept.iter().zip(before).enumerate() {
        let folder = kept.difference(before).next().and_then(|file| file.parent()).expect("its folder");
        let identity = folder.file_name().and_then(|name| name.to_str()).expect("its identity").to_owned();
        assert!(!folder.exists(), "{} is left", folder.display());
        let facts = scenario.cluster.guardians()[index].data().join("facts");
        let remembers = || std::fs::read_to_string(&facts).is_ok_and(|text| text.contains(&identity));
        let begun = Instant::now();
        while remembers() {
            assert!(begun.elapsed() < FORGET_LIMIT, "{} names a node that left", facts.display());
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

fn is_blank(scenario: &Scenario) -> bool {
    let disk = scenario.machine.disk();
    let data = disk::partition(&disk, "orama-data").or_fail();
    let mut head = vec![1; HEAD_BYTES];
    std::fs::File::open(&disk).or_fail().read_exact_at(&mut head, data.offset).or_fail();
    head.iter().all(|byte| *byte == 0)
}
