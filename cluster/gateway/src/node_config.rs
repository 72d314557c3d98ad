//! What a new node is told of the mesh: the wg-quick text and the list of peers.
//! Pure; one [Peer] section per distinct public key, because several addresses may sit behind one host.

use std::fmt::Write;
use std::net::Ipv4Addr;

use orama_protocol::enroll::{ConfigPeer, NodeConfig};
pub use orama_protocol::node_id;
use orama_protocol::{Redacted, enroll};

/// Seconds between keepalives, so that a node behind NAT stays reachable.
pub const KEEPALIVE_SECONDS: u16 = 25;

/// One overlay address and the WireGuard host behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshHost {
    pub node_id: String,
    pub wg_ip: Ipv4Addr,
    pub public_key: String,
    /// `ip:port`.
    pub endpoint: String,
    pub guardian: bool,
}

/// The new node's own place.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    pub wg_ip: Ipv4Addr,
    pub prefix: u8,
    pub listen_port: u16,
}

/// `hosts` in the order in which they shall appear; the first host of a public key gives its endpoint.
pub fn compose(place: Place, cluster_secret: Redacted, hosts: &[MeshHost]) -> NodeConfig {
    let peers = hosts.iter().map(|host| enroll::ConfigPeer {
        wg_ip: host.wg_ip.to_string(),
        node_id: host.node_id.clone(),
        guardian: host.guardian,
    });
    let peers: Vec<ConfigPeer> = peers.collect();
    NodeConfig {
        node_id: node_id(place.wg_ip),
        wireguard_config: wg_quick(place, hosts),
        cluster_secret,
        peers,
        owner_public_key: None,
    }
}

/// wg-quick text without `PrivateKey`: the node keeps the one it made.
fn wg_quick(place: Place, hosts: &[MeshHost]) -> String {
    let mut text = format!(
        "[Interface]\nAddress = {}/{}\nListenPort = {}\n",
        place.wg_ip, place.prefix, place.listen_port
    );
    for (index, host) in hosts.iter().enumerate() {
        if hosts[..index].iter().any(|earlier| earlier.public_key == host.public_key) {
            continue;
        }
        let same_key = hosts[index..].iter().filter(|other| other.public_key == host.public_key);
        let allowed: Vec<String> = same_key.map(|other| format!("{}/32", other.wg_ip)).collect();
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n[Peer]\nPublicKey = {}\nEndpoint = {}\nAllowedIPs = {}\nPersistentKeepalive = {KEEPALIVE_SECONDS}\n",
            host.public_key,
            host.endpoint,
            allowed.join(", "),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use proptest::prelude::*;

    fn host(last: u8, key: &str, endpoint: &str) -> MeshHost {
        let wg_ip = Ipv4Addr::new(10, 0, 0, last);
        MeshHost {
            node_id: node_id(wg_ip),
            wg_ip,
            public_key: key.into(),
            endpoint: endpoint.into(),
            guardian: true,
        }
    }

    const PLACE: Place = Place { wg_ip: Ipv4Addr::new(10, 0, 0, 9), prefix: 24, listen_port: 51820 };

    #[test]
    fn one_section_per_key_with_all_its_addresses() {
        let hosts =
            [host(1, "K=", "192.0.2.1:51821"), host(2, "L=", "192.0.2.2:51820"), host(3, "K=", "x:1")];
        assert_eq!(
            wg_quick(PLACE, &hosts),
            "[Interface]\nAddress = 10.0.0.9/24\nListenPort = 51820\n\
             \n[Peer]\nPublicKey = K=\nEndpoint = 192.0.2.1:51821\nAllowedIPs = 10.0.0.1/32, 10.0.0.3/32\n\
             PersistentKeepalive = 25\n\
             \n[Peer]\nPublicKey = L=\nEndpoint = 192.0.2.2:51820\nAllowedIPs = 10.0.0.2/32\n\
             PersistentKeepalive = 25\n"
        );
    }

    #[test]
    fn every_host_is_a_peer_by_address() {
        let hosts = [host(1, "K=", "a:1"), host(3, "K=", "a:1")];
        let config = compose(PLACE, Redacted::new("s".into()), &hosts);
        assert_eq!(config.node_id, "node-10.0.0.9");
        let addresses: Vec<&str> = config.peers.iter().map(|peer| peer.wg_ip.as_str()).collect();
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.3"]);
    }

    #[test]
    fn the_mesh_crate_reads_what_is_written_here() {
        let key = |number: u8| base64::engine::general_purpose::STANDARD.encode([number; 32]);
        let hosts =
            [host(1, &key(1), "192.0.2.1:51821"), host(2, &key(2), "192.0.2.2:51820"), host(3, &key(1), "x")];
        let parsed = orama_mesh::wgquick::parse(&wg_quick(PLACE, &hosts)).unwrap();
        assert!(parsed.private_key.is_none());
        assert_eq!(
            (parsed.addresses[0].to_string().as_str(), parsed.listen_port),
            ("10.0.0.9/24", Some(51820))
        );
        let peers: Vec<(usize, u16)> =
            parsed.peers.iter().map(|peer| (peer.allowed_ips.len(), peer.keepalive_seconds)).collect();
        assert_eq!(peers, [(2, KEEPALIVE_SECONDS), (1, KEEPALIVE_SECONDS)]);
    }

    proptest! {
        #[test]
        fn no_address_is_lost_or_doubled_and_keys_are_unique(keys in proptest::collection::vec(0u8..5, 0..40)) {
            let hosts: Vec<MeshHost> =
                keys.iter().zip(10u8..).map(|(key, last)| host(last, &format!("key{key}="), "192.0.2.1:1")).collect();
            let text = wg_quick(PLACE, &hosts);
            let values = |name: &str| -> Vec<String> {
                let lines = text.lines().filter_map(|line| line.strip_prefix(name));
                lines.flat_map(|value| value.split(", ")).map(str::to_owned).collect()
            };
            let mut sections = values("PublicKey = ");
            prop_assert_eq!(sections.len(), text.matches("[Peer]").count());
            sections.sort();
            sections.dedup();
            prop_assert_eq!(sections.len(), text.matches("[Peer]").count());
            let mut allowed = values("AllowedIPs = ");
            let mut expected: Vec<String> = hosts.iter().map(|host| format!("{}/32", host.wg_ip)).collect();
            allowed.sort();
            expected.sort();
            prop_assert_eq!(allowed, expected);
        }
    }
}
