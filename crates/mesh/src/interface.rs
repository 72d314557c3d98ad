//! A WireGuard interface: brought up from a [`WgConfig`], its peers changed and read, taken down. An interface
//! of the same name left by an earlier process is adopted and made to match. Every call blocks on netlink or
//! on boringtun's socket, for milliseconds as a rule and some seconds at worst: keep it off async threads.

use std::io;
use std::net::SocketAddr;
use std::time::SystemTime;

use defguard_wireguard_rs::error::WireguardInterfaceError;
use defguard_wireguard_rs::host::Host;
use defguard_wireguard_rs::key::Key;
use defguard_wireguard_rs::net::IpAddrMask;
use defguard_wireguard_rs::peer::Peer;
use defguard_wireguard_rs::{InterfaceConfiguration, Kernel, Userspace, WGApi, WireguardInterfaceApi};
use zeroize::Zeroize as _;

mod error;

pub use error::{DownError, PeerError, ReadError, UpError};

use crate::{Ipv4Prefix, OVERLAY, PeerConfig, PrivateKey, PublicKey, WgConfig, link, userspace};

/// What fits into an Ethernet frame of 1500 bytes beside WireGuard's 80 bytes over IPv6; wg-quick's default.
pub const MTU_BYTES: u32 = 1420;
/// Longest interface name, in bytes (IFNAMSIZ less its final zero).
const NAME_BYTES_MAX: usize = 15;

/// Who moves the packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The kernel's WireGuard. The interface outlives this process and can be adopted by the next.
    Kernel,
    /// boringtun on threads of this process; the interface ends with it. For tests and for helper processes on
    /// hosts whose kernel has no WireGuard, never for the agent.
    Userspace,
}

/// What the interface is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceStatus {
    pub name: String,
    pub public_key: PublicKey,
    pub listen_port: u16,
    pub addresses: Vec<Ipv4Prefix>,
    /// Ordered by public key.
    pub peers: Vec<PeerStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    pub public_key: PublicKey,
    /// Where the peer was last heard from, else where it is configured to be.
    pub endpoint: Option<SocketAddr>,
    pub allowed_ips: Vec<Ipv4Prefix>,
    pub keepalive_seconds: u16,
    /// None until the first handshake.
    pub last_handshake: Option<SystemTime>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

impl PeerStatus {
    /// The peer without its counters.
    pub fn config(&self) -> PeerConfig {
        PeerConfig {
            public_key: self.public_key,
            endpoint: self.endpoint,
            allowed_ips: self.allowed_ips.clone(),
            keepalive_seconds: self.keepalive_seconds,
        }
    }
}

enum Api {
    Kernel(WGApi<Kernel>),
    Userspace(WGApi<Userspace>),
}

/// A WireGuard interface that is up. Dropping it leaves a kernel interface as it is (a restarted agent adopts
/// it) and ends a userspace one; [`Interface::down`] removes either.
pub struct Interface {
    name: String,
    index: u32,
    api: Api,
}

impl Interface {
    /// Creates the interface, or adopts a kernel one that is there, and makes it match `config`: key, port,
    /// addresses, MTU, peers, routes. Sessions of adopted peers survive. When this fails half way, a kernel
    /// interface stays for the next attempt to adopt.
    pub fn up(name: &str, config: &WgConfig, backend: Backend) -> Result<Self, UpError> {
        check_name(name)?;
        let key = config.private_key.as_ref().ok_or_else(|| UpError::NoPrivateKey(name.to_owned()))?;
        if let Some(peer) = config.peers.iter().find(|peer| takes_everything(peer)) {
            return Err(PeerError::DefaultRoute(name.to_owned(), peer.public_key).into());
        }
        let failed = |action: &str| {
            let action = action.to_owned();
            let name = name.to_owned();
            move |source| UpError::Link { name, action, source }
        };
        let existing = link::find(name).map_err(failed("look for"))?;
        let adopted = existing.is_some();
        let api = match (backend, existing) {
            (Backend::Kernel, Some(link)) if link.wireguard => Api::Kernel(new_api(name)?),
            (Backend::Kernel, None) => Api::Kernel(create_kernel(name)?),
            // Attaching to somebody's tun device would take a share of its packets.
            (Backend::Kernel | Backend::Userspace, Some(_)) => {
                return Err(UpError::NameTaken(name.to_owned()));
            }
            (Backend::Userspace, None) => Api::Userspace(create_userspace(name)?),
        };
        let link = link::find(name).map_err(failed("look for"))?;
        let index = link.ok_or_else(|| UpError::NameTaken(name.to_owned()))?.index;
        let mut interface = Self { name: name.to_owned(), index, api };

        let port = config.listen_port.unwrap_or(0);
        if !(adopted && interface.has(key, port)) {
            interface.configure(key, port)?;
        }
        link::set_up(index, MTU_BYTES).map_err(failed("set the MTU of and bring up"))?;
        interface.set_addresses(&config.addresses).map_err(failed("set the addresses of"))?;
        interface.set_peers(&config.peers)?;
        tracing::info!(
            interface = name,
            adopted,
            ?backend,
            peers = config.peers.len(),
            "wireguard interface is up"
        );
        Ok(interface)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Adds the peer or replaces it, and routes what it is allowed. On the kernel its session survives.
    pub fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), PeerError> {
        if takes_everything(peer) {
            return Err(PeerError::DefaultRoute(self.name.clone(), peer.public_key));
        }
        self.write_peer(peer)?;
        self.match_routes()
    }

