use orama_mesh::WgConfig;
use orama_wallet::SecretKey;
use orama_wallet::open_between;

use super::*;

const NOW: u64 = 1_796_000_000;

fn wallet(byte: u8) -> SecretKey {
    SecretKey::from_bytes(&[byte; 32]).unwrap()
}

fn expected() -> Expected {
    Expected {
        owner: Some(wallet(1).public_key().address()),
        overlay: "10.0.0.0/24".parse().unwrap(),
        now_unix_seconds: NOW,
    }
}

fn checked() -> Checked {
    let peer = PeerConfig {
        public_key: PrivateKey::generate().public(),
        endpoint: None,
        allowed_ips: vec!["10.0.0.1/32".parse().unwrap(), "10.0.0.0/24".parse().unwrap()],
        keepalive_seconds: 0,
    };
    let address = "10.0.0.9/24".parse().unwrap();
    Checked {
        node_id: "node-10.0.0.9".into(),
        address,
        wireguard: WgConfig {
            private_key: Some(PrivateKey::generate()),
            addresses: vec![address],
            listen_port: Some(51820),
            peers: vec![peer],
        },
        keeper: crate::unlock::Keeper::Guardians(vec![]),
    }
}

fn statement(checked: &Checked, operator: &WireguardPublic) -> Recovery {
    let key = checked.wireguard.private_key.as_ref().unwrap().public();
    Recovery {
        wireguard: WireguardKey::from_bytes(*key.as_bytes()),
        operator: WireguardKey::from_bytes(*operator.as_bytes()),
        valid_until: UtcSeconds::from_unix_seconds(NOW + 3600).unwrap(),
    }
}

fn signed(statement: &Recovery, by: u8) -> RecoveryRequest {
    let statement = statement.to_string();
    RecoveryRequest { signature: wallet(by).sign(&statement).to_string(), statement }
}

#[test]
fn the_owners_wish_adds_the_operator_and_names_whom_to_seal_to() {
    let (mut checked, operator) = (checked(), PrivateKey::generate());
    let own = checked.wireguard.private_key.as_ref().unwrap().public();
    let wish =
        judge(&signed(&statement(&checked, &operator.public()), 1), &expected(), &mut checked).unwrap();
    assert_eq!(wish.owner.address(), wallet(1).public_key().address());
    assert_eq!(*wish.shared, *operator.agree(&own).unwrap());
    let peer = checked.wireguard.peers.last().unwrap();
    assert_eq!((peer.public_key, peer.endpoint), (operator.public(), None));
    assert_eq!(peer.allowed_ips, ["10.0.0.254/32".parse().unwrap()]);
}

fn refused(edit: impl FnOnce(&mut Recovery, &mut Checked, &mut Expected), by: u8, words: &str) {
    let (mut checked, mut expected) = (checked(), expected());
    let mut statement = statement(&checked, &PrivateKey::generate().public());
    edit(&mut statement, &mut checked, &mut expected);
    let peers = checked.wireguard.peers.len();
    let refused = judge(&signed(&statement, by), &expected, &mut checked).err().expect(words);
    let text = crate::describe(&refused);
    assert!(text.contains(words), "{words}: {text}");
    assert_eq!(checked.wireguard.peers.len(), peers, "{words}");
}

