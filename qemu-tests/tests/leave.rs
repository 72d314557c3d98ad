//! A node leaves its cluster: everything that it was is erased, also when the power goes in the middle, and then it is a
//! blank machine that enrols like any other.

use std::os::unix::fs::FileExt;

use qemu_tests::artifacts::Image;
use qemu_tests::disk;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

/// Two header copies and the key slots, bytes (docs/formats.md).
const HEAD_BYTES: usize = 4 << 20;

#[test]
fn a_node_that_leaves_is_blank_whenever_its_power_goes() {
    let (mut scenario, enrolled) = Scenario::enrolled("leave", Image::Small).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    cut_off_in_the_middle(&mut scenario, &enrolled);
    let again = scenario.enroll().or_fail();
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&again.node_id).or_fail();
    orderly(&mut scenario, &again);
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

fn orderly(scenario: &mut Scenario, node: &Enrolled) {
    leave(scenario, node);
    scenario
        .machine
        .wait_for("orama: rebooting: it has left its cluster and is blank", PROVISION_LIMIT)
        .or_fail();
    scenario.wait_enrollment_mode().or_fail();
    assert!(is_blank(scenario), "the header is not erased");
}

fn is_blank(scenario: &Scenario) -> bool {
    let disk = scenario.machine.disk();
    let data = disk::partition(&disk, "orama-data").or_fail();
    let mut head = vec![1; HEAD_BYTES];
    std::fs::File::open(&disk).or_fail().read_exact_at(&mut head, data.offset).or_fail();
    head.iter().all(|byte| *byte == 0)
}
