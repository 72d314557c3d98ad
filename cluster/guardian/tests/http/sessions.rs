//! Challenges, sessions and their tags.

use serde_json::{Value, json};

use crate::client::{SECOND_NS, START_NS, folder, identity, start};

fn is_hex(value: &Value) -> bool {
    let text = value.as_str().unwrap();
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[test]
fn a_challenge_and_its_session_have_the_documented_members() {
    let folder = folder();
    let guardian = start(folder.path());
    let challenge = guardian.challenge(&identity('a'));
    assert!(is_hex(&challenge["nonce"]) && is_hex(&challenge["tag"]), "{challenge}");
    // A JSON number beyond 2^53, exact.
    assert_eq!(challenge["created_ns"].as_i64(), Some(START_NS));
    assert_eq!(challenge.as_object().unwrap().len(), 3);
    let session = guardian.answer(&identity('a'), &challenge).body;
    assert_eq!(session["identity"], identity('a'));
    assert_eq!(session["expiry_ns"].as_i64(), Some(START_NS + 3600 * SECOND_NS));
    assert!(is_hex(&session["tag"]));
    assert_eq!(session.as_object().unwrap().len(), 3);
    assert_ne!(guardian.challenge(&identity('a'))["nonce"], challenge["nonce"]);
}

#[test]
fn a_challenge_is_valid_for_60_seconds() {
    let folder = folder();
    let guardian = start(folder.path());
    let challenge = guardian.challenge(&identity('a'));
    guardian.sleep(60 * SECOND_NS);
    assert_eq!(guardian.answer(&identity('a'), &challenge).status, 200);
    guardian.sleep(1);
    let late = guardian.answer(&identity('a'), &challenge);
    assert_eq!((late.status, late.error()), (401, "the challenge is older than 60 s"));
}

#[test]
fn a_challenge_that_was_touched_gives_no_session() {
    let folder = folder();
    let guardian = start(folder.path());
    let good = guardian.challenge(&identity('a'));
    for (member, value) in [
        ("tag", json!("0".repeat(64))),
        ("tag", json!("")),
        ("nonce", json!("0".repeat(64))),
        ("created_ns", json!(START_NS + 1)),
        ("created_ns", json!(0)),
        ("created_ns", json!(-1)),
    ] {
        let mut touched = good.clone();
        touched[member] = value;
        let answer = guardian.answer(&identity('a'), &touched);
        assert_eq!(
            (answer.status, answer.error()),
            (401, "the challenge is not from this guardian"),
            "{member}"
        );
    }
    // What a client does to the number when it goes through a double, or through a string.
    for value in [json!(START_NS as f64), json!(START_NS.to_string())] {
        let mut touched = good.clone();
        touched["created_ns"] = value;
        assert_eq!(guardian.answer(&identity('a'), &touched).status, 400);
    }
    let foreign = guardian.answer(&identity('b'), &good);
    assert_eq!(foreign.status, 401, "another identity's challenge");
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("created_ns");
    let answer = guardian.answer(&identity('a'), &without);
    assert_eq!(answer.status, 400);
    assert!(answer.error().contains("created_ns"), "{}", answer.error());
    assert_eq!(guardian.answer(&identity('a'), &good).status, 200);
}

#[test]
fn identities_are_64_lowercase_hex_characters() {
    let folder = folder();
    let guardian = start(folder.path());
    for bad in ["", "a", &"A".repeat(64), &"g".repeat(64), &"a".repeat(65), "../../../etc/passwd"] {
        let answer = guardian.post("/v2/vault/auth/challenge", &json!({ "identity": bad }));
        assert_eq!(answer.status, 400, "{bad}");
        assert!(answer.error().contains("64 lowercase hex"), "{}", answer.error());
    }
    for body in [&b""[..], b"{", b"[]", b"{}", b"{\"identity\": 7}", b"\xff\xfe", &[b'['; 4000]] {
        let answer = guardian.send("POST", "/v2/vault/auth/challenge", None, body);
        assert_eq!(answer.status, 400);
        assert!(!answer.error().is_empty());
    }
    let large = guardian.post("/v2/vault/auth/challenge", &json!({ "identity": "a".repeat(5000) }));
    assert_eq!((large.status, large.error()), (400, "the body is larger than 4096 bytes"));
}

#[test]
fn a_session_lasts_an_hour_and_may_be_used_often() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    for _ in 0..3 {
        assert_eq!(guardian.list(&token).status, 200);
    }
    guardian.sleep(3600 * SECOND_NS - 1);
    assert_eq!(guardian.list(&token).status, 200);
    guardian.sleep(1);
    let expired = guardian.list(&token);
    assert_eq!((expired.status, expired.error()), (401, "the session has expired"));
}

#[test]
fn without_a_valid_session_nothing_is_given() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, "one", b"secret", 1).status, 200);
    let (rest, tag) = token.rsplit_once(':').unwrap();
    let (_, expiry) = rest.split_once(':').unwrap();
    let (a, b) = (identity('a'), identity('b'));
    let later = expiry.parse::<i128>().unwrap() + 1;
    for bad in [
        "",
        "x",
        &format!("{b}:{expiry}:{tag}"),
        &format!("{a}:{later}:{tag}"),
        &format!("{a}:{expiry}:{}", "0".repeat(64)),
        &format!("{a}:{expiry}:{}", &tag[..63]),
        &format!("{a}:{expiry}"),
        &format!("{token}:"),
        &"a".repeat(4000),
    ] {
        for (method, path) in [
            ("GET", "/v2/vault/secrets/one"),
            ("PUT", "/v2/vault/secrets/one"),
            ("DELETE", "/v2/vault/secrets/one"),
            ("GET", "/v2/vault/secrets"),
        ] {
            let answer = guardian.send(method, path, Some(bad), b"{}");
            assert_eq!(answer.status, 401, "{method} {path} with {bad:?}");
            assert!(!answer.error().is_empty());
        }
    }
    let missing = guardian.send("GET", "/v2/vault/secrets/one", None, b"");
    assert_eq!((missing.status, missing.error()), (401, "the X-Session-Token header is missing"));
    assert_eq!(guardian.share(&token, "one"), b"secret");
}

#[test]
fn a_restart_ends_sessions_and_challenges() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    let challenge = guardian.challenge(&identity('a'));
    let guardian = guardian.restart();
    assert_eq!(guardian.list(&token).status, 401);
    assert_eq!(guardian.answer(&identity('a'), &challenge).status, 401);
    assert_eq!(guardian.list(&guardian.session(&identity('a'))).status, 200);
}
