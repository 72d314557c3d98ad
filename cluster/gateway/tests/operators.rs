//! The operator's side: keys, invites, the way to the agents, leave, the report; and what is refused.

mod harness;

use actix_web::http::{Method, StatusCode};
use harness::agent::FakeAgent;
use harness::node::AGENT_TOKEN;
use harness::{FakeNode, Gateway, eventually, public_key, read};
use orama_gateway::api::{Access, PUBLIC_ROUTES};
use orama_protocol::enroll::NodeMessage;
use serde_json::{Value, json};

fn is_error(body: &Value) -> bool {
    body.as_object().is_some_and(|body| body.len() == 1 && body["error"].is_string())
}

#[actix_web::test]
async fn no_route_answers_without_its_credential() {
    let gateway = Gateway::start().await;
    let mut guarded = 0;
    for route in PUBLIC_ROUTES {
        if route.access == Access::Anyone {
            continue;
        }
        guarded += 1;
        let send = |authorization: Option<String>| {
            let method = Method::from_bytes(route.method.as_bytes()).unwrap();
            let mut request = gateway.client.request(method, gateway.url(route.path));
            if let Some(value) = authorization {
                request = request.insert_header(("Authorization", value));
            }
            async move { read(request.send_body("{}").await.unwrap()).await }
        };
        let other = if gateway.admin_key.ends_with('0') { '1' } else { '0' };
        let almost = format!("{}{other}", &gateway.admin_key[..63]);
        let digest = orama_gateway::token::digest(&orama_protocol::Redacted::new(gateway.admin_key.clone()));
        for authorization in [
            None,
            Some("Bearer".into()),
            Some("Bearer ".into()),
            Some(format!("Basic {}", gateway.admin_key)),
            Some(format!("Bearer {almost}")),
            Some(format!("Bearer {}", gateway.admin_key.to_uppercase() + "A")),
            // Who steals the database must not get in with what it holds.
            Some(format!("Bearer {digest}")),
            Some(format!("Bearer {AGENT_TOKEN}")),
        ] {
            let (status, body) = send(authorization.clone()).await;
            let wrong = authorization.is_some();
            let expected = status == 401 || (wrong && status == 429);
            assert!(expected && is_error(&body), "{} {authorization:?}: {status} {body}", route.path);
        }
        // With the right key the route is there; the admin key is no invite.
        let (status, _) = send(Some(format!("Bearer {}", gateway.admin_key))).await;
        let refused = status == 401 || status == 429;
        assert_eq!(refused, route.access == Access::Invite, "{}: {status}", route.path);
    }
    assert!(guarded >= 7);
    // The one open route only talks WebSocket.
    let sent = gateway.client.get(gateway.url("/v1/node/enroll/socket")).send().await.unwrap();
    let (status, body) = read(sent).await;
    assert!(status == 400 && is_error(&body), "{status} {body}");
}

