use orama_keyshare::lifecycle::Custody;
use orama_volume::{PrivateKeyText, WireguardState};
use zeroize::Zeroizing;

use super::*;

fn key(byte: u8) -> String {
    PrivateKey::from_bytes(Zeroizing::new([byte; 32])).public().to_string()
}

/// A node with the gateway's peer, which also carries 10.0.0.7 and 10.0.0.8, and a named one.
fn state() -> EarlyState {
    let peer = |byte: u8, addresses: &[&str], node_id: Option<&str>| PeerState {
        public_key: key(byte),
        endpoint: None,
        allowed_ips: addresses.iter().map(|address| (*address).to_owned()).collect(),
        keepalive_seconds: 25,
        node_id: node_id.map(str::to_owned),
        guardian: node_id.is_some(),
        leaving: false,
    };
    let own = PrivateKey::from_bytes(Zeroizing::new([9; 32]));
    EarlyState {
        volume_uuid: [1; 16],
        node_id: "node-10.0.0.9".into(),
        wireguard: WireguardState {
            private_key: PrivateKeyText::new(own.to_base64()).unwrap(),
            address: "10.0.0.9/24".into(),
            listen_port: 51820,
            peers: vec![
                peer(1, &["10.0.0.1/32", "10.0.0.7/32", "10.0.0.8/32"], None),
                peer(2, &["10.0.0.2/32"], Some("node-10.0.0.2")),
            ],
        },
        gateway_url: "https://gateway.example.org".into(),
        agent_token_sha256: [0; 32],
        peers_revision: 0,
        custody: Custody::wallet(),
        sealed_key: Some("04".into()),
    }
}

fn entry(last: u8, key_byte: u8) -> Peer {
    Peer {
        node_id: format!("node-10.0.0.{last}"),
        wg_ip: format!("10.0.0.{last}"),
        public_key: key(key_byte),
        endpoint: Some("203.0.113.1:51820".into()),
        guardian: true,
        leaving: false,
    }
}

fn merge(peers: Vec<Peer>) -> Result<Vec<PeerState>, ListProblem> {
    merged(&state(), &PeerList { revision: 1, peers })
}

#[test]
fn nameless_peers_stay_and_named_ones_come_and_go() {
    let after = merge(vec![entry(3, 3)]).unwrap();
    assert_eq!(after.len(), 2);
    assert_eq!(after[0], state().wireguard.peers[0]);
    assert_eq!(after[1].node_id.as_deref(), Some("node-10.0.0.3"));
    assert_eq!((after[1].allowed_ips.as_slice(), after[1].guardian), (&["10.0.0.3/32".to_owned()][..], true));
    assert_eq!(merge(Vec::new()).unwrap(), state().wireguard.peers[..1]);
}

#[test]
fn an_address_of_the_same_key_is_taken_over() {
    let after = merge(vec![entry(7, 1), entry(8, 1)]).unwrap();
    assert_eq!(after[0].allowed_ips, ["10.0.0.1/32"]);
    assert_eq!(after.len(), 3);
    let mut all = entry(1, 1);
    all.endpoint = None;
    let after = merge(vec![all, entry(7, 1), entry(8, 1)]).unwrap();
    assert!(after.iter().all(|peer| peer.node_id.is_some()), "{after:?}");
}

#[test]
fn what_cannot_be_right_is_refused_and_named() {
    let check = |edit: fn(&mut Peer), expect: &str| {
        let mut second = entry(4, 4);
        edit(&mut second);
        let said = merge(vec![entry(3, 3), second]).unwrap_err().to_string();
        assert!(said.contains("peers[1]") && said.contains(expect), "{said} does not say {expect:?}");
    };
    check(|peer| peer.node_id = "node 4\n".into(), "node_id `node 4?`");
    check(|peer| peer.wg_ip = "10.0.0.4/32".into(), "wg_ip");
    check(|peer| peer.wg_ip = "10.0.1.4".into(), "not inside this node's overlay 10.0.0.0/24");
    check(|peer| peer.public_key = "AAAA".into(), "public_key");
    check(|peer| peer.endpoint = Some("peer.example.org:51820".into()), "endpoint");
    check(|peer| peer.wg_ip = "10.0.0.9".into(), "this node itself");
    check(|peer| peer.node_id = "node-10.0.0.9".into(), "this node itself");
    check(|peer| peer.public_key = key(9), "this node itself");
    check(|peer| peer.wg_ip = "10.0.0.3".into(), "10.0.0.3 is named twice");
    check(|peer| peer.node_id = "node-10.0.0.3".into(), "node-10.0.0.3 is named twice");
    check(|peer| peer.wg_ip = "10.0.0.1".into(), "belongs to a peer of another key");
    let many = (0..=PEERS_MAX).map(|_| entry(3, 3)).collect();
    assert_eq!(merge(many).unwrap_err(), ListProblem::TooMany(PEERS_MAX + 1));
}
