//! Enrollment of a whole node (directory volume, real guardians) by a scripted gateway over real TLS.

mod support;

use std::time::Duration;

use orama_actors::boot::Leave;
use orama_actors::boot::machine::{Exit, Phase};
use orama_actors::enroll::{EnrollMode, Pin};
use orama_actors::facts::Scope;
use orama_protocol::enroll::{ENROLL_FRAME_LIMIT_BYTES, GatewayMessage, NodeMessage};
use support::gateway::{self, Gateway};
use support::guardians::Guardians;
use support::{Options, power_on};

const SOON: Duration = Duration::from_secs(20);

fn options(gateway: &Gateway, guardians: &Guardians) -> Options {
    Options {
        guardian_port: guardians.port,
        gateway_url: gateway.url.clone(),
        pin: gateway.authority.clone(),
        mode: EnrollMode::Websocket,
        owner: None,
        custody: false,
        network: true,
    }
}

#[actix::test]
async fn a_node_enrols_runs_and_comes_back_after_a_reboot() {
    let (mut gateway, guardians) = (Gateway::start().await, Guardians::start());
    let base = tempfile::tempdir().unwrap();
    let node = power_on(base.path(), options(&gateway, &guardians));
    node.wait_for(Phase::Enrolling, SOON).await;

    let mut socket = gateway.socket().await;
    let (code, _) = socket.hello().await;
    assert_eq!(code, node.code().await, "the gateway hears the code of the console");
    socket.say(&GatewayMessage::Waiting).await;
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery: None }).await;
    let NodeMessage::Accepted { agent_token } = socket.heard().await else { panic!("not accepted") };
    assert_eq!(
        node.registry.facts.node().phase,
        Phase::Enrolling,
        "nothing is made before the gateway's word"
    );
    socket.say(&GatewayMessage::Registered).await;
    assert!(matches!(socket.outcome().await, NodeMessage::Provisioned));
    socket.closed().await;
    node.wait_for(Phase::Running, SOON).await;

    for line in [
        "wireguard orama0 up, address 127.0.0.4/24, 1 peers",
        "volume formatted",
        "key split 3 of 5, generation 1, stored on 5 guardians",
        "volume open",
        "all services spawned",
    ] {
        assert!(
            node.console.lines().iter().any(|said| said == line),
            "no `{line}`: {:?}",
            node.console.lines()
        );
    }
    let token = node.registry.facts.node().api_token.unwrap();
    assert_eq!(token.scope, Scope::Full);
    let digest: [u8; 32] = {
        use sha2::Digest;
        sha2::Sha256::digest(agent_token.expose()).into()
    };
    assert_eq!(token.digest, digest, "the API takes the token that the gateway got");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(std::net::TcpStream::connect(node.page).is_err(), "port 9999 is closed");

    std::fs::write(base.path().join("mounted/kept"), "written before the reboot").unwrap();
    node.registry.boot.ask(Leave { exit: Exit::Reboot, why: "a test".into() }).await.unwrap().unwrap();
    node.wait_for(Phase::Rebooting, SOON).await;
    for _ in 0..200 {
        if node.power.0.lock().unwrap().is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert_eq!(node.power.0.lock().unwrap().as_deref(), Some("reboot: a test"));
    assert!(!base.path().join("mounted").exists(), "the volume was closed");

    let again = power_on(base.path(), options(&gateway, &guardians));
    again.wait_for(Phase::Running, SOON).await;
    assert_eq!(
        std::fs::read_to_string(base.path().join("mounted/kept")).unwrap(),
        "written before the reboot"
    );
    assert!(again.console.says("shares gathered 3 of 5"));
    assert!(!again.console.says("registration code"), "an enrolled node shows no code");
    assert!(std::net::TcpStream::connect(again.page).is_err(), "and opens no port 9999");
    assert_eq!(again.registry.facts.node().api_token.unwrap().digest, digest);
    gateway.no_socket_for(Duration::from_millis(300)).await;
}

