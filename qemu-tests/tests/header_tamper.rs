//! Early state edited while the node was off: the node unlocks, finds out, raises an alarm and starts no service.

use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT, Scenario};

#[test]
fn edited_early_state_is_an_alarm_and_no_service_starts() {
    let (mut scenario, enrolled) = Scenario::enrolled("header-tamper", Image::Node).unwrap();
    scenario.wait_healthy(&enrolled.node_id).unwrap();
    scenario.machine.power_cut().unwrap();

    let disk = scenario.machine.disk();
    let header = Header::cut_out(&disk, &scenario.cluster.folder().join("header")).unwrap();
    let mut state = header.early_state().unwrap();
    assert_eq!(state["node_id"], enrolled.node_id);
    state["gateway_url"] = "https://10.0.2.2:9443".into();
    header.forge_early_state(&state).unwrap();
    header.put_back(&disk).unwrap();

    let from = scenario.machine.console().to_end().unwrap();
    scenario.machine.power_on().unwrap();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).unwrap();
    let line = scenario.machine.wait_for("orama: phase degraded", PROVISION_LIMIT).unwrap();
    assert!(line.contains("early state"), "{line}");
    let status = scenario
        .wait_status(&enrolled.node_id, "degraded", PROVISION_LIMIT, |status| status.phase == "degraded")
        .unwrap();
    assert!(status.alarms.iter().any(|alarm| alarm.contains("early state")), "{:?}", status.alarms);
    assert!(!status.healthy);
    assert!(status.services.values().all(|service| service.pid.is_none()), "{:?}", status.services);
    let lines = scenario.machine.console().lines_from(from).unwrap();
    for never in ["all services spawned", "service rqlite running", "registration code", "volume formatted"] {
        assert!(!lines.iter().any(|line| line.contains(never)), "{never:?} after the early state was edited");
    }
}
