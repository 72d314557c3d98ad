//! Enrollment over real TLS and WebSockets, with scripted nodes and a scripted owner of the mesh.

mod harness;

use actix_ws::{Item, Message};
use futures_util::future::join;
use harness::node::{AGENT_TOKEN, hello};
use harness::{FakeNode, Gateway, Setting, eventually, public_key, read};
use orama_gateway::registry::NodeKey;
use orama_gateway::token;
use orama_protocol::Redacted;
use orama_protocol::enroll::{GatewayMessage, NodeMessage};
use orama_protocol::mesh_control::MeshPeer;
use serde_json::json;

const CODE: &str = "ABCD2345";

#[actix_web::test]
async fn a_node_is_enrolled_from_hello_to_confirmed() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    let (answer, ()) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), node.accept()).await;

    // The lowest free address: .1 is the gateway, the guardians begin at .11.
    let wg_ip = gateway.overlay(2).to_string();
    let node_id = format!("node-{wg_ip}");
    assert_eq!(answer.0, 200, "{}", answer.1);
    assert_eq!(answer.1, json!({ "status": "enrolled", "node_id": node_id, "wg_ip": wg_ip }));

    let config = node.config.take().unwrap();
    assert_eq!(config.node_id, node_id);
    assert!(token::well_formed(&config.cluster_secret));
    let [host, guardians] = [gateway.overlay(1), gateway.overlay(11)].map(|address| address.to_string());
    let own = public_key(harness::mesh::OWN);
    // The guardians sit behind the gateway host's own key, so all are one peer, reached where the gateway is.
    assert_eq!(
        config.wireguard_config,
        format!(
            "[Interface]\nAddress = {wg_ip}/24\nListenPort = 51820\n\n[Peer]\nPublicKey = {own}\n\
             Endpoint = 10.0.2.2:51821\nAllowedIPs = {host}/32, {guardians}/32, {}/32, {}/32\n\
             PersistentKeepalive = 25\n",
            gateway.overlay(12),
            gateway.overlay(13)
        )
    );
    let guardians: Vec<bool> = config.peers.iter().map(|peer| peer.guardian).collect();
    assert_eq!(guardians, [false, true, true, true]);

    let peer = MeshPeer {
        public_key: public_key(1),
        endpoint: Some("203.0.113.7:51820".into()),
        allowed_ips: vec![format!("{wg_ip}/32")],
        keepalive_seconds: 25,
    };
    assert_eq!(gateway.mesh.peers(), [peer]);
    let row = gateway.registry().node(&NodeKey::Id(node_id.clone())).unwrap().unwrap();
    assert_eq!(row.agent_token.unwrap().expose(), AGENT_TOKEN);
    assert_eq!(row.confirmed_at, None);

    node.progress("formatting the volume").await;
    let report = eventually("the step is reported", async || {
        gateway.report_of(&node_id).await.filter(|report| report.detail == "formatting the volume")
    });
    assert_eq!(report.await.phase, "enrolling");
    node.say(NodeMessage::Provisioned).await;
    assert_eq!(node.closed().await, "enrolled");
    let row = gateway.registry().node(&NodeKey::Id(node_id)).unwrap().unwrap();
    assert!(row.confirmed_at.is_some());

    // A second enrollment: neither the invite nor the code is good for another.
    let (status, body) = gateway.enroll(CODE, &invite, "203.0.113.7").await;
    assert_eq!((status.as_u16(), body), (401, json!({ "error": "the invite token was already used" })));
    let (status, body) = gateway.enroll(CODE, &gateway.invite().await, "203.0.113.7").await;
    assert_eq!((status.as_u16(), body), (404, json!({ "error": "no node is waiting with this code" })));

    // The next node gets the next address and knows the first one.
    let mut next = FakeNode::waiting(&gateway, "ZZZZ2345", 2).await;
    let enrolled = gateway.enroll_node(&mut next, "ZZZZ2345", "203.0.113.8").await;
    assert_eq!(enrolled.wg_ip, gateway.overlay(3).to_string());
    let text = next.config.unwrap().wireguard_config;
    assert!(text.contains(&format!("Endpoint = 203.0.113.7:51820\nAllowedIPs = {wg_ip}/32\n")), "{text}");
}

