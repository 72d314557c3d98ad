//! The recovery key: taken at an enrollment through the gateway, kept on no node, and good when all that the guardians
//! kept is lost. Then the node splits its key anew and opens by itself again.

use std::path::{Path, PathBuf};
use std::process::Output;

use orama_wallet::keystore::Cost;
use orama_wallet::{Keystore, SecretKey, open, opened_key, sealed_from_text};
use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT, Scenario};
use qemu_tests::search;

/// Whose address is in the image, and somebody else: secret keys.
const OWNER: [u8; 32] = [0x11; 32];
const OTHER: [u8; 32] = [0x22; 32];
const PASSWORD: &str = "correct horse battery staple\n";
const NODE_ID: &str = "node-10.0.0.2";

#[test]
fn with_all_shares_lost_the_owner_opens_the_node_and_its_key_is_split_anew() {
    let mut scenario = Scenario::start("recovery", Image::Small).or_fail();
    let folder = scenario.cluster.folder().to_owned();
    wallets(&folder);
    let kept = enrolment(&mut scenario, &folder);
    kept_on_no_node(&mut scenario, &kept);
    for guardian in scenario.cluster.guardians() {
        guardian.stop();
        std::fs::remove_dir_all(guardian.data()).or_fail();
    }
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("orama: phase waiting-for-peers: 0 of 3", BOOT_LIMIT).or_fail();

    let other = unlock(&scenario, &folder, "other");
    assert!(text(&other).contains("does not open"), "{}", text(&other));
    let opened = unlock(&scenario, &folder, "owner");
    assert_eq!(opened.status.code(), Some(0), "{}", text(&opened));
    scenario
        .machine
        .wait_for("orama: the owner opens the volume with the recovery key", PROVISION_LIMIT)
        .or_fail();
    for guardian in scenario.cluster.guardians() {
        guardian.resume().or_fail();
    }
    let line = scenario.machine.wait_for("orama: the volume key is split 3 of 5", PROVISION_LIMIT).or_fail();
    assert!(!line.contains("generation 1"), "{line}");
    scenario.wait_healthy(NODE_ID).or_fail();

    scenario.machine.power_cut().or_fail();
    scenario.machine.power_on().or_fail();
    scenario.machine.wait_for("orama: shares gathered 3 of 5", BOOT_LIMIT).or_fail();
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
}

fn wallets(folder: &Path) {
    std::fs::write(folder.join("password"), PASSWORD).or_fail();
    for (name, key) in [("owner", OWNER), ("other", OTHER)] {
        let key = SecretKey::from_bytes(&key).or_fail();
        let text = Keystore::write(&key, PASSWORD.trim_end().as_bytes(), Cost::Cheap).or_fail();
        std::fs::write(folder.join(name), text).or_fail();
    }
}

fn run(scenario: &Scenario, folder: &Path, wallet: &str, arguments: &[&str]) -> Output {
    let (keystore, password) = (folder.join(wallet), folder.join("password"));
    let wallet =
        ["--keystore", keystore.to_str().expect("text"), "--password-file", password.to_str().expect("text")];
    scenario.operator.run(&[arguments, &wallet].concat()).or_fail()
}

/// The volume key, as the operator keeps it.
fn enrolment(scenario: &mut Scenario, folder: &Path) -> Kept {
    let (token, path) = (scenario.operator.invite("1h").or_fail(), folder.join("kept.toml"));
    let file = path.to_str().expect("text");
    let arguments = ["node", "enroll", "--node-ip", "127.0.0.2", "--token", &token, "--recovery", file];
    let stranger = run(scenario, folder, "other", &arguments);
    assert_eq!(stranger.status.code(), Some(4), "{}", text(&stranger));
    let enrolled = run(scenario, folder, "owner", &arguments);
    assert_eq!(enrolled.status.code(), Some(0), "{}", text(&enrolled));
    let file: toml::Table = std::fs::read_to_string(&path).or_fail().parse().or_fail();
    assert_eq!(file["node_id"].as_str(), Some(NODE_ID));
    let sealed = file["recovery"]["sealed_key"].as_str().expect("text").to_owned();
    let wallet = SecretKey::from_bytes(&OWNER).or_fail();
    let key = *opened_key(&open(&wallet, &sealed_from_text(&sealed).or_fail()).or_fail()).or_fail();
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    Kept { key, sealed }
}

struct Kept {
    key: [u8; 32],
    sealed: String,
}

/// It is the volume's key, and neither it nor its sealed form is anywhere on the disk or at the gateway.
fn kept_on_no_node(scenario: &mut Scenario, kept: &Kept) {
    scenario.machine.power_cut().or_fail();
    let folder = scenario.cluster.folder().to_owned();
    let header = Header::cut_out(&scenario.machine.disk(), &folder.join("header")).or_fail();
    assert!(header.opens_with(&kept.key).or_fail(), "the kept key does not open the volume");
    let mut places: Vec<PathBuf> = vec![scenario.machine.disk()];
    for entry in std::fs::read_dir(folder.join("gateway")).or_fail() {
        places.push(entry.or_fail().path());
    }
    for place in places.into_iter().filter(|place| place.metadata().is_ok_and(|found| found.len() > 0)) {
        let found = search::places(&place, &[kept.sealed.as_bytes(), &kept.key]).or_fail();
        assert!(found.iter().all(Vec::is_empty), "{} has the key: {found:?}", place.display());
    }
}

fn unlock(scenario: &Scenario, folder: &Path, wallet: &str) -> Output {
    let path = folder.join("kept.toml");
    let file = path.to_str().expect("text");
    let arguments =
        ["node", "unlock", "--recovery", file, "--node-ip", "127.0.0.2", "--tunnel", "always", "--no-wait"];
    run(scenario, folder, wallet, &arguments)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
