//! The gateway against the real control socket of the mesh crate, with an interface that only remembers.

mod harness;

use std::path::Path;
use std::sync::Mutex;

use harness::{FakeNode, Gateway, Setting, public_key};
use orama_mesh::control::{Server, ServerConfig, Tunnel};
use orama_mesh::{InterfaceStatus, Ipv4Prefix, PeerConfig, PeerStatus, PublicKey};
use orama_protocol::enroll::NodeMessage;

struct Remembered(InterfaceStatus);

impl Tunnel for Remembered {
    fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), String> {
        self.remove_peer(&peer.public_key)?;
        self.0.peers.push(PeerStatus {
            public_key: peer.public_key,
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips.clone(),
            keepalive_seconds: peer.keepalive_seconds,
            last_handshake: None,
            rx_bytes: 0,
            tx_bytes: 0,
        });
        Ok(())
    }

    fn remove_peer(&mut self, public_key: &PublicKey) -> Result<(), String> {
        self.0.peers.retain(|peer| peer.public_key != *public_key);
        Ok(())
    }

    fn read(&self) -> Result<InterfaceStatus, String> {
        Ok(self.0.clone())
    }
}

/// As in the demo: the host has its own address and those of its guardians.
fn serve(path: &Path) {
    let server = Server::bind(&ServerConfig { path, group: None, allowed_uids: None }).unwrap();
    let address = |last: u8| Ipv4Prefix::new([10, 0, 0, last].into(), 24).unwrap();
    let interface = InterfaceStatus {
        name: "orama0".into(),
        public_key: public_key(harness::mesh::OWN).parse().unwrap(),
        listen_port: 51821,
        addresses: [1, 11, 12, 13].map(address).to_vec(),
        peers: vec![],
    };
    std::thread::spawn(move || {
        // Nothing is ever written to the other end, so it serves as long as the test runs.
        let (stop, _keep) = std::os::unix::net::UnixStream::pair().unwrap();
        server.serve(&Mutex::new(Remembered(interface)), stop).unwrap();
    });
}

#[actix_web::test]
async fn nodes_are_enrolled_and_fail_over_the_real_socket() {
    let setting = Setting { overlay: Some([10, 0, 0]), own_mesh: Some(serve), ..Setting::default() };
    let gateway = Gateway::start_with(setting).await;
    let mut first = FakeNode::waiting(&gateway, "AAAA2345", 1).await;
    let enrolled = gateway.enroll_node(&mut first, "AAAA2345", "203.0.113.7").await;
    assert_eq!(enrolled.wg_ip, "10.0.0.2");
    let config = first.config.take().unwrap();
    let parsed = orama_mesh::wgquick::parse(&config.wireguard_config).unwrap();
    // Host and guardians are one peer with four addresses.
    assert_eq!(parsed.peers.iter().map(|peer| peer.allowed_ips.len()).collect::<Vec<_>>(), [4]);

    // A failure frees the address for the next node, whose key is another.
    first.say(NodeMessage::Failed { reason: "no disk".into() }).await;
    harness::eventually("the node is removed", async || {
        gateway.registry().nodes().unwrap().iter().all(|node| node.public_key != public_key(1)).then_some(())
    })
    .await;
    let mut second = FakeNode::waiting(&gateway, "BBBB2345", 2).await;
    let enrolled = gateway.enroll_node(&mut second, "BBBB2345", "203.0.113.8").await;
    assert_eq!(enrolled.wg_ip, "10.0.0.2");
}
