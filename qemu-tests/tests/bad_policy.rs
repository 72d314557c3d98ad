//! A policy file that does not parse: its service stays down and says why, the others run.

use qemu_tests::artifacts::Image;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{PROVISION_LIMIT, Scenario};

#[test]
fn a_broken_policy_keeps_its_service_down_and_no_other() {
    let (scenario, enrolled) = Scenario::enrolled("bad-policy", Image::BadPolicy).or_fail();
    let status = scenario
        .wait_status(&enrolled.node_id, "running with the gateway service", PROVISION_LIMIT, |status| {
            status.phase == "running" && status.services.get("gateway").is_some_and(|service| service.healthy)
        })
        .or_fail();
    let rqlite = &status.services["rqlite"];
    assert_eq!(rqlite.state, "refused", "{rqlite:?}");
    assert!(rqlite.pid.is_none());
    assert!(rqlite.reason.contains("rqlite.toml"), "{}", rqlite.reason);
    assert!(!status.healthy, "a node without one of its services is not healthy");
    assert!(status.alarms.iter().any(|alarm| alarm.contains("rqlite")), "{:?}", status.alarms);
}
