//! A volume key whose guardians change: one joins and one leaves, and the key is split over the new five; every boot
//! splits it anew, so a disk that was copied before opens no more; power cuts during a new split lose nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use orama_protocol::agent::Status;
use orama_protocol::peers::{CustodyStatus, Peer, PeerList};
use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::guardian_client;
use qemu_tests::http::{Request, send};
use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};

/// Above whatever the gateway itself tells the node: its revisions begin at the time, and it believes none of the future.
const REVISION: u64 = 1 << 40;
/// A new split, and 120 s later the sweep of what it made obsolete.
const SWEPT_LIMIT: Duration = Duration::from_secs(240);
/// A new split takes a few seconds under emulation; the cuts fall into them.
const CUTS: [Duration; 3] =
    [Duration::from_millis(600), Duration::from_millis(1700), Duration::from_millis(3100)];

#[test]
fn a_key_follows_its_guardians_and_survives_power_cuts() {
    let (mut scenario, enrolled) = Scenario::enrolled("reshare", Image::Small).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(custody(&status).generation, 1);
    one_joins_and_one_leaves(&mut scenario, &enrolled);
    power_cut(&mut scenario);
    the_new_shares_make_the_key(&mut scenario);
    let copy = copy_disk(&scenario);
    a_boot_splits_the_key_anew(&mut scenario, &enrolled);
    a_copied_disk_opens_no_more(&mut scenario, &enrolled, &copy);
    cuts_during_a_new_split(&mut scenario, &enrolled);
}

fn custody(status: &Status) -> CustodyStatus {
    status.custody.clone().expect("who keeps the key")
}

/// The gateway's host is in every list, as in the gateway's own.
fn put_peers(scenario: &Scenario, enrolled: &Enrolled, revision: u64, mut peers: Vec<Peer>) -> u16 {
    peers.push(scenario.cluster.gateway_peer());
    let token = scenario.cluster.agent_token(&enrolled.node_id).or_fail();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let body = serde_json::to_string(&PeerList { revision, peers }).expect("JSON");
    let path = "/v1/agent/peers";
    let request = Request { method: "PUT", path, headers: &headers, body: body.as_bytes() };
    let answer = send(scenario.network(), node::agent(enrolled.address), &request, node::PATIENCE).or_fail();
    assert!([200, 409].contains(&answer.status), "{}: {}", answer.status, answer.text());
    answer.status
}

fn one_joins_and_one_leaves(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.cluster.add_guardian().or_fail();
    let mut peers: Vec<Peer> = (0..6).map(|index| scenario.cluster.peer(index)).collect();
    peers[0].leaving = true;
    assert_eq!(put_peers(scenario, enrolled, REVISION, peers.clone()), 200);
    assert_eq!(put_peers(scenario, enrolled, REVISION - 1, peers.clone()), 409);
    let status = scenario
        .wait_status(&enrolled.node_id, "split over the new five", PROVISION_LIMIT, |status| {
            status.custody.as_ref().is_some_and(|custody| custody.generation == 2)
        })
        .or_fail();
    assert_eq!(status.peers_revision, REVISION);
    let holders: Vec<_> = custody(&status).holders.into_iter().map(|holder| holder.wg_ip).collect();
    assert_eq!(holders, ["10.0.0.12", "10.0.0.13", "10.0.0.14", "10.0.0.15", "10.0.0.16"]);
    wait_swept(scenario, enrolled, 2);
    assert_eq!(generations(scenario, 0), [0; 0], "the one that leaves keeps a share");
    peers.remove(0);
    assert_eq!(put_peers(scenario, enrolled, REVISION + 1, peers), 200);
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    let wireguard = status.wireguard.expect("wireguard");
    assert!(!wireguard.peers.iter().any(|peer| peer.allowed_ips.contains(&"10.0.0.11/32".to_owned())));
}

/// Waits until all that is left at the guardians is this generation.
fn wait_swept(scenario: &mut Scenario, enrolled: &Enrolled, generation: u64) {
    scenario
        .wait_status(&enrolled.node_id, "swept", SWEPT_LIMIT, |status| {
            let custody = status.custody.as_ref();
            custody.is_some_and(|custody| custody.generation == generation && custody.stale == 0)
        })
        .or_fail();
    for index in 1..6 {
        assert_eq!(generations(scenario, index), [generation], "guardian {index}");
    }
}

