//! Guardians that are down, frozen or lying: named in the status, and the rest still unlock. With only two shares
//! the node waits, says who is missing, and unlocks when the third guardian comes back.

use std::time::Duration;

use orama_protocol::agent::Status;
use qemu_tests::artifacts::Image;
use qemu_tests::liar::Lie;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

#[test]
fn faulty_guardians_are_named_and_three_good_ones_unlock() {
    let (mut scenario, enrolled) = Scenario::enrolled("guardians", Image::Node).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    one_down_and_one_lying(&mut scenario, &enrolled);
    one_frozen_and_one_of_another_generation(&mut scenario, &enrolled);
    two_only(&mut scenario, &enrolled);
}

/// How the guardian at this place answered, as the status says.
fn answer(scenario: &mut Scenario, status: &Status, index: usize) -> String {
    let node_id = scenario.cluster.guardians()[index].node_id();
    let unlock = status.unlock.as_ref().expect("how the unlock went");
    let found = unlock.guardians.iter().find(|guardian| guardian.node_id == node_id);
    found.unwrap_or_else(|| panic!("{node_id} is not in {unlock:?}")).answer.clone()
}

fn power_cycle(scenario: &mut Scenario) {
    scenario.machine.power_cut().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
}

fn everybody_honest(scenario: &mut Scenario) {
    for guardian in scenario.cluster.guardians() {
        guardian.resume().or_fail();
    }
}

fn one_down_and_one_lying(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.cluster.guardians()[0].stop();
    scenario.cluster.guardians()[1].lie(Lie::FlippedByte).or_fail();
    power_cycle(scenario);
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(answer(scenario, &status, 0), "unreachable");
    assert_eq!(answer(scenario, &status, 1), "wrong-digest");
    for good in 2..5 {
        assert_eq!(answer(scenario, &status, good), "good");
    }
    everybody_honest(scenario);
}

fn one_frozen_and_one_of_another_generation(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.cluster.guardians()[2].freeze().or_fail();
    scenario.cluster.guardians()[4].lie(Lie::OtherGeneration).or_fail();
    power_cycle(scenario);
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    // The three good ones may be enough before the frozen one has had its time.
    let frozen = answer(scenario, &status, 2);
    assert!(matches!(frozen.as_str(), "asked" | "timed-out"), "{frozen}");
    let lying = answer(scenario, &status, 4);
    assert_eq!(lying, "wrong-generation");
    scenario.cluster.guardians()[2].thaw().or_fail();
    everybody_honest(scenario);
}

fn two_only(scenario: &mut Scenario, enrolled: &Enrolled) {
    for index in [1, 3, 4] {
        scenario.cluster.guardians()[index].stop();
    }
    power_cycle(scenario);
    let line = scenario.machine.wait_for("orama: phase waiting-for-peers", PROVISION_LIMIT).or_fail();
    assert!(line.contains("2 of 3"), "{line}");
    for index in [1, 3, 4] {
        let address = scenario.cluster.guardians()[index].address().to_string();
        assert!(line.contains(&address), "the missing guardian {address} is not named: {line}");
    }
    let status = scenario
        .wait_status(&enrolled.node_id, "waiting for peers", PROVISION_LIMIT, |status| {
            status.phase == "waiting-for-peers"
        })
        .or_fail();
    assert!(status.reason.contains("2 of 3"), "{}", status.reason);
    assert!(!status.healthy);
    assert_eq!(status.unlock.as_ref().map(|unlock| unlock.good), Some(2));
    assert!(status.services.values().all(|service| service.pid.is_none()), "{:?}", status.services);
    // Through the first retries: it stays as it is, and nothing gives up.
    std::thread::sleep(Duration::from_secs(10));
    scenario.cluster.guardians()[3].resume().or_fail();
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(answer(scenario, &status, 3), "good");
    everybody_honest(scenario);
}
