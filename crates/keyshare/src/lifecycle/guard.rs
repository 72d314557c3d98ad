//! Which keys could not be gathered any more while a node is away. Asked before a node reboots, is switched off or
//! leaves; pure, so that whoever watches the cluster decides with the same rule.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

/// A key that is split over guardians, as its owner tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitKey {
    pub owner_id: String,
    pub owner: Ipv4Addr,
    /// Shares needed.
    pub k: u8,
    /// Where its shares are.
    pub holders: BTreeSet<Ipv4Addr>,
}

/// How a node goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Going {
    /// It will come back, and needs its own key for that.
    Down,
    /// For good: nobody needs its key again.
    Away,
}

/// A key with fewer reachable holders than it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endangered {
    pub owner_id: String,
    /// Reachable holders without the node that goes.
    pub left: usize,
    pub needed: u8,
}

impl fmt::Display for Endangered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner_id, left, needed } = self;
        write!(f, "the key of {owner_id} would have {left} reachable holders and needs {needed}")
    }
}

/// The keys that nobody could put together once `node` is gone, and that its going has to do with: it holds a share
/// of them, or comes back and needs its own.
pub fn endangered(
    keys: &[SplitKey],
    node: Ipv4Addr,
    going: Going,
    reachable: &BTreeSet<Ipv4Addr>,
) -> Vec<Endangered> {
    keys.iter()
        .filter(|key| if key.owner == node { going == Going::Down } else { key.holders.contains(&node) })
        .filter_map(|key| {
            let left = key.holders.iter().filter(|ip| **ip != node && reachable.contains(*ip)).count();
            let short = left < usize::from(key.k);
            short.then(|| Endangered { owner_id: key.owner_id.clone(), left, needed: key.k })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    fn ips(lasts: impl IntoIterator<Item = u8>) -> BTreeSet<Ipv4Addr> {
        lasts.into_iter().map(ip).collect()
    }

    fn key(owner: u8, k: u8, holders: impl IntoIterator<Item = u8>) -> SplitKey {
        SplitKey { owner_id: format!("node-{}", ip(owner)), owner: ip(owner), k, holders: ips(holders) }
    }

    fn owners(keys: &[SplitKey], node: u8, going: Going, reachable: &[u8]) -> Vec<(String, usize)> {
        let found = endangered(keys, ip(node), going, &ips(reachable.iter().copied()));
        found.into_iter().map(|found| (found.owner_id, found.left)).collect()
    }

    #[test]
    fn a_holder_may_go_while_k_others_answer() {
        let keys = [key(1, 3, 2..=5)];
        assert_eq!(owners(&keys, 2, Going::Down, &[1, 2, 3, 4, 5]), []);
        assert_eq!(owners(&keys, 2, Going::Down, &[1, 2, 3, 4]), [("node-10.0.0.1".into(), 2)]);
        // Whoever is silent already makes no difference by going.
        assert_eq!(owners(&keys, 5, Going::Away, &[1, 2, 3, 4]), []);
        let text = endangered(&keys, ip(2), Going::Down, &ips([3]))[0].to_string();
        assert_eq!(text, "the key of node-10.0.0.1 would have 1 reachable holders and needs 3");
    }

    #[test]
    fn a_node_that_comes_back_needs_its_own_key_and_one_that_leaves_does_not() {
        let keys = [key(1, 3, 2..=5)];
        assert_eq!(owners(&keys, 1, Going::Down, &[1, 2, 3]), [("node-10.0.0.1".into(), 2)]);
        assert_eq!(owners(&keys, 1, Going::Down, &[2, 3, 4]), []);
        assert_eq!(owners(&keys, 1, Going::Away, &[]), []);
    }

    #[test]
    fn a_key_that_the_node_has_nothing_to_do_with_is_no_reason_to_stay() {
        let keys = [key(1, 3, [2, 3, 4, 5]), key(9, 3, [2, 3, 6, 7])];
        assert_eq!(owners(&keys, 4, Going::Down, &[]), [("node-10.0.0.1".into(), 0)]);
        assert_eq!(owners(&keys, 8, Going::Down, &[]), []);
        assert_eq!(owners(&keys, 2, Going::Down, &[3, 4, 5]), [("node-10.0.0.9".into(), 1)]);
    }

    proptest! {
        /// Afterwards every key that the node had a part in can be gathered, or is named.
        #[test]
        fn named_exactly_when_too_few_remain(
            k in 1u8..6,
            holders in proptest::collection::btree_set(2u8..12, 0..10),
            reachable in proptest::collection::btree_set(1u8..12, 0..12),
            node in 1u8..12,
        ) {
            let key = key(1, k, holders.clone());
            let named = endangered(&[key], ip(node), Going::Down, &ips(reachable.clone()));
            let after = holders.iter().filter(|ip| reachable.contains(ip) && **ip != node).count();
            let concerned = node == 1 || holders.contains(&node);
            prop_assert_eq!(named.len(), usize::from(concerned && after < usize::from(k)));
            // One more that answers never makes it worse.
            let more = endangered(&[self::key(1, k, holders)], ip(node), Going::Down, &ips(1..12));
            prop_assert!(more.len() <= named.len());
        }
    }
}
