//! Storing, reading, listing and deleting.

use serde_json::json;

use crate::client::{SECOND_NS, START_NS, folder, identity, path, start};

#[test]
fn a_secret_comes_back_as_it_was_stored() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    let share: Vec<u8> = (0..=255).collect();
    let stored = guardian.put(&token, "luks-00ff_g1", &share, 7);
    assert_eq!(stored.status, 200, "{}", stored.body);
    assert_eq!(stored.body, json!({ "status": "stored", "name": "luks-00ff_g1", "version": 7 }));
    assert!(stored.head.to_lowercase().contains("content-type: application/json"), "{}", stored.head);
    guardian.sleep(SECOND_NS);
    assert_eq!(guardian.put(&token, "luks-00ff_g1", b"second", 8).status, 200);
    let read = guardian.get(&token, "luks-00ff_g1");
    assert_eq!(
        read.body,
        json!({
            "share": "c2Vjb25k",
            "name": "luks-00ff_g1",
            "version": 8,
            "created_ns": START_NS,
            "updated_ns": START_NS + SECOND_NS,
        })
    );
    let deleted = guardian.delete(&token, "luks-00ff_g1");
    assert_eq!((deleted.status, deleted.body), (200, json!({ "status": "deleted", "name": "luks-00ff_g1" })));
    for answer in [guardian.get(&token, "luks-00ff_g1"), guardian.delete(&token, "luks-00ff_g1")] {
        assert_eq!((answer.status, answer.error()), (404, "no such secret"));
    }
}

#[test]
fn the_version_must_grow() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, "one", b"first", 5).status, 200);
    for version in [5, 4, 0] {
        let answer = guardian.put(&token, "one", b"other", version);
        assert_eq!(answer.status, 400);
        let expected = format!("version {version} is not greater than the stored version 5");
        assert_eq!(answer.error(), expected);
    }
    assert_eq!(guardian.share(&token, "one"), b"first");
    assert_eq!(guardian.put(&token, "one", b"last", u64::MAX).status, 200);
    assert_eq!(guardian.put(&token, "one", b"more", u64::MAX).status, 400);
    assert_eq!(guardian.get(&token, "one").body["version"], json!(u64::MAX));
}

#[test]
fn what_is_no_secret_is_refused() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    let refuse = |body: &[u8], reason: &str| {
        let answer = guardian.send("PUT", &path("one"), Some(&token), body);
        assert_eq!(answer.status, 400, "{reason}");
        assert!(answer.error().contains(reason), "{} does not say {reason}", answer.error());
        assert!(!answer.error().contains("c2VjcmV0"), "the answer repeats the share: {}", answer.error());
    };
    refuse(b"", "not the expected JSON");
    refuse(b"not json", "not the expected JSON");
    refuse(b"{\"share\": \"c2VjcmV0\"}", "missing field `version`");
    refuse(b"{\"version\": 1}", "missing field `share`");
    refuse(b"{\"share\": \"c2VjcmV0\", \"version\": \"c2VjcmV0\"}", "not the expected JSON");
    refuse(b"{\"share\": \"c2VjcmV0\", \"version\": -1}", "not the expected JSON");
    refuse(b"{\"share\": \"c2VjcmV0\", \"version\": 1.5}", "not the expected JSON");
    refuse(b"{\"share\": \"c2VjcmV0\", \"version\": 18446744073709551616}", "not the expected JSON");
    refuse(b"{\"share\": \"\", \"version\": 1}", "0 bytes");
    for base64 in ["c2VjcmV0!", "c2Vj cmV0", "c2VjcmV", "_-__"] {
        refuse(json!({ "share": base64, "version": 1 }).to_string().as_bytes(), "not base64");
    }
    assert_eq!(guardian.get(&token, "one").status, 404);
}

#[test]
fn shares_have_1_byte_to_512_kib() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, "small", b"x", 1).status, 200);
    let largest = vec![0xa5; 512 * 1024];
    assert_eq!(guardian.put(&token, "large", &largest, 1).status, 200);
    assert!(guardian.share(&token, "large") == largest);
    let over = guardian.put(&token, "over", &vec![0xa5; 512 * 1024 + 1], 1);
    assert_eq!((over.status, over.error()), (400, "share has 524289 bytes, 1 to 524288 are kept"));
    assert_eq!(guardian.get(&token, "over").status, 404);
}

