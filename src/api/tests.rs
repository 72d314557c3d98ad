//! The routes with a registry whose actors were never started: what is refused must be refused without them.

use actix_web::http::{Method, StatusCode};
use actix_web::{App, test};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_actors::facts::{ApiToken, Scope};
use orama_policy::{Call, Consequence};
use orama_protocol::refusals::Refusals;
use sha2::{Digest, Sha256};

use super::*;

const TOKEN: &str = "0123456789abcdef";
/// One character more than a service name may have.
const NAME_OVER: usize = 65;

const ROUTES: [(&str, &str); 11] = [
    ("GET", "/v1/agent/status"),
    ("GET", "/v1/agent/health"),
    ("POST", "/v1/agent/command"),
    ("PUT", "/v1/agent/peers"),
    ("GET", "/v1/agent/logs"),
    ("GET", "/v1/agent/refusals"),
    ("GET", "/v1/agent/metrics"),
    ("POST", "/v1/agent/unlock"),
    ("GET", "/v1/agent/genesis-key"),
    ("GET", "/v1/agent/unlock/challenge"),
    ("GET", "/v1/agent/recovery-key"),
];

fn node() -> Node {
    Node { registry: Registry::default(), log: AgentLog::default(), version: "1.0.0".into(), slot: 'a' }
}

async fn call(
    node: &Node,
    method: &str,
    path: &str,
    token: Option<&str>,
    body: &str,
) -> (StatusCode, serde_json::Value) {
    let node = node.clone();
    let app = App::new().wrap(from_fn(check_token)).configure(|config| routes(config, node));
    let app = test::init_service(app).await;
    let mut request = test::TestRequest::with_uri(path)
        .method(Method::from_bytes(method.as_bytes()).unwrap())
        .set_payload(body.to_owned());
    if let Some(token) = token {
        request = request.insert_header(("Authorization", format!("Bearer {token}")));
    }
    let response = test::call_service(&app, request.to_request()).await;
    let status = response.status();
    let body = test::read_body(response).await;
    (
        status,
        serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{method} {path}: {error}: {body:?}")),
    )
}

#[actix_web::test]
async fn nothing_is_answered_without_a_token() {
    let node = node();
    for (method, path) in ROUTES.into_iter().chain([("GET", "/"), ("DELETE", "/v1/agent/status")]) {
        for token in [None, Some(""), Some("0000")] {
            let (status, body) = call(&node, method, path, token, "{}").await;
            assert_eq!(status, 401, "{method} {path} {token:?}");
            assert!(body["error"].is_string());
        }
    }
}

fn node_with_token(scope: Scope) -> Node {
    let node = node();
    let digest = Sha256::digest(TOKEN).into();
    node.registry.facts.set_api_token(ApiToken { digest, scope });
    node
}

async fn check(node: &Node, method: &str, path: &str, body: &str, expect: u16, says: &str) {
    let (status, answer) = call(node, method, path, Some(TOKEN), body).await;
    assert_eq!(status.as_u16(), expect, "{method} {path} {body}: {answer}");
    assert!(answer.to_string().contains(says), "{method} {path} {body}: {answer} does not say {says:?}");
}

