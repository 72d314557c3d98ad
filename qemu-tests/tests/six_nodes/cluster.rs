//! The machines, their owner and what is waited for again and again.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use orama_protocol::agent::Status;
use orama_protocol::enroll::EnrollResponse;
use orama_protocol::gateway::{CustodyReport, NodeReport};
use qemu_tests::artifacts::{Artifacts, Image};
use qemu_tests::fleet::Fleet;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT};

use super::owner::Owner;

/// Overlay address of the first node; the gateway has the one before.
pub const FIRST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Every node has split its key anew: seconds each, several at once on two cores, and a pause after a failed attempt.
const SPLIT_LIMIT: Duration = Duration::from_secs(300);

pub struct Six {
    pub fleet: Fleet,
    pub owner: Owner,
    /// Node ids by machine.
    pub ids: Vec<String>,
    started: Instant,
}

impl Six {
    pub fn prepare(name: &str, machines: u8) -> Self {
        let artifacts = Artifacts::from_environment().or_fail();
        let fleet = Fleet::prepare(&artifacts, name, Image::Keeper, machines).or_fail();
        let owner = Owner::beside(&fleet, &artifacts);
        Self { fleet, owner, ids: Vec::new(), started: Instant::now() }
    }

    /// How far the scenario is, and how long that took.
    pub fn told(&self, what: &str) {
        println!("{:4} s  {what}", self.started.elapsed().as_secs());
    }

    pub fn id(&self, machine: usize) -> &str {
        &self.ids[machine]
    }

    pub fn status(&self, machine: usize) -> Status {
        self.fleet.operator.status(self.id(machine)).or_fail()
    }

    /// Enrols a machine that shows its code, through the gateway, with a recovery file. Machines join in their order.
    pub fn join(&mut self, machine: usize) {
        let invite = self.fleet.operator.invite("1h").or_fail();
        self.join_with(machine, &invite);
    }

    pub fn join_with(&mut self, machine: usize, invite: &str) {
        assert_eq!(self.ids.len(), machine);
        let public = self.fleet.public_address(machine);
        let enrolled = self.owner.join(&self.fleet, public, invite, &recovery_file(machine));
        assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
        self.ids.push(serde_json::from_str::<EnrollResponse>(&enrolled.answer).or_fail().node_id);
    }

    /// Opens a machine that waits for its owner.
    pub fn recover(&mut self, machine: usize) {
        let public = self.fleet.public_address(machine);
        let opened = self.owner.recover(&self.fleet, public, &recovery_file(machine));
        assert_eq!(opened.code, Some(0), "{opened:?}");
    }

    /// From the kernel to a guardian that serves, without anybody's help.
    pub fn comes_back(&mut self, machine: usize) {
        let console = self.fleet.machine(machine);
        console.wait_for("is PID 1", BOOT_LIMIT).or_fail();
        console.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
        let healthy = |status: &Status| status.healthy;
        let node_id = self.id(machine);
        self.fleet.operator.wait_status(node_id, "healthy again", PROVISION_LIMIT, healthy).or_fail();
    }

    /// Waits until the key of each of these is split as wanted, at rest, and every holder answers.
    pub fn wait_split(&self, machines: &[usize], k: u8, n: u8) {
        let wanted = |custody: &CustodyReport| {
            (custody.k, custody.n, custody.reachable) == (k, n, n)
                && custody.keeper == "guardians"
                && custody.seen.is_none()
                && matches!(custody.state.as_str(), "settled" | "sweeping")
        };
        let begun = Instant::now();
        loop {
            let report = self.fleet.operator.report().or_fail();
            let rows: Vec<&NodeReport> = machines
                .iter()
                .filter_map(|machine| report.nodes.iter().find(|row| row.node_id == self.ids[*machine]))
                .collect();
            let done = rows.iter().filter(|row| row.custody.as_ref().is_some_and(wanted)).count();
            if done == machines.len() {
                return;
            }
            assert!(begun.elapsed() < SPLIT_LIMIT, "not {k} of {n} with every holder there: {rows:#?}");
            std::thread::sleep(Duration::from_secs(2));
        }
    }
}

fn recovery_file(machine: usize) -> String {
    format!("recovery-{machine}.toml")
}
