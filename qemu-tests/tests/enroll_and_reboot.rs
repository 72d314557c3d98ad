//! The path of the product from the first boot to the second: enrol, use through the gateway, write, reboot,
//! unlock from guardians, find what was written. Everything is real; nothing is looked at from inside.

use std::time::Duration;

use qemu_tests::artifacts::Image;
use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

/// Resident, once everything runs.
const AGENT_LIMIT_BYTES: u64 = 12 << 20;

#[test]
fn a_node_enrols_serves_reboots_unlocks_and_still_has_its_data() {
    let mut scenario = Scenario::prepare("enroll-and-reboot", Image::Small).or_fail();
    first_boot(&mut scenario);
    let enrolled = enrollment(&mut scenario);
    running(&scenario, &enrolled);
    through_the_gateway(&mut scenario, &enrolled);
    write_a_row(&scenario, &enrolled);
    reboot(&mut scenario, &enrolled);
    row_is_still_there(&scenario, &enrolled);
    a_cut_of_power_changes_nothing(&mut scenario, &enrolled);
}

fn first_boot(scenario: &mut Scenario) {
    scenario.machine.power_on().or_fail();
    let line = scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    assert!(line.contains("slot a") && line.contains("root verified"), "{line}");
    let line = scenario.wait_enrollment_mode().or_fail();
    let shown = node::registration_code(scenario.network()).or_fail().expect("a code on port 9999");
    assert!(line.contains(&shown.code), "the console shows another code than port 9999: {line}");
    assert_eq!(shown.code.len(), 8);
    let crockford = |character: char| "0123456789ABCDEFGHJKMNPQRSTVWXYZ".contains(character);
    assert!(shown.code.chars().all(crockford), "{}", shown.code);
}

fn enrollment(scenario: &mut Scenario) -> Enrolled {
    let enrolled = scenario.enroll().or_fail();
    let machine = &mut scenario.machine;
    machine.wait_for("orama: wireguard orama0 up", PROVISION_LIMIT).or_fail();
    machine.wait_for("orama: volume formatted", PROVISION_LIMIT).or_fail();
    let line = machine.wait_for("orama: key split", PROVISION_LIMIT).or_fail();
    assert!(line.contains("3 of 5") && line.contains("generation 1"), "{line}");
    machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    enrolled
}

fn running(scenario: &Scenario, enrolled: &Enrolled) {
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(status.phase, "running");
    assert_eq!(status.node_id.as_deref(), Some(enrolled.node_id.as_str()));
    assert_eq!(status.slot, "a");
    assert_eq!(status.agent.root_processes, 1, "the agent is the only process of root");
    assert!(status.agent.rss_bytes <= AGENT_LIMIT_BYTES, "{} bytes", status.agent.rss_bytes);
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
    for service in ["rqlite", "gateway"] {
        assert_eq!(status.services[service].state, "running", "{:?}", status.services);
    }
    assert!(scenario.enrollment_is_closed(), "port 9999 answers after enrollment");
    assert!(
        node::is_closed(scenario.network(), node::public_agent()),
        "the agent answers on its public address"
    );
}

fn through_the_gateway(scenario: &mut Scenario, enrolled: &Enrolled) {
    let before = scenario.operator.status(&enrolled.node_id).or_fail().services["rqlite"].pid;
    let answer = scenario.operator.command(&enrolled.node_id, "restart", Some("rqlite")).or_fail();
    assert_eq!(answer["status"], "restarted");
    let after = scenario
        .wait_status(&enrolled.node_id, "healthy with another rqlite", PROVISION_LIMIT, |status| {
            status.healthy && status.services["rqlite"].pid != before
        })
        .or_fail();
    assert!(after.services["rqlite"].pid.is_some());

    let logs = scenario.operator.logs(&enrolled.node_id, "rqlite", 5).or_fail();
    let text = logs["rqlite"].as_str().expect("the log of rqlite");
    assert!((1..=5).contains(&text.lines().count()), "{text}");
    let logs = scenario.operator.logs(&enrolled.node_id, "agent", 50).or_fail();
    assert!(logs["agent"].as_str().is_some_and(|text| !text.is_empty()), "{logs}");
    assert!(scenario.operator.logs(&enrolled.node_id, "../agent", 5).is_err());

    let report = scenario.operator.report().or_fail();
    let row =
        report.nodes.iter().find(|node| node.node_id == enrolled.node_id).expect("the node in the report");
    assert!(row.reachable && row.healthy, "{row:?}");
}

fn write_a_row(scenario: &Scenario, enrolled: &Enrolled) {
    let run = |statement: &str| {
        let answer = node::execute(scenario.network(), enrolled.address, statement).or_fail();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!answer.text().contains("\"error\""), "{}", answer.text());
    };
    run("CREATE TABLE survivors (id INTEGER PRIMARY KEY, name TEXT)");
    run("INSERT INTO survivors (name) VALUES ('written before the reboot')");
}

fn reboot(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.operator.command(&enrolled.node_id, "reboot", None).or_fail();
    scenario.machine.wait_for("orama: rebooting", Duration::from_secs(60)).or_fail();
    second_boot(scenario);
}

/// From the kernel to running, without a step of enrollment.
fn second_boot(scenario: &mut Scenario) {
    let from = scenario.machine.console().position();
    let machine = &mut scenario.machine;
    machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    machine.wait_for("orama: wireguard orama0 up", BOOT_LIMIT).or_fail();
    machine.wait_for("orama: shares gathered 3 of 5", PROVISION_LIMIT).or_fail();
    machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    let lines = machine.console().lines_from(from).or_fail();
    for never in ["registration code", "volume formatted", "phase enrolling"] {
        assert!(!lines.iter().any(|line| line.contains(never)), "{never:?} on an enrolled node's console");
    }
    assert!(scenario.enrollment_is_closed(), "port 9999 answers on an enrolled node");
}

fn row_is_still_there(scenario: &Scenario, enrolled: &Enrolled) {
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    let unlock = status.unlock.expect("how the unlock went");
    assert!(unlock.good >= 3 && unlock.needed == 3 && unlock.holders == 5, "{unlock:?}");
    assert_eq!(status.agent.root_processes, 1);
    assert!(status.agent.rss_bytes <= AGENT_LIMIT_BYTES, "{} bytes", status.agent.rss_bytes);
    let answer = node::query(scenario.network(), enrolled.address, "SELECT name FROM survivors").or_fail();
    assert!(answer.text().contains("written before the reboot"), "{}", answer.text());
}

fn a_cut_of_power_changes_nothing(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.machine.power_cut().or_fail();
    scenario.machine.power_on().or_fail();
    second_boot(scenario);
    row_is_still_there(scenario, enrolled);
}
