//! A scripted gateway: TLS with a certificate of its own authority, one WebSocket at a time, and a test that says what
//! it sends.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use actix_ws::AggregatedMessage;
use orama_actors::enroll::Pin;
use orama_mesh::PrivateKey;
use orama_protocol::Redacted;
use orama_protocol::enroll::{ConfigPeer, ENROLL_SOCKET_PATH, GatewayMessage, NodeConfig, NodeMessage};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::guardians;

pub struct Gateway {
    pub url: String,
    pub authority: Pin,
    pub fingerprint: Pin,
    sockets: mpsc::Receiver<Socket>,
    handle: ServerHandle,
}

/// One connection of a node.
pub struct Socket {
    said: mpsc::Receiver<NodeMessage>,
    session: actix_ws::Session,
}

type Offered = Arc<Mutex<mpsc::Sender<Socket>>>;

impl Gateway {
    pub async fn start() -> Self {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();

        let chain = vec![CertificateDer::from_pem_slice(certificate.pem().as_bytes()).unwrap()];
        let fingerprint = Pin::Fingerprint(Sha256::digest(&chain[0]).into());
        let private = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .unwrap();

        let (offer, sockets) = mpsc::channel(4);
        let offer: Offered = Arc::new(Mutex::new(offer));
        let address = super::free_address(std::net::Ipv4Addr::LOCALHOST);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::Data::new(offer.clone()))
                .route(ENROLL_SOCKET_PATH, web::get().to(upgrade))
        });
        let server = server.workers(1).disable_signals().shutdown_timeout(1);
        let server = server.bind_rustls_0_23(address, tls).unwrap().run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Self {
            url: format!("https://{address}"),
            authority: Pin::Authority(authority_certificate.pem().into_bytes()),
            fingerprint,
            sockets,
            handle,
        }
    }

    /// The next connection of a node.
    pub async fn socket(&mut self) -> Socket {
        let socket = tokio::time::timeout(Duration::from_secs(10), self.sockets.recv()).await;
        socket.expect("a node connects").unwrap()
    }

    pub async fn no_socket_for(&mut self, limit: Duration) {
        assert!(tokio::time::timeout(limit, self.sockets.recv()).await.is_err(), "a node connected");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

async fn upgrade(
    request: HttpRequest,
    body: web::Payload,
    offer: web::Data<Offered>,
) -> Result<HttpResponse, actix_web::Error> {
    let (response, session, stream) = actix_ws::handle(&request, body)?;
    let (told, said) = mpsc::channel(64);
    let mut stream = stream.aggregate_continuations();
    let mut answering = session.clone();
    actix_rt::spawn(async move {
        while let Some(Ok(message)) = stream.recv().await {
            match message {
                AggregatedMessage::Text(text) => {
                    if told.send(serde_json::from_str(&text).unwrap()).await.is_err() {
                        return;
                    }
                }
                AggregatedMessage::Ping(payload) => answering.pong(&payload).await.unwrap(),
                AggregatedMessage::Close(_) => return,
                AggregatedMessage::Binary(_) | AggregatedMessage::Pong(_) => {}
            }
        }
    });
    let offer = offer.lock().unwrap().clone();
    offer.send(Socket { said, session }).await.unwrap();
    Ok(response)
}

impl Socket {
    pub async fn heard(&mut self) -> NodeMessage {
        let message = tokio::time::timeout(Duration::from_secs(20), self.said.recv()).await;
        message.expect("the node says something").expect("the node keeps the socket")
    }

    /// The hello's code and public key.
    pub async fn hello(&mut self) -> (String, String) {
        match self.heard().await {
            NodeMessage::Hello { code, wireguard_public_key, .. } => (code, wireguard_public_key),
            other => panic!("{other:?} instead of a hello"),
        }
    }

    /// The next message that is no progress.
    pub async fn outcome(&mut self) -> NodeMessage {
        loop {
            match self.heard().await {
                NodeMessage::Progress { step } => println!("progress: {step}"),
                other => return other,
            }
        }
    }

    pub async fn closed(&mut self) {
        let end = tokio::time::timeout(Duration::from_secs(10), self.said.recv()).await;
        assert!(end.expect("the node closes the socket").is_none());
    }

    pub async fn say(&mut self, message: &GatewayMessage) {
        self.text(serde_json::to_string(message).unwrap()).await;
    }

    /// The connection is gone, without a word.
    pub async fn hang_up(self) {
        self.session.close(None).await.unwrap();
    }

    pub async fn text(&mut self, text: String) {
        self.session.text(text).await.unwrap();
    }
}

/// The configuration of node-127.0.0.4 with five guardians behind one host.
pub fn config() -> NodeConfig {
    let host = PrivateKey::generate().public();
    let indices = 0..usize::from(guardians::COUNT);
    let allowed: Vec<String> = indices.clone().map(|index| format!("{}/32", guardians::ip(index))).collect();
    NodeConfig {
        node_id: "node-127.0.0.4".into(),
        wireguard_config: format!(
            "[Interface]\nAddress = 127.0.0.4/24\nListenPort = 51820\n\n[Peer]\nPublicKey = {host}\n\
             Endpoint = 192.0.2.1:51820\nAllowedIPs = {}\nPersistentKeepalive = 25\n",
            allowed.join(", ")
        ),
        cluster_secret: Redacted::new("the cluster's secret".into()),
        owner_public_key: None,
        peers: indices
            .map(|index| ConfigPeer {
                wg_ip: guardians::ip(index).to_string(),
                node_id: guardians::node_id(index),
                guardian: true,
            })
            .collect(),
    }
}
