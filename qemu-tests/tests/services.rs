//! The seven services of the product on one node, all enforced: under the load of their own clients, restarted with
//! their data, reloaded, stopped, and each started a second time where it cannot start. Nobody's profile may refuse a
//! single call in all of it, and nobody may start anew without being told to.

use std::collections::BTreeMap;
use std::time::Duration;

use orama_protocol::agent::{ServiceStatus, Status};
use qemu_tests::artifacts::Image;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{Enrolled, Scenario};

#[path = "services/load.rs"]
mod load;

use load::Node;

/// In the order in which they start; they stop in the reverse.
const SERVICES: [&str; 7] =
    ["vault-guardian", "rqlite", "olric", "ipfs", "ipfs-cluster", "gateway", "coredns"];
/// Seven services and seven that fail, on one emulated processor.
const START_LIMIT: Duration = Duration::from_secs(420);
/// One of them, while the others run.
const RESTART_LIMIT: Duration = Duration::from_secs(180);

struct Run {
    scenario: Scenario,
    node: Enrolled,
    /// Who ran when we looked last: another process without an order is a crash.
    pids: BTreeMap<&'static str, Option<u32>>,
}

#[test]
fn seven_enforced_services_work_restart_reload_and_stop_without_a_refusal() {
    let mut run = Run::start();
    run.step("load", load::everything);
    run.restarts_with_data();
    run.reload();
    run.twins_fail_in_their_boxes();
    run.step("load again", load::everything);
    run.stops();
}

impl Run {
    fn start() -> Self {
        let (scenario, node) = Scenario::enrolled("services", Image::Twins).or_fail();
        let mut run = Self { scenario, node, pids: BTreeMap::new() };
        let status = run.wait("all seven run", START_LIMIT, |services| {
            SERVICES.iter().all(|name| services.get(*name).is_some_and(|service| service.healthy))
        });
        for name in SERVICES {
            assert_eq!(status.services[name].seccomp, "enforce", "{name}");
            assert_eq!(status.services[name].restarts, 0, "{name}: {:?}", status.services[name]);
            run.pids.insert(name, status.services[name].pid);
        }
        assert_eq!(status.agent.root_processes, 1);
        run.nobody_was_refused(&status);
        run
    }

    fn wait(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&BTreeMap<String, ServiceStatus>) -> bool,
    ) -> Status {
        self.scenario
            .wait_status(&self.node.node_id, what, limit, |status| wanted(&status.services))
            .or_fail()
    }

    /// Does it, and sees that all seven came through it.
    fn step(&mut self, what: &str, work: impl FnOnce(&Node<'_>)) {
        println!("{what}");
        work(&Node { network: self.scenario.network(), address: self.node.address });
        let status = self.scenario.operator.status(&self.node.node_id).or_fail();
        self.nobody_was_refused(&status);
        for name in SERVICES {
            let service = &status.services[name];
            assert_eq!(service.pid, self.pids[name], "{name} is another process after {what}: {service:?}");
            assert!(service.healthy, "{name} after {what}: {service:?}");
        }
    }

    /// Twins included: a start that fails stays within its profile too.
    fn nobody_was_refused(&self, status: &Status) {
        for (name, service) in &status.services {
            if service.refusals != 0 || service.reason.contains("SIGSYS") {
                let known = SERVICES.contains(&name.as_str());
                let log = known.then(|| self.scenario.operator.logs(&self.node.node_id, name, 40).or_fail());
                panic!("{name}: {service:?}\n{log:?}");
            }
        }
    }

    fn restarts_with_data(&mut self) {
        for name in SERVICES {
            println!("restart {name}");
            self.scenario.operator.command(&self.node.node_id, "restart", Some(name)).or_fail();
            let before = self.pids[name];
            let status = self.wait(&format!("{name} runs again"), RESTART_LIMIT, |services| {
                services.get(name).is_some_and(|service| service.healthy && service.pid != before)
            });
            self.pids.insert(name, status.services[name].pid);
        }
        self.step("data after the restarts", |node| {
            assert_eq!(load::rows(node), load::ROWS);
            let id = load::ipfs(node);
            load::pinned(node, &id);
            load::keeps(node);
        });
    }

    /// CoreDNS is the one that can.
    fn reload(&mut self) {
        self.scenario.operator.command(&self.node.node_id, "reload", Some("coredns")).or_fail();
        self.step("load after the reload", load::coredns);
        let refused = self.scenario.operator.command(&self.node.node_id, "reload", Some("rqlite"));
        assert!(refused.is_err(), "{refused:?}");
    }

    fn twins_fail_in_their_boxes(&mut self) {
        let twins: Vec<String> = SERVICES.iter().map(|name| format!("{name}-twin")).collect();
        let status = self.wait("every twin has given up", START_LIMIT, |services| {
            twins.iter().all(|name| services.get(name).is_some_and(|service| service.state == "failed"))
        });
        self.nobody_was_refused(&status);
        for name in &twins {
            println!("{name}: {}", status.services[name].reason);
        }
    }

    fn stops(&mut self) {
        for name in SERVICES.iter().rev() {
            println!("stop {name}");
            self.scenario.operator.command(&self.node.node_id, "stop", Some(name)).or_fail();
            let status = self.wait(&format!("{name} is stopped"), RESTART_LIMIT, |services| {
                services.get(*name).is_some_and(|service| service.state == "stopped" && service.pid.is_none())
            });
            let service = &status.services[*name];
            assert!(!service.reason.contains("SIGKILL"), "{name} had to be killed: {service:?}");
            self.nobody_was_refused(&status);
        }
    }
}
