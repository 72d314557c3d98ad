//! The owner of the WireGuard interface, as far as the control socket shows it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use orama_protocol::mesh_control::{MeshPeer, MeshRequest, MeshResponse};

use super::public_key;

#[derive(Clone)]
pub struct FakeMesh {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    peers: BTreeMap<String, MeshPeer>,
    refuse: Option<String>,
}

/// Number of the interface's own key.
pub const OWN: u8 = 200;

impl FakeMesh {
    pub fn new(folder: &Path) -> Self {
        Self { path: folder.join("mesh.sock"), state: Default::default() }
    }

    /// Answers on the control socket until the test program ends.
    pub fn listen(&self) {
        let _ = std::fs::remove_file(&self.path);
        let listener = UnixListener::bind(&self.path).unwrap();
        let state = Arc::clone(&self.state);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
                let answer = answer(&state, serde_json::from_str(&line).unwrap());
                let mut text = serde_json::to_vec(&answer).unwrap();
                text.push(b'\n');
                let _ = stream.write_all(&text);
            }
        });
    }

    /// Nobody can reach the socket any more.
    pub fn vanish(&self) {
        std::fs::remove_file(&self.path).unwrap();
    }

    /// From now on every change is refused; none: accepted again.
    pub fn refuse(&self, why: Option<&str>) {
        self.state.lock().unwrap().refuse = why.map(str::to_owned);
    }

    pub fn peers(&self) -> Vec<MeshPeer> {
        self.state.lock().unwrap().peers.values().cloned().collect()
    }

    pub fn forget(&self) {
        self.state.lock().unwrap().peers.clear();
    }

    /// A peer that nobody asked the gateway for.
    pub fn insert(&self, peer: MeshPeer) {
        self.state.lock().unwrap().peers.insert(peer.public_key.clone(), peer);
    }
}

fn answer(state: &Mutex<State>, request: MeshRequest) -> MeshResponse {
    let mut state = state.lock().unwrap();
    match (request, state.refuse.clone()) {
        (MeshRequest::Show, _) => MeshResponse::Interface {
            name: "orama0".into(),
            public_key: public_key(OWN),
            listen_port: 51821,
            addresses: vec![],
            peers: state.peers.values().cloned().collect(),
        },
        (MeshRequest::SetPeer { .. } | MeshRequest::RemovePeer { .. }, Some(error)) => {
            MeshResponse::Error { error }
        }
        (MeshRequest::SetPeer { peer }, None) => {
            // As the real one: an address belongs to one peer.
            let other = |theirs: &&MeshPeer| theirs.public_key != peer.public_key;
            let taken =
                state.peers.values().filter(other).any(|theirs| theirs.allowed_ips == peer.allowed_ips);
            if taken {
                return MeshResponse::Error { error: "taken".into() };
            }
            state.peers.insert(peer.public_key.clone(), peer);
            MeshResponse::Done
        }
        (MeshRequest::RemovePeer { public_key }, None) => {
            state.peers.remove(&public_key);
            MeshResponse::Done
        }
    }
}
