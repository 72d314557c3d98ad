//! A gateway in this process with everything around it played on loopback: the owner of the mesh, nodes, agents.
//! Every gateway has its own /24 of 127.0.0.0/8 as overlay, so tests run beside each other.

#![allow(dead_code)]

pub mod agent;
pub mod member;
pub mod mesh;
pub mod node;

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use actix_web::http::StatusCode;
use awc::{Client, Connector};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use orama_gateway::registry::{Node, Registry, Role};
use orama_gateway::{Config, Running};
use orama_protocol::enroll::EnrollResponse;
use orama_protocol::gateway::{FleetReport, InviteResponse, NodeReport};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

pub use mesh::FakeMesh;
pub use node::FakeNode;

static NEXT_NETWORK: AtomicU8 = AtomicU8::new(0);

pub struct Gateway {
    pub folder: tempfile::TempDir,
    pub config: Config,
    pub running: Option<Running>,
    pub client: Client,
    pub admin_key: String,
    pub mesh: FakeMesh,
    /// First three octets of the overlay.
    octets: [u8; 3],
}

/// What differs between tests.
pub struct Setting {
    pub mesh: bool,
    pub guardians: u8,
    /// First three octets of the overlay; none: loopback, so that agents can be played there.
    pub overlay: Option<[u8; 3]>,
    /// The test plays the owner of the mesh itself, at this socket in the folder.
    pub own_mesh: Option<fn(&Path)>,
}

impl Default for Setting {
    fn default() -> Self {
        Self { mesh: true, guardians: 3, overlay: None, own_mesh: None }
    }
}

pub fn public_key(number: u8) -> String {
    STANDARD.encode([number; 32])
}

impl Gateway {
    pub async fn start() -> Self {
        Self::start_with(Setting::default()).await
    }

    pub async fn start_with(setting: Setting) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        // Test programs may run beside each other, so the process takes part in the choice.
        let own = [127, 64 + (std::process::id() % 128) as u8, NEXT_NETWORK.fetch_add(1, Ordering::Relaxed)];
        let octets = setting.overlay.unwrap_or(own);
        let mesh = FakeMesh::new(folder.path());
        match setting.own_mesh {
            Some(listen) => listen(&folder.path().join("mesh.sock")),
            None if setting.mesh => mesh.listen(),
            None => {}
        }
        let text = configuration(folder.path(), octets, setting.mesh);
        let config = Config::parse("test.toml", &text).unwrap();
        let mut gateway = Self {
            folder,
            config,
            running: None,
            client: Client::default(),
            admin_key: String::new(),
            mesh,
            octets,
        };
        for number in 0..setting.guardians {
            gateway.add_guardian(11 + number);
        }
        gateway.run().await;
        gateway
    }

    /// Starts (again) on the same folder.
    pub async fn run(&mut self) {
        let running = orama_gateway::start(self.config.clone(), None).await.unwrap();
        self.client = trusting(&running.certificate.as_ref().unwrap().1);
        let key = std::fs::read_to_string(self.folder.path().join("data/admin.key")).unwrap();
        self.admin_key = key.trim().to_owned();
        self.running = Some(running);
    }

    pub async fn stop(&mut self) {
        self.running.take().unwrap().stop().await;
    }

    pub fn overlay(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(self.octets[0], self.octets[1], self.octets[2], last)
    }

    pub fn registry(&self) -> Registry {
        orama_gateway::open_registry(&self.config).unwrap()
    }

    pub fn add_guardian(&self, last: u8) {
        let wg_ip = self.overlay(last);
        let stored = self.registry().put_peer(&Node {
            node_id: format!("node-{wg_ip}"),
            wg_ip,
            public_key: public_key(200),
            public_ip: Ipv4Addr::new(192, 0, 2, 200),
            wg_port: 51820,
            agent_token: None,
            confirmed_at: None,
            guardian: true,
            role: Role::Peer,
            phase: "peer".into(),
            detail: String::new(),
        });
        assert!(stored.unwrap());
    }

    /// A confirmed node with an agent token, as an enrollment leaves it.
    pub fn add_node(&self, last: u8, token: &str) -> String {
        let (registry, wg_ip) = (self.registry(), self.overlay(last));
        let node_id = format!("node-{wg_ip}");
        let digest = format!("test-invite-{last}");
        registry.add_invite(&digest, "test", i64::MAX, 0).unwrap();
        registry.reserve_invite(&digest, "test", 0).unwrap().unwrap();
        let node = Node {
            node_id: node_id.clone(),
            wg_ip,
            public_key: public_key(last),
            public_ip: Ipv4Addr::new(192, 0, 2, last),
            wg_port: 51820,
            agent_token: Some(orama_protocol::Redacted::new(token.to_owned())),
            confirmed_at: None,
            guardian: false,
            role: Role::Agent,
            phase: String::new(),
            detail: String::new(),
        };
        assert!(registry.enroll(&node, &digest, "test", 1).unwrap());
        registry.confirm(&node_id, 2).unwrap();
        node_id
    }

    pub fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.running.as_ref().unwrap().public.unwrap().port())
    }

    pub fn local_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.as_ref().unwrap().local.unwrap())
    }

    /// As the operator, with the admin key.
    pub async fn get(&self, path: &str) -> (StatusCode, Value) {
        let sent = self.client.get(self.url(path)).bearer_auth(&self.admin_key).send().await;
        read(sent.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: Value) -> (StatusCode, Value) {
        let sent = self.client.post(self.url(path)).bearer_auth(&self.admin_key).send_json(&body).await;
        read(sent.unwrap()).await
    }

    pub async fn invite(&self) -> String {
        let (status, body) = self.post("/v1/node/invite", json!({ "expiry_seconds": 3600 })).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_value::<InviteResponse>(body).unwrap().token.expose().to_owned()
    }

    /// As `orama node enroll` does it.
    pub async fn enroll(&self, code: &str, invite: &str, node_ip: &str) -> (StatusCode, Value) {
        let body = json!({ "code": code, "token": invite, "node_ip": node_ip });
        let request = self.client.post(self.url("/v1/node/enroll")).bearer_auth(invite);
        read(request.send_json(&body).await.unwrap()).await
    }

    /// Enrolls the node up to `Registered`.
    pub async fn enroll_node(&self, node: &mut FakeNode, code: &str, node_ip: &str) -> EnrollResponse {
        let invite = self.invite().await;
        let (answer, ()) =
            futures_util::future::join(self.enroll(code, &invite, node_ip), node.accept()).await;
        assert_eq!(answer.0, 200, "{}", answer.1);
        serde_json::from_value(answer.1).unwrap()
    }

    pub async fn report(&self) -> FleetReport {
        let (status, body) = self.get("/v1/fleet/report").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_value(body).unwrap()
    }

    pub async fn report_of(&self, node_id: &str) -> Option<NodeReport> {
        self.report().await.nodes.into_iter().find(|node| node.node_id == node_id)
    }
}

