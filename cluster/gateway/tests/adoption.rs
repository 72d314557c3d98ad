//! A cluster that began with a node of its owner's wallet: the gateway takes it over, and the wallet keeps the keys of
//! those who join until there are enough guardians among them.

mod harness;

use actix_web::http::StatusCode;
use futures_util::future::join;
use harness::member::{Member, split};
use harness::node::AGENT_TOKEN;
use harness::{FakeNode, Gateway, Setting, eventually, public_key, read};
use serde_json::{Value, json};

/// A gateway without any guardian, in an overlay on loopback.
async fn lonely() -> Gateway {
    Gateway::start_with(Setting { guardians: 0, ..Setting::default() }).await
}

fn owner() -> String {
    format!("04{}", "5a".repeat(64))
}

fn adoption(gateway: &Gateway, last: u8, key: u8) -> Value {
    let wg_ip = gateway.overlay(last);
    json!({
        "node_id": format!("node-{wg_ip}"), "wg_ip": wg_ip, "network": format!("{}/24", gateway.overlay(0)),
        "public_key": public_key(key), "endpoint": "192.0.2.7:51820", "agent_token": AGENT_TOKEN,
        "owner_public_key": owner(), "operator_address": gateway.overlay(3),
    })
}

fn wish() -> Value {
    json!({ "statement": "a text\nof two lines", "signature": "ab" })
}

async fn enroll_with_recovery(gateway: &Gateway, code: &str, invite: &str) -> (StatusCode, Value) {
    let body = json!({ "code": code, "token": invite, "node_ip": "203.0.113.7", "recovery": wish() });
    let sent = gateway.client.post(gateway.url("/v1/node/enroll")).send_json(&body).await;
    read(sent.unwrap()).await
}

#[actix_web::test]
async fn an_adopted_node_is_one_like_others() {
    let gateway = lonely().await;
    let member = Member::start(gateway.overlay(2), gateway.config.agent.port).await;
    member.has_guardian();
    let (status, body) = gateway.post("/v1/node/adopt", adoption(&gateway, 2, 2)).await;
    assert_eq!((status.as_u16(), &body["status"]), (200, &json!("adopted")), "{body}");
    let peers = body["list"]["peers"].as_array().unwrap();
    assert_eq!(peers.len(), 1, "the gateway's own host: {body}");
    assert_eq!((&peers[0]["endpoint"], &peers[0]["guardian"]), (&json!("10.0.2.2:51821"), &json!(false)));
    let peer = gateway.mesh.peers().pop().expect("a WireGuard peer");
    assert_eq!((peer.public_key, peer.endpoint), (public_key(2), Some("192.0.2.7:51820".into())));
    // What the command tells the node is not told again; that its guardian works raises the revision.
    eventually("its guardian is known", async || {
        gateway.registry().nodes().unwrap().first().filter(|node| node.guardian).map(drop)
    })
    .await;
    assert!(gateway.report_of(&format!("node-{}", gateway.overlay(2))).await.unwrap().healthy);

    // The same again, moved to another address; another node at its place; its key at another place.
    let mut moved = adoption(&gateway, 2, 2);
    moved["endpoint"] = json!("192.0.2.8:51820");
    assert_eq!(gateway.post("/v1/node/adopt", moved).await.0, 200);
    assert_eq!(gateway.mesh.peers()[0].endpoint, Some("192.0.2.8:51820".into()));
    for (last, key) in [(2, 9), (4, 2), (1, 9)] {
        let (status, body) = gateway.post("/v1/node/adopt", adoption(&gateway, last, key)).await;
        assert_eq!(status, 409, "{body}");
    }
    let mut other = adoption(&gateway, 4, 4);
    other["owner_public_key"] = json!(format!("04{}", "5b".repeat(64)));
    let (status, body) = gateway.post("/v1/node/adopt", other).await;
    assert!(status == 409 && body["error"].as_str().unwrap().contains("another wallet"), "{body}");
    let mut elsewhere = adoption(&gateway, 4, 4);
    elsewhere["network"] = json!("10.9.0.0/24");
    assert_eq!(gateway.post("/v1/node/adopt", elsewhere).await.0, 409);
    assert_eq!(gateway.post("/v1/node/adopt", json!({ "node_id": "x" })).await.0, 400);
    gateway.mesh.refuse(Some("no"));
    assert_eq!(gateway.post("/v1/node/adopt", adoption(&gateway, 4, 4)).await.0, 503);
    assert_eq!(gateway.registry().nodes().unwrap().len(), 1, "nothing was stored on the way");
}