#[actix_web::test]
async fn wrong_keys_are_limited_but_the_right_one_is_never_locked_out() {
    let gateway = Gateway::start().await;
    let mut statuses = Vec::new();
    for _ in 0..25 {
        let request = gateway.client.get(gateway.url("/v1/fleet/report")).bearer_auth("wrong");
        statuses.push(read(request.send().await.unwrap()).await.0.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 20);
    assert_eq!(statuses.iter().filter(|status| **status == 429).count(), 5);
    assert_eq!(gateway.get("/v1/fleet/report").await.0, 200);
}

#[actix_web::test]
async fn unknown_paths_wrong_methods_and_bad_bodies() {
    let gateway = Gateway::start().await;
    for path in
        ["/", "/v1", "/v1/node", "/v1/node/statusx", "/v1/node/status/", "/../etc/passwd", "/v1/node/health"]
    {
        let (status, body) = gateway.get(path).await;
        assert!(status == 404 && is_error(&body), "{path}: {status} {body}");
    }
    for route in PUBLIC_ROUTES {
        let request =
            gateway.client.request(Method::DELETE, gateway.url(route.path)).bearer_auth(&gateway.admin_key);
        let (status, body) = read(request.send().await.unwrap()).await;
        assert!(status == 405 && is_error(&body), "{}: {status} {body}", route.path);
    }
    let too_large = "x".repeat((1 << 20) + 1);
    for (path, body, expected) in [
        ("/v1/node/invite", "", 400),
        ("/v1/node/invite", "[]", 400),
        ("/v1/node/invite", too_large.as_str(), 413),
        ("/v1/node/enroll", too_large.as_str(), 413),
        ("/v1/node/command?node_id=node-10.0.0.9", "[1]", 400),
        ("/v1/node/command?node_id=node-10.0.0.9", too_large.as_str(), 413),
        ("/v1/node/leave", "{}", 400),
        ("/v1/node/leave", too_large.as_str(), 413),
    ] {
        let request = gateway.client.post(gateway.url(path)).bearer_auth(&gateway.admin_key);
        let (status, answer) = read(request.send_body(body.to_owned()).await.unwrap()).await;
        assert!(status == expected && is_error(&answer), "{path} {} bytes: {status} {answer}", body.len());
    }
}

#[actix_web::test]
async fn invites_live_from_a_minute_to_thirty_days() {
    let gateway = Gateway::start().await;
    let month = 30 * 24 * 3600;
    for (seconds, created_by, expected) in [
        (json!(59), "op".to_owned(), 400),
        (json!(60), "op".into(), 200),
        (json!(month), "x".repeat(64), 200),
        (json!(month + 1), "op".into(), 400),
        (json!(-60), "op".into(), 400),
        (json!("3600"), "op".into(), 400),
        (json!(3600), "x".repeat(65), 400),
        (json!(3600), "a\nb".into(), 400),
    ] {
        let body = json!({ "expiry_seconds": seconds, "created_by": created_by });
        let (status, answer) = gateway.post("/v1/node/invite", body).await;
        assert_eq!(status, expected, "{seconds} {created_by}: {answer}");
        if status == 200 {
            assert!(answer["expires"].as_str().unwrap().ends_with('Z'), "{answer}");
            // The token itself is nowhere in the store.
            let token = answer["token"].as_str().unwrap();
            for file in std::fs::read_dir(gateway.folder.path().join("data")).unwrap() {
                let content = std::fs::read(file.unwrap().path()).unwrap();
                assert!(!String::from_utf8_lossy(&content).contains(token));
            }
        }
    }
}

#[actix_web::test]
async fn the_agents_answers_are_passed_through() {
    let gateway = Gateway::start().await;
    let node_id = gateway.add_node(5, AGENT_TOKEN);
    let agent = FakeAgent::start(gateway.overlay(5), gateway.config.agent.port).await;
    let bearer = format!("Bearer {AGENT_TOKEN}");

    let (status, body) = gateway.get(&format!("/v1/node/status?node_id={node_id}")).await;
    assert_eq!((status.as_u16(), body), (200, json!({ "from": "agent" })));
    assert_eq!(agent.heard(), [["GET".into(), "/v1/agent/status".into(), bearer.clone(), String::new()]]);

    // By address, with a status of the agent's own.
    agent.answers(418, *b"not json");
    let (status, body) = gateway.get(&format!("/v1/node/status?wg_ip={}", gateway.overlay(5))).await;
    assert_eq!((status.as_u16(), body), (418, json!("not json")));
    agent.heard();

    agent.answers(400, *br#"{"error":"unknown action"}"#);
    let command = json!({ "action": "dance", "service": "rqlite", "more": 1 });
    let (status, body) = gateway.post(&format!("/v1/node/command?node_id={node_id}"), command.clone()).await;
    assert_eq!((status.as_u16(), body), (400, json!({ "error": "unknown action" })));
    let [[method, path, authorization, sent]] = agent.heard().try_into().unwrap();
    assert_eq!(
        [method, path, authorization],
        ["POST".into(), "/v1/agent/command".to_owned(), bearer.clone()]
    );
    assert_eq!(serde_json::from_str::<Value>(&sent).unwrap(), command);

    for (query, expected) in [
        ("", "service=all&lines=100"),
        ("&service=all", "service=all&lines=100"),
        ("&service=ipfs-cluster&lines=7", "service=ipfs-cluster&lines=7"),
        ("&service=agent&lines=99999999999", "service=agent&lines=1000"),
    ] {
        gateway.get(&format!("/v1/node/logs?node_id={node_id}{query}")).await;
        let [[_, path, ..]] = agent.heard().try_into().unwrap();
        assert_eq!(path, format!("/v1/agent/logs?{expected}"));
    }
    for query in [
        "&service=../../etc/passwd",
        "&service=Bash",
        "&service=a-name-of-more-than-thirty-two-chars",
        "&service=rqlite%26lines%3D1",
        "&lines=0",
        "&lines=-1",
        "&lines=ten",
        "&lines=1&lines=2",
        "&more=1",
        "&wg_ip=10.0.0.1",
    ] {
        let (status, body) = gateway.get(&format!("/v1/node/logs?node_id={node_id}{query}")).await;
        assert!(status == 400 && is_error(&body), "{query}: {status} {body}");
    }
    assert!(agent.heard().is_empty(), "nothing of that reached the agent");
}

#[actix_web::test]
async fn refusals_and_metrics_are_the_agents_answers() {
    let gateway = Gateway::start().await;
    let node_id = gateway.add_node(5, AGENT_TOKEN);
    let agent = FakeAgent::start(gateway.overlay(5), gateway.config.agent.port).await;
    for (asked, expected) in [
        (format!("refusals?node_id={node_id}"), "/v1/agent/refusals?service=all"),
        (format!("refusals?node_id={node_id}&service=ledger"), "/v1/agent/refusals?service=ledger"),
        (format!("metrics?node_id={node_id}"), "/v1/agent/metrics"),
    ] {
        gateway.get(&format!("/v1/node/{asked}")).await;
        let [[method, path, ..]] = agent.heard().try_into().unwrap();
        assert_eq!((method.as_str(), path.as_str()), ("GET", expected));
    }
    agent.answers(400, *b"{\"error\":\"service must be one of rqlite\"}");
    let (status, body) = gateway.get(&format!("/v1/node/refusals?node_id={node_id}&service=nothing")).await;
    assert!(status == 400 && is_error(&body), "the agent knows its services: {status} {body}");
    agent.heard();
    for asked in
        ["refusals?service=../x", "refusals?lines=3", "refusals?service=a%26b", "metrics?service=rqlite"]
    {
        let (status, body) = gateway.get(&format!("/v1/node/{asked}&node_id={node_id}")).await;
        assert!(status == 400 && is_error(&body), "{asked}: {status} {body}");
    }
    assert!(agent.heard().is_empty(), "nothing of that reached the agent");
}

#[actix_web::test]
async fn an_agent_cannot_lead_the_gateway_astray() {
    let gateway = Gateway::start().await;
    let node_id = gateway.add_node(5, AGENT_TOKEN);
    let agent = FakeAgent::start(gateway.overlay(5), gateway.config.agent.port).await;
    let path = format!("/v1/node/status?node_id={node_id}");
    // A redirect is an answer like any other, and only status and body of an answer count.
    agent.answers(302, *b"{}");
    let sent = gateway.client.get(gateway.url(&path)).bearer_auth(&gateway.admin_key).send().await.unwrap();
    assert_eq!(sent.status(), 302);
    assert!(!sent.headers().contains_key("location") && !sent.headers().contains_key("set-cookie"));
    assert_eq!(sent.headers().get("x-content-type-options").unwrap(), "nosniff");
    assert_eq!(agent.heard().len(), 1);
    // The largest body that may pass, and one byte more.
    agent.answers(200, vec![b'x'; 1 << 20]);
    let (status, body) = gateway.get(&path).await;
    assert_eq!((status.as_u16(), body.as_str().unwrap().len()), (200, 1 << 20));
    agent.answers(200, vec![b'x'; (1 << 20) + 1]);
    let (status, body) = gateway.get(&path).await;
    assert!(status == 502 && is_error(&body), "{status}");
}

#[actix_web::test]
async fn unknown_unreachable_and_silent_nodes() {
    let gateway = Gateway::start().await;
    for (query, expected) in [
        ("node_id=node-10.9.9.9".to_owned(), 404),
        (format!("wg_ip={}", gateway.overlay(9)), 404),
        (format!("node_id=node-{}", gateway.overlay(11)), 404),
        ("".into(), 400),
        ("node_id=".into(), 400),
        ("node_id=a/b".into(), 400),
        (format!("node_id={}", "x".repeat(65)), 400),
        ("wg_ip=::1".into(), 400),
        ("node_id=node-10.0.0.1&wg_ip=10.0.0.1".into(), 400),
        ("node=1".into(), 400),
    ] {
        let (status, body) = gateway.get(&format!("/v1/node/status?{query}")).await;
        assert!(status == expected && is_error(&body), "{query}: {status} {body}");
    }
    let node_id = gateway.add_node(5, AGENT_TOKEN);
    let (status, body) = gateway.get(&format!("/v1/node/status?node_id={node_id}")).await;
    let error = body["error"].as_str().unwrap();
    assert_eq!(status, 502);
    assert!(error.contains(&node_id) && error.contains("unreachable"), "{error}");
    // Takes connections and says nothing: the configured 3 s are the limit.
    let _silent = std::net::TcpListener::bind((gateway.overlay(5), gateway.config.agent.port)).unwrap();
    let (status, body) = gateway.get(&format!("/v1/node/status?node_id={node_id}")).await;
    assert_eq!(status, 502);
    assert!(is_error(&body) && body.to_string().contains(&node_id), "{body}");
}

#[actix_web::test]
async fn a_node_leaves_whether_its_agent_answers_or_not() {
    let gateway = Gateway::start().await;
    let (with, without) = (gateway.add_node(5, AGENT_TOKEN), gateway.add_node(6, AGENT_TOKEN));
    let agent = FakeAgent::start(gateway.overlay(5), gateway.config.agent.port).await;
    for (node_id, last) in [(&with, 5), (&without, 6)] {
        let (status, body) = gateway.post("/v1/node/leave", json!({ "node_id": node_id })).await;
        let expected = json!({ "status": "removed", "wg_ip": gateway.overlay(last).to_string() });
        assert_eq!((status.as_u16(), body), (200, expected));
        assert_eq!(gateway.get(&format!("/v1/node/status?node_id={node_id}")).await.0, 404);
        assert_eq!(gateway.post("/v1/node/leave", json!({ "node_id": node_id })).await.0, 404);
    }
    let [[method, path, _, body]] = agent.heard().try_into().unwrap();
    assert_eq!(
        [method.as_str(), path.as_str(), body.as_str()],
        ["POST", "/v1/agent/command", r#"{"action":"leave"}"#]
    );

    // While the mesh does not answer the node stays in the registry, so that leave can be repeated.
    let node_id = gateway.add_node(7, AGENT_TOKEN);
    gateway.mesh.refuse(Some("busy"));
    assert_eq!(gateway.post("/v1/node/leave", json!({ "node_id": node_id })).await.0, 503);
    gateway.mesh.refuse(None);
    assert_eq!(gateway.post("/v1/node/leave", json!({ "node_id": node_id })).await.0, 200);
}

#[actix_web::test]
async fn the_report_shows_everybody() {
    let gateway = Gateway::start().await;
    let (up, down) = (gateway.add_node(5, AGENT_TOKEN), gateway.add_node(6, AGENT_TOKEN));
    let agent = FakeAgent::start(gateway.overlay(5), gateway.config.agent.port).await;
    agent.answers(200, status("running").to_string());
    let report = gateway.report().await;
    let ids: Vec<&str> = report.nodes.iter().map(|node| node.node_id.as_str()).collect();
    assert_eq!(ids.len(), 5, "{ids:?}");
    let find = |id: &str| report.nodes.iter().find(|node| node.node_id == id).unwrap();
    let node = find(&up);
    assert!(node.reachable && !node.healthy);
    assert_eq!((node.phase.as_str(), node.version.as_str()), ("running", "1.2.3"));
    assert_eq!((node.uptime_seconds, &node.unhealthy_services), (Some(77), &vec!["rqlite".to_owned()]));
    let node = find(&down);
    assert!(!node.reachable && node.detail.contains("unreachable"), "{}", node.detail);
    let guardian = find(&format!("node-{}", gateway.overlay(11)));
    assert_eq!((guardian.role.as_str(), guardian.reachable), ("peer", false));
}

#[actix_web::test]
async fn a_node_whose_last_word_was_lost_is_confirmed_by_its_agent() {
    let gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, "ABCD2345", 1).await;
    let enrolled = gateway.enroll_node(&mut node, "ABCD2345", "203.0.113.7").await;
    node.say(NodeMessage::Progress { step: "storing shares".into() }).await;
    drop(node);
    let agent = FakeAgent::start(gateway.overlay(2), gateway.config.agent.port).await;
    agent.answers(200, status("provisioning").to_string());
    let report = gateway.report_of(&enrolled.node_id).await.unwrap();
    assert_eq!(report.phase, "enrolling");
    agent.answers(200, status("running").to_string());
    assert_eq!(gateway.report_of(&enrolled.node_id).await.unwrap().phase, "running");
    let row = gateway.registry().nodes().unwrap().into_iter().find(|row| row.node_id == enrolled.node_id);
    assert!(row.unwrap().confirmed_at.is_some());
}

fn status(phase: &str) -> Value {
    let service = json!({ "state": "backoff", "healthy": false, "pid": null, "restarts": 3,
        "uptime_seconds": null, "reason": "exit 1", "seccomp": "audit" });
    json!({ "node_id": "n", "version": "1.2.3", "phase": phase, "reason": "", "healthy": false,
        "uptime_seconds": 77, "slot": "a", "wireguard": null, "unlock": null, "alarms": [],
        "services": { "rqlite": service }, "update": "",
        "agent": { "version": "1", "rss_bytes": 1, "root_processes": 1, "actor_restarts": {} } })
}

#[actix_web::test]
async fn the_loopback_listener_takes_reports_and_nothing_else() {
    let gateway = Gateway::start().await;
    let post = |body: String| gateway.client.post(gateway.local_url("/v1/node/health")).send_body(body);
    let report = |node_id: &str| {
        json!({ "node_id": node_id, "version": "1.0.0", "uptime_seconds": 5, "healthy": false,
            "services": { "rqlite": false, "gateway": true }, "timestamp": "2026-01-01T00:00:00Z" })
    };
    assert_eq!(post(report("node-10.0.0.4").to_string()).await.unwrap().status(), 200);
    for bad in
        ["{}".to_owned(), "x".into(), report(&"x".repeat(65)).to_string(), report("a\u{1b}[2J").to_string()]
    {
        let (status, body) = read(post(bad).await.unwrap()).await;
        assert!(status == 400 && is_error(&body), "{status} {body}");
    }
    assert_eq!(post("x".repeat((1 << 20) + 1)).await.unwrap().status(), 413);
    let known = gateway.report_of("node-10.0.0.4").await.unwrap();
    assert_eq!((known.phase.as_str(), known.unhealthy_services), ("reporting", vec!["rqlite".to_owned()]));

    let get = |path: &str| gateway.client.get(gateway.local_url(path)).send();
    assert_eq!(get("/healthz").await.unwrap().status(), 200);
    assert_eq!(get("/v1/node/health").await.unwrap().status(), 405);
    // Nothing of the operator's API is here, with or without a key.
    for route in PUBLIC_ROUTES {
        let request = gateway.client.get(gateway.local_url(route.path)).bearer_auth(&gateway.admin_key);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::NOT_FOUND, "{}", route.path);
    }
}

#[actix_web::test]
async fn everything_is_there_again_after_a_restart() {
    let mut gateway = Gateway::start().await;
    let mut node = FakeNode::waiting(&gateway, "ABCD2345", 1).await;
    let enrolled = gateway.enroll_node(&mut node, "ABCD2345", "203.0.113.7").await;
    node.say(NodeMessage::Provisioned).await;
    node.closed().await;
    let (key, certificate) =
        (gateway.admin_key.clone(), gateway.running.as_ref().unwrap().certificate.clone());
    let spare = gateway.invite().await;
    let peers = gateway.mesh.peers();
    gateway.stop().await;
    // The host came up anew: its interface has no peers, and the control socket is not there yet.
    gateway.mesh.vanish();
    gateway.mesh.forget();
    gateway.run().await;
    assert_eq!(gateway.admin_key, key);
    assert_eq!(gateway.running.as_ref().unwrap().certificate, certificate);
    assert!(gateway.running.as_ref().unwrap().admin_key.is_none(), "the key was not made anew");
    assert!(gateway.mesh.peers().is_empty());
    gateway.mesh.listen();
    eventually("the peer is set again", async || (gateway.mesh.peers() == peers).then_some(())).await;

    let agent = FakeAgent::start(gateway.overlay(2), gateway.config.agent.port).await;
    assert_eq!(gateway.get(&format!("/v1/node/status?node_id={}", enrolled.node_id)).await.0, 200);
    assert_eq!(agent.heard()[0][2], format!("Bearer {AGENT_TOKEN}"));
    let mut node = FakeNode::waiting(&gateway, "BBBB2345", 2).await;
    let play = futures_util::future::join(gateway.enroll("BBBB2345", &spare, "203.0.113.8"), node.accept());
    let ((status, body), ()) = play.await;
    assert_eq!((status.as_u16(), &body["wg_ip"]), (200, &json!(gateway.overlay(3).to_string())));
    assert!(node.config.unwrap().wireguard_config.contains(&public_key(1)));
}
