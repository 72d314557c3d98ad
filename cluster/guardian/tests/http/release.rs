//! Shares of disk keys go out at once, are held down, approved and revoked: over HTTP, with the owner of a WireGuard
//! interface played on a socket.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use orama_protocol::mesh_control::{MeshPeer, MeshResponse};
use serde_json::{Value, json};

use crate::client::{Answer, Guardian, SECOND_NS, folder, identity, read_answer, start_with};

const TOKEN: &str = "the operators' own token";
/// printf "the operators' own token" | sha256sum
const TOKEN_SHA256: &str = "f06eb953e44b2de1a41d394ad5e4b3902f6e5b73896589c34eeba42163aa4dbc";
const NAME: &str = "luks-00112233445566778899aabbccddeeff-g1";
const HOLDS: &str = "/v2/vault/holds";

/// Says of 127.0.0.1 that it is a peer at this address.
fn mesh(folder: &Path) -> (PathBuf, Arc<Mutex<&'static str>>) {
    let endpoint = Arc::new(Mutex::new("203.0.113.4:51820"));
    let (path, shown) = (folder.join("mesh.sock"), endpoint.clone());
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            BufReader::new(stream.try_clone().unwrap()).read_line(&mut String::new()).unwrap();
            let peer = MeshPeer {
                public_key: String::new(),
                endpoint: Some((*shown.lock().unwrap()).to_owned()),
                allowed_ips: vec!["127.0.0.1/32".into()],
                keepalive_seconds: 0,
            };
            let answer = MeshResponse::Interface {
                name: "wg0".into(),
                public_key: String::new(),
                listen_port: 1,
                addresses: vec![],
                peers: vec![peer],
            };
            let mut line = serde_json::to_vec(&answer).unwrap();
            line.push(b'\n');
            stream.write_all(&line).unwrap();
        }
    });
    (path, endpoint)
}

/// What connects to 127.0.0.2 has the address 127.0.0.1, as if it were another host.
fn start_watched(folder: &Path, control: Option<&Path>) -> Guardian {
    start_with(folder, |config| {
        config.listen = "127.0.0.2:0".parse().unwrap();
        config.requests_per_minute = 100_000;
        config.operator_sha256 = Some(TOKEN_SHA256.into());
        config.mesh_control = control.map(Path::to_owned);
    })
}

fn operator(guardian: &Guardian, method: &str, token: &str, body: &Value) -> Answer {
    let body = if method == "GET" { String::new() } else { body.to_string() };
    let mut stream = crate::client::connect(guardian.address);
    let head = format!(
        "{method} {HOLDS} HTTP/1.1\r\nHost: guardian\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).unwrap();
    read_answer(stream)
}

fn holds(guardian: &Guardian) -> Value {
    let answer = operator(guardian, "GET", TOKEN, &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

fn decide(guardian: &Guardian, owner: &Value, decision: &str) -> Answer {
    operator(guardian, "POST", TOKEN, &json!({ "owner": owner, "decision": decision }))
}

fn presence(guardian: &Guardian, token: &str, body: &Value) -> Answer {
    guardian.send("PUT", "/v2/vault/presence", Some(token), body.to_string().as_bytes())
}

/// Three quarters of an hour, in steps that let no session expire.
const LONG: i64 = 45 * 60 * SECOND_NS;

#[test]
fn an_absent_owner_waits_and_says_how_long() {
    let folder = folder();
    let guardian = start_watched(folder.path(), None);
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, NAME, b"share", 1).status, 200);
    assert_eq!(guardian.get(&token, NAME).status, 200, "a client of the plain protocol reads what it stored");
    guardian.sleep(14 * 60 * SECOND_NS);
    let noted = presence(&guardian, &token, &json!({ "state": "alive" }));
    assert_eq!((noted.status, noted.body), (200, json!({ "status": "noted" })));
    guardian.sleep(14 * 60 * SECOND_NS);
    assert_eq!(guardian.get(&token, NAME).status, 200);

    guardian.sleep(LONG);
    let token = guardian.session(&identity('a'));
    let held = guardian.get(&token, NAME);
    assert_eq!(held.status, 429);
    assert!(held.head.to_lowercase().contains("\r\nretry-after: 600"), "{}", held.head);
    // 1763800000 s + 14 + 14 + 45 + 10 minutes, rounded up.
    assert_eq!(
        held.error(),
        "held down until 2025-11-22T09:49:41Z: its owner was absent without having announced a reboot"
    );
    // Other secrets are nobody's disk.
    assert_eq!(guardian.put(&token, "note", b"n", 1).status, 200);
    guardian.sleep(599 * SECOND_NS);
    assert_eq!(guardian.get(&token, NAME).status, 429);
    guardian.sleep(SECOND_NS);
    assert_eq!(guardian.share(&token, NAME), b"share");
    guardian.sleep(2 * SECOND_NS);
    assert_eq!(guardian.get(&token, "note").status, 200);
}

#[test]
fn the_guardians_own_host_reads_what_it_could_read_from_the_files() {
    let folder = folder();
    let guardian = crate::client::start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, NAME, b"share", 1).status, 200);
    guardian.sleep(50 * 60 * SECOND_NS);
    assert_eq!(guardian.get(&token, NAME).status, 200);
}

