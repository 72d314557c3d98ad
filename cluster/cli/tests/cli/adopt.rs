//! `orama node adopt` against a gateway and a node that are played: in which order both are told, and what stops it.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};

use crate::support::{Answer, FakeGateway, Orama, Ran, Request, error, ok, serve};

const TOKEN: &str = "abababababababababababababababababababababababababababababababab";
const LIST: &str = r#"{"revision":7,"peers":[{"node_id":"node-10.0.0.9","wg_ip":"10.0.0.9","public_key":"K=",
    "endpoint":"192.0.2.9:51821","guardian":false,"leaving":false}]}"#;

fn status(phase: &str) -> Answer {
    ok(&format!(
        r#"{{"node_id":"n","version":"1","phase":"{phase}","reason":"","healthy":true,"uptime_seconds":1,"slot":"a",
        "wireguard":null,"unlock":null,"alarms":[],"services":{{}},"update":"",
        "agent":{{"version":"1","rss_bytes":1,"root_processes":1,"actor_restarts":{{}}}}}}"#
    ))
}

/// A node at an address of its own on loopback.
fn node(last: u8, phase: &'static str, puts: Answer) -> (Ipv4Addr, Arc<Mutex<Vec<Request>>>) {
    let [_, high, low, _] = std::process::id().to_be_bytes().map(|byte| byte.max(1));
    let address = Ipv4Addr::new(127, low, high ^ low, last);
    let listener = TcpListener::bind((address, 9998)).unwrap();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = |request: &Request, _| match request.line.as_str() {
                "GET /v1/agent/status" => status(phase),
                "PUT /v1/agent/peers" => puts.clone(),
                other => panic!("{other}"),
            };
            serve(stream, &answer, &seen);
        }
    });
    (address, requests)
}

fn adopt(gateway: &FakeGateway, address: Ipv4Addr, owner: &str) -> Ran {
    let orama = Orama::new();
    let text = format!(
        "version = 1\nnode_id = \"node-{address}\"\nnode_ip = \"192.0.2.1\"\nwg_ip = \"{address}\"\nwireguard_port = 51820\n\
         wireguard_public_key = \"3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=\"\n\
         owner = \"0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A\"\n{owner}\nagent_token = \"{TOKEN}\"\n[operator]\n\
         wireguard_private_key = \"YAnz5TF+lXXJte14tji3zlMNftdYmrODbB3lOgXIVXo=\"\naddress = \"10.0.0.254/24\"\n",
    );
    let path = orama.file("anywhere.toml", &text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = path.to_str().unwrap();
    orama.at(gateway, &["--json", "node", "adopt", file, "--tunnel", "never", "--wait", "1s"])
}

const OWNER: &str = "owner_public_key = \"04aa\"";

#[test]
fn the_gateway_is_told_first_and_its_list_goes_to_the_node() {
    let gateway = FakeGateway::start(|request, _| match request.line.as_str() {
        "POST /v1/node/adopt" => ok(&format!(r#"{{"status":"adopted","list":{LIST}}}"#)),
        line if line.starts_with("GET /v1/node/status?node_id=node-127.") => status("running"),
        other => panic!("{other}"),
    });
    let (address, requests) = node(1, "running", ok(r#"{"status":"accepted","revision":7}"#));
    let ran = adopt(&gateway, address, OWNER);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("\"revision\": 7"), "{ran:?}");
    let asked: serde_json::Value = serde_json::from_str(&gateway.requests()[0].body).unwrap();
    let expected = serde_json::json!({
        "node_id": format!("node-{address}"), "wg_ip": address, "network": "10.0.0.0/24",
        "public_key": "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=", "endpoint": "192.0.2.1:51820",
        "agent_token": TOKEN, "owner_public_key": "04aa", "operator_address": "10.0.0.254",
    });
    assert_eq!(asked, expected);
    let told = requests.lock().unwrap()[1].clone();
    assert_eq!((told.line.as_str(), told.authorization), ("PUT /v1/agent/peers", format!("Bearer {TOKEN}")));
    let list = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(list(&told.body), list(LIST), "as the gateway said it");
}

#[test]
fn nothing_is_told_when_the_node_is_not_ready_and_each_refusal_says_what_to_do() {
    let adopted = || ok(&format!(r#"{{"status":"adopted","list":{LIST}}}"#));
    let gateway = FakeGateway::answering(adopted());
    let (address, _) = node(2, "waiting-for-owner", error(500, "never asked"));
    let ran = adopt(&gateway, address, OWNER);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("waiting-for-owner") && ran.err.contains("unlock --genesis"), "{ran:?}");
    let (address, _) = node(3, "running", error(503, "WireGuard does not take it"));
    assert_eq!(adopt(&gateway, address, "").code, 2, "a file that names no owner's key");
    assert!(gateway.requests().is_empty());

    let ran = adopt(&gateway, address, OWNER);
    assert!(ran.code == 1 && ran.err.contains("give the same command again"), "{ran:?}");
    let refusing = FakeGateway::answering(error(409, "the node's address belongs to node-x"));
    let (address, requests) = node(4, "running", error(500, "never asked"));
    let ran = adopt(&refusing, address, OWNER);
    assert!(ran.code == 1 && ran.err.contains("belongs to node-x"), "{ran:?}");
    assert_eq!(requests.lock().unwrap().len(), 1, "the node was only asked how it is");

    let deaf = FakeGateway::start(move |request, _| match request.line.as_str() {
        "POST /v1/node/adopt" => adopted(),
        _ => error(502, "the agent is unreachable"),
    });
    let (address, _) = node(5, "running", ok(r#"{"status":"accepted","revision":7}"#));
    let ran = adopt(&deaf, address, OWNER);
    assert!(ran.code == 6 && ran.err.contains("does not reach"), "{ran:?}");
}
