//! Who keeps a node's key, as the whole cluster shows it: how many holders answer, and what to worry about. Pure.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use orama_protocol::gateway::CustodyReport;
use orama_protocol::peers::CustodyStatus;

use crate::look;
use crate::state::rfc3339;

/// Hosts by overlay address.
pub struct Hosts {
    pub known: BTreeSet<Ipv4Addr>,
    pub reachable: BTreeSet<Ipv4Addr>,
    pub leaving: BTreeSet<Ipv4Addr>,
}

/// `seen`: when the node said so, in seconds; none: just now.
pub fn report(custody: &CustodyStatus, seen: Option<i64>, hosts: &Hosts) -> CustodyReport {
    let count = |of: &BTreeSet<Ipv4Addr>| look::holders(custody).filter(|holder| of.contains(holder)).count();
    let (reachable, needed) = (count(&hosts.reachable), usize::from(custody.k));
    let gone = custody.holders.len() - count(&hosts.known);
    let leaving = count(&hosts.leaving);
    let mut warnings = vec![];
    if custody.keeper == "wallet" {
        warnings.push("only the owner's wallet opens this node".to_owned());
    } else if reachable < needed {
        warnings
            .push(format!("LOCKED OUT at the next reboot: {reachable} holders answer, {needed} are needed"));
    } else if reachable == needed {
        warnings.push("no holder to spare".to_owned());
    }
    if gone > 0 {
        warnings.push(format!("{gone} holders are not in the cluster any more"));
    }
    if leaving > 0 {
        warnings.push(format!("{leaving} holders leave"));
    }
    if let Some(why) = &custody.why {
        warnings.push(format!("the last attempt to split the key anew failed: {why}"));
    }
    CustodyReport {
        keeper: custody.keeper.clone(),
        generation: custody.generation,
        k: custody.k,
        n: custody.n,
        reachable: u8::try_from(reachable).unwrap_or(u8::MAX),
        state: custody.state.clone(),
        seen: seen.map(rfc3339),
        warnings,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use orama_protocol::peers::CustodyHolder;

    fn ips(lasts: &[u8]) -> BTreeSet<Ipv4Addr> {
        lasts.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last)).collect()
    }

    fn custody() -> CustodyStatus {
        let holder = |last: u8| CustodyHolder { node_id: String::new(), wg_ip: format!("10.0.0.{last}") };
        CustodyStatus {
            keeper: "guardians".into(),
            generation: 4,
            begun: 4,
            k: 3,
            n: 5,
            holders: [2, 3, 4, 5, 6].map(holder).into(),
            state: "settled".into(),
            why: None,
            next_try_seconds: None,
            stale: 0,
        }
    }

    #[test]
    fn holders_are_counted_and_trouble_is_named() {
        for (reachable, leaving, expected) in [
            (&[2, 3, 4, 5, 9][..], &[][..], &[][..]),
            (&[2, 3, 4], &[], &["no holder to spare"]),
            (&[2, 3, 9], &[9], &["LOCKED OUT at the next reboot: 2 holders answer, 3 are needed"]),
            (&[2, 3, 4, 5], &[5], &["1 holders leave"]),
        ] {
            let known = ips(&[2, 3, 4, 5, 6, 9]);
            let hosts = Hosts { known, reachable: ips(reachable), leaving: ips(leaving) };
            assert_eq!(report(&custody(), None, &hosts).warnings, expected, "{reachable:?}");
        }
        let hosts = Hosts { known: ips(&[2, 3, 4, 5]), reachable: ips(&[2, 3, 4, 5]), leaving: ips(&[]) };
        let failed = CustodyStatus { why: Some("no answer".into()), ..custody() };
        let shown = report(&failed, Some(0), &hosts);
        assert_eq!(shown.seen.as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!((shown.reachable, shown.generation), (4, 4));
        assert_eq!(
            shown.warnings,
            [
                "1 holders are not in the cluster any more",
                "the last attempt to split the key anew failed: no answer"
            ]
        );
        let wallet = CustodyStatus { keeper: "wallet".into(), k: 0, n: 0, holders: vec![], ..custody() };
        assert_eq!(report(&wallet, None, &hosts).warnings, ["only the owner's wallet opens this node"]);
    }
}
