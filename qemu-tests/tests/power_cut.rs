//! Power cut at points of provisioning: the next boot is either an enrolled node that unlocks, or enrollment mode
//! again, and enrolling it then works. Never something in between.

use std::time::Duration;

use qemu_tests::artifacts::Image;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT, Scenario};

/// Console line after which the plug is pulled, and how long after it.
const POINTS: [(&str, Duration); 6] = [
    ("orama: phase provisioning", Duration::ZERO),
    ("orama: wireguard orama0 up", Duration::ZERO),
    ("orama: wireguard orama0 up", Duration::from_millis(700)),
    ("orama: volume formatted", Duration::ZERO),
    ("orama: key split", Duration::ZERO),
    ("orama: key split", Duration::from_millis(300)),
];

#[test]
fn a_power_cut_while_provisioning_leaves_an_enrolled_node_or_none() {
    let mut scenario = Scenario::start("power-cut", Image::Small).or_fail();
    let mut enrolled_after = Vec::new();
    for (line, delay) in POINTS {
        cut(&mut scenario, line, delay);
        if enrolled_after_boot(&mut scenario) {
            enrolled_after.push((line, delay));
            break;
        }
    }
    if enrolled_after.is_empty() {
        // The last boot is in enrollment mode: this time nothing goes wrong.
        scenario.enroll().or_fail();
        scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
        // And at once after the commit.
        scenario.machine.power_cut().or_fail();
        scenario.machine.power_on().or_fail();
        assert!(enrolled_after_boot(&mut scenario), "an enrolled node forgot that it is");
    }
    let report = scenario.operator.report().or_fail();
    let node = report
        .nodes
        .iter()
        .filter(|node| node.role == "agent")
        .max_by_key(|node| node.reachable)
        .expect("the node in the report");
    scenario.wait_healthy(&node.node_id).or_fail();
}

/// Enrols, and pulls the plug at the point.
fn cut(scenario: &mut Scenario, line: &str, delay: Duration) {
    let token = scenario.operator.invite("1h").or_fail();
    std::thread::scope(|scope| {
        let (operator, public) = (&scenario.operator, scenario.machine.public_address());
        // The command fails when the node goes away under it, or succeeds before: both are fine.
        let enrolling = scope.spawn(move || drop(operator.enroll_when_registered(public, &token)));
        scenario.machine.wait_for(line, PROVISION_LIMIT).or_fail();
        std::thread::sleep(delay);
        scenario.machine.power_cut().or_fail();
        enrolling.join().expect("the enrolling thread");
    });
    scenario.machine.power_on().or_fail();
}

/// Whether the boot ends in running services; otherwise it must end in enrollment mode.
fn enrolled_after_boot(scenario: &mut Scenario) -> bool {
    let line = scenario.machine.wait_for("orama: phase", BOOT_LIMIT).or_fail();
    let mut line = line;
    // Bound: a boot has fewer phases than this.
    for _ in 0..20 {
        if line.contains("phase enrolling") {
            scenario.wait_enrollment_mode().or_fail();
            return false;
        }
        assert!(!line.contains("phase degraded"), "neither enrolled nor in enrollment mode: {line}");
        if line.contains("phase running") {
            return true;
        }
        line = scenario.machine.wait_for("orama: phase", PROVISION_LIMIT).or_fail();
    }
    panic!("no end of phases; the last was {line}");
}