async fn handout(gateway: &Gateway, invite: &str) -> (u16, serde_json::Value) {
    let sent = gateway.client.get(gateway.url("/v1/node/enroll/recovery")).bearer_auth(invite).send().await;
    let (status, body) = read(sent.unwrap()).await;
    (status.as_u16(), body)
}

#[actix_web::test]
async fn a_recovery_key_goes_from_the_node_to_whoever_has_the_invite() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    assert_eq!(handout(&gateway, &invite).await, (200, json!({ "state": "none" })));
    let wish = json!({ "statement": "a text\nof two lines", "signature": "ab" });
    let body = json!({ "code": CODE, "token": invite, "node_ip": "203.0.113.7", "recovery": wish });
    let asked = gateway.client.post(gateway.url("/v1/node/enroll")).send_json(&body);
    let (answer, ()) = join(asked, node.accept()).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(serde_json::to_value(node.recovery.take()).unwrap(), wish, "passed on as it came");
    assert_eq!(handout(&gateway, &invite).await, (200, json!({ "state": "waiting" })));
    assert_eq!(handout(&gateway, &gateway.invite().await).await.1, json!({ "state": "none" }));

    node.say(NodeMessage::Recovery { answer: "5ea1ed".into() }).await;
    assert!(matches!(node.hear().await, Some(GatewayMessage::RecoveryKept)));
    node.say(NodeMessage::Provisioned).await;
    assert_eq!(node.closed().await, "enrolled");
    // Also a second time: the first answer may have been lost.
    for _ in 0..2 {
        let expected = json!({ "state": "there", "answer": "5ea1ed" });
        assert_eq!(handout(&gateway, &invite).await, (200, expected));
    }
}

#[actix_web::test]
async fn a_recovery_key_that_nobody_asked_for_ends_the_socket_and_a_failure_is_told() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    gateway.enroll_node(&mut node, CODE, "203.0.113.7").await;
    node.say(NodeMessage::Recovery { answer: "5ea1ed".into() }).await;
    assert_eq!(node.closed().await, "nobody asked for this recovery key");

    let mut node = FakeNode::waiting(&gateway, "ZZZZ2345", 2).await;
    let invite = gateway.invite().await;
    let wish = json!({ "statement": "s", "signature": "s" });
    let body = json!({ "code": "ZZZZ2345", "token": invite, "node_ip": "203.0.113.7", "recovery": wish });
    let asked = gateway.client.post(gateway.url("/v1/node/enroll")).send_json(&body);
    let (answer, ()) = join(asked, node.accept()).await;
    assert_eq!(answer.unwrap().status(), 200);
    node.say(NodeMessage::Failed { reason: "the disk is gone".into() }).await;
    let told = eventually("the failure is told", async || {
        Some(handout(&gateway, &invite).await.1).filter(|shown| shown["state"] == "failed")
    });
    assert_eq!(told.await["why"], "the disk is gone");
}

#[actix_web::test]
async fn a_key_that_is_known_already_is_refused() {
    let gateway = Gateway::start().await;
    gateway.add_node(5, AGENT_TOKEN);
    for key in [harness::mesh::OWN, 5] {
        let _node = FakeNode::waiting(&gateway, CODE, key).await;
        let invite = gateway.invite().await;
        let (status, body) = gateway.enroll(CODE, &invite, "203.0.113.7").await;
        assert_eq!(status, 409, "{body}");
        assert_usable(&gateway, &invite);
    }
}

