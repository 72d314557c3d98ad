//! The recovery key: asked for at an enrollment through a gateway, kept by the operator, and good when guardians are gone.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use orama_actors::boot::machine::Phase;
use orama_actors::enroll::EnrollMode;
use orama_actors::unlock::{GetChallenge, GetGenesisKey, GetRecoveryKey, OwnerRefusal, OwnerUnlock};
use orama_keyshare::VolumeKey;
use orama_mesh::{PrivateKey, PublicKey};
use orama_protocol::enroll::{GatewayMessage, NodeMessage};
use orama_protocol::recovery::{RECOVERY_ANSWER_INFO, RecoveryAnswer, RecoveryRequest, UnlockChallenge};
use orama_volume::vault::Vault;
use orama_volume::{CrashPoint, DataVolume, DirectoryVolume, Probe};
use orama_wallet::statement::{Recovery, Unlock, UnlockKind, UtcSeconds, WireguardKey};
use orama_wallet::{SecretKey, Signature, open, open_between, opened_key, sealed_from_text};
use support::gateway::{self, Gateway};
use support::guardians::Guardians;
use support::{Node, Options, power_on, power_on_with};

const SOON: Duration = Duration::from_secs(20);

fn owner() -> SecretKey {
    SecretKey::from_bytes(&[0x11; 32]).unwrap()
}

fn options(gateway: &Gateway, guardians: &Guardians, custody: bool) -> Options {
    Options {
        guardian_port: guardians.port,
        gateway_url: gateway.url.clone(),
        pin: gateway.authority.clone(),
        mode: EnrollMode::Websocket,
        owner: Some(owner().public_key().address()),
        custody,
        network: true,
    }
}

fn wish(node: &PublicKey, operator: &PrivateKey, wallet: &SecretKey) -> RecoveryRequest {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let statement = Recovery {
        wireguard: WireguardKey::from_bytes(*node.as_bytes()),
        operator: WireguardKey::from_bytes(*operator.public().as_bytes()),
        valid_until: UtcSeconds::from_unix_seconds(now + 600).unwrap(),
    }
    .to_string();
    RecoveryRequest { signature: wallet.sign(&statement).to_string(), statement }
}

/// What the operator kept.
struct Kept {
    key: [u8; 32],
    answer: RecoveryAnswer,
}

/// Enrols a node with a recovery key; its power is cut then.
async fn enrolled(base: &Path, gateway: &mut Gateway, guardians: &Guardians) -> Kept {
    let node = power_on(base, options(gateway, guardians, false));
    let mut socket = gateway.socket().await;
    let (_, own) = socket.hello().await;
    let (own, operator): (PublicKey, _) = (own.parse().unwrap(), PrivateKey::generate());
    socket.say(&GatewayMessage::Waiting).await;
    // Somebody else's word for it changes nothing.
    let forged = wish(&own, &operator, &SecretKey::from_bytes(&[0x22; 32]).unwrap());
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery: Some(forged) }).await;
    let NodeMessage::Refused { reason } = socket.heard().await else { panic!("not refused") };
    assert!(reason.contains("not by the owner of this node's image"), "{reason}");
    assert_eq!(node.registry.facts.node().phase, Phase::Enrolling);

    let recovery = Some(wish(&own, &operator, &owner()));
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery }).await;
    assert!(matches!(socket.heard().await, NodeMessage::Accepted { .. }));
    socket.say(&GatewayMessage::Registered).await;
    let NodeMessage::Recovery { answer } = socket.outcome().await else { panic!("no recovery key") };
    // Nothing is committed before the gateway has it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(node.registry.facts.node().phase, Phase::Provisioning);
    socket.say(&GatewayMessage::RecoveryKept).await;
    assert!(matches!(socket.outcome().await, NodeMessage::Provisioned));
    node.wait_for(Phase::Running, SOON).await;
    assert_eq!(node.mesh.peers(), Some(2), "the guardians' host, and the operator");

    let info = [RECOVERY_ANSWER_INFO, own.as_bytes(), operator.public().as_bytes()].concat();
    let text = open_between(&operator.agree(&own).unwrap(), &info, &answer).unwrap();
    let answer: RecoveryAnswer = serde_json::from_slice(&text).unwrap();
    let sealed = sealed_from_text(&answer.sealed_key).unwrap();
    let key = *opened_key(&open(&owner(), &sealed).unwrap()).unwrap();
    Kept { key, answer }
}

fn answer(given: &UnlockChallenge, kind: UnlockKind) -> Option<([u8; 32], Signature)> {
    let mut challenge = [0; 32];
    for (byte, pair) in challenge.iter_mut().zip(given.challenge.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    }
    let (node, volume) = (given.node_id.parse().unwrap(), given.volume.parse().unwrap());
    let statement = Unlock { kind, node, volume, challenge };
    Some((challenge, owner().sign(&statement.to_string())))
}

async fn challenge(node: &Node) -> UnlockChallenge {
    node.registry.unlock.ask(GetChallenge).await.unwrap().unwrap()
}

async fn bring(
    node: &Node,
    kind: UnlockKind,
    key: &[u8; 32],
    signed: UnlockKind,
) -> Result<(), OwnerRefusal> {
    let answer = answer(&challenge(node).await, signed);
    let key = VolumeKey::from_slice(key).unwrap();
    node.registry.unlock.ask(OwnerUnlock { key, kind, answer }).await.unwrap()
}

