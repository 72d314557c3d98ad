//! What an uplink has: address, routes, resolvers. Made from a DHCP answer or from configuration; applies nothing.

use std::net::Ipv4Addr;

use mozim::DhcpV4Lease;

use crate::cidr::{Cidr, CidrError};
use crate::config::StaticConfig;

/// Smallest MTU that a server can talk us into, in bytes (RFC 791: every IPv4 link takes 576).
const MIN_MTU: u16 = 576;
/// Most routes that are taken from one answer.
const MAX_ROUTES: usize = 32;

/// The configuration of the uplink as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub interface: String,
    pub address: Cidr,
    /// Where the default route leads, if there is one.
    pub gateway: Option<Ipv4Addr>,
    /// All routes, the default route among them, in the order in which they can be added.
    pub routes: Vec<Route>,
    pub dns: Vec<Ipv4Addr>,
    /// Set when the DHCP server named one that makes sense.
    pub mtu: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    pub destination: Cidr,
    /// `None`: the destination is on the link.
    pub via: Option<Ipv4Addr>,
    /// The gateway is reached over this link although it is outside the address's own network.
    pub on_link: bool,
}

impl Lease {
    pub(crate) fn from_config(interface: &str, config: &StaticConfig) -> Self {
        let routes =
            config.gateway.map(|gateway| default_route(config.address, gateway)).into_iter().collect();
        Self {
            interface: interface.to_owned(),
            address: config.address,
            gateway: config.gateway,
            routes,
            dns: config.dns.clone(),
            mtu: None,
        }
    }

    pub(crate) fn from_dhcp(interface: &str, answer: &DhcpV4Lease) -> Result<Self, CidrError> {
        let address = Cidr::with_netmask(answer.yiaddr, answer.subnet_mask)?;
        let mut routes: Vec<Route> = match &answer.classless_routes {
            // RFC 3442: with classless routes there, the router option must be ignored.
            Some(classless) => classless
                .iter()
                .take(MAX_ROUTES)
                .filter_map(|route| {
                    let destination = Cidr::new(route.destination, route.prefix_length).ok()?.network();
                    Some(new_route(address, destination, route.router))
                })
                .collect(),
            None => answer
                .gateways
                .iter()
                .flatten()
                .take(1)
                .map(|&gateway| default_route(address, gateway))
                .collect(),
        };
        // A route can only be added when its gateway is reachable: those on the link first, the default route last.
        routes.sort_by_key(|route| (route.via.is_some(), std::cmp::Reverse(route.destination.prefix())));
        Ok(Self {
            interface: interface.to_owned(),
            address,
            gateway: routes.iter().find(|route| route.destination.prefix() == 0).and_then(|route| route.via),
            routes,
            dns: answer.dns_srvs.clone().unwrap_or_default(),
            mtu: answer.mtu.filter(|&mtu| mtu >= MIN_MTU),
        })
    }
}

fn default_route(address: Cidr, gateway: Ipv4Addr) -> Route {
    let everything = Cidr::new(Ipv4Addr::UNSPECIFIED, 0).expect("0 is a prefix length");
    new_route(address, everything, gateway)
}

fn new_route(address: Cidr, destination: Cidr, router: Ipv4Addr) -> Route {
    let via = (!router.is_unspecified()).then_some(router);
    // Clouds hand out /32 addresses with a gateway outside: the kernel wants to be told that it is on the link.
    let on_link = via.is_some_and(|gateway| !address.contains(gateway) || address.prefix() == 32);
    Route { destination, via, on_link }
}

#[cfg(test)]
mod tests {
    use mozim::DhcpV4ClasslessRoute;

    use super::*;

    fn answer(address: [u8; 4], mask: [u8; 4]) -> DhcpV4Lease {
        let mut answer = DhcpV4Lease::default();
        answer.yiaddr = address.into();
        answer.subnet_mask = mask.into();
        answer
    }

    fn classless(destination: [u8; 4], prefix_length: u8, router: [u8; 4]) -> DhcpV4ClasslessRoute {
        DhcpV4ClasslessRoute { destination: destination.into(), prefix_length, router: router.into() }
    }

    #[test]
    fn the_router_option_becomes_the_default_route() {
        let mut answer = answer([10, 0, 2, 15], [255, 255, 255, 0]);
        answer.gateways = Some(vec![[10, 0, 2, 2].into(), [10, 0, 2, 3].into()]);
        answer.dns_srvs = Some(vec![[10, 0, 2, 3].into()]);
        let lease = Lease::from_dhcp("eth0", &answer).unwrap();
        assert_eq!(lease.address.to_string(), "10.0.2.15/24");
        assert_eq!(lease.gateway, Some([10, 0, 2, 2].into()));
        assert_eq!(lease.routes.len(), 1);
        assert!(!lease.routes[0].on_link);
    }

    #[test]
    fn classless_routes_silence_the_router_option() {
        let mut answer = answer([192, 0, 2, 7], [255, 255, 255, 255]);
        answer.gateways = Some(vec![[192, 0, 2, 99].into()]);
        answer.classless_routes = Some(vec![
            classless([0, 0, 0, 0], 0, [172, 31, 1, 1]),
            classless([172, 31, 1, 1], 32, [0, 0, 0, 0]),
        ]);
        let lease = Lease::from_dhcp("eth0", &answer).unwrap();
        assert_eq!(lease.gateway, Some([172, 31, 1, 1].into()));
        let order: Vec<_> =
            lease.routes.iter().map(|route| (route.destination.to_string(), route.on_link)).collect();
        assert_eq!(order, [("172.31.1.1/32".to_owned(), false), ("0.0.0.0/0".to_owned(), true)]);
    }

    #[test]
    fn nonsense_from_the_server_is_dropped() {
        let mut answer = answer([192, 0, 2, 7], [255, 255, 255, 0]);
        answer.mtu = Some(68);
        answer.classless_routes = Some(vec![classless([10, 0, 0, 9], 33, [192, 0, 2, 1])]);
        let lease = Lease::from_dhcp("eth0", &answer).unwrap();
        assert_eq!((lease.mtu, lease.routes.len(), lease.gateway), (None, 0, None));
        answer.subnet_mask = [0, 255, 0, 0].into();
        assert!(Lease::from_dhcp("eth0", &answer).is_err());
    }
}
