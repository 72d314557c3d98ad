//! `orama node unlock --genesis` against a node played on a loopback address: both kinds of wallet, and what a wallet
//! or a node can do wrong. Enrollment and the tunnel are tried with real nodes.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use orama_wallet::keystore::Cost;
use orama_wallet::statement::{Unlock, UnlockKind};
use orama_wallet::{Keystore, SecretKey, Signature, seal_key};

use crate::support::{Answer, Orama, Request, error, ok, serve};

const KEY: [u8; 32] = [0x5a; 32];
const VOLUME: &str = "00112233-4455-6677-8899-aabbccddeeff";
const TOKEN: &str = "abababababababababababababababababababababababababababababababab";

fn owner() -> SecretKey {
    SecretKey::from_bytes(&[0x11; 32]).unwrap()
}

/// A node that waits for its owner, or answers as it is told.
struct FakeNode {
    address: Ipv4Addr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl FakeNode {
    /// On an address of its own: the agent's port is always the same.
    fn start(answer: impl Fn(&Request) -> Option<Answer> + Send + 'static) -> Self {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, high, low, _] = std::process::id().to_be_bytes().map(|byte| byte.max(1));
        let address = Ipv4Addr::new(127, high ^ low, low, NEXT.fetch_add(1, Ordering::Relaxed));
        let listener = TcpListener::bind((address, 9998)).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, node_id) = (Arc::clone(&requests), format!("node-{address}"));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                let answer = |request: &Request, before| {
                    answer(request).unwrap_or_else(|| waiting(request, before, &node_id))
                };
                serve(stream, &answer, &seen);
            }
        });
        Self { address, requests }
    }

    fn posted(&self) -> Vec<Request> {
        let all = self.requests.lock().unwrap().clone();
        all.into_iter().filter(|request| request.line.starts_with("POST")).collect()
    }
}

/// What a sound node answers: the challenge is the number of the request.
fn waiting(request: &Request, before: usize, node_id: &str) -> Answer {
    assert_eq!(request.authorization, format!("Bearer {TOKEN}"));
    match request.line.as_str() {
        "GET /v1/agent/genesis-key" => ok(&serde_json::json!({
            "sealed_key": seal_key(&owner().public_key(), &KEY).unwrap(),
            "challenge": format!("{before:064x}"),
            "node_id": node_id, "volume": VOLUME, "expires_seconds": 60,
        })
        .to_string()),
        "POST /v1/agent/unlock" => {
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            assert_eq!(body["key"], "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=");
            let text = body["challenge"].as_str().unwrap();
            assert_eq!(text, format!("{:064x}", before - 1), "the newest challenge is answered");
            let mut challenge = [0; 32];
            challenge[31] = (before - 1) as u8;
            let statement = Unlock {
                kind: UnlockKind::Genesis,
                node: node_id.parse().unwrap(),
                volume: VOLUME.parse().unwrap(),
                challenge,
            };
            let signature: Signature = body["signature"].as_str().unwrap().parse().unwrap();
            signature.verify(&statement.to_string(), &owner().public_key().address()).unwrap();
            ok(r#"{"status":"unlocking"}"#)
        }
        other => panic!("{other}"),
    }
}

/// The command with the file of this node.
fn operator(node: &FakeNode) -> Orama {
    let orama = Orama::new();
    let text = format!(
        "version = 1\nnode_id = \"node-{0}\"\nnode_ip = \"192.0.2.1\"\nwg_ip = \"{0}\"\nwireguard_port = 51820\n\
         wireguard_public_key = \"3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\"\nowner = \"{1}\"\n\
         agent_token = \"{TOKEN}\"\n[operator]\n\
         wireguard_private_key = \"YAnz5TF+lXXJte14tji3zlMNftdYmrODbB3lOgXIVXo=\"\naddress = \"10.0.0.254/24\"\n",
        node.address,
        owner().public_key().address(),
    );
    let path = orama.file(&format!(".config/orama/nodes/node-{}.toml", node.address), &text);
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    orama
}

const UNLOCK: [&str; 9] =
    ["--json", "node", "unlock", "--genesis", "--node-ip", "192.0.2.1", "--tunnel", "never", "--no-wait"];

fn with_rw(mood: &str, node: &FakeNode) -> crate::support::Ran {
    let rw = env!("CARGO_BIN_EXE_fake-rw");
    operator(node).variable("FAKE_RW", mood).run(&[&UNLOCK[..], &["--rw", rw]].concat(), "")
}

#[test]
fn the_program_opens_the_key_and_signs() {
    let node = FakeNode::start(|_| None);
    let ran = with_rw("", &node);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("\"unlocking\""), "{ran:?}");
    assert_eq!(node.posted().len(), 1);
}

#[test]
fn a_keystore_opens_the_key_and_signs() {
    let node = FakeNode::start(|_| None);
    let orama = operator(&node);
    orama.file("owner.json", &Keystore::write(&owner(), b"pass word", Cost::Cheap).unwrap());
    let arguments = [&UNLOCK[..], &["--keystore", "owner.json", "--password-file", "-"]].concat();
    let wrong = orama.run(&arguments, "password\n");
    assert!(wrong.code == 2 && wrong.err.contains("wrong password"), "{wrong:?}");
    assert!(node.posted().is_empty());
    let ran = orama.run(&arguments, "pass word\n");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(node.posted().len(), 1);
}

#[test]
fn a_wallet_that_does_not_do_its_part_sends_nothing_to_the_node() {
    for (mood, words) in
        [("refuses", "failed (exit status: 1)"), ("rambles", "more than 4096 bytes"), ("another", "failed")]
    {
        let node = FakeNode::start(|_| None);
        let ran = with_rw(mood, &node);
        assert!(ran.code == 1 && ran.err.contains(words), "{mood}: {ran:?}");
        assert!(node.posted().is_empty(), "{mood}");
    }
    let node = FakeNode::start(|_| None);
    let ran = operator(&node).run(&UNLOCK, "");
    assert!(ran.code == 2 && ran.err.contains("not in PATH"), "{ran:?}");
}

#[test]
fn what_the_node_says_is_passed_on_and_another_node_is_not_signed_for() {
    let node = FakeNode::start(|_| Some(error(409, "no longer needed: the key is with 5 guardians")));
    let ran = with_rw("", &node);
    assert!(ran.code == 1 && ran.err.contains("no longer needed: the key is with 5 guardians"), "{ran:?}");

    let body = serde_json::json!({
        "sealed_key": seal_key(&owner().public_key(), &KEY).unwrap(), "challenge": "00".repeat(32),
        "node_id": "node-10.9.9.9", "volume": VOLUME, "expires_seconds": 60,
    });
    let node = FakeNode::start(move |_| Some(ok(&body.to_string())));
    let ran = with_rw("", &node);
    assert!(ran.code == 1 && ran.err.contains("another node"), "{ran:?}");
    assert!(node.posted().is_empty());
}

#[test]
fn a_node_without_a_file_is_not_found() {
    let orama = Orama::new();
    let ran = orama.run(&UNLOCK, "");
    assert!(ran.code == 5 && ran.err.contains("was enrolled from here"), "{ran:?}");
}
