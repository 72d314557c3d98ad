//! Notices that a holder whose share is missing came up: WireGuard made a new handshake with it since it was asked. Saves
//! up to 16 s after a power cut of several nodes. Never more than once per pause, and a second after the handshake, as a
//! node's guardian comes a moment after its tunnel.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use orama_protocol::agent::{UnlockStatus, WireguardStatus};

use crate::registry::Registry;
use crate::wg::GetWireguard;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Returns when one of those who gave no good share when they were asked was heard since; never, when none is.
pub(super) async fn somebody(registry: &Registry, unlock: &UnlockStatus, asked: Instant) -> Ipv4Addr {
    let missing = missing(unlock);
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        // A mesh that cannot be read now is read again; the pause ends by itself all the same.
        if let Ok(Ok(status)) = registry.wg.ask(GetWireguard).await
            && let Some(address) = heard_since(&status, &missing, asked.elapsed())
        {
            return address;
        }
    }
}

fn missing(unlock: &UnlockStatus) -> BTreeSet<Ipv4Addr> {
    let missing = unlock.guardians.iter().filter(|guardian| guardian.answer != "good");
    missing.filter_map(|guardian| guardian.wg_ip.parse().ok()).collect()
}

/// The first of these addresses whose peer made a handshake at least a second ago and not before `elapsed`, to the second
/// in which WireGuard's age is told.
fn heard_since(
    status: &WireguardStatus,
    missing: &BTreeSet<Ipv4Addr>,
    elapsed: Duration,
) -> Option<Ipv4Addr> {
    let fresh = |seconds: Option<u64>| seconds.is_some_and(|age| age >= 1 && age <= elapsed.as_secs());
    let heard = status.peers.iter().filter(|peer| fresh(peer.last_handshake_seconds));
    let mut addresses = heard.flat_map(|peer| &peer.allowed_ips);
    addresses.find_map(|allowed| {
        let address = allowed.strip_suffix("/32")?.parse().ok()?;
        missing.contains(&address).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use orama_protocol::agent::WireguardPeerStatus;

    use super::*;

    fn status(peers: &[(&str, Option<u64>)]) -> WireguardStatus {
        let peer = |(address, seconds): &(&str, Option<u64>)| WireguardPeerStatus {
            public_key: String::new(),
            endpoint: None,
            allowed_ips: vec![(*address).to_owned()],
            last_handshake_seconds: *seconds,
            rx_bytes: 0,
            tx_bytes: 0,
        };
        let peers = peers.iter().map(peer).collect();
        WireguardStatus { address: String::new(), public_key: String::new(), peers }
    }

    #[test]
    fn only_a_new_handshake_of_somebody_who_is_missing_counts() {
        let missing = BTreeSet::from([Ipv4Addr::new(10, 0, 0, 4)]);
        let after =
            |peers: &[_], seconds| heard_since(&status(peers), &missing, Duration::from_secs(seconds));
        assert_eq!(after(&[("10.0.0.4/32", Some(1))], 3), Some(Ipv4Addr::new(10, 0, 0, 4)));
        for (age, elapsed) in [(0, 3), (4, 3), (100, 3), (1, 0)] {
            assert_eq!(after(&[("10.0.0.4/32", Some(age))], elapsed), None, "{age} s old after {elapsed} s");
        }
        assert_eq!(after(&[("10.0.0.4/32", None), ("10.0.0.5/32", Some(1))], 3), None);
        assert_eq!(after(&[("10.0.0.0/24", Some(1))], 3), None);
    }
}
