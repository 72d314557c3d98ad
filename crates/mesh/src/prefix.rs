//! An IPv4 address with a prefix length, as wg-quick writes it. Knows containment and nothing of routing.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// The network in which every overlay address lies.
pub const OVERLAY: Ipv4Prefix = Ipv4Prefix { address: Ipv4Addr::new(10, 0, 0, 0), length: 24 };

/// `10.0.0.4/24`: host bits are kept, because an interface address has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Prefix {
    address: Ipv4Addr,
    length: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrefixError {
    #[error("not an IPv4 address")]
    Address,
    #[error("the prefix length is not a number from 0 to 32")]
    Length,
}

impl Ipv4Prefix {
    /// None when `length` is above 32.
    pub fn new(address: Ipv4Addr, length: u8) -> Option<Self> {
        (length <= 32).then_some(Self { address, length })
    }

    /// The single address, as a /32.
    pub fn host(address: Ipv4Addr) -> Self {
        Self { address, length: 32 }
    }

    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub fn length(&self) -> u8 {
        self.length
    }

    pub fn is_host(&self) -> bool {
        self.length == 32
    }

    /// The same network with the host bits cleared.
    pub fn network(&self) -> Self {
        Self { address: Ipv4Addr::from_bits(self.address.to_bits() & self.mask()), length: self.length }
    }

    /// Whether every address of `other` lies in this network.
    pub fn contains(&self, other: &Self) -> bool {
        other.length >= self.length
            && (other.address.to_bits() & self.mask()) == (self.address.to_bits() & self.mask())
    }

    fn mask(&self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0)
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Ipv4Prefix {
    type Err = PrefixError;

    /// A bare address is a /32, as for `wg`.
    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address = address.parse().map_err(|_| PrefixError::Address)?;
        let length = length.map_or(Ok(32), parse_length)?;
        Ok(Self { address, length })
    }
}

/// Digits only: `u8::from_str` would take `+24` too.
fn parse_length(text: &str) -> Result<u8, PrefixError> {
    let digits = !text.is_empty() && text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u8>() {
        Ok(length) if digits && length <= 32 => Ok(length),
        _ => Err(PrefixError::Length),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Ipv4Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn contains_compares_networks_not_host_bits() {
        assert!(prefix("10.0.0.1/24").contains(&prefix("10.0.0.200/32")));
        assert!(!prefix("10.0.0.1/24").contains(&prefix("10.0.1.1/32")));
        assert!(!prefix("10.0.0.1/32").contains(&prefix("10.0.0.0/24")));
        assert!(prefix("0.0.0.0/0").contains(&prefix("255.255.255.255/32")));
        assert_eq!(prefix("10.0.0.77/24").network(), prefix("10.0.0.0/24"));
        assert_eq!(prefix("10.0.0.77/0").network(), prefix("0.0.0.0/0"));
    }

    #[test]
    fn refuses_what_is_not_a_prefix() {
        for (text, error) in [
            ("", PrefixError::Address),
            ("10.0.0", PrefixError::Address),
            ("10.0.0.256/24", PrefixError::Address),
            ("::1/64", PrefixError::Address),
            ("10.0.0.1/", PrefixError::Length),
            ("10.0.0.1/33", PrefixError::Length),
            ("10.0.0.1/+8", PrefixError::Length),
            ("10.0.0.1/24/24", PrefixError::Length),
            ("10.0.0.1/-1", PrefixError::Length),
        ] {
            assert_eq!(text.parse::<Ipv4Prefix>(), Err(error), "{text:?}");
        }
    }
}