#[actix_web::test]
async fn a_node_with_another_key_than_the_operator_saw_is_refused() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    let url = gateway.url("/v1/node/enroll");
    let request = |key: u8| {
        let key = public_key(key);
        let body =
            json!({ "code": CODE, "token": invite, "node_ip": "203.0.113.7", "wireguard_public_key": key });
        gateway.client.post(&url).send_json(&body)
    };
    assert_eq!(request(2).await.unwrap().status(), 409);
    assert_usable(&gateway, &invite);
    // An aborted socket is closed; the honest node comes again and its own key is welcome.
    drop(node);
    node = FakeNode::waiting(&gateway, CODE, 1).await;
    assert_eq!(join(request(1), node.accept()).await.0.unwrap().status(), 200);
}

#[actix_web::test]
async fn wrong_expired_used_and_contradicting_invites() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let wrong = "ab".repeat(32);
    let expired = token::generate().unwrap();
    gateway.registry().add_invite(&token::digest(&expired), "test", 1, 0).unwrap();
    for (invite, why) in [
        (wrong.as_str(), "the invite token is not known to this gateway"),
        ("x", "the invite token is not known to this gateway"),
        (expired.expose(), "the invite token has expired"),
    ] {
        let (status, body) = gateway.enroll(CODE, invite, "203.0.113.7").await;
        assert_eq!((status.as_u16(), body), (401, json!({ "error": why })));
    }

    let invite = gateway.invite().await;
    let url = gateway.url("/v1/node/enroll");
    let body = |token: Option<&str>| match token {
        Some(token) => json!({ "code": CODE, "token": token, "node_ip": "203.0.113.7" }),
        None => json!({ "code": CODE, "node_ip": "203.0.113.7" }),
    };
    // Header and body must agree, whichever of them is good.
    for (header, in_body) in [(&wrong, &invite), (&invite, &wrong)] {
        let sent = gateway.client.post(&url).bearer_auth(header).send_json(&body(Some(in_body))).await;
        assert_eq!(read(sent.unwrap()).await.0, 401);
    }
    // None at all, and none in a body that is not even JSON.
    assert_eq!(read(gateway.client.post(&url).send_json(&body(None)).await.unwrap()).await.0, 401);
    assert_eq!(read(gateway.client.post(&url).send_body("{").await.unwrap()).await.0, 401);
    assert_usable(&gateway, &invite);

    // In the header alone; the next one in the body alone.
    let sent = gateway.client.post(&url).bearer_auth(&invite).send_json(&body(None));
    assert_eq!(join(sent, node.accept()).await.0.unwrap().status(), 200);
    let mut node = FakeNode::waiting(&gateway, CODE.replace('A', "B").as_str(), 2).await;
    let invite = gateway.invite().await;
    let body = json!({ "code": CODE.replace('A', "B"), "token": invite, "node_ip": "203.0.113.7" });
    assert_eq!(
        join(gateway.client.post(&url).send_json(&body), node.accept()).await.0.unwrap().status(),
        200
    );
}

#[actix_web::test]
async fn bad_requests_do_not_spend_the_invite() {
    let gateway = Gateway::start().await;
    let invite = gateway.invite().await;
    for (code, address, expected) in [
        (CODE, "203.0.113.7", 404),
        ("abcd2345", "203.0.113.7", 400),
        ("", "203.0.113.7", 400),
        (CODE, "::1", 400),
        (CODE, "node.example", 400),
        (CODE, "0.0.0.0", 400),
        (CODE, "255.255.255.255", 400),
    ] {
        let (status, body) = gateway.enroll(code, &invite, address).await;
        assert_eq!(status, expected, "{code} {address}: {body}");
    }
    let url = gateway.url("/v1/node/enroll");
    let sent = gateway.client.post(url).bearer_auth(&invite).send_body("{\"code\":").await.unwrap();
    assert_eq!(read(sent).await.0, 400);
    assert_usable(&gateway, &invite);
}

