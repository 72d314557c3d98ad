//! The first node of a cluster on a directory volume: enrolled over port 9999 by its owner's wallet, and opened by it
//! after each boot. Whoever is not the owner, or repeats what the owner said, changes nothing.

mod support;

use std::path::Path;
use std::time::Duration;

use orama_actors::boot::machine::Phase;
use orama_actors::unlock::{GetGenesisKey, OwnerRefusal, OwnerUnlock};
use orama_keyshare::VolumeKey;
use orama_mesh::PrivateKey;
use orama_protocol::genesis::{
    GENESIS_ENROLL_PATH, GENESIS_PROGRESS_PATH, GenesisAccepted, GenesisConfiguration, GenesisKey,
    GenesisProgress, GenesisRequest,
};
use orama_volume::vault::Vault;
use orama_wallet::statement::{Genesis, Unlock, UnlockKind, UtcSeconds};
use orama_wallet::{SecretKey, open, opened_key, sealed_from_text};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use support::{Node, Options, power_on};

const SOON: Duration = Duration::from_secs(20);

fn owner() -> SecretKey {
    SecretKey::from_bytes(&[0x11; 32]).unwrap()
}

fn stranger() -> SecretKey {
    SecretKey::from_bytes(&[0x22; 32]).unwrap()
}

fn boot(base: &Path) -> Node {
    power_on(base, Options { owner: Some(owner().public_key().address()), ..Options::without_gateway(1) })
}