/// Generations of the shares in a guardian's folder.
fn generations(scenario: &mut Scenario, index: usize) -> Vec<u64> {
    let shares = scenario.cluster.guardians()[index].shares().or_fail();
    let generation = |file: &PathBuf| file.to_str()?.rsplit_once("-g")?.1.parse().ok();
    let mut found: Vec<u64> = shares.iter().filter_map(generation).collect();
    found.sort_unstable();
    found
}

fn power_cut(scenario: &mut Scenario) {
    scenario.machine.power_cut().or_fail();
}

/// Outside of the product, as in the scenario rebuild_key: the new guardian's share among them.
fn the_new_shares_make_the_key(scenario: &mut Scenario) {
    let folder = scenario.cluster.folder().to_owned();
    let header = Header::cut_out(&scenario.machine.disk(), &folder.join("header")).or_fail();
    let state = header.early_state().or_fail();
    let guardians: Vec<_> =
        scenario.cluster.guardians()[3..].iter().map(|guardian| guardian.socket()).collect();
    let shares = guardian_client::fetch_all(scenario.network(), &guardians, &state).or_fail();
    let owner = folder.join("wireguard.key");
    std::fs::write(&owner, state["wireguard"]["private_key"].as_str().expect("text")).or_fail();
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tools/combine_shares.py");
    let mut command = Command::new("python3");
    command.arg(tool).args(["--raw", "--wireguard-key"]).arg(owner);
    for (index, share) in shares.iter().enumerate() {
        let file = folder.join(format!("share-{index}"));
        std::fs::write(&file, share).or_fail();
        command.arg(file);
    }
    let output = command.output().expect("python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(header.opens_with(&output.stdout).or_fail(), "the shares of generation 2 make another key");
}

fn copy_disk(scenario: &Scenario) -> PathBuf {
    let copy = scenario.cluster.folder().join("copied-disk.img");
    let status = Command::new("cp").arg("--sparse=always").arg(scenario.machine.disk()).arg(&copy).status();
    assert!(status.expect("cp").success());
    copy
}

fn a_boot_splits_the_key_anew(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    let status = scenario.wait_healthy(&enrolled.node_id).or_fail();
    assert_eq!(status.unlock.map(|unlock| unlock.generation), Some(2));
    wait_swept(scenario, enrolled, 3);
}

/// Whoever copied the disk last week has its key to the guardians too, and they have nothing for it any more.
fn a_copied_disk_opens_no_more(scenario: &mut Scenario, enrolled: &Enrolled, copy: &Path) {
    power_cut(scenario);
    let (disk, aside) = (scenario.machine.disk(), scenario.cluster.folder().join("real-disk.img"));
    std::fs::rename(&disk, &aside).or_fail();
    std::fs::rename(copy, &disk).or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    scenario.machine.wait_for("orama: phase waiting-for-peers: 0 of 3", PROVISION_LIMIT).or_fail();
    let status = scenario
        .wait_status(&enrolled.node_id, "waiting without a share", PROVISION_LIMIT, |status| {
            status.phase == "waiting-for-peers" && status.reason.matches("has no share").count() == 5
        })
        .or_fail();
    assert_eq!(status.unlock.map(|unlock| (unlock.generation, unlock.good)), Some((2, 0)));
    power_cut(scenario);
    std::fs::rename(&aside, &disk).or_fail();
}

fn cuts_during_a_new_split(scenario: &mut Scenario, enrolled: &Enrolled) {
    for delay in CUTS {
        scenario.machine.power_on().or_fail();
        scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
        scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
        scenario.machine.wait_for("orama: phase mounting", PROVISION_LIMIT).or_fail();
        std::thread::sleep(delay);
        power_cut(scenario);
    }
    let started = Instant::now();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("is PID 1", BOOT_LIMIT).or_fail();
    scenario.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    let status = scenario
        .wait_status(&enrolled.node_id, "split anew after the cuts", PROVISION_LIMIT, |status| {
            let custody = status.custody.as_ref();
            custody.is_some_and(|custody| custody.generation > 3 && custody.state == "settled")
        })
        .or_fail();
    println!("after the cuts: {:?} in {:?}", custody(&status), started.elapsed());
    assert!(status.alarms.is_empty(), "{:?}", status.alarms);
}
