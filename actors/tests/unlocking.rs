//! Provisioning and unlocking with real guardians, good, bad, slow and missing, and with a header that was tampered with.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_actors::boot::machine::{Exit, Phase};
use orama_actors::facts::Scope;
use orama_keyshare::{Envelope, Share, Threshold};
use orama_volume::{CrashPoint, DataVolume, DirectoryVolume, Probe};
use support::enrolled::{enrolled, provision};
use support::guardians::{Guardians, HOLD_DOWN};
use support::{Node, Options, power_on};

const SOON: Duration = Duration::from_secs(20);

fn boot(base: &Path, guardians: &Guardians) -> Node {
    power_on(base, Options::without_gateway(guardians.port))
}

#[actix::test]
async fn one_guardian_down_and_one_silent_cost_nothing() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    guardians.stop(0).await;
    guardians.make_silent(1).await;
    let start = Instant::now();
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, SOON).await;
    assert!(start.elapsed() < Duration::from_secs(4), "waited for the silent one: {:?}", start.elapsed());
    let unlock = node.status().await.unlock.unwrap();
    assert_eq!((unlock.good, unlock.needed, unlock.holders, unlock.attempts), (3, 3, 5, 1));
    let lines = node.console.lines();
    let order =
        ["phase joining", "phase unlocking", "shares gathered 3 of 5", "volume open", "phase mounting"];
    let places: Vec<_> =
        order.iter().map(|text| lines.iter().position(|line| line.starts_with(text)).expect(text)).collect();
    assert!(places.is_sorted(), "{lines:?}");
    let answers = heard_out(&node).await;
    assert_eq!(answers, ["unreachable", "timed-out", "good", "good", "good"]);
}

#[actix::test]
async fn wireguard_comes_up_when_the_uplink_has_its_address_and_loses_no_handshake() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let options = Options { network: false, ..Options::without_gateway(guardians.port) };
    let node = power_on(base.path(), options);
    node.wait_for(Phase::Joining, SOON).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(node.mesh.peers(), None, "its first handshake would be lost");
    node.registry.facts.set_network_up();
    node.wait_for(Phase::Running, SOON).await;
    assert_eq!(node.status().await.unlock.unwrap().attempts, 1);
}

/// What each guardian answered, once all had the time to.
async fn heard_out(node: &Node) -> Vec<String> {
    for _ in 0..100 {
        let unlock = node.status().await.unlock.unwrap();
        let answers: Vec<String> = unlock.guardians.into_iter().map(|guardian| guardian.answer).collect();
        if !answers.iter().any(|answer| answer == "asked") {
            return answers;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("a guardian is still being asked after 10 s");
}

#[actix::test]
async fn liars_are_named_although_the_others_were_enough() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    guardians.make_liar(0, 200, forged(base.path(), 1, 1)).await;
    guardians.make_liar(1, 200, forged(base.path(), 2, 2)).await;
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, SOON).await;
    let answers = heard_out(&node).await;
    assert_eq!(answers, ["wrong-digest", "wrong-generation", "good", "good", "good"]);
    assert_eq!(node.status().await.unlock.unwrap().good, 3);
}