    /// Removes the peer and its routes; a peer that is not there is success.
    pub fn remove_peer(&mut self, public_key: &PublicKey) -> Result<(), PeerError> {
        self.erase_peer(public_key)?;
        self.match_routes()
    }

    /// Key, port, addresses and peers as the kernel or boringtun has them now.
    pub fn read(&self) -> Result<InterfaceStatus, ReadError> {
        let host = self.device().map_err(|source| ReadError::Device(self.name.clone(), source))?;
        let key = host.private_key.as_ref().ok_or_else(|| ReadError::NoKey(self.name.clone()))?;
        let addresses =
            link::addresses(self.index).map_err(|source| ReadError::Addresses(self.name.clone(), source))?;
        Ok(InterfaceStatus {
            name: self.name.clone(),
            public_key: PublicKey::from_bytes(key.public_key().as_array()),
            listen_port: host.listen_port,
            addresses,
            peers: peers_of(&host),
        })
    }

    /// Removes the interface; one that is gone already is success.
    pub fn down(self) -> Result<(), DownError> {
        let Self { name, index, api } = self;
        // The library's own removal runs resolvectl or resolvconf and fails where there is neither. Dropping a
        // userspace device ends its threads; the link is ours to remove in both cases.
        drop(api);
        link::delete(index).map_err(|source| DownError { name: name.clone(), source })?;
        tracing::info!(interface = name, "wireguard interface is removed");
        Ok(())
    }

    fn has(&self, key: &PrivateKey, port: u16) -> bool {
        let Ok(host) = self.device() else { return false };
        let current = host.private_key.as_ref().map(|key| key.public_key().as_array());
        current == Some(*key.public().as_bytes()) && (port == 0 || host.listen_port == port)
    }

    fn configure(&self, key: &PrivateKey, port: u16) -> Result<(), UpError> {
        let mut wanted = InterfaceConfiguration {
            name: self.name.clone(),
            prvkey: key.to_base64().to_string(),
            // Addresses and peers follow one by one: see `link` and `write_peer`.
            addresses: Vec::new(),
            port,
            peers: Vec::new(),
            mtu: None,
            fwmark: None,
        };
        let result = match &self.api {
            Api::Kernel(api) => api.configure_interface(&wanted),
            Api::Userspace(api) => api.configure_interface(&wanted),
        };
        wanted.prvkey.zeroize();
        result.map_err(|source| UpError::Configure(self.name.clone(), source))
    }

    fn set_addresses(&self, wanted: &[Ipv4Prefix]) -> io::Result<()> {
        for address in link::addresses(self.index)? {
            if !wanted.contains(&address) {
                link::remove_address(self.index, address)?;
            }
        }
        // After the removals, because these may have taken secondary addresses with them.
        for address in wanted {
            link::add_address(self.index, *address)?;
        }
        Ok(())
    }

    fn set_peers(&mut self, wanted: &[PeerConfig]) -> Result<(), PeerError> {
        let host = self.device().map_err(|source| PeerError::Read(self.name.clone(), source))?;
        for peer in peers_of(&host) {
            if wanted.iter().all(|keep| keep.public_key != peer.public_key) {
                self.erase_peer(&peer.public_key)?;
            }
        }
        for peer in wanted {
            self.write_peer(peer)?;
        }
        self.match_routes()
    }

    fn write_peer(&self, peer: &PeerConfig) -> Result<(), PeerError> {
        let mut wire = Peer::new(Key::new(*peer.public_key.as_bytes()));
        wire.endpoint = peer.endpoint;
        wire.persistent_keepalive_interval = Some(peer.keepalive_seconds);
        wire.allowed_ips = peer
            .allowed_ips
            .iter()
            .map(|ip| IpAddrMask::new(ip.network().address().into(), ip.length()))
            .collect();
        match &self.api {
            Api::Kernel(api) => api.configure_peer(&wire),
            // boringtun panics on an update of a peer it has, and the library then waits for ever.
            Api::Userspace(api) => api.remove_peer(&wire.public_key).and_then(|()| api.configure_peer(&wire)),
        }
        .map_err(|source| PeerError::Set(self.name.clone(), peer.public_key, source))
    }

    fn erase_peer(&self, public_key: &PublicKey) -> Result<(), PeerError> {
        let key = Key::new(*public_key.as_bytes());
        match &self.api {
            Api::Kernel(api) => api.remove_peer(&key),
            Api::Userspace(api) => api.remove_peer(&key),
        }
        .map_err(|source| PeerError::Remove(self.name.clone(), *public_key, source))
    }

