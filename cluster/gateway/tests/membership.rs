//! What the nodes are told of each other, how a node leaves without taking anybody's shares away, and what may not
//! go down.

mod harness;

use std::net::TcpListener;

use harness::member::{Member, split};
use harness::node::AGENT_TOKEN;
use harness::{FakeNode, Gateway, eventually};
use orama_protocol::enroll::NodeMessage;
use orama_protocol::gateway::LeaveProgress;
use serde_json::json;

/// A gateway that finds these nodes in its store when it starts, each with an agent; none of them a guardian.
async fn cluster(lasts: &[u8]) -> (Gateway, Vec<Member>) {
    let mut gateway = Gateway::start().await;
    gateway.stop().await;
    let mut members = vec![];
    for last in lasts {
        gateway.add_node(*last, AGENT_TOKEN);
        members.push(Member::start(gateway.overlay(*last), gateway.config.agent.port).await);
    }
    (gateway, members)
}

fn id(gateway: &Gateway, last: u8) -> String {
    format!("node-{}", gateway.overlay(last))
}

async fn told(gateway: &Gateway, member: &Member) -> orama_protocol::peers::PeerList {
    let revision = gateway.registry().peers_revision().unwrap();
    eventually("the newest list is told", async || {
        member.last_list().filter(|list| list.revision == revision)
    })
    .await
}

#[actix_web::test]
async fn every_node_is_told_of_the_others_and_then_left_in_peace() {
    let (mut gateway, members) = cluster(&[5, 6]).await;
    gateway.run().await;
    for (member, own, other) in [(&members[0], 5, 6), (&members[1], 6, 5)] {
        let list = told(&gateway, member).await;
        let ids: Vec<&str> = list.peers.iter().map(|peer| peer.node_id.as_str()).collect();
        let expected = [1, other, 11, 12, 13].map(|last| id(&gateway, last));
        assert_eq!(ids, expected, "all but node {own}");
        let guardians: Vec<bool> = list.peers.iter().map(|peer| peer.guardian).collect();
        assert_eq!(guardians, [false, false, true, true, true]);
        let endpoint = list.peers[1].endpoint.clone();
        assert_eq!(endpoint, Some(format!("192.0.2.{other}:51820")));
    }
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert!(members.iter().all(|member| member.lists().len() == 1), "told once");
    assert!(members.iter().all(|member| member.statuses() <= 3), "{}", members[0].statuses());
}

#[actix_web::test]
async fn an_enrollment_is_told_at_once() {
    let (mut gateway, members) = cluster(&[5]).await;
    gateway.run().await;
    let before = told(&gateway, &members[0]).await;
    let mut node = FakeNode::waiting(&gateway, "ABCD2345", 1).await;
    let enrolled = gateway.enroll_node(&mut node, "ABCD2345", "203.0.113.7").await;
    let list = told(&gateway, &members[0]).await;
    assert!(list.revision > before.revision);
    let peer = list.peers.iter().find(|peer| peer.node_id == enrolled.node_id).unwrap();
    assert_eq!((peer.endpoint.as_deref(), peer.guardian), (Some("203.0.113.7:51820"), false));
    // It has no agent before it is provisioned; then it is told as well.
    let new = Member::start(gateway.overlay(2), gateway.config.agent.port).await;
    node.say(NodeMessage::Provisioned).await;
    assert_eq!(told(&gateway, &new).await.peers.len(), 5);
    // One that fails is taken back.
    let mut failing = FakeNode::waiting(&gateway, "BBBB2345", 2).await;
    gateway.enroll_node(&mut failing, "BBBB2345", "203.0.113.8").await;
    assert_eq!(told(&gateway, &members[0]).await.peers.len(), 6);
    failing.say(NodeMessage::Failed { reason: "no disk".into() }).await;
    eventually("it is forgotten", async || {
        members[0].last_list().filter(|list| list.peers.len() == 5).map(drop)
    })
    .await;
}