#[actix_web::test]
async fn the_owner_keeps_the_keys_of_those_who_join_before_there_are_guardians() {
    let gateway = lonely().await;
    let mut node = FakeNode::waiting(&gateway, "ABCD2345", 1).await;
    let invite = gateway.invite().await;
    let (status, body) = gateway.enroll("ABCD2345", &invite, "203.0.113.7").await;
    assert!(status == 409 && body["error"].as_str().unwrap().contains("0 guardians"), "{body}");
    assert_eq!(gateway.post("/v1/node/adopt", adoption(&gateway, 2, 2)).await.0, 200);
    let (status, body) = gateway.enroll("ABCD2345", &invite, "203.0.113.7").await;
    assert_eq!(status, 409, "{body}");
    for words in ["only the owner's wallet opens the new node", "orama node enroll --recovery FILE"] {
        assert!(body["error"].as_str().unwrap().contains(words), "{body}");
    }
    assert_eq!(gateway.registry().nodes().unwrap().len(), 1, "nothing was stored");
    // The same invite and the same code, with a recovery file.
    let (answer, ()) = join(enroll_with_recovery(&gateway, "ABCD2345", &invite), node.accept()).await;
    assert_eq!(answer.0, 200, "{}", answer.1);
    let wg_ip = gateway.overlay(4).to_string();
    assert_eq!(answer.1["wg_ip"], json!(wg_ip), "the owner's machine has the one before");
    assert_eq!(serde_json::to_value(node.recovery.take()).unwrap(), wish());
    let config = node.config.take().unwrap();
    assert_eq!(config.owner_public_key, Some(owner()));
    assert!(config.peers.iter().all(|peer| !peer.guardian));
    // With five that keep shares the owner keeps the key for a moment only, and nobody needs a file for that.
    gateway.add_guardian(11);
    gateway.add_guardian(12);
    let mut next = FakeNode::waiting(&gateway, "BBBB2345", 5).await;
    for last in 30..33 {
        assert_eq!(gateway.enroll("BBBB2345", &gateway.invite().await, "203.0.113.8").await.0, 409);
        let node = gateway.add_node(last, "token");
        gateway.registry().mark_guardian(&node).unwrap();
    }
    gateway.enroll_node(&mut next, "BBBB2345", "203.0.113.8").await;
    assert_eq!(next.config.take().unwrap().owner_public_key, Some(owner()));
    // With guardians of their own nobody needs the owner.
    gateway.add_guardian(13);
    let mut next = FakeNode::waiting(&gateway, "CCCC2345", 6).await;
    gateway.enroll_node(&mut next, "CCCC2345", "203.0.113.9").await;
    assert_eq!(next.config.take().unwrap().owner_public_key, None);
}

#[actix_web::test]
async fn the_address_of_a_holder_that_is_gone_is_not_given_to_another_node() {
    let mut gateway = Gateway::start().await;
    gateway.stop().await;
    let gone = gateway.add_node(2, AGENT_TOKEN);
    gateway.add_node(3, AGENT_TOKEN);
    let owner = Member::start(gateway.overlay(3), gateway.config.agent.port).await;
    owner.custody(split(3, &[2, 11, 12, 13].map(|last| gateway.overlay(last))));
    gateway.run().await;
    eventually("its custody is known", async || {
        (!gateway.registry().custody_seen().unwrap().is_empty()).then_some(())
    })
    .await;
    let (status, _) = gateway.post("/v1/node/leave", json!({ "node_id": gone, "force": true })).await;
    assert_eq!(status, 200);
    let mut first = FakeNode::waiting(&gateway, "ABCD2345", 1).await;
    let enrolled = gateway.enroll_node(&mut first, "ABCD2345", "203.0.113.7").await;
    assert_eq!(
        enrolled.wg_ip,
        gateway.overlay(4).to_string(),
        "a share is still said to be at the lowest one"
    );
    owner.custody(split(3, &[11, 12, 13].map(|last| gateway.overlay(last))));
    eventually("its shares have moved", async || {
        let seen = gateway.registry().custody_seen().unwrap();
        seen.values().all(|(_, custody)| custody.holders.len() == 3).then_some(())
    })
    .await;
    let mut second = FakeNode::waiting(&gateway, "BBBB2345", 2).await;
    let enrolled = gateway.enroll_node(&mut second, "BBBB2345", "203.0.113.8").await;
    assert_eq!(enrolled.wg_ip, gateway.overlay(2).to_string());
}