fn configuration(folder: &Path, octets: [u8; 3], mesh: bool) -> String {
    let network = octets.map(|octet| octet.to_string()).join(".");
    let control: PathBuf = folder.join("mesh.sock");
    let section = format!("[mesh]\ncontrol = \"{}\"\nendpoint = \"10.0.2.2:51821\"\n", control.display());
    format!(
        "[public]\nlisten = \"127.0.0.1:0\"\n[local]\nlisten = \"127.0.0.1:0\"\n\
         [store]\npath = \"{}/data/gateway.db\"\n\
         [overlay]\nnetwork = \"{network}.0/24\"\naddress = \"{network}.1\"\n\
         [agent]\nport = {}\ntimeout_seconds = 3\n{}",
        folder.display(),
        free_port(),
        if mesh { section } else { String::new() },
    )
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A client that believes this certificate and no other.
pub fn trusting(certificate: &Path) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificate).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    // WebSockets need HTTP/1.1. Not `max_http_version`: it throws this whole configuration away.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Client::builder()
        .connector(Connector::new().rustls_0_23(Arc::new(config)))
        .timeout(std::time::Duration::from_secs(60))
        .disable_redirects()
        .finish()
}

pub async fn read<S>(mut response: awc::ClientResponse<S>) -> (StatusCode, Value)
where
    S: futures_util::Stream<Item = Result<actix_web::web::Bytes, awc::error::PayloadError>> + Unpin,
{
    let status = response.status();
    let body = response.body().limit(4 << 20).await.unwrap();
    let text = String::from_utf8_lossy(&body).into_owned();
    (status, serde_json::from_slice(&body).unwrap_or(Value::String(text)))
}

/// Asks until the answer is there; what a node says on its socket is stored a moment later.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    for _ in 0..300 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("never happened: {what}");
}