#[actix_web::test]
async fn an_old_agent_is_asked_once_and_a_restored_store_catches_up() {
    let (mut gateway, members) = cluster(&[5, 6, 7]).await;
    members[0].is_old(true);
    let newest = gateway.registry().peers_revision().unwrap();
    let store = rusqlite::Connection::open(gateway.folder.path().join("data/gateway.db")).unwrap();
    store.execute("UPDATE peers_revision SET revision = revision - 1000", []).unwrap();
    // Its list was made after the copy that this store was restored from.
    members[1].knows(newest - 500);
    // Of the future: nobody believes it, and it does not drive the revision up.
    members[2].knows(u64::MAX);
    gateway.run().await;
    let list = told_eventually_above(&members[1], newest - 500).await;
    assert!(list < newest + 100, "{list}");
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    assert!(members[0].lists().is_empty() && members[0].statuses() <= 2, "{}", members[0].statuses());
    assert_eq!(members[2].last_list().unwrap().revision, u64::MAX);
    assert_eq!(gateway.registry().peers_revision().unwrap(), list);
}

async fn told_eventually_above(member: &Member, revision: u64) -> u64 {
    eventually("a newer list is told", async || {
        member.last_list().map(|list| list.revision).filter(|told| *told > revision)
    })
    .await
}

#[actix_web::test]
async fn a_node_with_a_guardian_leaves_when_nobody_has_shares_there_any_more() {
    let (mut gateway, members) = cluster(&[5, 6]).await;
    let [leaver, owner] = &members[..] else { panic!("two members") };
    leaver.has_guardian();
    leaver.custody(split(3, &[11, 12, 13].map(|last| gateway.overlay(last))));
    owner.custody(split(3, &[5, 11, 12, 13].map(|last| gateway.overlay(last))));
    let _guardians = guardians(&gateway);
    gateway.run().await;
    eventually("its guardian is known", async || {
        owner.last_list().filter(|list| list.peers.iter().filter(|peer| peer.guardian).count() == 4)
    })
    .await;

    let node_id = id(&gateway, 5);
    let path = format!("/v1/node/leave?node_id={node_id}");
    assert_eq!(gateway.get(&path).await.1["status"], "staying");
    let (status, body) = gateway.post("/v1/node/leave", json!({ "node_id": node_id })).await;
    assert_eq!(status, 202, "{body}");
    let progress: LeaveProgress = serde_json::from_value(body).unwrap();
    assert_eq!((progress.status.as_str(), progress.waiting_for.len()), ("leaving", 1));
    assert_eq!(progress.waiting_for[0].node_id, id(&gateway, 6));
    assert!(progress.waiting_for[0].why.contains("moves its shares"), "{progress:?}");
    let list = told(&gateway, owner).await;
    assert!(list.peers.iter().any(|peer| peer.node_id == node_id && peer.leaving && peer.guardian));
    assert!(leaver.commands().is_empty(), "it serves its shares until the last moment");

    // The gateway is cut off and comes again: the leave is not forgotten, and nobody has to repeat it.
    gateway.stop().await;
    gateway.run().await;
    let (status, body) = gateway.get(&path).await;
    assert_eq!(
        (status.as_u16(), &body["status"], &body["since"]),
        (200, &json!("leaving"), &json!(progress.since))
    );
    owner.custody(split(3, &[11, 12, 13].map(|last| gateway.overlay(last))));
    eventually("it has left", async || (gateway.get(&path).await.0 == 404).then_some(())).await;
    assert_eq!(leaver.commands(), [json!({ "action": "leave" })]);
    assert!(gateway.mesh.peers().iter().all(|peer| peer.public_key != harness::public_key(5)));
    let list = told(&gateway, owner).await;
    assert!(list.peers.iter().all(|peer| peer.node_id != node_id));
}

#[actix_web::test]
async fn a_plain_leave_is_answered_with_removed_when_the_shares_move_quickly() {
    let (mut gateway, members) = cluster(&[5, 6]).await;
    members[0].has_guardian();
    members[1].moves_shares(true);
    let _guardians = guardians(&gateway);
    gateway.run().await;
    eventually("its key is also with the node", async || {
        members[1].last_list().filter(|list| list.peers.iter().filter(|peer| peer.guardian).count() == 4)
    })
    .await;
    let (status, body) = gateway.post("/v1/node/leave", json!({ "node_id": id(&gateway, 5) })).await;
    let expected = json!({ "status": "removed", "wg_ip": gateway.overlay(5).to_string() });
    assert_eq!((status.as_u16(), body), (200, expected));
    assert_eq!(members[0].commands(), [json!({ "action": "leave" })]);
}

