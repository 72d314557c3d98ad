//! An IPv4 address with its prefix length, `10.0.2.15/24`: parsed once, valid from then on.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Address and prefix length (0 to 32). Host bits may be set: it is the address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: Ipv4Addr,
    prefix: u8,
}

/// What is no address with prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("{0:?} is not an IPv4 address with a prefix length, like 192.0.2.10/24")]
    Text(String),
    #[error("{0} is not a netmask: its ones are not all on the left")]
    Netmask(Ipv4Addr),
}

impl Cidr {
    pub fn new(address: Ipv4Addr, prefix: u8) -> Result<Self, CidrError> {
        if prefix <= 32 {
            Ok(Self { address, prefix })
        } else {
            Err(CidrError::Text(format!("{address}/{prefix}")))
        }
    }

    pub(crate) fn with_netmask(address: Ipv4Addr, netmask: Ipv4Addr) -> Result<Self, CidrError> {
        let ones = netmask.to_bits().leading_ones();
        if netmask.to_bits().count_ones() != ones {
            return Err(CidrError::Netmask(netmask));
        }
        Ok(Self { address, prefix: ones as u8 })
    }

    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    pub fn prefix(self) -> u8 {
        self.prefix
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0)
    }

    /// The same network with the host bits cleared, as routes want it.
    pub fn network(self) -> Self {
        Self { address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask()), prefix: self.prefix }
    }

    pub fn contains(self, other: Ipv4Addr) -> bool {
        self.address.to_bits() & self.mask() == other.to_bits() & self.mask()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let digits =
                (1..=2).contains(&prefix.len()) && prefix.bytes().all(|digit| digit.is_ascii_digit());
            let prefix = prefix.parse().ok().filter(|&prefix: &u8| digits && prefix <= 32)?;
            Some(Self { address: address.parse().ok()?, prefix })
        };
        parse().ok_or_else(|| CidrError::Text(text.chars().take(40).collect()))
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_prints() {
        for text in ["10.0.2.15/24", "0.0.0.0/0", "192.0.2.1/32"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "10.0.2.15",
            "10.0.2.15/33",
            "10.0.2.15/+1",
            "10.0.2.15/",
            "10.0.2/24",
            "::1/64",
            "1.2.3.4/024",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }

    #[test]
    fn network_and_membership() {
        let cidr: Cidr = "10.0.2.15/24".parse().unwrap();
        assert_eq!(cidr.network().to_string(), "10.0.2.0/24");
        assert!(cidr.contains(Ipv4Addr::new(10, 0, 2, 2)));
        assert!(!cidr.contains(Ipv4Addr::new(10, 0, 3, 2)));
        let everything: Cidr = "1.2.3.4/0".parse().unwrap();
        assert!(everything.contains(Ipv4Addr::new(203, 0, 113, 1)));
        let host: Cidr = "1.2.3.4/32".parse().unwrap();
        assert!(!host.contains(Ipv4Addr::new(1, 2, 3, 5)));
    }

    #[test]
    fn netmasks_with_holes_are_refused() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(Cidr::with_netmask(address, Ipv4Addr::new(255, 255, 240, 0)).unwrap().prefix(), 20);
        assert!(Cidr::with_netmask(address, Ipv4Addr::new(255, 0, 255, 0)).is_err());
    }
}
