//! Who could keep shares and who of them is alive: the record's peers and the ages of WireGuard's handshakes. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use orama_keyshare::lifecycle::{Guardian, Members, Presence};
use orama_protocol::agent::WireguardStatus;
use orama_volume::EarlyState;

/// A peer whose last handshake is younger is alive. Peers send something every 25 s, and WireGuard makes a new
/// handshake when the last is older than 120 s.
const ALIVE_SECONDS: u64 = 180;

/// A guardian, and whether it leaves.
pub(super) type Candidates = BTreeMap<Guardian, bool>;

/// Before the first list of peers the holders are the only guardians that are known, beside named peers.
pub(super) fn candidates(state: &EarlyState) -> Candidates {
    let named = state.wireguard.peers.iter().filter(|peer| peer.guardian).filter_map(|peer| {
        let address = peer.allowed_ips.first()?.strip_suffix("/32")?.parse().ok()?;
        Some((Guardian { wg_ip: address, node_id: peer.node_id.clone()? }, peer.leaving))
    });
    let mut all: Candidates = named.collect();
    if state.peers_revision == 0 {
        for holder in state.custody.guardians() {
            all.entry(holder).or_insert(false);
        }
    }
    all
}

/// Overlay addresses behind peers with a fresh handshake.
pub(super) fn heard(status: &WireguardStatus) -> BTreeSet<Ipv4Addr> {
    let fresh = |seconds: Option<u64>| seconds.is_some_and(|seconds| seconds < ALIVE_SECONDS);
    let alive = status.peers.iter().filter(|peer| fresh(peer.last_handshake_seconds));
    let addresses = alive.flat_map(|peer| &peer.allowed_ips);
    addresses.filter_map(|allowed| allowed.strip_suffix("/32")?.parse().ok()).collect()
}

/// When each guardian was last alive, or the begin for one that never was.
#[derive(Default)]
pub(super) struct LastHeard(BTreeMap<Guardian, Duration>);

impl LastHeard {
    pub fn members(&mut self, all: &Candidates, heard: &BTreeSet<Ipv4Addr>, now: Duration) -> Members {
        self.0.retain(|guardian, _| all.contains_key(guardian));
        let presence = |(guardian, leaving): (&Guardian, &bool)| {
            let alive = heard.contains(&guardian.wg_ip);
            let last = self.0.entry(guardian.clone()).or_insert(now);
            if alive {
                *last = now;
            }
            let presence = match (leaving, alive) {
                (true, _) => Presence::Leaving,
                (false, true) => Presence::Alive,
                (false, false) => Presence::Silent { since: *last },
            };
            (guardian.clone(), presence)
        };
        all.iter().map(presence).collect()
    }
}

#[cfg(test)]
mod tests {
    use orama_protocol::agent::WireguardPeerStatus;

    use super::*;

    fn guardian(last: u8) -> Guardian {
        Guardian { wg_ip: [10, 0, 0, last].into(), node_id: format!("node-10.0.0.{last}") }
    }

    #[test]
    fn the_age_of_a_handshake_says_who_is_alive() {
        let peer = |address: &str, seconds| WireguardPeerStatus {
            public_key: String::new(),
            endpoint: None,
            allowed_ips: vec![address.to_owned(), "10.0.0.0/24".into()],
            last_handshake_seconds: seconds,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let status = WireguardStatus {
            address: String::new(),
            public_key: String::new(),
            peers: vec![
                peer("10.0.0.1/32", Some(179)),
                peer("10.0.0.2/32", Some(180)),
                peer("10.0.0.3/32", None),
            ],
        };
        assert_eq!(heard(&status), BTreeSet::from([Ipv4Addr::new(10, 0, 0, 1)]));
    }

    #[test]
    fn silence_begins_when_a_guardian_was_last_heard() {
        let all = Candidates::from([(guardian(1), false), (guardian(2), false), (guardian(3), true)]);
        let second = Duration::from_secs;
        let mut book = LastHeard::default();
        let one = BTreeSet::from([guardian(1).wg_ip]);
        book.members(&all, &one, second(10));
        book.members(&all, &one, second(25));
        let members = book.members(&all, &BTreeSet::new(), second(40));
        assert_eq!(members[&guardian(1)], Presence::Silent { since: second(25) });
        assert_eq!(members[&guardian(2)], Presence::Silent { since: second(10) });
        assert_eq!(members[&guardian(3)], Presence::Leaving);
    }
}