/// An envelope as the header of this volume would expect it, but of this generation and with another share.
fn forged(base: &Path, generation: u64, x: u8) -> String {
    let volume = DirectoryVolume::power_on(base).unwrap();
    let Ok(Probe::Enrolled { state, .. }) = volume.probe() else { panic!("not enrolled") };
    let envelope = Envelope {
        volume: state.volume_uuid,
        node_id: state.node_id.clone(),
        generation,
        threshold: Threshold::for_guardians(5).unwrap(),
        share: Share::new(x, &[7; 32]).unwrap(),
    };
    let share = STANDARD.encode(&*envelope.encode().unwrap());
    format!(r#"{{"share":"{share}","name":"n","version":{generation},"created_ns":1,"updated_ns":1}}"#)
}

#[actix::test]
async fn two_shares_only_wait_by_name_and_the_third_unlocks() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    guardians.make_liar(0, 403, r#"{"error":"revoked"}"#.into()).await;
    guardians.make_liar(1, 200, forged(base.path(), 2, 2)).await;
    guardians.stop(2).await;
    let node = boot(base.path(), &guardians);
    let reason = node.wait_for_reason("2 of 3 shares", SOON).await;
    assert!(
        reason.starts_with(
            "2 of 3 shares: node-127.0.0.11 refused: revoked; node-127.0.0.12 gave a share of generation 2; \
             node-127.0.0.13 unreachable"
        ),
        "{reason}"
    );
    assert!(reason.contains(", next try in "), "{reason}");
    let status = node.status().await;
    let answers: Vec<_> =
        status.unlock.as_ref().unwrap().guardians.iter().map(|guardian| guardian.answer.as_str()).collect();
    assert_eq!(answers, ["refused", "wrong-generation", "unreachable", "good", "good"]);
    assert!(!status.healthy);
    assert_eq!(node.registry.facts.node().api_token.unwrap().scope, Scope::ReadOnly);
    guardians.restart(2);
    node.wait_for(Phase::Running, SOON).await;
    assert!(node.registry.facts.unlock().unwrap().attempts >= 2);
    assert_eq!(node.registry.facts.node().api_token.unwrap().scope, Scope::Full);
}

#[actix::test]
async fn a_holder_that_comes_up_is_asked_at_once() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    for index in 0..3 {
        guardians.stop(index).await;
    }
    let node = boot(base.path(), &guardians);
    // The fifth pause is of 16 s.
    let mut facts = node.registry.facts.watch();
    let long = facts.wait_for(|node| {
        ["13", "14", "15", "16", "17", "18", "19"]
            .iter()
            .any(|seconds| node.reason.ends_with(&format!("next try in {seconds} s")))
    });
    tokio::time::timeout(Duration::from_secs(40), long).await.expect("a long pause").unwrap();
    let came_back = Instant::now();
    guardians.restart(0);
    for peer in &mut node.mesh.0.lock().unwrap().as_mut().unwrap().peers {
        peer.last_handshake = Some(std::time::SystemTime::now());
    }
    node.wait_for(Phase::Running, SOON).await;
    assert!(came_back.elapsed() < Duration::from_secs(8), "{:?}", came_back.elapsed());
}

#[actix::test]
async fn a_share_with_another_digest_names_its_guardian() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    guardians.make_liar(0, 200, forged(base.path(), 1, 1)).await;
    guardians.make_liar(1, 200, "<html>".into()).await;
    guardians.make_liar(2, 200, format!("\"{}\"", "x".repeat(64 * 1024))).await;
    let node = boot(base.path(), &guardians);
    node.wait_for_reason("2 of 3 shares", SOON).await;
    let unlock = node.registry.facts.unlock().unwrap();
    let answers: Vec<_> = unlock.guardians.iter().map(|guardian| guardian.answer.as_str()).collect();
    assert_eq!(answers, ["wrong-digest", "malformed", "malformed", "good", "good"]);
    assert!(unlock.guardians[2].detail.contains("more than"), "{:?}", unlock.guardians[2]);
}

#[actix::test]
async fn silent_guardians_time_out_and_are_named() {
    let mut guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    for index in 0..3 {
        guardians.make_silent(index).await;
    }
    let node = boot(base.path(), &guardians);
    let reason = node.wait_for_reason("2 of 3 shares", SOON).await;
    assert!(reason.contains("node-127.0.0.11 timed out; node-127.0.0.12 timed out"), "{reason}");
}

/// Changes the record in the header without the MAC key, as somebody with the disk in hand can.
fn edit_record(base: &Path, from: &str, to: &str) {
    let path = base.join("token.json");
    let mut token: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let payload = String::from_utf8(STANDARD.decode(token["payload"].as_str().unwrap()).unwrap()).unwrap();
    assert!(payload.contains(from), "{payload}");
    token["payload"] = STANDARD.encode(payload.replace(from, to)).into();
    std::fs::write(path, serde_json::to_vec(&token).unwrap()).unwrap();
}

#[actix::test]
async fn an_edited_record_is_an_alarm_and_nothing_runs() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    edit_record(base.path(), "https://127.0.0.1:1", "https://evil.example");
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Degraded, SOON).await;
    let status = node.status().await;
    assert!(status.alarms.iter().any(|alarm| alarm.contains("edited")), "{:?}", status.alarms);
    assert!(!status.healthy);
    assert!(!node.registry.facts.node().volume_ready);
    assert!(!node.console.says("all services spawned"));
}

#[actix::test]
async fn a_damaged_record_is_never_formatted_over() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    std::fs::write(base.path().join("token.json"), b"{\"type\":\"orama-node\",\"payl").unwrap();
    let header = std::fs::read(base.path().join("header.json")).unwrap();
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Degraded, SOON).await;
    assert!(node.status().await.alarms[0].contains("damaged"));
    assert!(!node.console.says("registration code"));
    assert!(provision_on(&node).await.is_err(), "a damaged volume takes no provisioning");
    assert_eq!(std::fs::read(base.path().join("header.json")).unwrap(), header);
}

async fn provision_on(node: &Node) -> Result<(), orama_actors::unlock::ProvisionError> {
    let (progress, _steps) = tokio::sync::mpsc::channel(1);
    let setup = support::enrolled::setup();
    node.registry.unlock.ask(orama_actors::unlock::Provision { setup, progress }).await.unwrap()
}

