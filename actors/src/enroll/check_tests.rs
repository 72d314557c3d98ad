use orama_mesh::OVERLAY;
use orama_protocol::Redacted;
use orama_protocol::enroll::ConfigPeer;

use super::*;

fn config(guardians: usize) -> NodeConfig {
    let host = PrivateKey::generate().public();
    let ips: Vec<String> = (1..=guardians).map(|index| format!("10.0.0.{}/32", 10 + index)).collect();
    NodeConfig {
        node_id: "node-10.0.0.4".into(),
        wireguard_config: format!(
            "[Interface]\nAddress = 10.0.0.4/24\nListenPort = 51820\n\n[Peer]\nPublicKey = {host}\n\
             Endpoint = 192.0.2.1:51820\nAllowedIPs = 10.0.0.1/32, {}\nPersistentKeepalive = 25\n",
            ips.join(", ")
        ),
        cluster_secret: Redacted::new("secret".into()),
        owner_public_key: None,
        peers: (1..=guardians)
            .map(|index| ConfigPeer {
                wg_ip: format!("10.0.0.{}", 10 + index),
                node_id: format!("node-10.0.0.{}", 10 + index),
                guardian: true,
            })
            .collect(),
    }
}

fn own(key: &PrivateKey, port: u16) -> Own<'_> {
    Own { key, port, overlay: OVERLAY, owner: Some(wallet(7).address()) }
}

fn wallet(number: u8) -> PublicKey {
    orama_wallet::SecretKey::from_bytes(&[number; 32]).unwrap().public_key()
}

fn guardians(checked: &Checked) -> &[Guardian] {
    match &checked.keeper {
        Keeper::Guardians(guardians) => guardians,
        Keeper::Wallet(_) => &[],
    }
}

#[test]
fn the_owners_wallet_keeps_the_key_while_there_are_too_few_guardians_and_nobody_elses_does() {
    let with = |number: u8| {
        let mut config = config(2);
        config.owner_public_key = Some(wallet(number).to_string());
        config
    };
    let key = PrivateKey::generate();
    let checked = check(&with(7), own(&key, 1)).unwrap_or_else(|error| panic!("{error}"));
    assert!(matches!(checked.keeper, Keeper::Wallet(owner) if owner == wallet(7)));
    let refused = |config: &NodeConfig, owner| {
        let Err(error) = check(config, Own { owner, ..own(&key, 1) }) else { panic!("accepted") };
        crate::describe(&error)
    };
    let named = Some(wallet(7).address());
    assert!(refused(&with(8), named).contains("names the owner 0x"), "{}", refused(&with(8), named));
    assert!(refused(&with(7), None).contains("names no owner"));
    let mut nonsense = with(7);
    nonsense.owner_public_key = Some("04".into());
    assert!(refused(&nonsense, named).contains("owner_public_key"));
    assert!(refused(&config(2), named).contains("2 guardians"));
    // Enough guardians: the wallet is not asked to keep anything.
    let mut enough = config(3);
    enough.owner_public_key = Some(wallet(7).to_string());
    let checked = check(&enough, own(&key, 1)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(guardians(&checked).len(), 3);
}

fn refuse(change: impl FnOnce(&mut NodeConfig), expect: &str) {
    let mut config = config(5);
    change(&mut config);
    match check(&config, own(&PrivateKey::generate(), 51820)) {
        Ok(_) => panic!("accepted, expected: {expect}"),
        Err(error) => {
            let text = crate::describe(&error);
            assert!(text.contains(expect), "`{text}` does not say `{expect}`");
        }
    }
}

#[test]
fn a_good_configuration_keeps_the_nodes_own_key() {
    let key = PrivateKey::generate();
    let checked = check(&config(5), own(&key, 1)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(guardians(&checked).len(), 5);
    assert_eq!(checked.wireguard.private_key.unwrap().public(), key.public());
    assert_eq!(checked.wireguard.listen_port, Some(51820));
    assert_eq!(checked.address.to_string(), "10.0.0.4/24");
}

#[test]
fn every_fault_is_refused_by_name() {
    refuse(|config| config.node_id = "node-10.0.0.5".into(), "it must be `node-10.0.0.4`");
    refuse(|config| config.node_id = "node-10.0.0.4\u{1b}[2J".into(), "it must be `node-10.0.0.4`");
    refuse(|config| config.peers.truncate(2), "peers names 2 guardians");
    refuse(|config| config.peers[1].wg_ip = "10.0.0.11".into(), "peers[1]: 10.0.0.11 is named twice");
    refuse(|config| config.peers[1].node_id = "node-10.0.0.11".into(), "is named twice");
    refuse(|config| config.peers[2].wg_ip = "10.0.0.4".into(), "peers[2] is this node itself");
    refuse(|config| config.peers[2].wg_ip = "10.0.0.99".into(), "10.0.0.99 is not reached through any");
    refuse(|config| config.peers[0].wg_ip = "::1".into(), "peers[0].wg_ip `::1` is not an IPv4");
    refuse(|config| config.peers[0].node_id = "a b".into(), "peers[0].node_id `a b`");
    refuse(|config| config.cluster_secret = Redacted::new(String::new()), "cluster_secret has 0 bytes");
    refuse(|config| config.cluster_secret = Redacted::new("x".repeat(4097)), "cluster_secret has 4097");
    let wireguard = |from: &'static str, to: &'static str| {
        move |config: &mut NodeConfig| config.wireguard_config = config.wireguard_config.replace(from, to)
    };
    refuse(
        wireguard("Address = 10.0.0.4/24", "Address = 192.168.0.4/24"),
        "not inside the overlay 10.0.0.0/24",
    );
    refuse(wireguard("Address = 10.0.0.4/24", "Address = 10.0.0.4/8"), "not inside the overlay");
    refuse(wireguard("Address = 10.0.0.4/24\n", ""), "names 0 addresses");
    refuse(wireguard("10.0.0.1/32", "10.0.0.4/32"), "claims this node's own address 10.0.0.4");
    refuse(wireguard("[Interface]", "[Interface]\nPostUp = reboot"), "wireguard_config");
    refuse(|config| config.wireguard_config = "[Interface]\nAddress = 10.0.0.4/24\n".into(), "names no peer");
    refuse(|config| config.wireguard_config = "x".repeat(300 * 1024), "wireguard_config");
}

#[test]
fn the_given_key_is_used_and_must_not_be_a_peers() {
    let given = PrivateKey::generate();
    let mut config = config(3);
    let line = format!("[Interface]\nPrivateKey = {}", given.to_base64().as_str());
    config.wireguard_config = config.wireguard_config.replace("[Interface]", &line);
    let checked = check(&config, own(&PrivateKey::generate(), 1)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(checked.wireguard.private_key.unwrap().public(), given.public());
    config.wireguard_config +=
        &format!("\n[Peer]\nPublicKey = {}\nAllowedIPs = 10.0.0.77/32\n", given.public());
    assert!(matches!(check(&config, own(&PrivateKey::generate(), 1)), Err(ConfigProblem::OwnKey)));
}
