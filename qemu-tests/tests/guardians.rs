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
    let (mut scenario, enrolled) = Scenario::enrolled("guardians", Image::Small).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    two_faults_do_not_stop_an_unlock(&mut scenario, &enrolled);
    three_faults_are_named_until_one_is_mended(&mut scenario, &enrolled);
    two_shares_only(&mut scenario, &enrolled);
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

fn two_faults_do_not_stop_an_unlock(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.cluster.guardians()[0].stop();
    scenario.cluster.guardians()[1].lie(Lie::FlippedByte).or_fail();
    power_cycle(scenario);
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    // Nobody waits for these two, but the node hears them out.
    let status = scenario
        .wait_status(&enrolled.node_id, "every guardian's answer", PROVISION_LIMIT, |status| {
            let unlock = status.unlock.as_ref();
            unlock.is_some_and(|unlock| unlock.guardians.iter().all(|guardian| guardian.answer != "asked"))
        })
        .or_fail();
    assert!(
        ["unreachable", "timed-out"].contains(&answer(scenario, &status, 0).as_str()),
        "{:?}",
        status.unlock
    );
    assert_eq!(answer(scenario, &status, 1), "wrong-digest");
    for good in 2..5 {
        assert_eq!(answer(scenario, &status, good), "good");
    }
    everybody_honest(scenario);
}

/// Waits for a round in which everybody has answered, or had the time to. It need not be the first one: on a busy
/// machine the tunnel's first handshake may take longer than a guardian is given.
fn waiting(scenario: &mut Scenario, enrolled: &Enrolled) -> Status {
    scenario.machine.wait_for("orama: phase waiting-for-peers: 2 of 3", PROVISION_LIMIT).or_fail();
    let status = scenario
        .wait_status(&enrolled.node_id, "waiting for peers with two shares", PROVISION_LIMIT, |status| {
            status.phase == "waiting-for-peers" && status.reason.contains("2 of 3")
        })
        .or_fail();
    assert!(!status.healthy);
    assert_eq!(status.unlock.as_ref().map(|unlock| unlock.good), Some(2));
    assert!(status.services.values().all(|service| service.pid.is_none()), "{:?}", status.services);
    status
}

fn three_faults_are_named_until_one_is_mended(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.cluster.guardians()[0].lie(Lie::OtherGeneration).or_fail();
    scenario.cluster.guardians()[1].lie(Lie::FlippedByte).or_fail();
    scenario.cluster.guardians()[2].freeze().or_fail();
    power_cycle(scenario);
    let status = waiting(scenario, enrolled);
    for (index, word) in [(0, "wrong-generation"), (1, "wrong-digest"), (2, "timed-out")] {
        assert_eq!(answer(scenario, &status, index), word);
        let address = scenario.cluster.guardians()[index].address().to_string();
        assert!(status.reason.contains(&address), "{address} is not named: {}", status.reason);
    }
    scenario.cluster.guardians()[2].thaw().or_fail();
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(answer(scenario, &status, 2), "good");
    for liar in [0, 1] {
        assert_ne!(answer(scenario, &status, liar), "good");
    }
    everybody_honest(scenario);
}

fn two_shares_only(scenario: &mut Scenario, enrolled: &Enrolled) {
    for index in [1, 3, 4] {
        scenario.cluster.guardians()[index].stop();
    }
    power_cycle(scenario);
    let status = waiting(scenario, enrolled);
    for index in [1, 3, 4] {
        assert_eq!(answer(scenario, &status, index), "unreachable");
        let address = scenario.cluster.guardians()[index].address().to_string();
        assert!(status.reason.contains(&address), "the missing {address} is not named: {}", status.reason);
    }
    // Through the first retries: it stays as it is, and nothing gives up.
    std::thread::sleep(Duration::from_secs(10));
    waiting_still(scenario, enrolled);
    scenario.cluster.guardians()[3].resume().or_fail();
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(answer(scenario, &status, 3), "good");
    everybody_honest(scenario);
}

fn waiting_still(scenario: &Scenario, enrolled: &Enrolled) {
    scenario
        .wait_status(&enrolled.node_id, "a later round with two shares", PROVISION_LIMIT, |status| {
            let waits = matches!(status.phase.as_str(), "waiting-for-peers" | "unlocking");
            waits && status.unlock.as_ref().is_some_and(|unlock| unlock.good == 2 && unlock.attempts > 1)
        })
        .or_fail();
}
