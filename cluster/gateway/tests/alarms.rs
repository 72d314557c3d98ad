//! What guardians hold down reaches the operator, and the operator's answer reaches the guardians.

mod harness;

use harness::agent::FakeAgent;
use harness::node::AGENT_TOKEN;
use harness::{Gateway, eventually, public_key};
use orama_protocol::mesh_control::MeshPeer;
use orama_protocol::{GUARDIAN_PORT, Redacted};
use serde_json::{Value, json};

const TOKEN: &str = "a token of a guardian";

/// A gateway with three guardians, two of which it may ask; the node's key is asked for from a new address.
async fn cluster() -> (Gateway, [FakeAgent; 3]) {
    let mut gateway = Gateway::start().await;
    gateway.stop().await;
    gateway.add_node(4, AGENT_TOKEN);
    let mut guardians = vec![];
    for last in [11, 12, 13] {
        let node_id = format!("node-{}", gateway.overlay(last));
        if last != 13 {
            assert!(gateway.registry().set_guardian_token(&node_id, &Redacted::new(TOKEN.into())).unwrap());
        }
        let guardian = FakeAgent::start(gateway.overlay(last), GUARDIAN_PORT).await;
        guardian.answers(200, says(&gateway, true).to_string());
        guardians.push(guardian);
    }
    gateway.run().await;
    (gateway, guardians.try_into().ok().unwrap())
}

/// One answer for all requests: what is held, and that a decision was carried out.
fn says(gateway: &Gateway, durable: bool) -> Value {
    let (owner, wg_ip) = ("a".repeat(64), gateway.overlay(4).to_string());
    json!({
        "holds": [{
            "owner": owner, "wg_ip": wg_ip, "address": "198.51.100.7", "usual_wg_ip": wg_ip,
            "usual_address": "203.0.113.4", "state": "held", "since": "2026-01-01T00:00:00Z",
            "until": "2026-01-01T00:10:00Z", "reason": "", "requests": 2
        }],
        "old_headers": [],
        "owners": [{ "owner": owner, "wg_ip": wg_ip, "present": false, "seen": null }],
        "status": "done", "durable": durable
    })
}

/// Decisions that a guardian heard since it was asked last, with their credentials.
fn decisions(guardian: &FakeAgent) -> Vec<(String, Value)> {
    let posts = guardian.heard().into_iter().filter(|[method, ..]| method == "POST");
    posts.map(|[_, _, token, body]| (token, serde_json::from_str(&body).unwrap())).collect()
}

#[actix_web::test]
async fn a_held_key_is_an_alarm_and_an_approval_goes_to_the_guardians() {
    let (mut gateway, guardians) = cluster().await;
    let node_id = format!("node-{}", gateway.overlay(4));
    let alarms = eventually("the alarm", async || {
        let (status, body) = gateway.get("/v1/node/alarms").await;
        assert_eq!(status, 200, "{body}");
        body["alarms"].as_array().filter(|alarms| !alarms.is_empty()).cloned()
    })
    .await;
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(
        alarms[0]["text"],
        format!(
            "{node_id} asks for its key from 198.51.100.7 (usually 203.0.113.4), held at 2 of 2 guardians until \
             2026-01-01T00:10:00Z: was this you? orama node approve {node_id} | orama node revoke {node_id}"
        )
    );
    assert_eq!(gateway.report().await.alarms[0].node_id, node_id);

    let (status, body) = gateway.post("/v1/node/approve", json!({ "node_id": node_id })).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("approved")), "{body}");
    assert_eq!(body["guardians"].as_array().unwrap().len(), 2, "{body}");
    for guardian in &guardians[..2] {
        let expected = json!({ "owner": "a".repeat(64), "decision": "approve", "address": "198.51.100.7" });
        assert_eq!(decisions(guardian), [(format!("Bearer {TOKEN}"), expected)]);
    }
    assert!(guardians[2].heard().is_empty(), "a guardian whose token is not known is not asked");
    let (status, body) = gateway.post("/v1/node/approve", json!({ "node_id": "node-10.9.9.9" })).await;
    assert_eq!(status, 404, "{body}");
    for guardian in &guardians[..2] {
        let mut quiet = says(&gateway, true);
        quiet["holds"] = json!([]);
        guardian.answers(200, quiet.to_string());
    }
    let (status, body) = gateway.post("/v1/node/approve", json!({ "node_id": node_id })).await;
    assert_eq!(status, 409, "{body}");
    // Looking for it was news: the alarm is over.
    assert!(gateway.report().await.alarms.is_empty());
    gateway.stop().await;
}

#[actix_web::test]
async fn a_revoked_node_is_out_at_once_and_every_guardian_is_told_until_it_confirms() {
    let (mut gateway, guardians) = cluster().await;
    let wg_ip = gateway.overlay(4);
    gateway.mesh.insert(MeshPeer {
        public_key: public_key(4),
        endpoint: None,
        allowed_ips: vec![format!("{wg_ip}/32")],
        keepalive_seconds: 0,
    });
    let node_id = format!("node-{wg_ip}");
    guardians[1].answers(200, says(&gateway, false).to_string());
    let (status, body) = gateway.post("/v1/node/revoke", json!({ "node_id": node_id })).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("revoked")), "{body}");
    let done: Vec<bool> =
        body["guardians"].as_array().unwrap().iter().map(|answer| answer["done"] == true).collect();
    assert_eq!(done, [true, false], "{body}");
    assert!(gateway.mesh.peers().iter().all(|peer| peer.public_key != public_key(4)));
    assert!(gateway.report_of(&node_id).await.is_none());
    let expected = json!({ "owner": "a".repeat(64), "decision": "revoke" });
    assert_eq!(decisions(&guardians[0])[0].1, expected);

    gateway.stop().await;
    guardians.iter().for_each(|guardian| drop(guardian.heard()));
    guardians[1].answers(200, says(&gateway, true).to_string());
    gateway.run().await;
    eventually("the revocation is told again", async || {
        decisions(&guardians[1]).into_iter().find(|(_, decision)| *decision == expected)
    })
    .await;
    eventually("the confirmation is kept", async || {
        let told = &gateway.registry().revocations().unwrap()[0].told;
        (told.len() == 2).then_some(())
    })
    .await;
    assert!(decisions(&guardians[0]).is_empty(), "it has confirmed");
    gateway.stop().await;
}