#[actix::test]
async fn an_enrolled_volume_takes_no_second_provisioning() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let header = std::fs::read(base.path().join("header.json")).unwrap();
    let again = provision_again(base.path(), &guardians).await;
    assert!(again.is_err());
    assert_eq!(std::fs::read(base.path().join("header.json")).unwrap(), header);
    boot(base.path(), &guardians).wait_for(Phase::Running, SOON).await;
}

async fn provision_again(
    base: &Path,
    guardians: &Guardians,
) -> Result<(), orama_actors::unlock::ProvisionError> {
    let mut other = Guardians::start();
    for index in 0..5 {
        other.stop(index).await;
    }
    // Without its guardians the node waits and its volume is not in use.
    let node = boot(base, &other);
    node.wait_for(Phase::WaitingForPeers, SOON).await;
    let _ = guardians;
    provision_on(&node).await
}

#[actix::test]
async fn a_key_that_the_header_does_not_take_is_reported_and_tried_again() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let path = base.path().join("header.json");
    let mut header: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let right = header["key_sha256"].clone();
    header["key_sha256"] = "0".repeat(64).into();
    std::fs::write(&path, serde_json::to_vec(&header).unwrap()).unwrap();
    let node = boot(base.path(), &guardians);
    node.wait_for_reason("does not open the volume", SOON).await;
    let status = node.status().await;
    assert!(status.alarms.iter().any(|alarm| alarm.contains("not the volume's")), "{:?}", status.alarms);
    header["key_sha256"] = right;
    std::fs::write(&path, serde_json::to_vec(&header).unwrap()).unwrap();
    node.wait_for(Phase::Running, SOON).await;
}

#[actix::test]
async fn a_power_cut_anywhere_leaves_a_node_that_enrols_or_unlocks() {
    let points = [
        (CrashPoint::InFormat, false),
        (CrashPoint::AfterFormat, false),
        (CrashPoint::AfterOpen, false),
        (CrashPoint::AfterFilesystem, false),
        (CrashPoint::AfterMount, false),
        (CrashPoint::BeforeRecord, false),
        (CrashPoint::AfterRecord, true),
    ];
    let guardians = Guardians::start();
    for (point, enrolled) in points {
        let base = tempfile::tempdir().unwrap();
        assert!(provision(base.path(), &guardians, Some(point)).await.is_err(), "{point:?} stopped nothing");
        if !enrolled {
            let node = boot(base.path(), &guardians);
            node.wait_for(Phase::Enrolling, SOON).await;
            let again = provision(base.path(), &guardians, None).await;
            again.unwrap_or_else(|error| panic!("{point:?}: {}", orama_actors::describe(&error)));
        }
        let node = boot(base.path(), &guardians);
        node.wait_for(Phase::Running, SOON).await;
    }
}

#[actix::test]
async fn guardians_that_hold_down_are_named_and_asked_again_when_that_ends() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    guardians.pass(16 * 60);
    let start = Instant::now();
    let node = boot(base.path(), &guardians);
    let reason = node.wait_for_reason("holds its share down until", SOON).await;
    assert!(reason.contains("0 of 3 shares: node-127.0.0.11 holds its share down until 2"), "{reason}");
    assert!(reason.contains("its owner was absent without having announced a reboot"), "{reason}");
    let unlock = node.status().await.unlock.unwrap();
    assert!(unlock.guardians.iter().all(|guardian| guardian.answer == "held-down"), "{unlock:?}");
    node.wait_for(Phase::Running, SOON).await;
    let took = start.elapsed();
    assert!(took >= HOLD_DOWN && took < HOLD_DOWN + Duration::from_secs(6), "{took:?}");
}

#[actix::test]
async fn an_orderly_reboot_is_announced_and_a_running_node_is_seen() {
    let guardians = Guardians::start();
    let base = enrolled(&guardians).await;
    let options = Options { custody: true, ..Options::without_gateway(guardians.port) };
    let node = power_on(base.path(), options);
    node.wait_for(Phase::Running, SOON).await;
    while node.registry.facts.custody().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let leave = orama_actors::boot::Leave { exit: Exit::Reboot, why: "a test".into() };
    node.registry.boot.ask(leave).await.unwrap().unwrap();
    node.wait_for(Phase::Rebooting, SOON).await;
    while node.power.0.lock().unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Longer than a silent owner counts as present, shorter than it announced.
    guardians.pass(25 * 60);
    let node = boot(base.path(), &guardians);
    node.wait_for(Phase::Running, Duration::from_secs(5)).await;
}
