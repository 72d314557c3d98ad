//! `orama node enroll --recovery` through a gateway and `orama node unlock --recovery`: node and gateway are played.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orama_mesh::{PrivateKey, PublicKey};
use orama_protocol::Redacted;
use orama_protocol::recovery::{RECOVERY_ANSWER_INFO, RecoveryAnswer};
use orama_wallet::keystore::Cost;
use orama_wallet::statement::{Recovery, Unlock, UnlockKind};
use orama_wallet::{Keystore, SecretKey, Signature, seal_between, seal_key};

use crate::support::{Answer, FakeGateway, Orama, Ran, Request, error, ok, serve};

const INVITE: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const TOKEN: &str = "abababababababababababababababababababababababababababababababab";
const VOLUME: &str = "00112233-4455-6677-8899-aabbccddeeff";
const KEY: [u8; 32] = [0x5a; 32];

fn owner() -> SecretKey {
    SecretKey::from_bytes(&[0x11; 32]).unwrap()
}

/// An address that no other test of this process uses: the agent's port is always the same.
fn node_address(last: u8) -> Ipv4Addr {
    let [_, high, low, _] = std::process::id().to_be_bytes().map(|byte| byte.max(1));
    Ipv4Addr::new(127, high ^ low, 200, last)
}

/// The page of a node in enrollment mode.
fn page(node: &PrivateKey, owner: &SecretKey) -> FakeGateway {
    let shown = serde_json::json!({
        "code": "7K3M9QXZ", "expires": "", "wireguard_public_key": node.public().to_string(),
        "genesis": { "one_time_key": "00", "owner": owner.public_key().address().to_string() },
    });
    FakeGateway::answering(ok(&shown.to_string()))
}

/// What a node answers to the request, sealed.
fn sealed(node: &PrivateKey, request: &Request, answer: &RecoveryAnswer) -> String {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let text = body["recovery"]["statement"].as_str().unwrap();
    let signature: Signature = body["recovery"]["signature"].as_str().unwrap().parse().unwrap();
    signature.verify(text, &owner().public_key().address()).unwrap();
    let statement: Recovery = text.parse().unwrap();
    assert_eq!(statement.wireguard.as_bytes(), node.public().as_bytes());
    let operator = PublicKey::from_bytes(*statement.operator.as_bytes());
    let info = [RECOVERY_ANSWER_INFO, node.public().as_bytes(), operator.as_bytes()].concat();
    seal_between(&node.agree(&operator).unwrap(), &info, &serde_json::to_vec(answer).unwrap()).unwrap()
}

fn answer(address: Ipv4Addr) -> RecoveryAnswer {
    RecoveryAnswer {
        node_id: format!("node-{address}"),
        volume: VOLUME.into(),
        sealed_key: seal_key(&owner().public_key(), &KEY).unwrap(),
        wireguard_address: format!("{address}/24"),
        wireguard_port: 51820,
        operator_address: "127.0.0.254".into(),
        agent_token: Redacted::new(TOKEN.into()),
    }
}

/// A gateway that enrols the node at this address and then has the answer, or what a test makes of it.
fn gateway(
    node: PrivateKey,
    given: RecoveryAnswer,
    show: impl Fn(String) -> Answer + Send + 'static,
) -> FakeGateway {
    let (node_id, enrolled) = (given.node_id.clone(), Mutex::new(None));
    FakeGateway::start(move |request: &Request, _| {
        let mut enrolled = enrolled.lock().unwrap();
        match request.line.as_str() {
            "GET /v1/node/enroll/recovery" => {
                assert_eq!(request.authorization, format!("Bearer {INVITE}"));
                match enrolled.take() {
                    Some(answer) => show(answer),
                    None => ok(r#"{"state":"none"}"#),
                }
            }
            "POST /v1/node/enroll" => {
                *enrolled = Some(sealed(&node, request, &given));
                let ip = node_id.trim_start_matches("node-");
                ok(&format!(r#"{{"status":"enrolled","node_id":"{node_id}","wg_ip":"{ip}"}}"#))
            }
            other => panic!("{other}"),
        }
    })
}

fn there(answer: String) -> Answer {
    ok(&serde_json::json!({ "state": "there", "answer": answer }).to_string())
}

fn enroll(orama: &Orama, page: &FakeGateway, gateway: &FakeGateway, file: &str) -> Ran {
    orama.file("owner.json", &Keystore::write(&owner(), b"pass", Cost::Cheap).unwrap());
    orama.file("password", "pass\n");
    let (port, url) = (page.address.port().to_string(), gateway.url());
    let arguments = [
        "node",
        "enroll",
        "--node-ip",
        "127.0.0.1",
        "--node-port",
        &port,
        "--gateway",
        &url,
        "--token",
        INVITE,
        "--no-wait",
        "--wait",
        "5s",
        "--recovery",
        file,
        "--keystore",
        "owner.json",
        "--password-file",
        "password",
    ];
    orama.run(&arguments, "")
}

fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_base64(&key.to_base64()).unwrap()
}

/// Plays the agent until the volume is opened.
fn agent(address: Ipv4Addr, volume: &'static str) -> Arc<Mutex<Vec<Request>>> {
    let listener = TcpListener::bind((address, 9998)).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let answer = |request: &Request, before| {
                assert_eq!(request.authorization, format!("Bearer {TOKEN}"));
                let challenge = format!("{before:064x}");
                match request.line.as_str() {
                    "GET /v1/agent/unlock/challenge" => ok(&serde_json::json!({
                        "challenge": challenge, "node_id": format!("node-{address}"), "volume": volume,
                        "expires_seconds": 60,
                    })
                    .to_string()),
                    "POST /v1/agent/unlock" => opened(request, &format!("node-{address}")),
                    other => panic!("{other}"),
                }
            };
            serve(stream, &answer, &seen);
        }
    });
    requests
}

