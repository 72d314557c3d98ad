//! A running node's memory, all of it, searched for the key that opened its volume and for the shares that made the key:
//! they are in no page any more, not even a free one. That the search finds what is there, the WireGuard key shows.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_keyshare::{Envelope, Share, ShareSeal, combine};
use orama_mesh::PrivateKey;
use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::guardian_client;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, Enrolled, PROVISION_LIMIT, Scenario};
use qemu_tests::search;

#[test]
fn neither_key_nor_shares_are_in_the_memory_of_a_node_that_runs() {
    let mut scenario = Scenario::prepare("memory", Image::Small).or_fail();
    scenario.machine.keep_memory_in_a_file().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.wait_enrollment_mode().or_fail();
    let enrolled = scenario.enroll().or_fail();
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    // The one that made, split and read back the key, and the one that gathered it and split it anew.
    search_memory(&mut scenario, "enrolled");
    scenario.machine.power_cut().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("orama: shares gathered 3 of 5", BOOT_LIMIT).or_fail();
    settled(&mut scenario, &enrolled);
    search_memory(&mut scenario, "unlocked");
}

fn settled(scenario: &mut Scenario, enrolled: &Enrolled) {
    scenario
        .machine
        .wait_for("orama: the volume key is split 3 of 5, generation 2", PROVISION_LIMIT)
        .or_fail();
    scenario
        .wait_status(&enrolled.node_id, "healthy, its key settled", PROVISION_LIMIT, |status| {
            let settled = status.custody.as_ref().is_some_and(|custody| custody.state == "settled");
            status.healthy && settled
        })
        .or_fail();
}

fn search_memory(scenario: &mut Scenario, when: &str) {
    let folder = scenario.cluster.folder().to_owned();
    let header = Header::cut_out(&scenario.machine.disk(), &folder.join(format!("header-{when}"))).or_fail();
    let state = header.early_state().or_fail();
    let text = state["wireguard"]["private_key"].as_str().expect("text");
    let wireguard = PrivateKey::from_base64(text).or_fail();
    let shares = shares(scenario, &state, &wireguard);
    let key = combine(&shares, 3).or_fail();
    assert!(header.opens_with(key.expose()).or_fail(), "the stored shares do not open the header");

    let hex: String = key.expose().iter().map(|byte| format!("{byte:02x}")).collect();
    let base64 = STANDARD.encode(key.expose());
    let mut needles: Vec<(String, &[u8])> = vec![
        ("the WireGuard key".into(), wireguard.expose()),
        ("the volume key".into(), key.expose()),
        ("the volume key in hex".into(), hex.as_bytes()),
        ("the volume key in base64".into(), base64.as_bytes()),
    ];
    needles.extend(shares.iter().map(|share| (format!("share {}", share.x()), &share.bytes()[..])));
    let dump = scenario.machine.stopped_memory().or_fail();
    let bytes: Vec<&[u8]> = needles.iter().map(|(_, bytes)| *bytes).collect();
    let places = search::places(dump.path(), &bytes).or_fail();
    assert!(!places[0].is_empty(), "{when}: the search does not even find the WireGuard key, which is there");
    let found: Vec<String> = needles
        .iter()
        .zip(&places)
        .skip(1)
        .filter(|(_, places)| !places.is_empty())
        .map(|((name, _), places)| format!("{name} at {places:x?}"))
        .collect();
    assert!(found.is_empty(), "{when}: in memory there is {}", found.join("; "));
}

/// As the guardians have them, opened with the owner's key.
fn shares(scenario: &mut Scenario, state: &serde_json::Value, wireguard: &PrivateKey) -> Vec<Share> {
    let guardians: Vec<_> = scenario.cluster.guardians().iter().map(|guardian| guardian.socket()).collect();
    let kept = guardian_client::fetch_all(scenario.network(), &guardians, state).or_fail();
    let uuid: Vec<u8> = state["volume_uuid"].as_str().expect("text").replace('-', "").into_bytes();
    let mut volume = [0; 16];
    for (byte, digits) in volume.iter_mut().zip(uuid.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).or_fail(), 16).or_fail();
    }
    let seal = ShareSeal::new(wireguard.expose(), volume);
    kept.iter().map(|envelope| Envelope::decode_sealed(envelope, &seal).or_fail().share).collect()
}