    /// Makes the routes through the interface follow from its addresses and peers as they are now.
    fn match_routes(&self) -> Result<(), PeerError> {
        let gone = |source| PeerError::Gone(self.name.clone(), source);
        let host = self.device().map_err(|source| PeerError::Read(self.name.clone(), source))?;
        let wanted = wanted_routes(&link::addresses(self.index).map_err(gone)?, &peers_of(&host));
        let current = link::routes(self.index).map_err(gone)?;
        let failed = |network: Ipv4Prefix| move |source| PeerError::Route(self.name.clone(), network, source);
        for network in current.iter().filter(|network| !wanted.contains(network)) {
            link::remove_route(self.index, *network).map_err(failed(*network))?;
        }
        for network in wanted.iter().filter(|network| !current.contains(network)) {
            link::add_route(self.index, *network).map_err(failed(*network))?;
        }
        Ok(())
    }

    fn device(&self) -> Result<Host, WireguardInterfaceError> {
        match &self.api {
            Api::Kernel(api) => api.read_interface_data(),
            Api::Userspace(api) => api.read_interface_data(),
        }
    }
}

/// The routes that the addresses do not bring by themselves: the overlay when all its addresses are /32, and
/// every allowed network that no address's own network covers.
fn wanted_routes(addresses: &[Ipv4Prefix], peers: &[PeerStatus]) -> Vec<Ipv4Prefix> {
    let mut covered: Vec<Ipv4Prefix> =
        addresses.iter().filter(|ip| !ip.is_host()).map(|ip| ip.network()).collect();
    let mut wanted = Vec::new();
    if addresses.iter().any(|ip| OVERLAY.contains(ip)) && !covered.iter().any(|net| net.contains(&OVERLAY)) {
        wanted.push(OVERLAY);
        covered.push(OVERLAY);
    }
    for network in peers.iter().flat_map(|peer| &peer.allowed_ips).map(Ipv4Prefix::network) {
        if !covered.iter().any(|net| net.contains(&network)) && !wanted.contains(&network) {
            wanted.push(network);
        }
    }
    wanted
}

fn peers_of(host: &Host) -> Vec<PeerStatus> {
    let mut peers: Vec<PeerStatus> = host
        .peers
        .values()
        .map(|peer| PeerStatus {
            public_key: PublicKey::from_bytes(peer.public_key.as_array()),
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips.iter().filter_map(ipv4).collect(),
            keepalive_seconds: peer.persistent_keepalive_interval.unwrap_or(0),
            // The kernel says "the epoch" for never.
            last_handshake: peer.last_handshake.filter(|at| *at != SystemTime::UNIX_EPOCH),
            rx_bytes: peer.rx_bytes,
            tx_bytes: peer.tx_bytes,
        })
        .collect();
    peers.sort_by_key(|peer| peer.public_key);
    peers.iter_mut().for_each(|peer| peer.allowed_ips.sort());
    peers
}

fn ipv4(ip: &IpAddrMask) -> Option<Ipv4Prefix> {
    match ip.address {
        std::net::IpAddr::V4(address) => Ipv4Prefix::new(address, ip.cidr),
        std::net::IpAddr::V6(_) => None,
    }
}

/// A peer that is allowed 0.0.0.0/0 would swallow the machine's own traffic, WireGuard's included.
fn takes_everything(peer: &PeerConfig) -> bool {
    peer.allowed_ips.iter().any(|ip| ip.length() == 0)
}

fn check_name(name: &str) -> Result<(), UpError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && name != "." && name != "..";
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    // boringtun takes a number for an open descriptor.
    if fits && plain && name.parse::<i32>().is_err() { Ok(()) } else { Err(UpError::Name(name.to_owned())) }
}

fn new_api<T>(name: &str) -> Result<WGApi<T>, UpError> {
    WGApi::new(name).map_err(|source| UpError::CreateUserspace(name.to_owned(), source))
}

fn create_kernel(name: &str) -> Result<WGApi<Kernel>, UpError> {
    let mut api = new_api::<Kernel>(name)?;
    if api.create_interface().is_ok() {
        return Ok(api);
    }
    // The library does not say why: ask the kernel again, this time with its answer.
    match link::create_wireguard(name) {
        Ok(()) => Ok(api),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => UpError::NoKernelSupport(name.to_owned(), error),
            Some(libc::EPERM | libc::EACCES) => UpError::Permission(name.to_owned(), error),
            Some(libc::EEXIST) => UpError::NameTaken(name.to_owned()),
            _ => UpError::Create(name.to_owned(), error),
        }),
    }
}

fn create_userspace(name: &str) -> Result<WGApi<Userspace>, UpError> {
    let mut api = new_api::<Userspace>(name)?;
    userspace::keep_signals(|| api.create_interface())
        .map_err(|source| UpError::Create(name.to_owned(), source))?
        .map_err(|source| UpError::CreateUserspace(name.to_owned(), source))?;
    Ok(api)
}

#[cfg(test)]
#[path = "interface_tests.rs"]
mod tests;