#[actix_web::test]
async fn an_agent_that_knows_of_no_leave_is_stopped_and_nobody_orders_a_leave_past_the_gateway() {
    let (mut gateway, members) = cluster(&[5, 6]).await;
    gateway.run().await;
    let node_id = id(&gateway, 5);
    let command = format!("/v1/node/command?node_id={node_id}");
    let (status, body) = gateway.post(&command, json!({ "action": "leave" })).await;
    assert!(status == 400 && body.to_string().contains("/v1/node/leave"), "{status} {body}");
    assert!(members[0].commands().is_empty());
    members[0].is_old(true);
    assert_eq!(gateway.post("/v1/node/leave", json!({ "node_id": node_id })).await.0, 200);
    assert_eq!(members[0].commands(), [json!({ "action": "leave" }), json!({ "action": "stop" })]);
}

#[actix_web::test]
async fn what_would_lock_a_key_away_needs_force() {
    let (mut gateway, members) = cluster(&[5, 6, 7]).await;
    let [holder, owner, locked] = &members[..] else { panic!("three members") };
    holder.has_guardian();
    let holders = [5, 11, 12].map(|last| gateway.overlay(last));
    for member in [owner, locked] {
        member.custody(split(3, &holders));
    }
    let mut guardians = guardians(&gateway);
    gateway.run().await;
    eventually("both keys are known", async || {
        (gateway.registry().custody_seen().unwrap().len() == 2).then_some(())
    })
    .await;
    eventually("its guardian is known", async || {
        let known = gateway.registry().nodes().unwrap();
        known.iter().any(|node| node.node_id == id(&gateway, 5) && node.guardian).then_some(())
    })
    .await;
    // A node that is locked tells nothing, and needs its holders more than anybody else.
    locked.stop().await;

    let command = format!("/v1/node/command?node_id={}", id(&gateway, 5));
    for (path, body) in [
        (command.as_str(), json!({ "action": "reboot" })),
        (command.as_str(), json!({ "action": "poweroff" })),
        ("/v1/node/leave", json!({ "node_id": id(&gateway, 5) })),
    ] {
        let (status, answer) = gateway.post(path, body).await;
        let error = answer["error"].as_str().unwrap();
        assert_eq!(status, 409, "{error}");
        for last in [6, 7] {
            let expected =
                format!("the key of {} would have 2 reachable holders and needs 3", id(&gateway, last));
            assert!(error.contains(&expected), "{error}");
        }
    }
    assert!(holder.commands().is_empty() && gateway.registry().leaving().unwrap().is_empty());
    // The report says the same, also of the node that is silent.
    guardians.pop();
    for (last, fresh) in [(6, true), (7, false)] {
        let report = gateway.report_of(&id(&gateway, last)).await.unwrap();
        let custody = report.custody.unwrap();
        assert_eq!((custody.generation, custody.k, custody.n, custody.reachable), (1, 3, 3, 3));
        assert_eq!((custody.warnings[0].as_str(), custody.seen.is_none()), ("no holder to spare", fresh));
    }
    assert!(gateway.report_of(&id(&gateway, 5)).await.unwrap().custody.is_none(), "it never said");

    // What is not about going down is not asked about; force goes through, and so does it for another node's sake.
    assert_eq!(gateway.post(&command, json!({ "action": "restart", "service": "x" })).await.0, 200);
    assert_eq!(gateway.post(&command, json!({ "action": "reboot", "force": true })).await.0, 200);
    assert_eq!(holder.commands().len(), 2);

    // The owner may reboot while its own three holders answer, and not any more when one is gone.
    let command = format!("/v1/node/command?node_id={}", id(&gateway, 6));
    assert_eq!(gateway.post(&command, json!({ "action": "reboot" })).await.0, 200);
    guardians.pop();
    let (status, body) = gateway.post(&command, json!({ "action": "reboot" })).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains(&id(&gateway, 6)), "{body}");

    let (status, _) =
        gateway.post("/v1/node/leave", json!({ "node_id": id(&gateway, 5), "force": true })).await;
    assert_eq!(status, 200);
}

/// Something listens where the guardians of the harness should be.
fn guardians(gateway: &Gateway) -> Vec<TcpListener> {
    let listen = |last| TcpListener::bind((gateway.overlay(last), orama_protocol::GUARDIAN_PORT)).unwrap();
    [11, 12, 13].map(listen).into()
}