#[actix::test]
async fn with_every_guardian_gone_the_owner_opens_the_node_and_it_is_split_anew() {
    let (mut gateway, mut guardians) = (Gateway::start().await, Guardians::start());
    let base = tempfile::tempdir().unwrap();
    let kept = enrolled(base.path(), &mut gateway, &guardians).await;
    assert_eq!(kept.answer.node_id, "node-127.0.0.4");
    assert_eq!(kept.answer.operator_address, "127.0.0.254");
    let Ok(Probe::Enrolled { state, .. }) = DirectoryVolume::power_on(base.path()).unwrap().probe() else {
        panic!("not enrolled")
    };
    assert_eq!(state.sealed_key, None, "no node keeps it");
    let header = std::fs::read_to_string(base.path().join("token.json")).unwrap();
    assert!(!header.contains(&kept.answer.sealed_key));

    for index in 0..5 {
        guardians.stop(index).await;
    }
    let volume = std::sync::Arc::new(DirectoryVolume::power_on(base.path()).unwrap());
    let node = power_on_with(volume.clone(), options(&gateway, &guardians, true));
    node.wait_for(Phase::WaitingForPeers, SOON).await;
    let genesis = node.registry.unlock.ask(GetGenesisKey).await.unwrap();
    assert!(matches!(&genesis, Err(OwnerRefusal::NotWaiting(why)) if why.contains("with 5 guardians")));
    let header = node.registry.unlock.ask(GetRecoveryKey).await.unwrap();
    assert!(matches!(&header, Err(OwnerRefusal::NotWaiting(_))), "{header:?}");
    // The statement for a genesis key is another one, and another key is another key.
    let other = bring(&node, UnlockKind::Recovery, &kept.key, UnlockKind::Genesis).await;
    assert!(matches!(other, Err(OwnerRefusal::Signer(_))), "{other:?}");
    let genesis = bring(&node, UnlockKind::Genesis, &kept.key, UnlockKind::Genesis).await;
    assert!(matches!(genesis, Err(OwnerRefusal::NotWaiting(_))), "{genesis:?}");
    let wrong = bring(&node, UnlockKind::Recovery, &[7; 32], UnlockKind::Recovery).await;
    assert!(matches!(wrong, Err(OwnerRefusal::WrongKey)), "{wrong:?}");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    bring(&node, UnlockKind::Recovery, &kept.key, UnlockKind::Recovery).await.unwrap();
    node.wait_for(Phase::Running, SOON).await;
    assert!(node.console.says("the owner opens the volume with the recovery key"));
    let refused = node.registry.unlock.ask(GetChallenge).await.unwrap();
    assert!(matches!(&refused, Err(OwnerRefusal::NotWaiting(why)) if why.contains("not needed now")));
    // Nobody to gather from: the key is inside until there is somebody to split it over.
    let vault = Vault::at(&base.path().join("mounted"));
    assert!(vault.recovered_key(1).unwrap().is_some());

    // The power goes at the commit of the next split, before and after it reached the disk.
    volume.crash_after(1, CrashPoint::AfterRecord);
    for index in 0..5 {
        // All that they kept is lost.
        guardians.files(index).into_iter().for_each(|file| std::fs::remove_file(file).unwrap());
        guardians.restart(index);
    }
    let start = Instant::now();
    while volume.probe().is_ok() {
        assert!(start.elapsed() < SOON, "it was not split anew: {:?}", node.console.lines());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let node = power_on(base.path(), options(&gateway, &guardians, true));
    node.wait_for(Phase::Running, SOON).await;
    assert!(node.status().await.unlock.unwrap().generation > 1, "the new split opened it");
    let start = Instant::now();
    while base.path().join("mounted/agent/recovered.key").exists() {
        assert!(start.elapsed() < SOON, "the recovered key is still inside");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix::test]
async fn without_the_gateways_word_that_it_has_the_key_nothing_is_committed() {
    let (mut gateway, guardians) = (Gateway::start().await, Guardians::start());
    let base = tempfile::tempdir().unwrap();
    let node = power_on(base.path(), options(&gateway, &guardians, false));
    let mut socket = gateway.socket().await;
    let own: PublicKey = socket.hello().await.1.parse().unwrap();
    socket.say(&GatewayMessage::Waiting).await;
    let recovery = Some(wish(&own, &PrivateKey::generate(), &owner()));
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery }).await;
    assert!(matches!(socket.heard().await, NodeMessage::Accepted { .. }));
    socket.say(&GatewayMessage::Registered).await;
    assert!(matches!(socket.outcome().await, NodeMessage::Recovery { .. }));
    socket.hang_up().await;
    node.wait_for(Phase::Enrolling, SOON).await;
    let reason = node.registry.facts.node().reason;
    assert!(reason.contains("recovery key did not reach the operator"), "{reason}");
    let found = DirectoryVolume::power_on(base.path()).unwrap().probe();
    assert!(matches!(found, Ok(Probe::Unfinished { .. })));
    assert!((0..5).all(|index| guardians.generations(index).is_empty()), "shares were left behind");
}
