//! Counts wrong credentials per address in a bounded table. A right credential is never refused because of them:
//! somebody else behind the same address must not be able to lock the operator out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Wrong credentials that one address may present in [`WINDOW`] before it only gets 429.
pub const LIMIT: u32 = 20;
pub const WINDOW: Duration = Duration::from_secs(60);
/// Addresses remembered; beyond it the oldest is forgotten. At 40 bytes each the table stays below 200 KiB.
const TABLE_LIMIT: usize = 4096;

#[derive(Default)]
pub struct Failures {
    table: Mutex<HashMap<IpAddr, Counter>>,
}

#[derive(Clone, Copy)]
struct Counter {
    since: Instant,
    count: u32,
}

impl Failures {
    /// Counts one wrong credential; true when the address is over its limit.
    pub fn record(&self, address: IpAddr, now: Instant) -> bool {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let address = network_of(address);
        if table.len() >= TABLE_LIMIT && !table.contains_key(&address) {
            table.retain(|_, counter| now.duration_since(counter.since) < WINDOW);
            let oldest = table.iter().min_by_key(|(_, counter)| counter.since).map(|(address, _)| *address);
            if let Some(oldest) = oldest.filter(|_| table.len() >= TABLE_LIMIT) {
                table.remove(&oldest);
            }
        }
        let counter = table.entry(address).or_insert(Counter { since: now, count: 0 });
        if now.duration_since(counter.since) >= WINDOW {
            *counter = Counter { since: now, count: 0 };
        }
        counter.count = counter.count.saturating_add(1);
        counter.count > LIMIT
    }
}

/// One IPv6 host owns a whole /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_limit_until_the_window_passes() {
        let failures = Failures::default();
        let start = Instant::now();
        let address = IpAddr::from([192, 0, 2, 1]);
        for _ in 0..LIMIT {
            assert!(!failures.record(address, start));
        }
        assert!(failures.record(address, start));
        assert!(!failures.record(IpAddr::from([192, 0, 2, 2]), start), "another address is not affected");
        assert!(!failures.record(address, start + WINDOW));
    }

    #[test]
    fn the_table_is_bounded() {
        let failures = Failures::default();
        let start = Instant::now();
        for number in 0..(TABLE_LIMIT as u32 + 500) {
            failures.record(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), start);
        }
        assert_eq!(failures.table.lock().unwrap().len(), TABLE_LIMIT);
    }

    #[test]
    fn an_ipv6_network_counts_as_one() {
        let failures = Failures::default();
        let start = Instant::now();
        for host in 0..u16::try_from(LIMIT).unwrap() {
            failures.record(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]), start);
        }
        assert!(failures.record(IpAddr::from([0x2001, 0xdb8, 0, 0, 1, 2, 3, 4]), start));
    }
}
