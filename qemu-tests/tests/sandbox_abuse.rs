//! Services that do what no service should, side by side on one node: each stays in its box, status says what is
//! wrong with it, nothing outlives its stop, and the database beside them answers all the time.

use std::time::Duration;

use orama_protocol::agent::{ServiceStatus, Status};
use orama_protocol::refusals::Refusals;
use qemu_tests::artifacts::Image;
use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{Enrolled, Scenario};

/// An abuser under a CPU quota on an emulated machine takes its time.
const ABUSE_LIMIT: Duration = Duration::from_secs(300);
const ABUSERS: [&str; 9] = ["forks", "memory", "disk", "deaf", "daemon", "mute", "flood", "kill", "foreign"];

#[test]
fn abusers_stay_in_their_boxes_and_are_told() {
    let (scenario, enrolled) = Scenario::enrolled("sandbox-abuse", Image::Abuse).or_fail();
    let rqlite = wait(&scenario, &enrolled, "rqlite", "running", |service| service.healthy);
    execute(&scenario, &enrolled, "CREATE TABLE proof (n INTEGER)");
    each_is_told(&scenario, &enrolled);
    execute(&scenario, &enrolled, "INSERT INTO proof VALUES (1)");
    refusals_are_counted_and_explained(&scenario, &enrolled);
    nothing_outlives_its_stop(&scenario, &enrolled);
    execute(&scenario, &enrolled, "INSERT INTO proof VALUES (2)");
    let after = service(&scenario.operator.status(&enrolled.node_id).or_fail(), "rqlite");
    assert_eq!((after.pid, after.restarts), (rqlite.pid, 0), "rqlite was left alone: {after:?}");
    assert_eq!(after.refusals, 0, "{after:?}");
}

fn each_is_told(scenario: &Scenario, enrolled: &Enrolled) {
    let says = |name: &str, what: &str, state: &str, words: &[&str]| {
        let service = wait(scenario, enrolled, &format!("abuse-{name}"), what, |service| {
            service.state == state && words.iter().all(|word| service.reason.contains(word))
        });
        assert_eq!(service.pid.is_some(), state == "running", "{service:?}");
    };
    let failed = "given up";
    says("memory", failed, "failed", &["out of memory: limit 24 MiB"]);
    says("daemon", failed, "failed", &["left 2 processes behind"]);
    says("kill", failed, "failed", &["killed for calling socket(AF_NETLINK"]);
    says("foreign", failed, "failed", &["another architecture"]);
    says("forks", "at its limit", "running", &["limit of 16 processes", "attempts to make more failed"]);
    says("disk", "full", "running", &["disk space is used up: limit 8 MiB"]);
    says("mute", "mute", "running", &["closed its output"]);
    says("deaf", "running", "running", &[]);
    let logs = scenario.operator.logs(&enrolled.node_id, "abuse-disk", 10).or_fail();
    let text = logs["abuse-disk"].as_str().unwrap_or_default();
    assert!(text.contains("the disk is full: "), "the write fails and the program hears of it: {logs}");
}

fn refusals_are_counted_and_explained(scenario: &Scenario, enrolled: &Enrolled) {
    let flood = wait(scenario, enrolled, "abuse-flood", "refused", |service| service.refusals > 1000);
    assert_eq!((flood.state.as_str(), flood.restarts), ("running", 0), "{flood:?}");
    let arguments = ["node", "refusals", "--node-id", &enrolled.node_id, "--service", "abuse-flood"];
    let answer: Refusals = scenario.operator.read(&arguments).or_fail();
    let [kind] = &answer.refusals[..] else { panic!("one kind of call, not {answer:?}") };
    assert!(kind.call.starts_with("socket(AF_NETLINK, SOCK_RAW"), "{kind:?}");
    assert_eq!((kind.syscall.as_str(), kind.action.as_str()), ("socket", "errno EPERM"));
    assert!(kind.count > 1000, "{kind:?}");
    assert!(kind.patch.contains("socket") && kind.patch.contains("AF_NETLINK"), "{}", kind.patch);
    let logs = scenario.operator.logs(&enrolled.node_id, "abuse-flood", 1000).or_fail();
    let text = logs["abuse-flood"].as_str().unwrap_or_default();
    let told = text.lines().filter(|line| line.contains("refused system call socket(AF_NETLINK")).count();
    assert_eq!(told, 1, "one line per kind, whatever the count: {text}");
    let metrics = metrics(scenario, enrolled);
    let counter =
        "orama_service_refusals_total{service=\"abuse-flood\",syscall=\"socket\",action=\"errno\"} ";
    assert!(metrics.lines().any(|line| line.starts_with(counter)), "{metrics}");
    let disk = sample(&metrics, "orama_service_disk_bytes", "abuse-disk");
    assert!(disk.is_some_and(|bytes| bytes <= 8 << 20), "the quota holds: {disk:?}");
    let processes = sample(&metrics, "orama_service_processes", "abuse-forks");
    assert!(processes.is_some_and(|count| (1..=16).contains(&count)), "the limit holds: {processes:?}");
}

fn nothing_outlives_its_stop(scenario: &Scenario, enrolled: &Enrolled) {
    for name in ABUSERS {
        let service_name = format!("abuse-{name}");
        scenario.operator.command(&enrolled.node_id, "stop", Some(&service_name)).or_fail();
        let stopped =
            wait(scenario, enrolled, &service_name, "stopped", |service| service.state == "stopped");
        let deaf = stopped.reason.contains("after 3 s it had to be killed");
        assert_eq!(deaf, name == "deaf", "{name}: {}", stopped.reason);
    }
    let metrics = metrics(scenario, enrolled);
    for name in ABUSERS {
        let left = sample(&metrics, "orama_service_processes", &format!("abuse-{name}"));
        assert_eq!(left, Some(0), "{name} left processes behind: {metrics}");
    }
}

fn service(status: &Status, name: &str) -> ServiceStatus {
    status.services.get(name).cloned().unwrap_or_else(|| panic!("no service {name}: {:?}", status.services))
}

fn wait(
    scenario: &Scenario,
    enrolled: &Enrolled,
    name: &str,
    what: &str,
    wanted: impl Fn(&ServiceStatus) -> bool,
) -> ServiceStatus {
    let what = format!("one with {name} {what}");
    let status = scenario.wait_status(&enrolled.node_id, &what, ABUSE_LIMIT, |status| {
        status.services.get(name).is_some_and(&wanted)
    });
    service(&status.or_fail(), name)
}

/// In rqlite, which has to answer whatever goes on beside it.
fn execute(scenario: &Scenario, enrolled: &Enrolled, statement: &str) {
    let answer = node::execute(scenario.network(), enrolled.address, statement).or_fail();
    assert!(answer.status == 200 && !answer.text().contains("error"), "{statement}: {}", answer.text());
}

fn metrics(scenario: &Scenario, enrolled: &Enrolled) -> String {
    let path = format!("/v1/node/metrics?node_id={}", enrolled.node_id);
    let (status, text) = scenario.operator.get(&path).or_fail();
    assert_eq!(status, 200, "{text}");
    text
}

/// The value of `family{service="name"}`.
fn sample(metrics: &str, family: &str, service: &str) -> Option<u64> {
    let start = format!("{family}{{service=\"{service}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok())
}