#[actix_web::test]
async fn paths_methods_and_bodies_are_checked() {
    let node = node_with_token(Scope::Full);
    check(&node, "GET", "/v1/agent/nothing", "", 404, "no such path").await;
    for (method, path) in ROUTES {
        let other = if method == "GET" { "POST" } else { "GET" };
        check(&node, other, path, "", 405, "not a method").await;
    }
    let command = "/v1/agent/command";
    for (body, says) in [
        ("", "not the JSON"),
        ("{", "not the JSON"),
        ("[]", "not the JSON"),
        (r#"{"service":"rqlite"}"#, "not the JSON"),
        (r#"{"action":"restart"}"#, "needs a service"),
        (r#"{"action":"reload"}"#, "needs a service"),
        (r#"{"action":"reboot","service":"rqlite"}"#, "takes no service"),
        (r#"{"action":"format"}"#, "unknown action `format`"),
    ] {
        check(&node, "POST", command, body, 400, says).await;
    }
    let long = format!(r#"{{"action":"restart","service":"{}"}}"#, "x".repeat(NAME_OVER));
    check(&node, "POST", command, &long, 400, "at most").await;
    let huge = format!(r#"{{"action":"{}"}}"#, "x".repeat(BODY_LIMIT_BYTES));
    check(&node, "POST", command, &huge, 413, "over 65536 bytes").await;
}

#[actix_web::test]
async fn log_names_come_from_the_list_and_lines_are_capped() {
    let node = node_with_token(Scope::ReadOnly);
    for line in 0..1500 {
        node.log.push(format!("line {line}"));
    }
    for name in ["../agent", "AGENT", "mkfs", "", "agent%00"] {
        check(&node, "GET", &format!("/v1/agent/logs?service={name}"), "", 400, "service must be one of")
            .await;
    }
    check(&node, "GET", "/v1/agent/logs?lines=-1", "", 400, "query string").await;
    for (query, lines) in [("service=agent", 100), ("service=agent&lines=3", 3), ("lines=5000", 1000)] {
        let (status, body) = call(&node, "GET", &format!("/v1/agent/logs?{query}"), Some(TOKEN), "").await;
        assert_eq!(status, 200, "{query}: {body}");
        let text = body["agent"].as_str().unwrap();
        assert_eq!(text.lines().count(), lines, "{query}");
        assert!(text.ends_with("line 1499\n"));
    }
}

#[actix_web::test]
async fn refusals_are_read_by_name_or_all_at_once() {
    let node = node_with_token(Scope::ReadOnly);
    let refusals = node.registry.facts.refusals();
    for (service, domain) in [("rqlite", 16), ("rqlite", 16), ("olric", 17)] {
        refusals.record(service, Call::new(41, [domain, 3, 0, 0, 0, 0]), Consequence::Errno(1));
    }
    let path = "/v1/agent/refusals";
    for name in ["../agent", "agent", "mkfs", "", "rqlite%00"] {
        check(&node, "GET", &format!("{path}?service={name}"), "", 400, "service must be one of").await;
    }
    for (query, services) in [
        ("", vec!["olric", "rqlite"]),
        ("?service=all", vec!["olric", "rqlite"]),
        ("?service=olric", vec!["olric"]),
    ] {
        let (status, body) = call(&node, "GET", &format!("{path}{query}"), Some(TOKEN), "").await;
        assert_eq!(status, 200, "{body}");
        let answer: Refusals = serde_json::from_value(body).unwrap();
        let named: Vec<&str> = answer.refusals.iter().map(|refusal| &*refusal.service).collect();
        assert_eq!(named, services, "{query}");
    }
    let (_, body) = call(&node, "GET", &format!("{path}?service=rqlite"), Some(TOKEN), "").await;
    let seen = &body["refusals"][0];
    assert_eq!((&seen["syscall"], &seen["count"]), (&"socket".into(), &2.into()), "{body}");
    assert_eq!(seen["action"], "errno EPERM");
    check(&node, "GET", &format!("{path}?service=gateway"), "", 200, r#""refusals":[]"#).await;
}

#[actix_web::test]
async fn metrics_are_text_with_bounded_labels() {
    let node = node_with_token(Scope::ReadOnly);
    for number in 0..10_000 {
        let refusals = node.registry.facts.refusals();
        refusals.record("rqlite", Call::new(number, [0; 6]), Consequence::Killed);
    }
    let app = App::new().wrap(from_fn(check_token)).configure(|config| routes(config, node.clone()));
    let app = test::init_service(app).await;
    let request = test::TestRequest::with_uri("/v1/agent/metrics")
        .insert_header(("Authorization", format!("Bearer {TOKEN}")));
    let response = test::call_service(&app, request.to_request()).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers().get("content-type").unwrap(), "text/plain; version=0.0.4; charset=utf-8");
    let text = String::from_utf8(test::read_body(response).await.to_vec()).unwrap();
    for line in [
        "orama_agent_info{version=\"1.0.0\"} 1",
        "orama_node_phase{phase=\"starting\"} 1",
        "# TYPE orama_service_refusals_total counter",
        "orama_service_refusals_total{service=\"rqlite\",syscall=\"socket\",action=\"killed\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in {text}");
    }
    let other = "syscall=\"other\",action=\"killed\"} 9872";
    assert!(text.contains(other), "what has no counter of its own is counted together");
    assert!(text.lines().count() < 200, "{}", text.lines().count());
}

#[actix_web::test]
async fn before_the_volume_is_open_nothing_can_be_changed() {
    let node = node_with_token(Scope::ReadOnly);
    for action in ["restart", "stop", "reload", "reboot", "poweroff", "start"] {
        let body = format!(r#"{{"action":"{action}"}}"#);
        check(&node, "POST", "/v1/agent/command", &body, 503, "volume is not open").await;
    }
}

#[actix_web::test]
async fn lists_of_peers_are_bounded_and_need_an_open_volume() {
    let peers = "/v1/agent/peers";
    let list = r#"{"revision":1,"peers":[]}"#;
    check(&node_with_token(Scope::ReadOnly), "PUT", peers, list, 503, "volume is not open").await;
    let node = node_with_token(Scope::Full);
    check(&node, "PUT", peers, r#"{"peers":[]}"#, 400, "missing field `revision`").await;
    check(&node, "PUT", peers, r#"{"revision":-1,"peers":[]}"#, 400, "not the JSON").await;
    check(&node, "PUT", peers, list, 503, "not running").await;
    // Larger than other bodies may be, and not too large.
    let filled = format!("{}{list}", " ".repeat(2 * BODY_LIMIT_BYTES));
    check(&node, "PUT", peers, &filled, 503, "not running").await;
    let huge = format!("{}{list}", " ".repeat(4 * BODY_LIMIT_BYTES));
    check(&node, "PUT", peers, &huge, 413, "over 262144 bytes").await;
}

#[actix_web::test]
async fn what_is_no_key_or_no_answer_of_an_owner_is_refused() {
    let node = node_with_token(Scope::Full);
    let unlock = "/v1/agent/unlock";
    check(&node, "POST", unlock, "{}", 400, "not the JSON").await;
    check(&node, "POST", unlock, r#"{"key":"!"}"#, 400, "not base64").await;
    check(&node, "POST", unlock, r#"{"key":"AAAA"}"#, 400, "3 bytes instead of 32").await;
    let key = STANDARD.encode([7; 32]);
    let with = |rest: &str| format!(r#"{{"key":"{key}"{rest}}}"#);
    check(&node, "POST", unlock, &with(r#","challenge":"00""#), 400, "64 lowercase hex").await;
    let challenge = "0a".repeat(32);
    let unsigned = with(&format!(r#","challenge":"{challenge}","signature":"0x12""#));
    check(&node, "POST", unlock, &unsigned, 400, "signature").await;
}

#[actix_web::test]
async fn an_actor_that_is_not_there_is_said_and_not_a_crash() {
    let node = node_with_token(Scope::Full);
    for (method, path, body) in [
        ("GET", "/v1/agent/status", ""),
        ("GET", "/v1/agent/health", ""),
        ("GET", "/v1/agent/logs?service=rqlite", ""),
        ("POST", "/v1/agent/command", r#"{"action":"restart","service":"rqlite"}"#),
        ("POST", "/v1/agent/command", r#"{"action":"stop"}"#),
        ("GET", "/v1/agent/genesis-key", ""),
    ] {
        check(&node, method, path, body, 503, "not running").await;
    }
}