#[test]
fn names_are_an_alphabet_and_never_a_path() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    for bad in [
        "node-10.0.0.4",
        ".",
        "..",
        ".lock",
        "..%2f..%2fescape",
        "%2e%2e",
        "a%20b",
        "a%00b",
        "a+b",
        "%c3%a4",
        &"x".repeat(129),
    ] {
        for method in ["PUT", "GET", "DELETE"] {
            let answer =
                guardian.send(method, &path(bad), Some(&token), b"{\"share\":\"eA==\",\"version\":1}");
            assert_eq!(answer.status, 400, "{method} {bad}");
            assert!(answer.error().contains("1 to 128 characters"), "{}", answer.error());
        }
    }
    for good in ["a", "A-Z_a-z_0-9", "-", &"x".repeat(128)] {
        assert_eq!(guardian.put(&token, good, b"x", 1).status, 200, "{good}");
    }
    // Nothing but the identity's folder and the lock came to be.
    let mut found: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, [".lock".to_owned(), identity('a')]);
}

#[test]
fn each_identity_sees_its_own_secrets() {
    let folder = folder();
    let guardian = start(folder.path());
    let (alice, bob) = (guardian.session(&identity('a')), guardian.session(&identity('b')));
    assert_eq!(guardian.put(&alice, "one", b"alice", 1).status, 200);
    assert_eq!(guardian.get(&bob, "one").status, 404);
    assert_eq!(guardian.delete(&bob, "one").status, 404);
    assert_eq!(guardian.put(&bob, "one", b"bob", 1).status, 200);
    assert_eq!(guardian.share(&alice, "one"), b"alice");
    assert_eq!(guardian.list(&bob).body["secrets"].as_array().unwrap().len(), 1);
}

#[test]
fn the_list_has_sizes_and_versions_but_no_shares() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.list(&token).body, json!({ "secrets": [] }));
    guardian.put(&token, "two", b"12345", 9);
    guardian.put(&token, "one", b"1", 3);
    let entry = |name: &str, version: u64, size: u64| {
        let (created_ns, updated_ns) = (START_NS, START_NS);
        json!({ "name": name, "version": version, "size": size, "created_ns": created_ns, "updated_ns": updated_ns })
    };
    let expected = json!({ "secrets": [entry("one", 3, 1), entry("two", 9, 5)] });
    assert_eq!(guardian.list(&token).body, expected);
    // An identity that has deleted everything leaves no folder behind.
    guardian.delete(&token, "one");
    guardian.delete(&token, "two");
    assert_eq!(guardian.list(&token).body, json!({ "secrets": [] }));
    assert!(!folder.path().join(identity('a')).exists());
}

#[test]
fn an_identity_has_at_most_1000_secrets() {
    let folder = folder();
    let guardian = start(folder.path());
    let token = guardian.session(&identity('a'));
    assert_eq!(guardian.put(&token, "s0", b"x", 1).status, 200);
    // The other 999 straight onto the disk: the limit counts files.
    let text = std::fs::read_to_string(guardian.file(&identity('a'), "s0")).unwrap();
    for number in 1..999 {
        std::fs::write(guardian.file(&identity('a'), &format!("s{number}")), &text).unwrap();
    }
    assert_eq!(guardian.put(&token, "thousandth", b"x", 1).status, 200);
    let over = guardian.put(&token, "s1000", b"x", 1);
    assert_eq!((over.status, over.error()), (400, "this identity already holds 1000 secrets"));
    assert_eq!(guardian.put(&token, "thousandth", b"y", 2).status, 200, "replacing is still possible");
    assert_eq!(guardian.delete(&token, "thousandth").status, 200);
    assert_eq!(guardian.put(&token, "s1000", b"x", 1).status, 200);
    assert_eq!(guardian.put(&guardian.session(&identity('b')), "one", b"x", 1).status, 200);
}

#[test]
fn unknown_paths_and_wrong_methods() {
    let folder = folder();
    let guardian = start(folder.path());
    for path in
        ["/", "/v2", "/v2/vault/auth", "/v1/vault/secrets", "/v2/vault/secrets/", "/v2/vault/secrets/a/b"]
    {
        let answer = guardian.send("GET", path, None, b"");
        assert_eq!((answer.status, answer.error()), (404, "unknown path"), "{path}");
    }
    for (method, path, allow) in [
        ("GET", "/v2/vault/auth/challenge", "POST"),
        ("PUT", "/v2/vault/auth/session", "POST"),
        ("POST", "/v2/vault/secrets", "GET"),
        ("DELETE", "/v2/vault/secrets", "GET"),
        ("POST", "/v2/vault/secrets/one", "GET, PUT, DELETE"),
        ("OPTIONS", "/v2/vault/secrets/one", "GET, PUT, DELETE"),
        ("BREW", "/v2/vault/secrets/one", "GET, PUT, DELETE"),
    ] {
        let answer = guardian.send(method, path, None, b"");
        assert_eq!(answer.status, 405, "{method} {path}");
        assert_eq!(answer.error(), format!("{method} is not for this path"));
        assert!(answer.head.to_lowercase().contains(&format!("\r\nallow: {}", allow.to_lowercase())));
    }
}
