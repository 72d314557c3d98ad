//! A node's agent that takes lists of peers and tells the custody of its key, as the real one shows itself.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use orama_protocol::peers::{CustodyHolder, CustodyStatus, PeerList, PeersAccepted};
use serde_json::{Value, json};

use super::node::AGENT_TOKEN;

#[derive(Default)]
struct State {
    lists: Vec<PeerList>,
    statuses: usize,
    commands: Vec<Value>,
    custody: Option<CustodyStatus>,
    /// Splits its key anew over the guardians of a list, as soon as it takes one.
    moves_shares: bool,
    /// An agent from before lists of peers.
    old: bool,
    guardian: bool,
}

pub struct Member {
    state: Arc<Mutex<State>>,
    handle: ServerHandle,
}

/// A settled split over these guardians, any `k` of which are enough.
pub fn split(k: u8, holders: &[Ipv4Addr]) -> CustodyStatus {
    let holder = |ip: &Ipv4Addr| CustodyHolder { node_id: format!("node-{ip}"), wg_ip: ip.to_string() };
    CustodyStatus {
        keeper: "guardians".into(),
        generation: 1,
        begun: 1,
        k,
        n: holders.len() as u8,
        holders: holders.iter().map(holder).collect(),
        state: "settled".into(),
        why: None,
        next_try_seconds: None,
        stale: 0,
    }
}

impl Member {
    pub async fn start(address: Ipv4Addr, port: u16) -> Self {
        let state: Arc<Mutex<State>> = Default::default();
        let shared = Arc::clone(&state);
        let server = HttpServer::new(move || {
            let state = Arc::clone(&shared);
            App::new().default_service(web::to(move |request: HttpRequest, body: web::Bytes| {
                let answer = answer(&mut state.lock().unwrap(), &request, &body);
                async move { answer }
            }))
        });
        let server = server.workers(1).disable_signals().bind((address, port)).unwrap().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { state, handle }
    }

    pub fn custody(&self, custody: CustodyStatus) {
        self.state.lock().unwrap().custody = Some(custody);
    }

    pub fn moves_shares(&self, moves: bool) {
        self.state.lock().unwrap().moves_shares = moves;
    }

    pub fn is_old(&self, old: bool) {
        self.state.lock().unwrap().old = old;
    }

    pub fn has_guardian(&self) {
        self.state.lock().unwrap().guardian = true;
    }

    /// It knows a list of this revision from somewhere else.
    pub fn knows(&self, revision: u64) {
        self.state.lock().unwrap().lists.push(PeerList { revision, peers: vec![] });
    }

    pub fn lists(&self) -> Vec<PeerList> {
        self.state.lock().unwrap().lists.clone()
    }

    pub fn last_list(&self) -> Option<PeerList> {
        self.lists().pop()
    }

    pub fn statuses(&self) -> usize {
        self.state.lock().unwrap().statuses
    }

    pub fn commands(&self) -> Vec<Value> {
        self.state.lock().unwrap().commands.clone()
    }

    pub async fn stop(&self) {
        self.handle.stop(false).await;
    }
}

fn answer(state: &mut State, request: &HttpRequest, body: &[u8]) -> HttpResponse {
    let bearer = request.headers().get("Authorization").map(|value| value.to_str().unwrap().to_owned());
    if bearer != Some(format!("Bearer {AGENT_TOKEN}")) {
        return HttpResponse::Unauthorized().json(json!({ "error": "wrong token" }));
    }
    let revision = state.lists.last().map_or(0, |list| list.revision);
    match (request.method().as_str(), request.path()) {
        ("GET", "/v1/agent/status") => {
            state.statuses += 1;
            HttpResponse::Ok().json(status(state, revision))
        }
        ("POST", "/v1/agent/command") => {
            let order: Value = serde_json::from_slice(body).unwrap();
            state.commands.push(order.clone());
            if state.old && order["action"] == "leave" {
                return HttpResponse::BadRequest().json(json!({ "error": "unknown action `leave`" }));
            }
            HttpResponse::Ok().json(json!({ "status": "done" }))
        }
        ("PUT", "/v1/agent/peers") if !state.old => {
            let list: PeerList = serde_json::from_slice(body).unwrap();
            if list.revision < revision {
                return HttpResponse::Conflict().json(json!({ "error": format!("{revision} is known") }));
            }
            let accepted = PeersAccepted { status: "accepted".into(), revision: list.revision };
            if state.moves_shares {
                let staying = list.peers.iter().filter(|peer| peer.guardian && !peer.leaving);
                let holders: Vec<Ipv4Addr> = staying.map(|peer| peer.wg_ip.parse().unwrap()).collect();
                state.custody = Some(split(3, &holders));
            }
            state.lists.push(list);
            HttpResponse::Ok().json(accepted)
        }
        _ => HttpResponse::NotFound().json(json!({ "error": "there is nothing at this path" })),
    }
}

fn status(state: &State, revision: u64) -> Value {
    let service = json!({ "state": "running", "healthy": true, "pid": 1, "restarts": 0,
        "uptime_seconds": 1, "reason": "", "seccomp": "enforce" });
    let services = if state.guardian { json!({ "vault-guardian": service }) } else { json!({}) };
    let mut status = json!({ "node_id": "n", "version": "1.2.3", "phase": "running", "reason": "",
        "healthy": true, "uptime_seconds": 77, "slot": "a", "wireguard": null, "unlock": null, "alarms": [],
        "services": services, "update": "",
        "agent": { "version": "1", "rss_bytes": 1, "root_processes": 1, "actor_restarts": {} } });
    if !state.old {
        status["peers_revision"] = json!(revision);
        status["custody"] = json!(state.custody);
    }
    status
}
