//! Everything that must not enrol a node, and everything that must not get an answer from one: bad invites,
//! a wrong code, a second enrollment, malformed and oversized requests, missing and wrong tokens.

use std::net::SocketAddr;
use std::time::Duration;

use qemu_tests::artifacts::Image;
use qemu_tests::http::{Request, exchange, send};
use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::scenario::{Enrolled, PROVISION_LIMIT, Scenario};

/// One byte more than a body may have.
const TOO_LARGE: usize = (1 << 20) + 1;

#[test]
fn bad_invites_and_requests_are_refused_before_and_after_enrollment() {
    let mut scenario = Scenario::start("enroll-refusals", Image::Small).or_fail();
    bad_invites(&scenario);
    enrollment_port_survives_nonsense(&scenario);
    wrong_code(&scenario);

    let code = node::registration_code(scenario.network()).or_fail().expect("still in enrollment mode").code;
    let token = scenario.operator.invite("1h").or_fail();
    let answer =
        scenario.operator.enroll_when_registered(scenario.machine.public_address(), &token).or_fail();
    scenario.machine.wait_for("orama: all services spawned", PROVISION_LIMIT).or_fail();
    let enrolled = Enrolled { node_id: answer.node_id, address: answer.wg_ip.parse().or_fail() };
    scenario.wait_healthy(&enrolled.node_id).or_fail();

    used_invite_and_second_enrollment(&scenario, &token, &code);
    agent_wants_its_token(&scenario, &enrolled);
    gateway_wants_its_key(&scenario, &enrolled);
    scenario.wait_healthy(&enrolled.node_id).or_fail();
}

fn bad_invites(scenario: &Scenario) {
    let wrong = "0".repeat(64);
    let error = scenario.operator.enroll(&wrong).expect_err("an invite that was never made");
    assert!(error.message().contains("invite"), "{error}");
    let error = scenario.operator.enroll("short").expect_err("an invite of the wrong length");
    assert!(!error.message().is_empty());

    let token = scenario.operator.invite("60s").or_fail();
    // The shortest life that the gateway gives; over it, plus a second of rounding.
    std::thread::sleep(Duration::from_secs(62));
    let error = scenario.operator.enroll(&token).expect_err("an expired invite");
    assert!(error.message().contains("invite"), "{error}");
}

fn wrong_code(scenario: &Scenario) {
    let token = scenario.operator.invite("1h").or_fail();
    let error =
        scenario.operator.enroll_with_code(&token, "00000000").expect_err("a code that no node shows");
    assert!(error.message().contains("code"), "{error}");
    for code in ["", "0", "00000000000000000000000000", "abc/../x", "\u{0}"] {
        let status = post_enroll(scenario, &token, code);
        assert!((400..500).contains(&status), "code {code:?}: {status}");
    }
    for body in ["", "{", "[]", "null", "{\"code\":1}", &"a".repeat(TOO_LARGE)] {
        let status = scenario.operator.https("POST", "/v1/node/enroll", &token, body).or_fail();
        assert!((400..500).contains(&status), "body {:?}: {status}", &body[..body.len().min(20)]);
    }
}

fn post_enroll(scenario: &Scenario, token: &str, code: &str) -> u16 {
    let body = serde_json::json!({"code": code, "token": token, "node_ip": "127.0.0.2"}).to_string();
    scenario.operator.https("POST", "/v1/node/enroll", token, &body).or_fail()
}

fn enrollment_port_survives_nonsense(scenario: &Scenario) {
    let network = scenario.network();
    let address = node::enrollment();
    // Each may be refused or dropped; none may be taken, and the port must answer afterwards.
    for bytes in nonsense("/v1/agent/enroll/complete") {
        if let Ok(answer) = exchange(network, address, &bytes, node::PATIENCE) {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            assert!((400..500).contains(&answer.status), "{start:?} was answered {}", answer.status);
        }
    }
    let post = Request { method: "POST", path: "/", headers: &[], body: b"{}" };
    let status = send(network, address, &post, node::PATIENCE).or_fail().status;
    assert!((400..500).contains(&status), "POST / on port 9999: {status}");
    assert!(node::registration_code(network).or_fail().is_some(), "port 9999 does not answer any more");
}

