use std::net::{Ipv4Addr, SocketAddr};

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::parse::WgQuickErrorKind as Kind;
use super::*;
use crate::{KeyError, PrefixError};

const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PEER_A: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";
const PEER_B: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// The error of a text, as an operator reads it.
fn error(text: &str) -> String {
    match parse(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn the_text_of_an_existing_gateway_is_read() {
    let text = format!(
        "# node-10.0.0.4\r\n[Interface]\r\nPrivateKey = {PRIVATE}\r\nAddress = 10.0.0.4/24\r\nListenPort = 51820\r\n\r\n\
         [Peer]\nPublicKey={PEER_A}\nEndpoint = 192.0.2.1:51820 # first\nAllowedIPs = 10.0.0.1/32,10.0.0.11/32\n\
         PersistentKeepalive = 25\n[peer]\npublickey = {PEER_B}\nallowedips = 10.0.0.2\nPersistentKeepalive = off\n"
    );
    let config = parse(&text).unwrap();
    assert_eq!(config.private_key.as_ref().unwrap().to_base64().as_str(), PRIVATE);
    assert_eq!(config.addresses, ["10.0.0.4/24".parse().unwrap()]);
    assert_eq!(config.listen_port, Some(51820));
    let [first, second] = config.peers.as_slice() else { panic!("two peers") };
    assert_eq!(first.endpoint, Some("192.0.2.1:51820".parse().unwrap()));
    assert_eq!(first.allowed_ips, ["10.0.0.1/32".parse().unwrap(), "10.0.0.11/32".parse().unwrap()]);
    assert_eq!((first.keepalive_seconds, second.keepalive_seconds), (25, 0));
    assert_eq!(
        (second.endpoint, second.allowed_ips.as_slice()),
        (None, ["10.0.0.2/32".parse().unwrap()].as_slice())
    );
}

#[test]
fn a_private_key_is_optional() {
    let config = parse("[Interface]\nAddress = 10.0.0.4/24\n").unwrap();
    assert!(config.private_key.is_none() && config.listen_port.is_none() && config.peers.is_empty());
}

#[test]
fn errors_name_line_and_key() {
    let peer = format!("[Interface]\n[Peer]\nPublicKey = {PEER_A}\n");
    for (text, expected) in [
        (String::new(), "no [Interface] section".to_owned()),
        ("[Peer]\n".into(), "no [Interface] section".into()),
        ("Address = 10.0.0.1\n".into(), "line 1: \"Address\" stands before any section".into()),
        ("[Interface]\n\n[Interface]".into(), "line 3: a second [Interface] section".into()),
        (
            "[Interface]\n[Peers]".into(),
            "line 2: unknown section \"[Peers]\", expected [Interface] or [Peer]".into(),
        ),
        ("[Interface]\nPostUp = sh -c x".into(), "line 2: unknown key \"postup\" in [Interface]".into()),
        ("[Interface]\nPublicKey = x".into(), "line 2: unknown key \"publickey\" in [Interface]".into()),
        (format!("{peer}PresharedKey = x"), "line 4: unknown key \"presharedkey\" in [Peer]".into()),
        ("[Interface]\nAddress".into(), "line 2: not `Key = value`".into()),
        ("[Interface]\nAddress =".into(), "line 2: Address has no value".into()),
        (
            "[Interface]\nListenPort = 1\n#\nListenPort = 2".into(),
            "line 4: ListenPort is given twice in this section".into(),
        ),
        (
            "[Interface]\nListenPort = 0".into(),
            "line 2: ListenPort \"0\" is not a number from 1 to 65535".into(),
        ),
        (
            "[Interface]\nListenPort = +1".into(),
            "line 2: ListenPort \"+1\" is not a number from 1 to 65535".into(),
        ),
        (
            "[Interface]\nAddress = 10.0.0.1/24, fd00::1/64".into(),
            "line 2: Address \"fd00::1/64\": not an IPv4 address".into(),
        ),
        (
            "[Interface]\nAddress = 10.0.0.1,10.0.0.1/32".into(),
            "line 2: Address names 10.0.0.1/32 twice".into(),
        ),
        (
            format!("{peer}AllowedIPs = 10.0.0.1,,10.0.0.2"),
            "line 4: AllowedIPs \"\": not an IPv4 address".into(),
        ),
        (
            format!("{peer}Endpoint = gw.example.com:51820"),
            "line 4: Endpoint \"gw.example.com:51820\" is not `ip:port` (names are not resolved)".into(),
        ),
        (
            format!("{peer}Endpoint = 192.0.2.1:0"),
            "line 4: Endpoint \"192.0.2.1:0\" is not `ip:port` (names are not resolved)".into(),
        ),
        (
            format!("{peer}PersistentKeepalive = 65536"),
            "line 4: PersistentKeepalive \"65536\" is not a number from 0 to 65535".into(),
        ),
        ("[Interface]\n[Peer]\nAllowedIPs = 10.0.0.1".into(), "line 2: this [Peer] has no PublicKey".into()),
        (
            format!("{peer}[Peer]\nPublicKey = {PEER_A}"),
            "line 4: this [Peer] has the PublicKey of an earlier one".into(),
        ),
        (
            format!(
                "{peer}AllowedIPs = 10.0.0.1\n[Peer]\nPublicKey = {PEER_B}\nAllowedIPs = 10.0.0.2, 10.0.0.1"
            ),
            "line 5: AllowedIPs 10.0.0.1/32 belongs to an earlier [Peer] already".into(),
        ),
        (
            "[Interface]\nPrivateKey = short".into(),
            "line 2: PrivateKey: a key is 44 characters of base64, this is 5 characters long".into(),
        ),
    ] {
        assert_eq!(error(&text), expected, "{text}");
    }
}

#[test]
fn no_error_repeats_a_private_key() {
    let fragment = &PRIVATE[..16].to_ascii_lowercase();
    for text in [
        format!("{PRIVATE}\n"),
        format!("[Interface]\n{PRIVATE}\n"),
        format!("[Interface]\nPrivateKey {PRIVATE}\n"),
        format!("[Interface]\nPrivateKey = {PRIVATE}x\n"),
        format!("[Interface]\nPrivateKey = {PRIVATE}\nPrivateKey = {PRIVATE}\n"),
    ] {
        assert!(!error(&text).to_ascii_lowercase().contains(fragment), "{}", error(&text));
    }
}

#[test]
fn size_and_count_are_bounded() {
    let long = format!("[Interface]\n{}", "#".repeat(TEXT_LIMIT_BYTES));
    assert!(matches!(parse(&long).err().unwrap().kind, Kind::TextTooLong(_)));
    let exactly = format!("[Interface]\n{}", "#".repeat(TEXT_LIMIT_BYTES - 12));
    assert!(parse(&exactly).is_ok());
    let many = format!("[Interface]\n{}", "[Peer]\n".repeat(PEERS_MAX + 1));
    assert_eq!(parse(&many).err().unwrap(), WgQuickError { line: PEERS_MAX + 2, kind: Kind::TooManyPeers });
    let ips: Vec<String> = (0..=ADDRESSES_MAX).map(|n| format!("10.0.0.{n}")).collect();
    let wide = format!("[Interface]\nAddress = {}", ips.join(","));
    assert_eq!(
        parse(&wide).err().unwrap(),
        WgQuickError { line: 2, kind: Kind::TooMany { name: "Address" } }
    );
}

#[test]
fn errors_carry_their_cause_as_a_value() {
    let kind = |text: &str| parse(text).err().unwrap().kind;
    assert_eq!(
        kind("[Interface]\nPrivateKey = x"),
        Kind::Key { name: "PrivateKey", error: KeyError::Length(1) }
    );
    assert_eq!(
        kind("[Interface]\nAddress = 10.0.0.1/99"),
        Kind::Prefix { name: "Address", value: "10.0.0.1/99".into(), error: PrefixError::Length }
    );
}

fn prefix() -> impl Strategy<Value = Ipv4Prefix> {
    (any::<u32>(), 0u8..=32)
        .prop_map(|(bits, length)| Ipv4Prefix::new(Ipv4Addr::from_bits(bits), length).unwrap())
}

fn peer() -> impl Strategy<Value = PeerConfig> {
    let endpoint = (any::<std::net::IpAddr>(), 1u16..)
        .prop_filter("an endpoint is a host", |(ip, _)| !ip.is_unspecified())
        .prop_map(|(ip, port)| SocketAddr::new(ip, port));
    (any::<[u8; 32]>(), prop::option::of(endpoint), prop::collection::hash_set(prefix(), 0..4), any::<u16>())
        .prop_map(|(key, endpoint, allowed_ips, keepalive_seconds)| PeerConfig {
            public_key: PublicKey::from_bytes(key),
            endpoint,
            allowed_ips: allowed_ips.into_iter().collect(),
            keepalive_seconds,
        })
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_back(
        key in prop::option::of(any::<[u8; 32]>()),
        addresses in prop::collection::hash_set(prefix(), 0..4),
        listen_port in prop::option::of(1u16..),
        peers in prop::collection::vec(peer(), 0..6),
    ) {
        prop_assume!(contested(&peers).is_none());
        let config = WgConfig {
            private_key: key.map(|bytes| PrivateKey::from_bytes(Zeroizing::new(bytes))),
            addresses: addresses.into_iter().collect(),
            listen_port,
            peers,
        };
        let text = render(&config);
        let read = parse(&text).map_err(|error| TestCaseError::fail(format!("{error}\n{}", *text)))?;
        prop_assert_eq!(read.private_key.map(|key| *key.expose()), key);
        prop_assert_eq!(&read.addresses, &config.addresses);
        prop_assert_eq!(read.listen_port, config.listen_port);
        prop_assert_eq!(&read.peers, &config.peers);
    }

    #[test]
    fn no_text_makes_it_panic(text in "(\\[(Interface|Peer)\\]|[A-Za-z]{0,12} ?= ?[0-9a-z./:,]{0,20}|\\PC{0,20}|\n){0,30}") {
        let _either = parse(&text);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..2048)) {
        let _either = parse(&String::from_utf8_lossy(&bytes));
    }
}
