//! The first node of a cluster: no gateway anywhere. Its owner's wallet enrols it, it waits for the wallet after each
//! boot, and whoever is not the owner, or repeats what the owner said, opens nothing.

#[path = "genesis/owner.rs"]
mod owner;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use orama_protocol::genesis::{GENESIS_ENROLL_PATH, GenesisKey};
use orama_wallet::statement::{Unlock, UnlockKind};
use orama_wallet::{SecretKey, open, opened_key, sealed_from_text};
use qemu_tests::http::{Request, send};
use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{BOOT_LIMIT, PROVISION_LIMIT};

use owner::{Genesis, OTHER, OWNER, Overlay};

const ADDRESS: &str = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A";

#[test]
fn the_owner_enrols_a_node_without_a_gateway_and_opens_it_after_each_boot() {
    let mut genesis = Genesis::prepare("genesis");
    genesis.machine.power_on().or_fail();
    let line = genesis.machine.wait_for("orama: or, without a gateway", BOOT_LIMIT).or_fail();
    assert!(line.contains(ADDRESS), "{line}");
    strangers_do_not_enrol(&genesis);
    enrolment(&mut genesis);
    for _ in 0..2 {
        genesis.machine.power_cut().or_fail();
        waits_for_its_owner(&mut genesis);
        strangers_do_not_open(&genesis);
        opened(&mut genesis);
    }
}

/// Another wallet, and then the node is as it was.
fn strangers_do_not_enrol(genesis: &Genesis) {
    let offer = || node::registration_code(genesis.network()).or_fail().expect("a code").genesis;
    let before = offer();
    assert_eq!(before.as_ref().map(|offer| offer.owner.as_str()), Some(ADDRESS));
    let refused = genesis.enroll("other");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(refused.errors.contains("not the owner's wallet"), "{refused:?}");
    // The command itself would not send it.
    let forged = SecretKey::from_bytes(&OTHER).or_fail().sign("anything");
    let body = serde_json::json!({ "statement": "anything", "configuration": "{}", "signature": forged.to_string() })
        .to_string();
    let request = Request {
        method: "POST",
        path: GENESIS_ENROLL_PATH,
        headers: &[("Content-Type", "application/json")],
        body: body.as_bytes(),
    };
    let answer = send(genesis.network(), node::enrollment(), &request, node::PATIENCE).or_fail();
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert_eq!(offer(), before, "a refusal uses nothing up");
}

fn enrolment(genesis: &mut Genesis) {
    let enrolled = genesis.enroll("owner");
    assert_eq!(enrolled.code, Some(0), "{enrolled:?}");
    assert_eq!(enrolled.json["node_id"], "node-10.0.0.1");
    assert_eq!(enrolled.json["phase"], "running");
    assert_eq!(enrolled.json["healthy"], true);
    let line = genesis.machine.wait_for("orama: key sealed to the owner's wallet", PROVISION_LIMIT).or_fail();
    assert!(line.contains(ADDRESS), "{line}");
    genesis.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    assert!(node::is_closed(genesis.network(), node::enrollment()), "port 9999 answers after enrollment");
    assert!(node::is_closed(genesis.network(), node::public_agent()), "the agent answers in public");
    let again = genesis.unlock("owner");
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.errors.contains("not needed now"), "{again:?}");
}

fn waits_for_its_owner(genesis: &mut Genesis) {
    genesis.machine.power_on().or_fail();
    let line = genesis.machine.wait_for("orama: phase waiting-for-owner", BOOT_LIMIT).or_fail();
    assert!(line.contains("orama node unlock --genesis --node-ip"), "{line}");
    assert!(node::is_closed(genesis.network(), node::enrollment()), "port 9999 answers on an enrolled node");
}

fn strangers_do_not_open(genesis: &Genesis) {
    let other = genesis.unlock("other");
    assert!(other.code == Some(1) && other.errors.contains("does not open"), "{other:?}");

    let overlay = Overlay::join(genesis);
    let status = overlay.status();
    assert_eq!(status["phase"], "waiting-for-owner");
    let without_token = overlay.ask("GET", "/v1/agent/genesis-key", Some("0"), "");
    assert_eq!(without_token.status, 401, "{}", without_token.text());

    let first = overlay.sealed_key();
    let sealed = sealed_from_text(&first.sealed_key).or_fail();
    let key = *opened_key(&open(&SecretKey::from_bytes(&OWNER).or_fail(), &sealed).or_fail()).or_fail();
    // The right key, and another wallet's word for it.
    let refused = overlay.bring(&unlock(&key, OTHER, &first));
    assert_eq!(refused.status, 401, "{}", refused.text());
    // No word at all, as a client of old would send it.
    let bare = overlay.bring(&serde_json::json!({ "key": STANDARD.encode(key) }).to_string());
    assert_eq!(bare.status, 401, "{}", bare.text());
    // The owner's word for another key.
    let second = unlock(&[7; 32], OWNER, &overlay.sealed_key());
    let refused = overlay.bring(&second);
    assert_eq!(refused.status, 403, "{}", refused.text());
    std::thread::sleep(Duration::from_secs(2));
    // The same request again, and the right key under a challenge that is used up.
    for body in [second, unlock(&key, OWNER, &first)] {
        let replayed = overlay.bring(&body);
        assert!(replayed.status == 401 && replayed.text().contains("challenge"), "{}", replayed.text());
    }
    assert_eq!(overlay.status()["phase"], "waiting-for-owner");
}

fn unlock(key: &[u8; 32], wallet: [u8; 32], given: &GenesisKey) -> String {
    let mut challenge = [0; 32];
    for (byte, pair) in challenge.iter_mut().zip(given.challenge.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).or_fail(), 16).or_fail();
    }
    let statement = Unlock {
        kind: UnlockKind::Genesis,
        node: given.node_id.parse().or_fail(),
        volume: given.volume.parse().or_fail(),
        challenge,
    };
    let signature = SecretKey::from_bytes(&wallet).or_fail().sign(&statement.to_string());
    let body = serde_json::json!({
        "key": STANDARD.encode(key), "challenge": given.challenge, "signature": signature.to_string(),
    });
    body.to_string()
}

fn opened(genesis: &mut Genesis) {
    let unlocked = genesis.unlock("owner");
    assert_eq!(unlocked.code, Some(0), "{unlocked:?}");
    assert_eq!(unlocked.json["phase"], "running");
    genesis.machine.wait_for("orama: volume open", PROVISION_LIMIT).or_fail();
    genesis.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
}