#[test]
fn an_announced_reboot_is_waited_for() {
    let folder = folder();
    let guardian = start_watched(folder.path(), None);
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, NAME, b"share", 1).status, 200);
    let rebooting = json!({ "state": "rebooting", "for_seconds": 1800 });
    assert_eq!(presence(&guardian, &token, &rebooting).status, 200);
    guardian.sleep(1800 * SECOND_NS);
    assert_eq!(guardian.get(&token, NAME).status, 200);
    for bad in [json!({}), json!({ "state": "asleep" }), json!({ "state": "rebooting" }), json!([])] {
        assert_eq!(presence(&guardian, &token, &bad).status, 400, "{bad}");
    }
    assert_eq!(presence(&guardian, "x", &json!({ "state": "alive" })).status, 401);
    assert_eq!(guardian.send("GET", "/v2/vault/presence", Some(&token), b"").status, 405);
}

#[test]
fn a_new_address_is_held_down_shown_and_approved() {
    let (folder, run) = (folder(), folder());
    let (control, endpoint) = mesh(run.path());
    let guardian = start_watched(folder.path(), Some(&control));
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, NAME, b"share", 1).status, 200);
    *endpoint.lock().unwrap() = "198.51.100.7:1024";
    let held = guardian.get(&token, NAME);
    assert_eq!(held.status, 429);
    assert!(held.error().ends_with("from another public address than usual"), "{}", held.error());
    assert!(!held.error().contains("203.0.113.4"), "a thief is not told where to stand");

    let shown = holds(&guardian);
    let hold = &shown["holds"][0];
    assert_eq!(hold["address"], "198.51.100.7");
    assert_eq!((&hold["usual_address"], &hold["state"]), (&json!("203.0.113.4"), &json!("held")));
    assert_eq!((&hold["wg_ip"], &hold["requests"]), (&json!("127.0.0.1"), &json!(1)));
    assert_eq!(shown["owners"][0]["owner"], hold["owner"]);
    assert!(
        !shown.to_string().contains(&identity('a')),
        "an identity opens sessions: operators see a digest"
    );

    let approved = decide(&guardian, &hold["owner"], "approve");
    assert_eq!((approved.status, approved.body), (200, json!({ "status": "approved", "durable": true })),);
    assert_eq!(guardian.get(&token, NAME).status, 200);
    // The address is the usual one now, also after a restart.
    drop(guardian);
    let guardian = start_watched(folder.path(), Some(&control));
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.get(&token, NAME).status, 200);
    *endpoint.lock().unwrap() = "203.0.113.4:51820";
    assert_eq!(guardian.get(&token, NAME).status, 429);
    // Nobody can ask the interface: nothing goes out by its address.
    std::fs::remove_file(&control).unwrap();
    assert!(guardian.get(&token, NAME).error().ends_with("the public address of who asks is not known"));
}

#[test]
fn absence_outlives_a_restart_and_the_guardians_own_outage_does_not_count() {
    let folder = folder();
    let guardian = start_watched(folder.path(), None);
    let [gone, there] = ['a', 'b'].map(|digit| guardian.session(&identity(digit)));
    assert_eq!(guardian.put(&gone, NAME, b"share", 1).status, 200);
    guardian.sleep(16 * 60 * SECOND_NS);
    assert_eq!(guardian.put(&there, NAME, b"share", 1).status, 200);
    assert_eq!(guardian.get(&gone, NAME).status, 429);
    // A decision writes all that is known.
    assert_eq!(decide(&guardian, &json!("0".repeat(64)), "revoke").status, 200);
    drop(guardian);
    // However long it was off: it cannot know who was there meanwhile.
    let guardian = start_with(folder.path(), |config| {
        config.listen = "127.0.0.2:0".parse().unwrap();
        config.requests_per_minute = 100_000;
        config.clock =
            vault_guardian::Clock::from_fn(|| i128::from(crate::client::START_NS) + 9 * i128::from(LONG));
    });
    let [gone, there] = ['a', 'b'].map(|digit| guardian.session(&identity(digit)));
    assert_eq!(guardian.get(&there, NAME).status, 200);
    assert_eq!(guardian.get(&gone, NAME).status, 429);
}

