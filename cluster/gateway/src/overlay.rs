//! The overlay network's arithmetic: which address belongs to it and which one is free.
//! Pure; knows nothing of nodes, the store or WireGuard.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// An IPv4 network in CIDR notation whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    base: u32,
    prefix: u8,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    #[error("{0:?} is not a network like 10.0.0.0/24")]
    Malformed(String),
    #[error("{0}: the prefix must be 8 to 30")]
    Prefix(String),
    #[error("{0}: the host part of the address is not zero")]
    HostBits(String),
}

impl Network {
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn last(self) -> u32 {
        self.base | (u32::MAX >> self.prefix)
    }

    /// The last host address. No node gets it: nodes with a recovery key know their operator's machine under it.
    pub fn operators(self) -> Ipv4Addr {
        Ipv4Addr::from(self.last() - 1)
    }

    /// Whether the address can be given to a host: inside, and neither the network nor the broadcast address.
    pub fn has_host(self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        address > self.base && address < self.last()
    }

    /// The lowest host address that is not taken.
    pub fn lowest_free(self, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
        (self.base + 1..self.last()).map(Ipv4Addr::from).find(|address| !taken.contains(address))
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let malformed = || NetworkError::Malformed(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(malformed)?;
        let base = u32::from(address.parse::<Ipv4Addr>().map_err(|_| malformed())?);
        let prefix: u8 = prefix.parse().map_err(|_| malformed())?;
        if !(8..=30).contains(&prefix) {
            return Err(NetworkError::Prefix(text.to_owned()));
        }
        if base & (u32::MAX >> prefix) != 0 {
            return Err(NetworkError::HostBits(text.to_owned()));
        }
        Ok(Self { base, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn networks_are_parsed_strictly() {
        assert_eq!("10.0.0.0/24".parse::<Network>().unwrap().to_string(), "10.0.0.0/24");
        for bad in ["", "10.0.0.0", "10.0.0/24", "10.0.0.0/x", "10.0.0.0/-1"] {
            assert_eq!(bad.parse::<Network>(), Err(NetworkError::Malformed(bad.into())), "{bad}");
        }
        assert_eq!("10.0.0.0/31".parse::<Network>(), Err(NetworkError::Prefix("10.0.0.0/31".into())));
        assert_eq!("10.0.0.1/24".parse::<Network>(), Err(NetworkError::HostBits("10.0.0.1/24".into())));
    }

    #[test]
    fn network_and_broadcast_are_never_given_away() {
        let network: Network = "10.9.0.0/30".parse().unwrap();
        let first = network.lowest_free(&BTreeSet::new()).unwrap();
        assert_eq!(first, Ipv4Addr::new(10, 9, 0, 1));
        let second = network.lowest_free(&BTreeSet::from([first])).unwrap();
        assert_eq!(second, Ipv4Addr::new(10, 9, 0, 2));
        assert_eq!(network.lowest_free(&BTreeSet::from([first, second])), None);
        assert!(!network.has_host(Ipv4Addr::new(10, 9, 0, 0)));
        assert!(!network.has_host(Ipv4Addr::new(10, 9, 0, 3)));
        assert!(!network.has_host(Ipv4Addr::new(10, 9, 0, 4)));
    }

    proptest! {
        #[test]
        fn the_answer_is_free_inside_and_the_lowest(hosts in proptest::collection::btree_set(1u8..=254, 0..254)) {
            let network: Network = "10.0.0.0/24".parse().unwrap();
            let taken: BTreeSet<Ipv4Addr> = hosts.iter().map(|host| Ipv4Addr::new(10, 0, 0, *host)).collect();
            match network.lowest_free(&taken) {
                None => prop_assert_eq!(taken.len(), 254),
                Some(address) => {
                    prop_assert!(network.has_host(address) && !taken.contains(&address));
                    let lower = (1..address.octets()[3]).all(|host| taken.contains(&Ipv4Addr::new(10, 0, 0, host)));
                    prop_assert!(lower);
                }
            }
        }
    }
}
