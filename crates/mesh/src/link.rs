//! The few rtnetlink requests that the WireGuard library lacks or gets wrong: it hides the errno of a failed
//! creation, adds a broadcast address to a point-to-point link, only logs routes it could not add, and cannot
//! remove a link on a machine without a resolver manager. Blocking, one socket per request, no state.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::Ipv4Prefix;

/// How long the kernel may take over one answer, in seconds; it answers at once or is broken.
const ANSWER_SECONDS: i64 = 5;

/// A link as the kernel describes it.
pub struct Link {
    pub index: u32,
    /// Whether its kind is `wireguard`.
    pub wireguard: bool,
}

/// The link of that name, if there is one.
pub fn find(name: &str) -> io::Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    let answers = match request(RouteNetlinkMessage::GetLink(message), 0) {
        Ok(answers) => answers,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => {
            Some(Link { index: link.header.index, wireguard: is_wireguard(&link) })
        }
        _ => None,
    }))
}

fn is_wireguard(link: &LinkMessage) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::LinkInfo(infos) => {
            infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Wireguard)))
        }
        _ => false,
    })
}

/// Creates a kernel WireGuard link; the error is the kernel's own.
pub fn create_wireguard(name: &str) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
    request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL).map(drop)
}

/// Sets MTU and brings the link up.
pub fn set_up(index: u32, mtu_bytes: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::Mtu(mtu_bytes));
    request(RouteNetlinkMessage::SetLink(message), 0).map(drop)
}

/// Removes the link; one that is not there any more is success.
pub fn delete(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    match request(RouteNetlinkMessage::DelLink(message), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        other => other.map(drop),
    }
}

/// The IPv4 addresses of the link, in the kernel's order: the first is the source of unbound connections.
pub fn addresses(index: u32) -> io::Result<Vec<Ipv4Prefix>> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    let answers = request(RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP)?;
    let on_link = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewAddress(address) if address.header.index == index => Some(address),
        _ => None,
    });
    Ok(on_link
        .filter_map(|address| {
            let local = address.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(local)) => Some(*local),
                _ => None,
            })?;
            Ipv4Prefix::new(local, address.header.prefix_len)
        })
        .collect())
}

/// Adds the address, without a broadcast address; one that is there already is success.
pub fn add_address(index: u32, address: Ipv4Prefix) -> io::Result<()> {
    accept_existing(request(
        RouteNetlinkMessage::NewAddress(address_message(index, address)),
        NLM_F_CREATE | NLM_F_EXCL,
    ))
}

/// Removes the address; the kernel may remove secondaries of the same network with it.
pub fn remove_address(index: u32, address: Ipv4Prefix) -> io::Result<()> {
    match request(RouteNetlinkMessage::DelAddress(address_message(index, address)), 0) {
        Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
        other => other.map(drop),
    }
}

fn address_message(index: u32, address: Ipv4Prefix) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = address.length();
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address.address())));
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address.address())));
    message
}

/// Adds a route to `network` through the link; one that is there already is success.
pub fn add_route(index: u32, network: Ipv4Prefix) -> io::Result<()> {
    let message = RouteNetlinkMessage::NewRoute(route_message(index, network));
    accept_existing(request(message, NLM_F_CREATE | NLM_F_EXCL))
}

/// Removes the route to `network` through the link; one that is not there is success.
pub fn remove_route(index: u32, network: Ipv4Prefix) -> io::Result<()> {
    match request(RouteNetlinkMessage::DelRoute(route_message(index, network)), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other.map(drop),
    }
}

/// Networks routed through the link by [`add_route`]; connected routes of addresses are not among them.
pub fn routes(index: u32) -> io::Result<Vec<Ipv4Prefix>> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    let answers = request(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)?;
    let ours = answers.into_iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(route)
            if route.header.table == RouteHeader::RT_TABLE_MAIN
                && route.header.protocol == RouteProtocol::Boot
                && route.attributes.contains(&RouteAttribute::Oif(index)) =>
        {
            Some(route)
        }
        _ => None,
    });
    Ok(ours
        .filter_map(|route| {
            let destination = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
                _ => None,
            });
            let address = destination.unwrap_or(Ipv4Addr::UNSPECIFIED);
            Ipv4Prefix::new(address, route.header.destination_prefix_length)
        })
        .collect())
}

fn route_message(index: u32, network: Ipv4Prefix) -> RouteMessage {
    let network = network.network();
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = network.length();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    message.header.protocol = RouteProtocol::Boot;
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(network.address())));
    message
}

fn accept_existing(result: io::Result<Vec<RouteNetlinkMessage>>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        other => other.map(drop),
    }
}

/// Sends one request and collects its answers up to the acknowledgement or the end of the dump.
fn request(message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
    let mut packet = NetlinkMessage::from(message);
    let dump = flags & NLM_F_DUMP == NLM_F_DUMP;
    packet.header.flags = NLM_F_REQUEST | flags | if dump { 0 } else { NLM_F_ACK };
    packet.finalize();
    let mut bytes = vec![0; packet.buffer_len()];
    packet.serialize(&mut bytes);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    let timeout = nix::sys::time::TimeVal::new(ANSWER_SECONDS, 0);
    nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    tracing::trace!(fd = socket.as_raw_fd(), bytes = bytes.len(), "rtnetlink request");
    socket.send(&bytes, 0)?;

    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full()?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            let length = (answer.header.length as usize).next_multiple_of(4).max(16);
            match answer.payload {
                NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answers),
                NetlinkPayload::Error(error) => return Err(error.to_io()),
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
            rest = rest.get(length..).unwrap_or_default();
        }
    }
}