#[test]
fn a_guardian_that_is_cut_off_right_after_the_first_share_knows_its_owner() {
    let (folder, copy) = (folder(), folder());
    let guardian = start_watched(folder.path(), None);
    let owner = identity('a');
    assert_eq!(guardian.put(&guardian.session(&owner), NAME, b"share", 1).status, 200);
    // What a power cut at this moment leaves.
    std::fs::create_dir(copy.path().join(&owner)).unwrap();
    for file in [format!("{owner}/{NAME}"), "facts".to_owned()] {
        std::fs::copy(guardian.folder.join(&file), copy.path().join(&file)).unwrap();
    }
    let guardian = start_watched(copy.path(), None);
    guardian.sleep(16 * 60 * SECOND_NS);
    assert_eq!(guardian.get(&guardian.session(&owner), NAME).status, 429);
}

#[test]
fn the_revoked_lose_everything_for_good() {
    let folder = folder();
    let guardian = start_watched(folder.path(), None);
    let [thief, other] = ['a', 'b'].map(|digit| guardian.session(&identity(digit)));
    for token in [&thief, &other] {
        assert_eq!(guardian.put(token, NAME, b"share", 1).status, 200);
    }
    assert_eq!(guardian.put(&thief, "note", b"n", 1).status, 200);
    guardian.sleep(8 * 60 * SECOND_NS);
    assert_eq!(presence(&guardian, &other, &json!({ "state": "alive" })).status, 200);
    guardian.sleep(8 * 60 * SECOND_NS);
    assert_eq!(guardian.get(&thief, NAME).status, 429);
    let shown = holds(&guardian);
    let owner = &shown["holds"][0]["owner"];
    let revoked = decide(&guardian, owner, "revoke");
    assert_eq!((revoked.status, revoked.body), (200, json!({ "status": "revoked", "durable": true })));
    assert!(!guardian.folder.join(identity('a')).exists(), "its secrets are on the disk yet");
    for answer in [
        guardian.get(&thief, NAME),
        guardian.put(&thief, NAME, b"share", 2),
        guardian.list(&thief),
        presence(&guardian, &thief, &json!({ "state": "alive" })),
    ] {
        assert_eq!((answer.status, answer.error()), (401, "revoked"));
    }
    assert_eq!(guardian.put(&other, NAME, b"share", 2).status, 200);
    drop(guardian);
    let guardian = start_watched(folder.path(), None);
    let refused = guardian.answer(&identity('a'), &guardian.challenge(&identity('a')));
    assert_eq!((refused.status, refused.error()), (401, "revoked"));
    assert_eq!(guardian.get(&guardian.session(&identity('b')), NAME).status, 200);
}

#[test]
fn a_copy_of_an_old_header_is_reported() {
    let folder = folder();
    let guardian = start_watched(folder.path(), None);
    let token = guardian.session(&identity('a'));
    let name = |generation| format!("luks-00112233445566778899aabbccddeeff-g{generation}");
    for generation in [3, 4] {
        assert_eq!(guardian.put(&token, &name(generation), b"share", generation).status, 200);
    }
    assert_eq!(guardian.delete(&token, &name(3)).status, 200);
    assert_eq!(guardian.get(&token, &name(5)).status, 404, "from the future is no old header");
    assert_eq!(holds(&guardian)["old_headers"], json!([]));
    for _ in 0..2 {
        assert_eq!(guardian.get(&token, &name(3)).status, 404);
    }
    let old = &holds(&guardian)["old_headers"];
    assert_eq!(old.as_array().unwrap().len(), 1, "{old}");
    assert_eq!((&old[0]["asked"], &old[0]["newest"], &old[0]["requests"]), (&json!(3), &json!(4), &json!(2)));
    // The last one gone, nobody is watched over any more.
    assert_eq!(guardian.delete(&token, &name(4)).status, 200);
    assert_eq!(holds(&guardian)["owners"], json!([]));
}

#[test]
fn only_operators_see_and_decide() {
    let folder = folder();
    let guardian = start_watched(folder.path(), None);
    assert_eq!(guardian.send("GET", HOLDS, None, b"").status, 401);
    for token in ["", "wrong", TOKEN_SHA256, &"x".repeat(600)] {
        assert_eq!(operator(&guardian, "GET", token, &Value::Null).status, 401, "{token}");
        let body = json!({ "owner": "0".repeat(64), "decision": "revoke" });
        assert_eq!(operator(&guardian, "POST", token, &body).status, 401, "{token}");
    }
    for (body, status) in [
        (json!({ "owner": "0".repeat(64), "decision": "approve" }), 404),
        (json!({ "owner": "0".repeat(64), "decision": "maybe" }), 400),
        (json!({ "owner": "nobody", "decision": "revoke" }), 400),
        (json!({ "owner": "0".repeat(64), "decision": "approve", "address": "here" }), 400),
        (json!({ "owner": "0".repeat(64) }), 400),
    ] {
        let answer = operator(&guardian, "POST", TOKEN, &body);
        assert_eq!(answer.status, status, "{body}: {}", answer.body);
    }
    let plain = crate::client::start(&folder.path().join("plain"));
    assert_eq!(
        operator(&plain, "GET", TOKEN, &Value::Null).status,
        404,
        "without a token there are no routes"
    );
}