fn used_invite_and_second_enrollment(scenario: &Scenario, token: &str, code: &str) {
    let again = scenario.operator.enroll(token).expect_err("an enrolled node");
    assert!(!again.message().is_empty());
    assert!(matches!(post_enroll(scenario, token, code), 401 | 429), "a used invite");
    let fresh = scenario.operator.invite("1h").or_fail();
    let status = post_enroll(scenario, &fresh, code);
    assert!((400..500).contains(&status), "the code of an enrolled node: {status}");
}

fn agent_wants_its_token(scenario: &Scenario, enrolled: &Enrolled) {
    let network = scenario.network();
    let address = node::agent(enrolled.address);
    let wrong = format!("Bearer {}", "0".repeat(64));
    let authorizations: [&[(&str, &str)]; 5] = [
        &[],
        &[("Authorization", &wrong)],
        &[("Authorization", "Bearer ")],
        &[("Authorization", "Basic AAAA")],
        &[("Authorization", "Bearer \u{e4}\u{f6}")],
    ];
    let requests = [
        ("GET", "/v1/agent/status"),
        ("GET", "/v1/agent/logs"),
        ("GET", "/v1/agent/health"),
        ("POST", "/v1/agent/command"),
    ];
    for headers in authorizations {
        for (method, path) in requests {
            let body: &[u8] = if method == "POST" { br#"{"action":"poweroff"}"# } else { b"" };
            let answer = send(network, address, &Request { method, path, headers, body }, node::PATIENCE);
            // A header that is not text may end the connection as well.
            if let Ok(answer) = answer {
                assert!(
                    matches!(answer.status, 400 | 401),
                    "{method} {path} with {headers:?}: {}",
                    answer.status
                );
            }
        }
    }
    for bytes in nonsense("/v1/agent/command") {
        if let Ok(answer) = exchange(network, address, &bytes, node::PATIENCE) {
            assert!((400..500).contains(&answer.status), "nonsense was answered {}", answer.status);
        }
    }
    assert!(node::is_closed(network, node::public_agent()), "the agent answers on its public address");
}

fn gateway_wants_its_key(scenario: &Scenario, enrolled: &Enrolled) {
    let wrong = "0".repeat(64);
    let status = format!("/v1/node/status?node_id={}", enrolled.node_id);
    let logs = format!("/v1/node/logs?node_id={}&service=agent", enrolled.node_id);
    let command = format!("/v1/node/command?node_id={}", enrolled.node_id);
    let leave = serde_json::json!({"node_id": enrolled.node_id}).to_string();
    let calls = [
        ("GET", status.as_str(), ""),
        ("GET", &logs, ""),
        ("POST", &command, r#"{"action":"poweroff"}"#),
        ("POST", "/v1/node/leave", &leave),
        ("POST", "/v1/node/invite", r#"{"expiry_seconds":3600}"#),
        ("GET", "/v1/fleet/report", ""),
    ];
    for key in ["", "0000", &wrong] {
        for (method, path, body) in calls {
            let status = scenario.operator.https(method, path, key, body).or_fail();
            // 429 once there were too many wrong keys in a minute.
            assert!(matches!(status, 401 | 429), "{method} {path}: {status}");
        }
    }
}

/// Requests that no decent client sends.
fn nonsense(path: &str) -> Vec<Vec<u8>> {
    let mut oversized =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {TOO_LARGE}\r\n\r\n").into_bytes();
    oversized.resize(oversized.len() + TOO_LARGE, b'a');
    let mut long_header = b"GET / HTTP/1.1\r\nHost: x\r\nX: ".to_vec();
    long_header.resize(long_header.len() + 300 * 1024, b'a');
    long_header.extend_from_slice(b"\r\n\r\n");
    vec![
        b"\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n").into_bytes(),
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{\"action\"")
            .into_bytes(),
        format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", "/a".repeat(40_000)).into_bytes(),
        long_header,
        oversized,
    ]
}

/// Addresses that the scenario relies on being different.
#[test]
fn public_and_overlay_addresses_differ() {
    let overlay: SocketAddr = node::agent("10.0.0.2".parse().or_fail());
    assert_ne!(overlay, node::public_agent());
}
