use super::*;

fn prefixes(list: &[&str]) -> Vec<Ipv4Prefix> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn peer(number: u8, allowed_ips: &[&str]) -> PeerStatus {
    PeerStatus {
        public_key: PublicKey::from_bytes([number; 32]),
        endpoint: None,
        allowed_ips: prefixes(allowed_ips),
        keepalive_seconds: 0,
        last_handshake: None,
        rx_bytes: 0,
        tx_bytes: 0,
    }
}

#[test]
fn routes_follow_from_addresses_and_peers() {
    let check = |addresses: &[&str], allowed: &[&str], expected: &[&str]| {
        let peers = [peer(1, allowed), peer(2, &[])];
        assert_eq!(
            wanted_routes(&prefixes(addresses), &peers),
            prefixes(expected),
            "{addresses:?} {allowed:?}"
        );
    };
    check(&["10.0.0.4/24"], &["10.0.0.1/32", "10.0.0.11/32"], &[]);
    check(&["10.0.0.1/32", "10.0.0.11/32"], &["10.0.0.4/32"], &["10.0.0.0/24"]);
    check(&["10.0.0.1/16"], &["10.0.0.4/32"], &[]);
    check(&["10.0.0.1/25"], &["10.0.0.4/32", "10.0.0.200/32"], &["10.0.0.0/24"]);
    check(&["10.0.0.1/24"], &["192.0.2.7/24", "192.0.2.9/32"], &["192.0.2.0/24", "192.0.2.9/32"]);
    check(&["172.16.0.1/32"], &["10.0.0.4/32"], &["10.0.0.4/32"]);
    check(&[], &[], &[]);
}

#[test]
fn names_that_the_kernel_or_boringtun_would_take_otherwise_are_refused() {
    for name in ["orama0", "wg-test.1", "a", "fifteen-bytes-x"] {
        assert!(check_name(name).is_ok(), "{name}");
    }
    for name in ["", "sixteen-bytes-xy", "a/b", "a b", "..", ".", "7", "wg\0", "wg%d", "ü"] {
        assert!(matches!(check_name(name), Err(UpError::Name(_))), "{name}");
    }
}

#[test]
fn without_a_private_key_or_with_a_default_route_nothing_is_created() {
    let up = |config: &WgConfig| Interface::up("orama-never", config, Backend::Kernel).err().unwrap();
    assert!(matches!(up(&WgConfig::default()), UpError::NoPrivateKey(_)));
    let config = WgConfig {
        private_key: Some(PrivateKey::generate()),
        peers: vec![peer(1, &["0.0.0.0/0"]).config()],
        ..WgConfig::default()
    };
    assert!(matches!(up(&config), UpError::Peer(PeerError::DefaultRoute(..))));
    assert!(link::find("orama-never").unwrap().is_none());
}

#[test]
fn netlink_is_understood_on_the_loopback_link() {
    let lo = link::find("lo").unwrap().expect("every network namespace has a loopback link");
    assert!(!lo.wireguard && lo.index == 1);
    // Needs an up loopback, which every machine that runs tests over sockets has.
    assert!(link::addresses(lo.index).unwrap().contains(&"127.0.0.1/8".parse().unwrap()));
    assert_eq!(link::routes(lo.index).unwrap(), []);
}

#[test]
fn a_handshake_at_the_epoch_never_was() {
    let mut host = Host::default();
    for (number, at) in [(2, SystemTime::UNIX_EPOCH), (1, SystemTime::now())] {
        let mut peer = Peer::new(Key::new([number; 32]));
        peer.last_handshake = Some(at);
        peer.allowed_ips = vec![
            "10.0.0.9/32".parse().unwrap(),
            "10.0.0.3/32".parse().unwrap(),
            "fd00::1/128".parse().unwrap(),
        ];
        host.peers.insert(peer.public_key.clone(), peer);
    }
    let peers = peers_of(&host);
    assert_eq!(peers.iter().map(|peer| peer.last_handshake.is_some()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(peers[0].allowed_ips, prefixes(&["10.0.0.3/32", "10.0.0.9/32"]));
}
