//! The volume key rebuilt outside the product: any three shares, as guardians hand them out, and a separate program
//! (docs/tools/combine_shares.py) with the owner's WireGuard key give the key that opens the header; any two do not.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qemu_tests::artifacts::Image;
use qemu_tests::disk::Header;
use qemu_tests::guardian_client;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::Scenario;

#[test]
fn any_three_shares_open_the_header_and_any_two_do_not() {
    let (mut scenario, enrolled) = Scenario::enrolled("rebuild-key", Image::Small).or_fail();
    scenario.wait_healthy(&enrolled.node_id).or_fail();
    scenario.machine.power_cut().or_fail();

    let folder = scenario.cluster.folder().to_owned();
    let header = Header::cut_out(&scenario.machine.disk(), &folder.join("header")).or_fail();
    let state = header.early_state().or_fail();
    held_from_another_place(&mut scenario, &state);
    let shares = fetch(&mut scenario, &state, &folder);
    assert_eq!(shares.len(), 5);
    let owner = folder.join("wireguard.key");
    std::fs::write(&owner, state["wireguard"]["private_key"].as_str().expect("text")).or_fail();

    for trio in [[0, 1, 2], [2, 3, 4], [0, 2, 4], [4, 1, 3]] {
        let key = combine(&trio.map(|index| shares[index].clone()), Some(&owner));
        assert!(
            header.opens_with(&key.expect("three shares make a key")).or_fail(),
            "{trio:?} does not open it"
        );
    }
    // Guardians' disks alone say nothing: the shares are sealed to their owner.
    assert!(combine(&[0, 1, 2].map(|index| shares[index].clone()), None).is_none());
    for pair in [[0, 1], [3, 4]] {
        let key = combine(&pair.map(|index| shares[index].clone()), Some(&owner));
        // The tool says no; should it ever answer with bytes, they must not be the key.
        if let Some(key) = key {
            assert!(!header.opens_with(&key).or_fail(), "two shares opened the header");
        }
    }
}

/// Who has a copy of the disk knows identity and names, and gets no share for that.
fn held_from_another_place(scenario: &mut Scenario, state: &serde_json::Value) {
    let (identity, name) = guardian_client::wanted(state);
    let guardians: Vec<_> = scenario.cluster.guardians().iter().map(|guardian| guardian.socket()).collect();
    for guardian in guardians {
        let answer = guardian_client::fetch(scenario.network(), guardian, &identity, &name);
        let Err(guardian_client::FetchError::Refused { status, body, .. }) = answer else {
            panic!(
                "guardian {guardian} answered a copy of the disk with {:?}",
                answer.map(|share| share.len())
            );
        };
        assert_eq!(status, 429, "{body}");
        assert!(body.contains("held down until"), "{body}");
    }
}

/// Every share as its guardian hands it out on its own host, one file each.
fn fetch(scenario: &mut Scenario, state: &serde_json::Value, folder: &Path) -> Vec<PathBuf> {
    let guardians: Vec<_> = scenario.cluster.guardians().iter().map(|guardian| guardian.socket()).collect();
    let shares = guardian_client::fetch_all(scenario.network(), &guardians, state).or_fail();
    let store = |(address, share): (&std::net::SocketAddr, Vec<u8>)| {
        let file = folder.join(format!("share-{}", address.ip()));
        std::fs::write(&file, share).or_fail();
        file
    };
    guardians.iter().zip(shares).map(store).collect()
}

/// Runs the tool; none when it refuses.
fn combine(shares: &[PathBuf], owner: Option<&Path>) -> Option<Vec<u8>> {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tools/combine_shares.py");
    let mut command = Command::new("python3");
    command.arg(tool).arg("--raw").args(shares);
    if let Some(key) = owner {
        command.arg("--wireguard-key").arg(key);
    }
    let output: Output = command.output().expect("python3");
    if !output.status.success() {
        return None;
    }
    assert_eq!(output.stdout.len(), 32, "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}