#[actix::test]
async fn a_bad_configuration_is_refused_and_the_node_stays_enrollable() {
    let (mut gateway, guardians) = (Gateway::start().await, Guardians::start());
    let base = tempfile::tempdir().unwrap();
    let node = power_on(base.path(), options(&gateway, &guardians));
    let mut socket = gateway.socket().await;
    socket.hello().await;
    socket.say(&GatewayMessage::Waiting).await;
    let mut config = gateway::config();
    config.peers.truncate(2);
    socket.say(&GatewayMessage::Configure { config, recovery: None }).await;
    let NodeMessage::Refused { reason } = socket.heard().await else { panic!("not refused") };
    assert!(reason.contains("peers names 2 guardians"), "{reason}");
    assert_eq!(node.registry.facts.node().phase, Phase::Enrolling);
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery: None }).await;
    assert!(matches!(socket.heard().await, NodeMessage::Accepted { .. }));
}

#[actix::test]
async fn messages_out_of_turn_oversize_and_garbage_end_the_socket_and_nothing_else() {
    let (mut gateway, guardians) = (Gateway::start().await, Guardians::start());
    let base = tempfile::tempdir().unwrap();
    let node = power_on(base.path(), options(&gateway, &guardians));
    let mut socket = gateway.socket().await;
    socket.hello().await;
    socket.say(&GatewayMessage::Registered).await;
    socket.closed().await;

    let mut socket = gateway.socket().await;
    socket.hello().await;
    socket.text("x".repeat(ENROLL_FRAME_LIMIT_BYTES + 1)).await;
    socket.closed().await;

    let mut socket = gateway.socket().await;
    socket.hello().await;
    socket.text("{\"type\":\"format-everything\"}".into()).await;
    socket.closed().await;

    let mut socket = gateway.socket().await;
    let (first, key) = socket.hello().await;
    socket.say(&GatewayMessage::Rejected { reason: "code is taken".into() }).await;
    let (second, same_key) = socket.hello().await;
    assert_ne!(first, second, "a rejected code is replaced");
    assert_eq!(key, same_key);
    assert_eq!(node.registry.facts.node().phase, Phase::Enrolling);
    assert!(!base.path().join("header.json").exists(), "nothing was formatted");
}

#[actix::test]
async fn only_the_pinned_gateway_is_talked_to() {
    let (mut gateway, guardians) = (Gateway::start().await, Guardians::start());
    let other = Gateway::start().await;
    for pin in [other.authority.clone(), Pin::Fingerprint([7; 32])] {
        let base = tempfile::tempdir().unwrap();
        let node = power_on(base.path(), Options { pin, ..options(&gateway, &guardians) });
        node.wait_for(Phase::Enrolling, SOON).await;
        gateway.no_socket_for(Duration::from_millis(800)).await;
    }
    let base = tempfile::tempdir().unwrap();
    let pin = gateway.fingerprint.clone();
    let _node = power_on(base.path(), Options { pin, ..options(&gateway, &guardians) });
    gateway.socket().await.hello().await;
}

#[actix::test]
async fn a_guardian_that_is_down_fails_the_enrollment_and_a_new_code_comes() {
    let (mut gateway, mut guardians) = (Gateway::start().await, Guardians::start());
    guardians.stop(2).await;
    let base = tempfile::tempdir().unwrap();
    let node = power_on(base.path(), options(&gateway, &guardians));
    let mut socket = gateway.socket().await;
    let (first, _) = socket.hello().await;
    socket.say(&GatewayMessage::Waiting).await;
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery: None }).await;
    assert!(matches!(socket.heard().await, NodeMessage::Accepted { .. }));
    socket.say(&GatewayMessage::Registered).await;
    let NodeMessage::Failed { reason } = socket.outcome().await else { panic!("not failed") };
    assert!(reason.contains("node-127.0.0.13 unreachable"), "{reason}");
    let (second, _) = socket.hello().await;
    assert_ne!(first, second);
    node.wait_for(Phase::Enrolling, SOON).await;

    // The same node enrols once the guardian is back: what was half made is made anew.
    guardians.restart(2);
    socket.say(&GatewayMessage::Waiting).await;
    socket.say(&GatewayMessage::Configure { config: gateway::config(), recovery: None }).await;
    assert!(matches!(socket.heard().await, NodeMessage::Accepted { .. }));
    socket.say(&GatewayMessage::Registered).await;
    assert!(matches!(socket.outcome().await, NodeMessage::Provisioned));
    node.wait_for(Phase::Running, SOON).await;
}
