//! The list of peers that each node is told. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use orama_protocol::peers::{PEERS_MAX, Peer, PeerList};

use crate::node_config;
use crate::registry::Node;

/// This host as the nodes see it.
#[derive(Clone, Debug)]
pub struct OwnHost {
    pub address: Ipv4Addr,
    pub public_key: String,
    /// `ip:port`.
    pub endpoint: String,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has {0} hosts, and a node can be told of {PEERS_MAX} others at most: remove some")]
pub struct TooMany(usize);

/// Everybody in the cluster, by address.
#[derive(Clone, Debug)]
pub struct Everybody(Vec<Peer>);

impl Everybody {
    /// Nodes that are still enrolling are among them: they store their first shares with the others' guardians.
    pub fn new(nodes: &[Node], leaving: &BTreeSet<String>, own: &OwnHost) -> Self {
        let mut hosts: Vec<(Ipv4Addr, Peer)> =
            nodes.iter().map(|node| (node.wg_ip, peer(node, leaving.contains(&node.node_id), own))).collect();
        if !hosts.iter().any(|(address, _)| *address == own.address) {
            let host = Peer {
                node_id: node_config::node_id(own.address),
                wg_ip: own.address.to_string(),
                public_key: own.public_key.clone(),
                endpoint: Some(own.endpoint.clone()),
                guardian: false,
                leaving: false,
            };
            hosts.push((own.address, host));
        }
        hosts.sort_by_key(|(address, _)| *address);
        Self(hosts.into_iter().map(|(_, peer)| peer).collect())
    }

    pub fn but(&self, node_id: &str, revision: u64) -> Result<PeerList, TooMany> {
        let peers: Vec<Peer> = self.0.iter().filter(|peer| peer.node_id != node_id).cloned().collect();
        if peers.len() > PEERS_MAX {
            return Err(TooMany(self.0.len()));
        }
        Ok(PeerList { revision, peers })
    }
}

fn peer(node: &Node, leaving: bool, own: &OwnHost) -> Peer {
    Peer {
        node_id: node.node_id.clone(),
        wg_ip: node.wg_ip.to_string(),
        public_key: node.public_key.clone(),
        // Whatever was written down for addresses behind our own key, this is where we listen.
        endpoint: Some(if node.public_key == own.public_key {
            own.endpoint.clone()
        } else {
            format!("{}:{}", node.public_ip, node.wg_port)
        }),
        guardian: node.keeps_shares(),
        leaving,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Role;

    fn node(last: u8, role: Role, guardian: bool) -> Node {
        Node {
            node_id: format!("node-10.0.0.{last}"),
            wg_ip: Ipv4Addr::new(10, 0, 0, last),
            public_key: format!("key {last}"),
            public_ip: Ipv4Addr::new(192, 0, 2, last),
            wg_port: 51820,
            agent_token: None,
            confirmed_at: Some(1),
            guardian,
            role,
            phase: String::new(),
            detail: String::new(),
        }
    }

    fn own() -> OwnHost {
        OwnHost {
            address: Ipv4Addr::new(10, 0, 0, 1),
            public_key: "own".into(),
            endpoint: "192.0.2.1:51821".into(),
        }
    }

    #[test]
    fn everybody_but_the_node_itself_with_roles() {
        let behind = Node { public_key: "own".into(), ..node(11, Role::Peer, true) };
        let enrolling = Node { confirmed_at: None, ..node(4, Role::Agent, true) };
        let nodes = [behind, node(2, Role::Agent, true), node(3, Role::Agent, false), enrolling];
        let leaving = BTreeSet::from(["node-10.0.0.3".to_owned()]);
        let list = Everybody::new(&nodes, &leaving, &own()).but("node-10.0.0.2", 7).unwrap();
        assert_eq!(list.revision, 7);
        let shown: Vec<_> = list
            .peers
            .iter()
            .map(|peer| (peer.wg_ip.as_str(), peer.endpoint.as_deref(), peer.guardian, peer.leaving))
            .collect();
        assert_eq!(
            shown,
            [
                ("10.0.0.1", Some("192.0.2.1:51821"), false, false),
                ("10.0.0.3", Some("192.0.2.3:51820"), false, true),
                ("10.0.0.4", Some("192.0.2.4:51820"), false, false),
                ("10.0.0.11", Some("192.0.2.1:51821"), true, false),
            ]
        );
    }

    #[test]
    fn the_gateway_host_is_listed_once_also_when_it_was_added_as_peer() {
        let nodes = [node(1, Role::Peer, true)];
        let list = Everybody::new(&nodes, &BTreeSet::new(), &own()).but("x", 1).unwrap();
        assert_eq!((list.peers.len(), list.peers[0].guardian), (1, true));
    }

    #[test]
    fn a_list_never_exceeds_what_a_node_takes() {
        let nodes: Vec<Node> = (1..=251).map(|last| node(last, Role::Agent, false)).collect();
        let all = Everybody::new(&nodes, &BTreeSet::new(), &own());
        assert_eq!(all.but("node-10.0.0.7", 1).unwrap().peers.len(), PEERS_MAX);
        assert_eq!(all.but("somebody else", 1), Err(TooMany(251)));
    }
}