#[test]
fn everything_else_is_refused_before_anything_happens() {
    refused(|_, _, _| {}, 2, "not by the owner");
    refused(|_, _, expected| expected.owner = None, 1, "names no owner");
    refused(|wish, _, _| wish.wireguard = WireguardKey::from_bytes([7; 32]), 1, "not this node's");
    for seconds in [NOW - 1, NOW, NOW + VALIDITY_LIMIT_SECONDS + 1] {
        let until = UtcSeconds::from_unix_seconds(seconds).unwrap();
        refused(|wish, _, _| wish.valid_until = until, 1, "clock says");
    }
    refused(|wish, _, _| wish.operator = wish.wireguard, 1, "another peer's");
    refused(|wish, _, _| wish.operator = WireguardKey::from_bytes([0; 32]), 1, "or none");
    let gateways = |wish: &mut Recovery, checked: &mut Checked, _: &mut Expected| {
        wish.operator = WireguardKey::from_bytes(*checked.wireguard.peers[0].public_key.as_bytes());
    };
    refused(gateways, 1, "another peer's");
    let taken = |_: &mut Recovery, checked: &mut Checked, _: &mut Expected| {
        checked.wireguard.peers[0].allowed_ips.push("10.0.0.254/32".parse().unwrap());
    };
    refused(taken, 1, "10.0.0.254, which another host has");
    refused(|_, checked, _| checked.address = "10.0.0.254/24".parse().unwrap(), 1, "another host has");
    refused(|_, _, expected| expected.overlay = "10.0.0.8/31".parse().unwrap(), 1, "no address");
    let mut malformed = signed(&statement(&checked(), &PrivateKey::generate().public()), 1);
    malformed.statement.push('\n');
    malformed.signature = wallet(1).sign(&malformed.statement).to_string();
    assert!(matches!(judge(&malformed, &expected(), &mut checked()), Err(RecoveryProblem::Statement(_))));
    malformed.signature = "00".into();
    assert!(matches!(judge(&malformed, &expected(), &mut checked()), Err(RecoveryProblem::Signature(_))));
}

async fn handed_out(connected: bool, kept: Option<bool>) -> (Result<(), String>, Option<RecoveryAnswer>) {
    let (mut checked, operator) = (checked(), PrivateKey::generate());
    let own =
        PrivateKey::from_bytes(Zeroizing::new(*checked.wireguard.private_key.as_ref().unwrap().expose()));
    let wish =
        judge(&signed(&statement(&checked, &operator.public()), 1), &expected(), &mut checked).unwrap();
    let (outgoing, mut said) = mpsc::channel(1);
    let (keep, waits) = oneshot::channel();
    let answer = RecoveryAnswer {
        node_id: "node-10.0.0.9".into(),
        volume: String::new(),
        sealed_key: String::new(),
        wireguard_address: "10.0.0.9/24".into(),
        wireguard_port: 51820,
        operator_address: String::new(),
        agent_token: Redacted::new("token".into()),
    };
    let outgoing = connected.then_some(outgoing);
    let answerer = Answerer::new(wish, &own, answer, outgoing, waits);
    let (keys, given) = mpsc::channel(1);
    let (taken, result) = oneshot::channel();
    keys.send(Recovered { sealed_key: "abc".into(), volume: [0x11; 16], taken }).await.ok().unwrap();
    match kept {
        Some(true) => keep.send(()).unwrap(),
        Some(false) => drop(keep),
        None => std::mem::forget(keep),
    }
    answerer.hand_out(given).await;
    let opened = said.try_recv().ok().map(|message| {
        let NodeMessage::Recovery { answer } = message else { panic!("{message:?}") };
        assert!(answer.len() < orama_protocol::recovery::RECOVERY_ANSWER_LIMIT_BYTES);
        let info = [RECOVERY_ANSWER_INFO, own.public().as_bytes(), operator.public().as_bytes()].concat();
        let text = open_between(&operator.agree(&own.public()).unwrap(), &info, &answer).unwrap();
        serde_json::from_slice(&text).unwrap()
    });
    (result.await.unwrap(), opened)
}

#[actix::test]
async fn the_answer_reaches_the_operator_or_the_provisioning_hears_that_it_did_not() {
    let (result, answer) = handed_out(true, Some(true)).await;
    assert_eq!(result, Ok(()));
    let answer = answer.unwrap();
    assert_eq!(
        (answer.sealed_key.as_str(), answer.volume.as_str()),
        ("abc", "11111111-1111-1111-1111-111111111111")
    );
    assert_eq!(
        (answer.node_id.as_str(), answer.wireguard_address.as_str()),
        ("node-10.0.0.9", "10.0.0.9/24")
    );
    assert_eq!((answer.operator_address.as_str(), answer.agent_token.expose()), ("10.0.0.254", "token"));
    assert!(handed_out(false, Some(true)).await.0.unwrap_err().contains("is lost"));
    assert!(handed_out(true, Some(false)).await.0.unwrap_err().contains("is lost"));
}