#[actix_web::test]
async fn two_guardians_are_not_enough_and_no_mesh_is_none() {
    let gateway = Gateway::start_with(Setting { guardians: 2, ..Setting::default() }).await;
    let _node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    let (status, body) = gateway.enroll(CODE, &invite, "203.0.113.7").await;
    assert_eq!(status, 409);
    assert!(body["error"].as_str().unwrap().contains("2 guardians"), "{body}");
    assert_usable(&gateway, &invite);

    let gateway = Gateway::start_with(Setting { mesh: false, ..Setting::default() }).await;
    let _node = FakeNode::waiting(&gateway, CODE, 1).await;
    let (status, body) = gateway.enroll(CODE, &gateway.invite().await, "203.0.113.7").await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("mesh"), "{body}");
}

#[actix_web::test]
async fn of_two_operators_with_one_invite_exactly_one_wins() {
    let gateway = Gateway::start().await;
    let mut one = FakeNode::waiting(&gateway, "AAAA2345", 1).await;
    let mut two = FakeNode::waiting(&gateway, "BBBB2345", 2).await;
    let invite = gateway.invite().await;
    let requests = join(
        gateway.enroll("AAAA2345", &invite, "203.0.113.1"),
        gateway.enroll("BBBB2345", &invite, "203.0.113.2"),
    );
    // Only one of the nodes is ever asked: whichever it is ends the play.
    let nodes = futures_util::future::select(Box::pin(one.accept()), Box::pin(two.accept()));
    let ((first, second), _) = join(requests, nodes).await;
    let mut statuses = [first.0.as_u16(), second.0.as_u16()];
    statuses.sort();
    assert_eq!(statuses, [200, 401], "{} {}", first.1, second.1);
    assert_eq!(gateway.mesh.peers().len(), 1);
}

#[actix_web::test]
async fn of_two_operators_with_one_node_exactly_one_wins() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let (one, two) = (gateway.invite().await, gateway.invite().await);
    let requests = join(gateway.enroll(CODE, &one, "203.0.113.1"), gateway.enroll(CODE, &two, "203.0.113.1"));
    let ((first, second), ()) = join(requests, node.accept()).await;
    let mut statuses = [first.0.as_u16(), second.0.as_u16()];
    statuses.sort();
    assert_eq!(statuses, [200, 409], "{} {}", first.1, second.1);
    let loser = if first.0 == 200 { two } else { one };
    assert_usable(&gateway, &loser);
}

#[actix_web::test]
async fn a_node_that_refuses_keeps_waiting_and_the_invite_stays_good() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    let refusal = async {
        node.configured().await;
        node.say(NodeMessage::Refused { reason: "peer 3 has no key".into() }).await;
    };
    let ((status, body), ()) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), refusal).await;
    assert_eq!(status, 502);
    assert!(body["error"].as_str().unwrap().ends_with("peer 3 has no key"), "{body}");
    assert_usable(&gateway, &invite);
    assert!(gateway.mesh.peers().is_empty());
    // Same socket, same invite, same address.
    let ((status, body), ()) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), node.accept()).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["wg_ip"], gateway.overlay(2).to_string());
}

#[actix_web::test]
async fn a_node_that_dies_in_the_middle_costs_nothing() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    let death = async move {
        node.configured().await;
        drop(node);
    };
    let ((status, body), ()) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), death).await;
    assert_eq!(status, 502, "{body}");
    assert_usable(&gateway, &invite);
    assert!(gateway.registry().nodes().unwrap().iter().all(|node| node.public_key != public_key(1)));
    // Its code is free again, and so is the address.
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let ((status, body), ()) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), node.accept()).await;
    assert_eq!((status.as_u16(), &body["wg_ip"]), (200, &json!(gateway.overlay(2).to_string())), "{body}");
}

