//! Early state edited while the node was off: the node unlocks, finds out, raises an alarm and starts no service.

use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT, Scenario};

#[test]
fn edited_early_state_is_an_alarm_and_no_service_starts() {
    let (mut scenario, enrolled) = Scenario::enrolled("header-tamper", Image::Small).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    scenario.machine.power_cut().or_fail();

    let disk = scenario.machine.disk();
    let header = Header::cut_out(&disk, &scenario.cluster.folder().join("header")).or_fail();
    let mut state = header.early_state().or_fail();
    assert_eq!(state["node_id"], enrolled.node_id);
    state["gateway_url"] = "https://10.0.2.2:9443".into();
    header.forge_early_state(&state).or_fail();
    header.put_back(&disk).or_fail();

    let from = scenario.machine.console().to_end().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    let line = scenario.machine.wait_for("orama: phase degraded", PROVISION_LIMIT).or_fail();
    assert!(line.contains("early state"), "{line}");
    let status = scenario
        .wait_status(&enrolled.node_id, "degraded", PROVISION_LIMIT, |status| status.phase == "degraded")
        .or_fail();
    assert!(status.alarms.iter().any(|alarm| alarm.contains("early state")), "{:?}", status.alarms);
    assert!(!status.healthy);
    assert!(status.services.values().all(|service| service.pid.is_none()), "{:?}", status.services);
    let lines = scenario.machine.console().lines_from(from).or_fail();
    for never in ["all services spawned", "service rqlite running", "registration code", "volume formatted"] {
        assert!(!lines.iter().any(|line| line.contains(never)), "{never:?} after the early state was edited");
    }
}
