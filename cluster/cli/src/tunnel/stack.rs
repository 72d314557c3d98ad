//! The TCP/IP side of the tunnel: one interface without hardware, whose packets are queues in memory.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::net::Ipv4Addr;

use orama_mesh::{Ipv4Prefix, MTU_BYTES};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::TunnelError;

/// Packets that may wait in each direction: more than a window of [`BUFFER_BYTES`] needs. TCP repeats what is lost.
const QUEUE: usize = 128;
/// Bytes of a connection's buffers, each way.
const BUFFER_BYTES: usize = 64 * 1024;
/// Where own ports begin (RFC 6335).
const PORTS_FROM: u16 = 49152;

pub struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    wire: Wire,
    next_port: u16,
}

pub enum Connecting {
    Pending,
    Open,
    Refused,
}

impl Stack {
    pub fn new(address: Ipv4Prefix) -> Self {
        let mut wire = Wire::default();
        let mut config = Config::new(HardwareAddress::Ip);
        // Sequence numbers inside an authenticated tunnel: a stranger cannot inject, so this need not be secret.
        config.random_seed = std::collections::hash_map::RandomState::new().hash_one(std::process::id());
        let mut interface = Interface::new(config, &mut wire, Instant::now());
        interface.update_ip_addrs(|addresses| {
            let own = IpCidr::new(IpAddress::Ipv4(address.address()), address.length());
            // One address into an empty list of at least one.
            let _ = addresses.push(own);
        });
        Self { interface, sockets: SocketSet::new(Vec::new()), wire, next_port: PORTS_FROM }
    }

    pub fn poll(&mut self) {
        self.interface.poll(Instant::now(), &mut self.wire, &mut self.sockets);
    }

    pub fn outgoing(&mut self) -> Option<Vec<u8>> {
        self.wire.outgoing.pop_front()
    }

    pub fn incoming(&mut self, packet: &[u8]) {
        if self.wire.incoming.len() < QUEUE {
            self.wire.incoming.push_back(packet.to_vec());
        }
    }

    pub fn connect(&mut self, address: Ipv4Addr, port: u16) -> Option<SocketHandle> {
        let handle = self.sockets.add(new_socket());
        let own = self.next_port;
        self.next_port = own.checked_add(1).unwrap_or(PORTS_FROM);
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        let remote = (IpAddress::Ipv4(address), port);
        if socket.connect(self.interface.context(), remote, own).is_ok() {
            return Some(handle);
        }
        self.sockets.remove(handle);
        None
    }

    #[cfg(test)]
    pub fn listen(&mut self, port: u16) -> SocketHandle {
        let handle = self.sockets.add(new_socket());
        self.sockets.get_mut::<tcp::Socket>(handle).listen(port).unwrap();
        handle
    }

    pub fn connecting(&mut self, handle: SocketHandle) -> Connecting {
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        match socket.state() {
            tcp::State::Closed => Connecting::Refused,
            tcp::State::Listen | tcp::State::SynSent | tcp::State::SynReceived => Connecting::Pending,
            _ => Connecting::Open,
        }
    }

    /// How many bytes were taken; none yet when the buffer is full.
    pub fn send(&mut self, handle: SocketHandle, bytes: &[u8]) -> Result<Option<usize>, TunnelError> {
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        if !socket.may_send() {
            return Err(TunnelError::Cut);
        }
        let sent = socket.send_slice(bytes).map_err(|_| TunnelError::Cut)?;
        Ok((sent > 0).then_some(sent))
    }

    /// How many bytes came; 0 at the orderly end, none while nothing came.
    pub fn receive(&mut self, handle: SocketHandle, buffer: &mut [u8]) -> Result<Option<usize>, TunnelError> {
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        match socket.recv_slice(buffer) {
            Ok(0) if buffer.is_empty() => Ok(Some(0)),
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(length)),
            Err(tcp::RecvError::Finished) => Ok(Some(0)),
            Err(tcp::RecvError::InvalidState) => Err(TunnelError::Cut),
        }
    }

    pub fn is_open(&self, handle: SocketHandle) -> bool {
        self.sockets.get::<tcp::Socket>(handle).may_send()
    }

    pub fn close(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket>(handle).close();
    }

    /// Whether the other side knows of the close.
    pub fn is_over(&self, handle: SocketHandle) -> bool {
        matches!(
            self.sockets.get::<tcp::Socket>(handle).state(),
            tcp::State::Closed | tcp::State::FinWait2 | tcp::State::TimeWait
        )
    }

    pub fn remove(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }
}

fn new_socket() -> tcp::Socket<'static> {
    let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
    tcp::Socket::new(buffer(), buffer())
}

/// The cable of the interface: two queues.
#[derive(Default)]
struct Wire {
    incoming: VecDeque<Vec<u8>>,
    outgoing: VecDeque<Vec<u8>>,
}

struct Received(Vec<u8>);

struct Sending<'a>(&'a mut VecDeque<Vec<u8>>);

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        if self.outgoing.len() >= QUEUE {
            return None;
        }
        self.incoming.pop_front().map(|packet| (Received(packet), Sending(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (self.outgoing.len() < QUEUE).then_some(Sending(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU_BYTES as usize;
        capabilities
    }
}

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = vec![0; length];
        let result = fill(&mut packet);
        self.0.push_back(packet);
        result
    }
}