#[actix_web::test]
async fn a_malformed_agent_token_ends_the_attempt() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    let play = async {
        node.configured().await;
        node.say(NodeMessage::Accepted { agent_token: Redacted::new("00FF".into()) }).await;
        assert!(matches!(node.hear().await, Some(GatewayMessage::Aborted { .. })));
        node.closed().await
    };
    let ((status, body), _) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), play).await;
    assert_eq!(status, 502, "{body}");
    assert_usable(&gateway, &invite);
}

#[actix_web::test]
async fn a_mesh_that_is_away_or_refuses_undoes_the_attempt() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let invite = gateway.invite().await;
    gateway.mesh.refuse(Some("no such device"));
    let play = async {
        node.configured().await;
        node.say(NodeMessage::Accepted { agent_token: Redacted::new(AGENT_TOKEN.into()) }).await;
        node.hear().await
    };
    let ((status, body), heard) = join(gateway.enroll(CODE, &invite, "203.0.113.7"), play).await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("no such device"), "{body}");
    assert!(matches!(heard, Some(GatewayMessage::Aborted { reason }) if reason.contains("no such device")));
    assert_usable(&gateway, &invite);

    gateway.mesh.vanish();
    let _node = FakeNode::waiting(&gateway, "BBBB2345", 1).await;
    let (status, body) = gateway.enroll("BBBB2345", &invite, "203.0.113.7").await;
    assert_eq!(status, 503, "{body}");
    assert_usable(&gateway, &invite);
    assert_eq!(gateway.registry().nodes().unwrap().len(), 3, "only the guardians");
}

#[actix_web::test]
async fn an_address_that_the_mesh_routes_elsewhere_is_not_given_away() {
    let gateway = Gateway::start().await;
    gateway.mesh.insert(MeshPeer {
        public_key: public_key(77),
        endpoint: None,
        allowed_ips: vec![format!("{}/32", gateway.overlay(2))],
        keepalive_seconds: 0,
    });
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let enrolled = gateway.enroll_node(&mut node, CODE, "203.0.113.7").await;
    assert_eq!(enrolled.wg_ip, gateway.overlay(3).to_string());
}

#[actix_web::test]
async fn failed_provisioning_removes_the_node_and_keeps_the_reason() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let enrolled = gateway.enroll_node(&mut node, CODE, "203.0.113.7").await;
    node.progress("storing shares").await;
    node.say(NodeMessage::Failed { reason: "guardian node-3 is full\u{7}".into() }).await;
    let report = eventually("the failure is reported", async || {
        gateway.report_of(&enrolled.node_id).await.filter(|report| report.phase == "failed")
    });
    assert!(report.await.detail.ends_with("guardian node-3 is full "));
    assert!(gateway.mesh.peers().is_empty());
    let (status, _) = gateway.get(&format!("/v1/node/status?node_id={}", enrolled.node_id)).await;
    assert_eq!(status, 404);
    // The node stays, with a new code on the same socket, and needs a new invite.
    node.say(hello("BBBB2345", 1)).await;
    assert!(matches!(node.hear().await, Some(GatewayMessage::Waiting)));
    let again = gateway.enroll_node(&mut node, "BBBB2345", "203.0.113.7").await;
    assert_eq!(again.wg_ip, enrolled.wg_ip);
}

#[actix_web::test]
async fn a_node_lost_while_provisioning_is_kept_until_it_begins_anew() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let enrolled = gateway.enroll_node(&mut node, CODE, "203.0.113.7").await;
    node.progress("storing shares").await;
    eventually("the step is reported", async || {
        gateway.report_of(&enrolled.node_id).await.filter(|report| report.detail == "storing shares")
    })
    .await;
    drop(node);
    let report = eventually("the loss is reported", async || {
        gateway
            .report_of(&enrolled.node_id)
            .await
            .filter(|report| report.detail.starts_with("connection lost"))
    });
    assert!(report.await.detail.ends_with("after: storing shares"));
    // The same key says hello again: the node is at its beginning, and its row is no obstacle.
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    let again = gateway.enroll_node(&mut node, CODE, "203.0.113.7").await;
    assert_eq!(again.wg_ip, enrolled.wg_ip);
    assert_eq!(gateway.mesh.peers().len(), 1);
}

