//! The compatibility mode: an older gateway posts a sealed configuration to port 9999.

mod support;

use std::time::Duration;

use orama_actors::boot::machine::Phase;
use orama_actors::enroll::EnrollMode;
use orama_actors::enroll::sealed_push::Seal;
use support::gateway;
use support::guardians::Guardians;
use support::{Node, Options, power_on};

const SOON: Duration = Duration::from_secs(20);

async fn push(node: &Node, code: &str, body: impl Into<String>) -> (u16, String) {
    let url = format!("http://{}/v1/agent/enroll/complete", node.page);
    let client = awc::Client::default();
    let request = client.post(url).insert_header(("X-Orama-Enrollment-Code", code.to_owned()));
    let sent = request.insert_header(("Content-Type", "text/plain")).send_body(body.into()).await;
    let mut response = sent.unwrap();
    let body = response.body().await.unwrap();
    (response.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
}

/// What a Go gateway marshals: no fields of ours.
fn configuration() -> Vec<u8> {
    let config = gateway::config();
    let peers: Vec<_> = config
        .peers
        .iter()
        .map(|peer| serde_json::json!({"wg_ip": peer.wg_ip, "node_id": peer.node_id}))
        .collect();
    let key = orama_mesh::PrivateKey::generate();
    let line = format!("[Interface]\nPrivateKey = {}", key.to_base64().as_str());
    let object = serde_json::json!({
        "node_id": config.node_id,
        "wireguard_config": config.wireguard_config.replace("[Interface]", &line),
        "cluster_secret": "secret",
        "peers": peers,
    });
    serde_json::to_vec(&object).unwrap()
}

#[actix::test]
async fn an_existing_gateway_enrols_a_node() {
    let guardians = Guardians::start();
    let base = tempfile::tempdir().unwrap();
    let options = Options { mode: EnrollMode::SealedPush, ..Options::without_gateway(guardians.port) };
    let node = power_on(base.path(), options);
    let code = node.code().await;
    assert!(code.len() == 20 && code.bytes().all(|byte| byte.is_ascii_hexdigit()), "{code}");
    for _ in 0..200 {
        if std::net::TcpStream::connect(node.page).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut page = awc::Client::default().get(format!("http://{}/", node.page)).send().await.unwrap();
    assert_eq!(page.status().as_u16(), 404);
    assert!(
        !String::from_utf8_lossy(&page.body().await.unwrap()).contains(&code),
        "the code is on the console only"
    );

    let seal = Seal::from_code(&code);
    let good = seal.close(&configuration()).unwrap();
    assert_eq!(push(&node, "00000000000000000000", good.clone()).await.0, 401);
    assert_eq!(push(&node, &code, "bm90IHNlYWxlZCBhdCBhbGwsIGJ1dCBsb25nIGVub3VnaA==").await.0, 400);
    assert_eq!(push(&node, &code, seal.close(b"{}").unwrap()).await.0, 400);
    let (status, _) = push(&node, &code, "x".repeat(orama_protocol::BODY_LIMIT_BYTES + 1)).await;
    assert_eq!(status, 413);
    assert_eq!(node.registry.facts.node().phase, Phase::Enrolling);

    let (status, answer) = push(&node, &code, good).await;
    assert_eq!(status, 200, "{answer}");
    let answer: serde_json::Value = serde_json::from_slice(&seal.open(&answer).unwrap()).unwrap();
    assert_eq!(answer["status"], "ok");
    assert_eq!(answer["agent_token"].as_str().unwrap().len(), 64);
    node.wait_for(Phase::Running, SOON).await;
}
