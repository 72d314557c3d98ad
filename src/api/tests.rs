//! The routes with a registry whose actors were never started: what is refused must be refused without them.

use actix_web::http::{Method, StatusCode};
use actix_web::{App, test};
use sha2::{Digest, Sha256};

use super::*;

const ROUTES: [(&str, &str); 6] = [
    ("GET", "/v1/agent/status"),
    ("GET", "/v1/agent/health"),
    ("POST", "/v1/agent/command"),
    ("GET", "/v1/agent/logs"),
    ("POST", "/v1/agent/unlock"),
    ("GET", "/v1/agent/genesis-key"),
];

fn node() -> Node {
    Node { registry: Registry::default(), log: AgentLog::default(), version: "1.0.0".into(), slot: 'a' }
}

async fn call(node: &Node, method: &str, path: &str, token: Option<&str>, body: &str) -> (StatusCode, serde_json::Value) {
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
    (status, serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{method} {path}: {error}: {body:?}")))
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