#[actix_web::test]
async fn a_code_that_is_taken_is_rejected_and_another_is_welcome() {
    let gateway = Gateway::start().await;
    let first = FakeNode::waiting(&gateway, CODE, 1).await;
    let mut second = FakeNode::connect(&gateway).await;
    second.say(hello(CODE, 2)).await;
    assert!(matches!(second.hear().await, Some(GatewayMessage::Rejected { .. })));
    second.say(hello("BBBB2345", 2)).await;
    assert!(matches!(second.hear().await, Some(GatewayMessage::Waiting)));
    // A waiting node may change its code; the old one is free at once.
    second.say(hello("CCCC2345", 2)).await;
    assert!(matches!(second.hear().await, Some(GatewayMessage::Waiting)));
    let _third = FakeNode::waiting(&gateway, "BBBB2345", 3).await;
    drop(first);
}

#[actix_web::test]
async fn malformed_and_oversized_frames_end_the_socket() {
    let gateway = Gateway::start().await;
    let big = "x".repeat(300 * 1024);
    let half = || big[..200 * 1024].to_owned().into_bytes();
    let text = |text: &str| vec![Message::Text(text.to_owned().into())];
    let plays: Vec<(&str, Vec<Message>, &str)> = vec![
        ("no JSON", text("hello"), "malformed message"),
        ("unknown type", text(r#"{"type":"hi"}"#), "malformed message"),
        ("missing field", text(r#"{"type":"hello","protocol":1}"#), "malformed message"),
        ("out of turn", text(r#"{"type":"provisioned"}"#), "message out of turn"),
        ("binary", vec![Message::Binary("{}".into())], "binary messages are not understood"),
        ("oversized", text(&big), "broken or oversized frame"),
        (
            "oversized in fragments",
            vec![
                Message::Continuation(Item::FirstText(half().into())),
                Message::Continuation(Item::Last(half().into())),
            ],
            "broken or oversized frame",
        ),
    ];
    for (name, frames, reason) in plays {
        let mut node = FakeNode::connect(&gateway).await;
        for frame in frames {
            node.frame(frame).await;
        }
        let closed = node.closed().await;
        // A peer whose frame was cut off may be reset before it reads the reason.
        assert!(closed == reason || (name.starts_with("oversized") && closed.is_empty()), "{name}: {closed}");
    }
    for bad in [hello("abcd2345", 1), hello("ABCD234", 1)] {
        let mut node = FakeNode::connect(&gateway).await;
        node.say(bad).await;
        assert!(matches!(node.hear().await, Some(GatewayMessage::Rejected { .. })));
        assert_eq!(node.closed().await, "malformed hello");
    }
    // All of them gave their seats back.
    let mut node = FakeNode::waiting(&gateway, CODE, 1).await;
    gateway.enroll_node(&mut node, CODE, "203.0.113.7").await;
}

#[actix_web::test]
async fn a_silent_socket_is_closed_and_one_address_has_eight() {
    let gateway = Gateway::start().await;
    let mut nodes = Vec::new();
    for _ in 0..8 {
        nodes.push(FakeNode::connect(&gateway).await);
    }
    let refused = FakeNode::try_connect(&gateway).await.err().unwrap();
    assert_eq!(refused, "Invalid response status");
    assert_eq!(nodes[0].closed().await, "no hello in time");
    drop(nodes);
    let node = eventually("a seat is free", async || FakeNode::try_connect(&gateway).await.ok()).await;
    drop(node);
}

fn assert_usable(gateway: &Gateway, invite: &str) {
    let digest = token::digest(&Redacted::new(invite.to_owned()));
    let now = seconds_now();
    assert_eq!(gateway.registry().check_invite(&digest, now).unwrap(), Ok(()), "the invite is not usable");
}

fn seconds_now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}
