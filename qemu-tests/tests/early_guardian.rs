//! A node gives out what it keeps for others while its own volume is shut: a client of the guardian protocol stores a
//! share, the power goes, the node's own guardians are down, and the client gets its share from the waiting node. Then
//! cuts in the middle of stores: what was acknowledged is there, and the header is sound.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use orama_protocol::GUARDIAN_PORT;
use orama_protocol::agent::Status;
use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::guardian_client::{FetchError, fetch, store};
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

const SERVICE: &str = "vault-guardian";
/// Of some node that this one keeps shares for.
const OWNER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const NAME: &str = "luks-00112233445566778899aabbccddeeff-g1";
/// Stores before the first cut, timed.
const TIMED: u64 = 8;
/// How long after the first store of a series the plug is pulled: in the middle of one that writes the header.
const CUTS: [Duration; 3] =
    [Duration::from_millis(900), Duration::from_millis(1330), Duration::from_millis(2170)];

#[test]
fn a_node_that_waits_for_its_own_key_gives_others_theirs() {
    let (mut scenario, node) = Scenario::enrolled("early-guardian", Image::Keeper).or_fail();
    scenario.wait_healthy(&node.node_id).or_fail();
    let at = SocketAddr::from((node.address, GUARDIAN_PORT));
    stores_are_timed(&scenario, at);
    everybody_down(&mut scenario);
    power_cycle(&mut scenario);
    let early = waits_and_gives(&mut scenario, &node, at);
    opens_and_takes(&mut scenario, &node, at, &early);
    for after in CUTS {
        cut_while_storing(&mut scenario, &node, at, after);
    }
}

fn share(version: u64) -> Vec<u8> {
    (0..154).map(|index| (index * 7 + version) as u8).collect()
}

fn stores_are_timed(scenario: &Scenario, at: SocketAddr) {
    let mut times = Vec::new();
    for version in 1..=TIMED {
        let begun = Instant::now();
        store(scenario.network(), at, OWNER, NAME, version, &share(version)).or_fail();
        times.push(begun.elapsed().as_millis());
    }
    println!("a share is stored in {times:?} ms (three requests each)");
    assert_eq!(fetch(scenario.network(), at, OWNER, NAME).or_fail(), share(TIMED));
}

fn everybody_down(scenario: &mut Scenario) {
    for guardian in scenario.cluster.guardians() {
        guardian.stop();
    }
}

fn everybody_back(scenario: &mut Scenario) {
    for guardian in scenario.cluster.guardians() {
        guardian.resume().or_fail();
    }
}

fn power_cycle(scenario: &mut Scenario) {
    scenario.machine.power_cut().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
}

/// Until its guardian answers although the volume is shut.
fn waiting(scenario: &mut Scenario, node: &Enrolled) -> Status {
    scenario.machine.wait_for("orama: guardian serves", PROVISION_LIMIT).or_fail();
    scenario
        .wait_status(&node.node_id, "waiting with a guardian that serves", PROVISION_LIMIT, |status| {
            status.phase == "waiting-for-peers"
                && status.services.get(SERVICE).is_some_and(|service| service.healthy)
        })
        .or_fail()
}

fn waits_and_gives(scenario: &mut Scenario, node: &Enrolled, at: SocketAddr) -> Status {
    let status = waiting(scenario, node);
    let held = status.held.clone().expect("what it keeps");
    assert_eq!((held.secrets, held.owners, held.writable), (1, 1, false));
    assert!(!status.healthy);
    assert_eq!(status.agent.root_processes, 1);
    for (name, service) in &status.services {
        assert_eq!(service.pid.is_some(), name == SERVICE, "{name}: {service:?}");
    }
    let begun = Instant::now();
    assert_eq!(fetch(scenario.network(), at, OWNER, NAME).or_fail(), share(TIMED));
    println!("a waiting node gives a share in {} ms", begun.elapsed().as_millis());
    refused(store(scenario.network(), at, OWNER, NAME, TIMED + 1, &share(0)));
    refused(store(scenario.network(), at, OWNER, "another", 1, &share(0)));
    let log = scenario.operator.logs(&node.node_id, SERVICE, 100).or_fail();
    assert!(log.to_string().contains("listening"), "its log before the volume is open: {log:?}");
    status
}

fn refused<T: std::fmt::Debug>(answer: Result<T, FetchError>) {
    match answer {
        Err(FetchError::Refused { status: 500, body, .. }) if body.contains("not open yet") => {}
        other => panic!("a store before the volume was open was answered with {other:?}"),
    }
}

fn opens_and_takes(scenario: &mut Scenario, node: &Enrolled, at: SocketAddr, early: &Status) {
    everybody_back(scenario);
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&node.node_id).or_fail();
    assert!(status.held.as_ref().is_some_and(|held| held.writable), "{:?}", status.held);
    let (before, after) = (&early.services[SERVICE], &status.services[SERVICE]);
    assert_eq!(
        (before.pid, after.restarts, after.refusals),
        (after.pid, 0, 0),
        "the guardian was started anew"
    );
    assert_eq!(fetch(scenario.network(), at, OWNER, NAME).or_fail(), share(TIMED));
    store(scenario.network(), at, OWNER, NAME, TIMED + 1, &share(TIMED + 1)).or_fail();
    assert_eq!(fetch(scenario.network(), at, OWNER, NAME).or_fail(), share(TIMED + 1));
}

/// Stores one version after the other until the plug is pulled. Then the node waits again, and has the last version that it
/// acknowledged, or the one after it.
fn cut_while_storing(scenario: &mut Scenario, node: &Enrolled, at: SocketAddr, after: Duration) {
    let from = fetch_version(scenario, at) + 1;
    let stop = AtomicBool::new(false);
    let acknowledged = std::thread::scope(|scope| {
        let (network, stop) = (scenario.cluster.network().clone(), &stop);
        let storing = scope.spawn(move || {
            let mut last = from - 1;
            while !stop.load(Ordering::Relaxed) {
                if store(&network, at, OWNER, NAME, last + 1, &share(last + 1)).is_err() {
                    break;
                }
                last += 1;
            }
            last
        });
        std::thread::sleep(after);
        scenario.machine.power_cut().or_fail();
        stop.store(true, Ordering::Relaxed);
        storing.join().expect("the storing thread")
    });
    println!("versions {from} to {acknowledged} were acknowledged before the cut");
    let header =
        Header::cut_out(&scenario.machine.disk(), &scenario.cluster.folder().join("header")).or_fail();
    assert!(header.is_luks().or_fail());
    assert_eq!(header.early_state().or_fail()["node_id"], node.node_id);

    everybody_down(scenario);
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    waiting(scenario, node);
    let found = fetch_version(scenario, at);
    assert!(
        found == acknowledged || found == acknowledged + 1,
        "{found} after {acknowledged} was acknowledged"
    );
    everybody_back(scenario);
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&node.node_id).or_fail();
    assert_eq!(status.alarms, Vec::<String>::new());
    assert_eq!(fetch_version(scenario, at), found);
}

/// Which version's bytes the node gives.
fn fetch_version(scenario: &Scenario, at: SocketAddr) -> u64 {
    let bytes = fetch(scenario.network(), at, OWNER, NAME).or_fail();
    let found = (1..=10_000).find(|version| share(*version) == bytes);
    found.unwrap_or_else(|| panic!("neither version: {bytes:?}"))
}