fn opened(request: &Request, node_id: &str) -> Answer {
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["kind"], "recovery");
    assert_eq!(body["key"], "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=");
    assert_eq!(body["challenge"], format!("{:064x}", 1), "the newest challenge is answered");
    let mut challenge = [0; 32];
    challenge[31] = 1;
    let (node, volume) = (node_id.parse().unwrap(), VOLUME.parse().unwrap());
    let statement = Unlock { kind: UnlockKind::Recovery, node, volume, challenge };
    let signature: Signature = body["signature"].as_str().unwrap().parse().unwrap();
    signature.verify(&statement.to_string(), &owner().public_key().address()).unwrap();
    ok(r#"{"status":"unlocking"}"#)
}

fn unlock(orama: &Orama, file: &str) -> Ran {
    let arguments = [
        "node",
        "unlock",
        "--recovery",
        file,
        "--node-ip",
        "192.0.2.1",
        "--tunnel",
        "never",
        "--no-wait",
        "--keystore",
        "owner.json",
        "--password-file",
        "password",
    ];
    orama.run(&arguments, "")
}

#[test]
fn the_key_is_kept_at_enrollment_and_opens_the_node_later() {
    let (node, address, orama) = (PrivateKey::generate(), node_address(1), Orama::new());
    let ran =
        enroll(&orama, &page(&node, &owner()), &gateway(copy(&node), answer(address), there), "kept.toml");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.out.contains(TOKEN) && !ran.err.contains(TOKEN));
    let path = orama.folder.path().join("kept.toml");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let file: toml::Table = text.parse().unwrap();
    assert_eq!(file["node_ip"].as_str(), Some("127.0.0.1"));
    assert_eq!(file["operator"]["address"].as_str(), Some("127.0.0.254/24"));
    assert_eq!(file["recovery"]["volume"].as_str(), Some(VOLUME));

    let requests = agent(address, VOLUME);
    let ran = unlock(&orama, "kept.toml");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(requests.lock().unwrap().len(), 3);
}

#[test]
fn another_volume_or_a_file_without_a_key_is_not_even_tried() {
    let (node, address, orama) = (PrivateKey::generate(), node_address(2), Orama::new());
    enroll(&orama, &page(&node, &owner()), &gateway(copy(&node), answer(address), there), "kept.toml");
    let requests = agent(address, "99999999-4455-6677-8899-aabbccddeeff");
    let ran = unlock(&orama, "kept.toml");
    assert!(ran.code == 2 && ran.err.contains("of volume 00112233"), "{ran:?}");
    let text = std::fs::read_to_string(orama.folder.path().join("kept.toml")).unwrap();
    let without = orama.file("without.toml", text.split("\n[recovery]").next().unwrap());
    std::fs::set_permissions(without, std::fs::Permissions::from_mode(0o600)).unwrap();
    let ran = unlock(&orama, "without.toml");
    assert!(ran.code == 2 && ran.err.contains("no recovery key in this file"), "{ran:?}");
    assert!(requests.lock().unwrap().iter().all(|request| !request.line.starts_with("POST")));
}

#[test]
fn nothing_is_enrolled_when_the_key_could_not_be_kept() {
    let (node, orama) = (PrivateKey::generate(), Orama::new());
    let sound = || gateway(copy(&node), answer(node_address(3)), there);
    let posted = |gateway: &FakeGateway| gateway.requests().iter().any(|one| one.line.starts_with("POST"));
    orama.file("taken.toml", "");
    let old = FakeGateway::answering(error(404, "there is nothing at this path"));
    let stranger = SecretKey::from_bytes(&[0x22; 32]).unwrap();
    let without = ok(r#"{"code":"7K3M9QXZ","expires":""}"#);
    for (page, gateway, file, code, words) in [
        (page(&node, &owner()), sound(), "taken.toml", 2, "already"),
        (page(&node, &owner()), sound(), "no/where.toml", 2, "cannot write"),
        (page(&node, &owner()), old, "a.toml", 1, "knows nothing of recovery keys"),
        (page(&node, &stranger), sound(), "b.toml", 4, "not the owner's wallet"),
        (FakeGateway::answering(without), sound(), "c.toml", 1, "names no owner"),
    ] {
        let ran = enroll(&orama, &page, &gateway, file);
        assert!(ran.code == code && ran.err.contains(words), "{words}: {ran:?}");
        assert!(!posted(&gateway), "{words}: it was enrolled");
    }
}

#[test]
fn a_key_that_does_not_arrive_or_is_another_nodes_is_no_success() {
    let node = PrivateKey::generate();
    let other = RecoveryAnswer { wireguard_address: "127.9.9.9/24".into(), ..answer(node_address(4)) };
    let garbled = |mut answer: String| {
        answer.replace_range(30..31, if &answer[30..31] == "0" { "1" } else { "0" });
        there(answer)
    };
    let failed = |_| ok(r#"{"state":"failed","why":"the disk is gone"}"#);
    let lost = |_| ok(r#"{"state":"none"}"#);
    for (gateway, words) in [
        (gateway(copy(&node), answer(node_address(4)), garbled), "sealed by somebody else"),
        (gateway(copy(&node), answer(node_address(4)), failed), "the disk is gone"),
        (gateway(copy(&node), answer(node_address(4)), lost), "the gateway lost it"),
        (gateway(copy(&node), other, there), "is not that of"),
    ] {
        let orama = Orama::new();
        let ran = enroll(&orama, &page(&node, &owner()), &gateway, "kept.toml");
        assert!(ran.code == 1 && ran.err.contains(words), "{words}: {ran:?}");
        assert!(!orama.folder.path().join("kept.toml").exists(), "{words}");
    }
}
