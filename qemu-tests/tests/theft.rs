//! A disk that was away: guardians hold its key down, the gateway asks whether it was the operator, who says yes. An
//! orderly reboot takes as long and nobody asks. One that is stolen is revoked and opens for nobody.

use std::time::Duration;

use qemu_tests::artifacts::Image;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

/// More than one sign of life apart, so that a node that runs is never absent.
const WINDOW: &str = "75s";
/// The same and a bit.
const AWAY: Duration = Duration::from_secs(80);

#[test]
fn a_node_that_was_away_gets_its_key_when_the_operator_says_so() {
    let (mut scenario, enrolled) = Scenario::enrolled("theft", Image::Small).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    for guardian in scenario.cluster.guardians() {
        guardian.set_window(WINDOW).or_fail();
    }

    // An orderly reboot is announced: the machine may be off for as long.
    scenario
        .operator
        .read::<serde_json::Value>(&["node", "command", "reboot", "--node-id", &enrolled.node_id])
        .or_fail();
    scenario.machine.wait_for("orama: phase rebooting", BOOT_LIMIT).or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    let from = scenario.machine.console().position();
    go_away(&mut scenario);
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    let console = scenario.machine.console().lines_from(from).or_fail();
    assert!(!console.iter().any(|line| line.contains("holds its share down")), "{console:?}");

    go_away(&mut scenario);
    held_and_told(&mut scenario, &enrolled);
    let answer: serde_json::Value =
        scenario.operator.read(&["node", "approve", "--node-id", &enrolled.node_id]).or_fail();
    assert_eq!(answer["status"], "approved", "{answer}");
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert!(scenario.operator.report().or_fail().alarms.is_empty());

    // Now somebody takes it away.
    let answer: serde_json::Value =
        scenario.operator.read(&["node", "revoke", "--node-id", &enrolled.node_id]).or_fail();
    assert_eq!(answer["status"], "revoked", "{answer}");
    let done =
        answer["guardians"].as_array().map_or(0, |all| all.iter().filter(|one| one["done"] == true).count());
    assert_eq!(done, 5, "{answer}");
    scenario.machine.power_cut().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    let from = scenario.machine.console().position();
    // Out of the mesh, and of the report; and when it asks again it is no better.
    for _ in 0..3 {
        scenario.machine.wait_for("orama: phase waiting-for-peers", PROVISION_LIMIT).or_fail();
    }
    let opened = scenario.machine.console().lines_from(from).or_fail();
    assert!(!opened.iter().any(|line| line.contains("volume open")), "{opened:?}");
    let report = scenario.operator.report().or_fail();
    assert!(report.nodes.iter().all(|node| node.node_id != enrolled.node_id), "{report:?}");
    for guardian in scenario.cluster.guardians() {
        let kept = guardian.identities().or_fail();
        assert!(kept.is_empty(), "shares are left at {}: {kept:?}", guardian.address());
    }
}

fn go_away(scenario: &mut Scenario) {
    scenario.machine.power_cut().or_fail();
    std::thread::sleep(AWAY);
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
}

fn held_and_told(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.machine.wait_for("holds its share down until", PROVISION_LIMIT).or_fail();
    let told = (0..30).find_map(|_| {
        std::thread::sleep(Duration::from_secs(1));
        scenario.operator.report().or_fail().alarms.into_iter().next()
    });
    let alarm = told.expect("the gateway raises an alarm");
    assert_eq!((alarm.node_id.as_str(), alarm.kind.as_str()), (enrolled.node_id.as_str(), "held"));
    assert!(alarm.text.contains("was this you? orama node approve"), "{}", alarm.text);
}
