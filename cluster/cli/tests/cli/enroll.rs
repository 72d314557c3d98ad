//! `orama node enroll`: the node's code, the gateway's answer, and following the node.

use crate::support::{Answer, FakeGateway, Orama, Request, closed_port, error, ok};

const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const ENROLLED: &str = r#"{"status":"enrolled","node_id":"node-10.0.0.4","wg_ip":"10.0.0.4"}"#;

fn node() -> FakeGateway {
    FakeGateway::answering(ok(r#"{"code":"7K3M9QXZ","expires":"2026-01-01T00:00:00Z"}"#))
}

fn sighting(phase: &str, healthy: bool, detail: &str) -> Answer {
    let node = serde_json::json!({
        "node_id": "node-10.0.0.4", "wg_ip": "10.0.0.4", "public_ip": "127.0.0.1", "role": "agent", "reachable": healthy,
        "healthy": healthy, "phase": phase, "version": "1.0.0", "uptime_seconds": 1, "unhealthy_services": [], "detail": detail,
    });
    ok(&serde_json::json!({ "at": "2026-01-01T00:00:00Z", "nodes": [node] }).to_string())
}

/// A gateway that takes the node and then reports the sightings, the last one for ever.
fn gateway(sightings: Vec<Answer>) -> FakeGateway {
    FakeGateway::start(move |request: &Request, before| match request.line.as_str() {
        "POST /v1/node/enroll" => ok(ENROLLED),
        _ => sightings[(before - 1).min(sightings.len() - 1)].clone(),
    })
}

fn enroll<'a>(port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["node", "enroll", "--node-ip", "127.0.0.1", "--node-port", port][..], more].concat()
}

#[test]
fn a_node_is_enrolled_and_followed_until_it_runs() {
    let node = node();
    let port = node.address.port().to_string();
    let gateway = gateway(vec![
        sighting("enrolling", false, "formatting the data volume"),
        Answer::Raw(Vec::new()),
        sighting("running", true, ""),
    ]);
    let ran = Orama::new().at(&gateway, &enroll(&port, &["--token", TOKEN]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.out, "node-10.0.0.4 is running at 10.0.0.4\n");
    assert!(ran.err.contains("enrolling: formatting the data volume"), "{ran:?}");
    assert!(!ran.err.contains(TOKEN) && !ran.out.contains(TOKEN));
    assert_eq!(node.only_request().line, "GET /");
    let request = &gateway.requests()[0];
    assert_eq!(request.authorization, format!("Bearer {TOKEN}"), "the invite, not the API key");
    let expected = format!(r#"{{"code":"7K3M9QXZ","token":"{TOKEN}","node_ip":"127.0.0.1"}}"#);
    assert_eq!(request.body, expected);
}

#[test]
fn the_token_may_come_from_a_file_or_stdin_and_the_code_from_the_console() {
    let gateway = gateway(vec![]);
    let orama = Orama::new();
    orama.file("token", &format!("{TOKEN}\n"));
    let url = gateway.url();
    let base =
        ["node", "enroll", "--node-ip", "192.0.2.4", "--code", "7k3m9qxz", "--no-wait", "--gateway", &url];
    for (more, stdin) in [(["--token-file", "token"], ""), (["--token-file", "-"], TOKEN)] {
        let ran = orama.run(&[&base[..], &more].concat(), stdin);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("orama node status --node-id node-10.0.0.4"), "{ran:?}");
    }
    for request in gateway.requests() {
        assert_eq!(request.authorization, format!("Bearer {TOKEN}"));
        assert!(request.body.contains("7k3m9qxz") && request.body.contains("192.0.2.4"));
    }
    let ran = orama.run(&[&base[..], &["--token-file", "-"]].concat(), "two\nlines");
    assert_eq!(ran.code, 2, "{ran:?}");
    let ran = orama.run(&base, "");
    assert_eq!(ran.code, 2, "a token is required: {ran:?}");
}

#[test]
fn without_an_api_key_it_says_how_to_check() {
    let gateway = gateway(vec![]);
    let url = gateway.url();
    let arguments = [
        "--json",
        "node",
        "enroll",
        "--node-ip",
        "192.0.2.4",
        "--code",
        "7K3M9QXZ",
        "--token",
        TOKEN,
        "--gateway",
        &url,
    ];
    let ran = Orama::new().run(&arguments, "");
    assert_eq!((ran.code, ran.out.trim_end()), (0, ENROLLED));
    let ran = Orama::new().run(&arguments[1..], "");
    assert!(ran.out.contains("cannot be followed without an API key"), "{ran:?}");
    assert_eq!(gateway.requests().len(), 2, "nothing but the enrollments");
}

#[test]
fn what_the_node_must_not_answer() {
    let gateway = gateway(vec![]);
    let code_with_bad_key = r#"{"code":"7K3M9QXZ","expires":"","wireguard_public_key":"not a key"}"#;
    for (answer, code, expected) in [
        (ok(code_with_bad_key), 1, "it sent a WireGuard key that is none"),
        (Answer::Json(410, "{}".into()), 1, "it was given out before"),
        (ok(r#"{"code":"../../etc","expires":""}"#), 1, "which is no registration code"),
        (ok(r#"{"code":"","expires":""}"#), 1, "which is no registration code"),
        (ok("<html>hello</html>"), 1, "is not understood"),
        (ok(&format!(r#"{{"code":"A","expires":"{}"}}"#, "x".repeat(1 << 20))), 1, "more than 1048576 bytes"),
        (Answer::Raw(Vec::new()), 3, "firewall"),
    ] {
        let node = FakeGateway::answering(answer);
        let ran = Orama::new().at(&gateway, &enroll(&node.address.port().to_string(), &["--token", TOKEN]));
        assert_eq!(ran.code, code, "{expected}: {ran:?}");
        assert!(ran.err.contains(expected), "{expected}: {ran:?}");
    }
    let ran = Orama::new().at(&gateway, &enroll(&closed_port().to_string(), &["--token", TOKEN]));
    assert_eq!(ran.code, 3, "{ran:?}");
    assert!(ran.err.contains("is the node in enrollment mode"), "{ran:?}");
    assert!(gateway.requests().is_empty(), "no token was sent");
}

#[test]
fn the_key_that_the_node_shows_is_handed_on_and_a_slow_connection_of_the_node_waited_for() {
    const KEY: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
    let shown = format!(r#"{{"code":"7K3M9QXZ","expires":"","wireguard_public_key":"{KEY}"}}"#);
    let node = FakeGateway::answering(ok(&shown));
    let gateway = FakeGateway::start(|_, before| match before {
        0 => error(404, "no node is waiting with this code"),
        _ => ok(ENROLLED),
    });
    let port = node.address.port().to_string();
    let ran = Orama::new().at(&gateway, &enroll(&port, &["--token", TOKEN, "--no-wait"]));
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("asking again in 2 s"), "{ran:?}");
    let requests = gateway.requests();
    assert_eq!(requests.len(), 2);
    assert!(requests.iter().all(|request| request.body.contains(KEY)), "{requests:?}");
}

#[test]
fn what_the_gateway_refuses_is_explained() {
    for (answer, code, expected) in [
        (error(401, "this invite was used"), 4, "make a new one with `orama node invite`"),
        (error(404, "no node is waiting with this code"), 5, "check the code"),
        (error(409, "another operator is enrolling it"), 1, "another operator is enrolling it"),
        (error(409, "give --recovery FILE"), 1, "then try again: the invite was not used up"),
        (error(502, "mesh is down"), 3, "mesh is down"),
        (ok("[]"), 1, "cannot tell whether the node is enrolled"),
    ] {
        let (node, gateway) = (node(), FakeGateway::answering(answer));
        let ran = Orama::new().at(&gateway, &enroll(&node.address.port().to_string(), &["--token", TOKEN]));
        assert_eq!(ran.code, code, "{expected}: {ran:?}");
        assert!(ran.err.contains(expected), "{expected}: {ran:?}");
    }
}

#[test]
fn a_node_that_fails_or_vanishes_or_takes_too_long() {
    let nobody = || ok(r#"{"at":"","nodes":[]}"#);
    for (sightings, wait, code, expected) in [
        (
            vec![sighting("failed", false, "guardian 10.0.0.13 refused")],
            "1m",
            1,
            "could not be provisioned: guardian 10.0.0.13 refused",
        ),
        (
            vec![sighting("enrolling", false, "splitting the key"), nobody()],
            "1m",
            1,
            "could not be provisioned: enrolling: splitting the key",
        ),
        (vec![nobody()], "1m", 1, "the gateway forgot it"),
        (
            vec![sighting("enrolling", false, "formatting")],
            "1s",
            6,
            "was not running after 1s: enrolling: formatting",
        ),
        (vec![error(401, "this key was revoked")], "1m", 4, "cannot be followed"),
    ] {
        let (node, gateway) = (node(), gateway(sightings));
        let port = node.address.port().to_string();
        let ran = Orama::new().at(&gateway, &enroll(&port, &["--token", TOKEN, "--wait", wait]));
        assert_eq!(ran.code, code, "{expected}: {ran:?}");
        assert!(ran.err.contains(expected), "{expected}: {ran:?}");
    }
}