async fn get<T: DeserializeOwned>(node: &Node, path: &str) -> T {
    let mut left = 200;
    loop {
        match awc::Client::default().get(format!("http://{}{path}", node.page)).send().await {
            Ok(mut response) => return response.json().await.unwrap(),
            Err(error) if left == 0 => panic!("{error}"),
            Err(_) => left -= 1,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn post(node: &Node, request: &GenesisRequest) -> (u16, String) {
    let url = format!("http://{}{GENESIS_ENROLL_PATH}", node.page);
    let mut response = awc::Client::default().post(url).send_json(request).await.unwrap();
    let body = response.body().await.unwrap();
    (response.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

async fn request(node: &Node, wallet: &SecretKey) -> GenesisRequest {
    let shown: orama_protocol::enroll::RegistrationCode = get(node, "/").await;
    let offer = shown.genesis.expect("an offer");
    assert_eq!(offer.owner, owner().public_key().address().to_string());
    let configuration = GenesisConfiguration {
        node_id: "node-127.0.0.4".into(),
        wireguard_address: "127.0.0.4/24".into(),
        listen_port: 51820,
        operator_public_key: PrivateKey::generate().public().to_string(),
        operator_address: "127.0.0.254".into(),
        token_key: stranger().public_key().to_string(),
    };
    let configuration = serde_json::to_string(&configuration).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let statement = Genesis {
        node: "node-127.0.0.4".parse().unwrap(),
        wireguard: shown.wireguard_public_key.unwrap().parse().unwrap(),
        one_time_key: offer.one_time_key.parse().unwrap(),
        configuration: Sha256::digest(&configuration).into(),
        valid_until: UtcSeconds::from_unix_seconds(now + 600).unwrap(),
    }
    .to_string();
    let signature = wallet.sign(&statement).to_string();
    GenesisRequest { statement, configuration, signature }
}

/// A folder with an enrolled genesis node, its power cut, and the agent token that its owner got.
async fn enrolled() -> (tempfile::TempDir, String) {
    let base = tempfile::tempdir().unwrap();
    let node = boot(base.path());
    let request = request(&node, &owner()).await;
    let (status, body) = post(&node, &request).await;
    assert_eq!(status, 200, "{body}");
    let accepted: GenesisAccepted = serde_json::from_str(&body).unwrap();
    node.wait_for(Phase::Running, SOON).await;
    let sealed = sealed_from_text(&accepted.agent_token_sealed).unwrap();
    let token = String::from_utf8(open(&stranger(), &sealed).unwrap().to_vec()).unwrap();
    (base, token)
}

fn answer(wallet: &SecretKey, given: &GenesisKey) -> Option<([u8; 32], orama_wallet::Signature)> {
    let mut challenge = [0; 32];
    for (byte, pair) in challenge.iter_mut().zip(given.challenge.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    let statement = Unlock {
        kind: UnlockKind::Genesis,
        node: given.node_id.parse().unwrap(),
        volume: given.volume.parse().unwrap(),
        challenge,
    };
    Some((challenge, wallet.sign(&statement.to_string())))
}

async fn given(node: &Node) -> GenesisKey {
    node.registry.unlock.ask(GetGenesisKey).await.unwrap().unwrap()
}

async fn bring(
    node: &Node,
    key: &[u8; 32],
    answer: Option<([u8; 32], orama_wallet::Signature)>,
) -> Result<(), OwnerRefusal> {
    let key = VolumeKey::from_slice(key).unwrap();
    node.registry.unlock.ask(OwnerUnlock { key, kind: UnlockKind::Genesis, answer }).await.unwrap()
}

#[actix::test]
async fn the_owner_enrols_the_node_and_gets_its_token() {
    let (base, token) = enrolled().await;
    let node = boot(base.path());
    node.wait_for(Phase::WaitingForOwner, SOON).await;
    let digest = node.registry.facts.node().api_token.unwrap().digest;
    assert_eq!(digest, <[u8; 32]>::from(Sha256::digest(&token)), "the header knows the token that was sent");
    let header = std::fs::read_to_string(base.path().join("token.json")).unwrap();
    assert!(header.contains("orama"), "{header}");
    assert!(!given(&node).await.sealed_key.is_empty());
}

#[actix::test]
async fn strangers_and_replays_enrol_nothing_and_use_nothing_up() {
    let base = tempfile::tempdir().unwrap();
    let node = boot(base.path());
    let forged = request(&node, &stranger()).await;
    let (status, body) = post(&node, &forged).await;
    assert!(status == 401 && body.contains("signature"), "{status} {body}");
    let sound = request(&node, &owner()).await;
    let moved = GenesisRequest { configuration: forged.configuration.clone(), ..sound.clone() };
    assert_eq!(post(&node, &moved).await.0, 401, "another configuration under the same statement");
    let url = format!("http://{}{GENESIS_ENROLL_PATH}", node.page);
    let garbage = awc::Client::default().post(url).send_body("{").await.unwrap();
    assert_eq!(garbage.status().as_u16(), 400);
    assert_eq!(node.registry.facts.node().phase, Phase::Enrolling);
    assert_eq!(get::<GenesisProgress>(&node, GENESIS_PROGRESS_PATH).await.state, "waiting");

    let (status, body) = post(&node, &sound).await;
    assert_eq!(status, 200, "{body}");
    node.wait_for(Phase::Running, SOON).await;
    // The same boot cannot show it (the port is closed); the next one has another one-time key.
    let other = tempfile::tempdir().unwrap();
    let node = boot(other.path());
    let _: serde_json::Value = get(&node, "/").await;
    let (status, body) = post(&node, &sound).await;
    assert!(status == 401 && body.contains("one-time key"), "{status} {body}");
}

#[actix::test]
async fn only_the_owner_with_the_key_and_a_fresh_challenge_opens_the_volume() {
    let (base, _) = enrolled().await;
    let node = boot(base.path());
    node.wait_for(Phase::WaitingForOwner, SOON).await;
    let reason = node.registry.facts.node().reason;
    assert!(reason.contains("orama node unlock --genesis"), "{reason}");
    let first = given(&node).await;
    let sealed = sealed_from_text(&first.sealed_key).unwrap();
    let key = opened_key(&open(&owner(), &sealed).unwrap()).unwrap();

    let unsigned = bring(&node, &key, None).await;
    assert!(matches!(unsigned, Err(OwnerRefusal::NoAnswer)), "{unsigned:?}");
    let strange = bring(&node, &key, answer(&stranger(), &first)).await;
    assert!(matches!(strange, Err(OwnerRefusal::Signer(_))), "{strange:?}");
    let late = bring(&node, &key, answer(&owner(), &first)).await;
    assert!(
        matches!(late, Err(OwnerRefusal::Challenge(_))),
        "a wrong answer uses the challenge up: {late:?}"
    );

    let second = given(&node).await;
    assert_ne!(second.challenge, first.challenge);
    let wrong = bring(&node, &[7; 32], answer(&owner(), &second)).await;
    assert!(matches!(wrong, Err(OwnerRefusal::WrongKey)), "{wrong:?}");
    let third = given(&node).await;
    let hasty = bring(&node, &key, answer(&owner(), &third)).await;
    assert!(matches!(hasty, Err(OwnerRefusal::TooSoon(_))), "{hasty:?}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let replayed = bring(&node, &key, answer(&owner(), &second)).await;
    assert!(matches!(replayed, Err(OwnerRefusal::Challenge(_))), "{replayed:?}");
    assert_eq!(node.registry.facts.node().phase, Phase::WaitingForOwner);

    let opened = bring(&node, &key, answer(&owner(), &third)).await;
    assert!(opened.is_ok(), "a refusal for haste uses nothing up: {opened:?}");
    node.wait_for(Phase::Running, SOON).await;
    let refused = node.registry.unlock.ask(GetGenesisKey).await.unwrap();
    assert!(matches!(&refused, Err(OwnerRefusal::NotWaiting(why)) if why.contains("not needed now")));
}

#[actix::test]
async fn the_key_is_inside_the_volume_for_the_first_split() {
    let (base, _) = enrolled().await;
    let node = boot(base.path());
    node.wait_for(Phase::WaitingForOwner, SOON).await;
    let given = given(&node).await;
    let sealed = sealed_from_text(&given.sealed_key).unwrap();
    let key = opened_key(&open(&owner(), &sealed).unwrap()).unwrap();
    bring(&node, &key, answer(&owner(), &given)).await.unwrap();
    node.wait_for(Phase::Running, SOON).await;
    let kept = Vault::at(&base.path().join("mounted")).volume_key();
    assert_eq!(*kept.unwrap().expect("the kept key").expose(), *key);
}
