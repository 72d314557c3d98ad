//! Talks rtnetlink: lists interfaces, sets links up, replaces addresses and routes. Decides nothing.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{AddressMessageBuilder, Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use crate::cidr::Cidr;
use crate::interfaces::Interface;
use crate::lease::{Lease, Route};

/// What could not be done to the kernel's network state.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Socket(#[source] std::io::Error),
    #[error("cannot list interfaces")]
    List(#[source] rtnetlink::Error),
    #[error("cannot set {interface} up")]
    Up { interface: String, source: rtnetlink::Error },
    #[error("cannot set the MTU of {interface} to {mtu}")]
    Mtu { interface: String, mtu: u16, source: rtnetlink::Error },
    #[error("cannot put {address} on {interface}")]
    Address { interface: String, address: Cidr, source: rtnetlink::Error },
    #[error("cannot add the route to {destination} on {interface}")]
    Route { interface: String, destination: Cidr, source: rtnetlink::Error },
}

#[derive(Clone)]
pub(crate) struct Netlink(Handle);

impl Netlink {
    /// Opens a socket in the caller's network namespace and serves it from a task on the caller's runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Socket)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    pub async fn interfaces(&self) -> Result<Vec<Interface>, NetlinkError> {
        self.0
            .link()
            .get()
            .execute()
            .map_ok(|message| describe(&message))
            .try_collect()
            .await
            .map_err(NetlinkError::List)
    }

    pub async fn set_up(&self, interface: &Interface) -> Result<(), NetlinkError> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(interface.index).up().build();
        let request = self.0.link().set(message).execute();
        request.await.map_err(|source| NetlinkError::Up { interface: interface.name.clone(), source })
    }

    /// Puts a lease on its interface. What `old` had and `new` has not is taken away.
    pub async fn apply(&self, index: u32, old: Option<&Lease>, new: &Lease) -> Result<(), NetlinkError> {
        let interface = || new.interface.clone();
        if let Some(mtu) = new.mtu {
            let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(u32::from(mtu)).build();
            let request = self.0.link().set(message).execute();
            request.await.map_err(|source| NetlinkError::Mtu { interface: interface(), mtu, source })?;
        }
        let add = self.0.address().add(index, IpAddr::V4(new.address.address()), new.address.prefix());
        add.replace().execute().await.map_err(|source| NetlinkError::Address {
            interface: interface(),
            address: new.address,
            source,
        })?;
        for route in &new.routes {
            let request = self.0.route().add(message(index, route)).replace().execute();
            let destination = route.destination;
            request.await.map_err(|source| NetlinkError::Route {
                interface: interface(),
                destination,
                source,
            })?;
        }
        if let Some(old) = old {
            self.take_away(index, old, new).await;
        }
        Ok(())
    }

    /// Best effort: the kernel may have dropped these with the address or the link already.
    async fn take_away(&self, index: u32, old: &Lease, new: &Lease) {
        let gone = |route: &&Route| !new.routes.iter().any(|kept| kept.destination == route.destination);
        for route in old.routes.iter().filter(gone) {
            if let Err(error) = self.0.route().del(message(index, route)).execute().await {
                tracing::debug!(destination = %route.destination, %error, "old route was not there");
            }
        }
        if old.address != new.address {
            let address = AddressMessageBuilder::<Ipv4Addr>::new()
                .index(index)
                .address(old.address.address(), old.address.prefix())
                .build();
            if let Err(error) = self.0.address().del(address).execute().await {
                tracing::debug!(address = %old.address, %error, "old address was not there");
            }
        }
    }

    /// IPv4 addresses of an interface, for telling whether a lease is still in place.
    pub async fn addresses(&self, index: u32) -> Result<Vec<Cidr>, NetlinkError> {
        let messages: Vec<_> = self
            .0
            .address()
            .get()
            .set_link_index_filter(index)
            .execute()
            .try_collect()
            .await
            .map_err(NetlinkError::List)?;
        let address_of = |message: rtnetlink::packet_route::address::AddressMessage| {
            message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => {
                    Cidr::new(*address, message.header.prefix_len).ok()
                }
                _ => None,
            })
        };
        Ok(messages.into_iter().filter_map(address_of).collect())
    }
}

fn describe(message: &LinkMessage) -> Interface {
    let mut interface = Interface {
        index: message.header.index,
        name: String::new(),
        ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        is_virtual: false,
        has_link: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => interface.name.clone_from(name),
            LinkAttribute::Carrier(carrier) => interface.has_link = *carrier == 1,
            // Only drivers of software interfaces register a kind. The same question put to /sys/class/net would be
            // answered for the namespace that mounted it, not for ours.
            LinkAttribute::LinkInfo(info) => {
                interface.is_virtual |= info.iter().any(|info| matches!(info, LinkInfo::Kind(_)));
            }
            _ => {}
        }
    }
    interface
}

fn message(index: u32, route: &Route) -> RouteMessage {
    let destination = route.destination.network();
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(destination.address(), destination.prefix())
        .output_interface(index);
    builder = match route.via {
        Some(gateway) => builder.gateway(gateway),
        None => builder.scope(RouteScope::Link),
    };
    if route.on_link { builder.onlink().build() } else { builder.build() }
}
