//! A WireGuard tunnel inside this process, without root: packets of a small TCP/IP stack go through the noise
//! protocol into a UDP socket. One peer, one route, TCP to it; driven by whoever waits for something, so that there
//! is no thread. Knows nothing of what is said through it.

mod stack;
mod transport;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use defguard_boringtun::noise::{Tunn, TunnResult};
use defguard_boringtun::x25519;
use orama_mesh::{Ipv4Prefix, MTU_BYTES, PrivateKey, PublicKey};
use smoltcp::iface::SocketHandle;

use stack::Stack;
pub use transport::TunnelConnector;

/// Room for a WireGuard packet: an inner packet and 32 bytes of header and tag, or a handshake of 148.
const DATAGRAM_BYTES: usize = MTU_BYTES as usize + 128;
/// Longest sleep between two looks at the timers of WireGuard and TCP.
const TICK: Duration = Duration::from_millis(100);
/// How long a closed connection may take to say so to the other side.
const GOODBYE: Duration = Duration::from_millis(200);

/// Where the tunnel leads and who we are in it. No Debug: it holds the key.
pub struct TunnelSettings<'a> {
    pub private_key: &'a PrivateKey,
    /// Our own overlay address.
    pub address: Ipv4Prefix,
    pub peer: PublicKey,
    /// The only address behind the tunnel.
    pub peer_address: Ipv4Addr,
    pub endpoint: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    #[error("opening a UDP socket to {endpoint}")]
    Socket {
        endpoint: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("sending to or receiving from {endpoint}")]
    Io {
        endpoint: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("no WireGuard handshake with {0}: it does not answer, or does not know this machine's key")]
    NoHandshake(SocketAddr),
    #[error("WireGuard to {0} is up, but nothing answers behind it in time")]
    TimedOut(SocketAddr),
    #[error("the connection through the tunnel was refused")]
    Refused,
    #[error("the connection through the tunnel was cut")]
    Cut,
}

pub struct Tunnel {
    socket: UdpSocket,
    endpoint: SocketAddr,
    peer_address: Ipv4Addr,
    noise: Tunn,
    stack: Stack,
}

impl Tunnel {
    pub fn open(settings: &TunnelSettings) -> Result<Self, TunnelError> {
        let endpoint = settings.endpoint;
        let any = match endpoint {
            SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0)),
        };
        // Connected: the kernel drops what comes from elsewhere.
        let socket = UdpSocket::bind(any)
            .and_then(|socket| socket.connect(endpoint).map(|()| socket))
            .map_err(|source| TunnelError::Socket { endpoint, source })?;
        let secret = x25519::StaticSecret::from(*settings.private_key.expose());
        let peer = x25519::PublicKey::from(*settings.peer.as_bytes());
        Ok(Self {
            socket,
            endpoint,
            peer_address: settings.peer_address,
            noise: Tunn::new(secret, peer, None, None, 0, None),
            stack: Stack::new(settings.address),
        })
    }

    /// Opens a TCP connection to the peer.
    pub fn connect(&mut self, port: u16, until: Instant) -> Result<SocketHandle, TunnelError> {
        let handle = self.stack.connect(self.peer_address, port).ok_or(TunnelError::Refused)?;
        let result = self.turn_until(until, |stack| match stack.connecting(handle) {
            stack::Connecting::Pending => None,
            stack::Connecting::Open => Some(Ok(())),
            stack::Connecting::Refused => Some(Err(TunnelError::Refused)),
        });
        match result {
            Ok(()) => Ok(handle),
            Err(error) => {
                self.stack.remove(handle);
                Err(error)
            }
        }
    }

    /// Hands all bytes to the connection; they are on their way or in its buffer then.
    pub fn send(
        &mut self,
        handle: SocketHandle,
        mut bytes: &[u8],
        until: Instant,
    ) -> Result<(), TunnelError> {
        while !bytes.is_empty() {
            let sent = self.turn_until(until, |stack| stack.send(handle, bytes).transpose())?;
            bytes = &bytes[sent..];
        }
        self.flush()
    }

    /// At least one byte, or 0 at the end.
    pub fn receive(
        &mut self,
        handle: SocketHandle,
        buffer: &mut [u8],
        until: Instant,
    ) -> Result<usize, TunnelError> {
        self.turn_until(until, |stack| stack.receive(handle, buffer).transpose())
    }

    /// Closes the connection and forgets it.
    pub fn close(&mut self, handle: SocketHandle) {
        self.stack.close(handle);
        let goodbye = Instant::now() + GOODBYE;
        // Nobody is left who wants to know of a failure; the other side's own limits apply.
        let _ = self.turn_until(goodbye, |stack| stack.is_over(handle).then_some(Ok(())));
        self.stack.remove(handle);
    }

    pub fn is_open(&self, handle: SocketHandle) -> bool {
        self.stack.is_open(handle)
    }

    /// Carries packets until `ready` has an answer.
    fn turn_until<T>(
        &mut self,
        until: Instant,
        mut ready: impl FnMut(&mut Stack) -> Option<Result<T, TunnelError>>,
    ) -> Result<T, TunnelError> {
        loop {
            self.stack.poll();
            if let Some(answer) = ready(&mut self.stack) {
                self.flush()?;
                return answer;
            }
            self.flush()?;
            self.tick()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let shaken = self.noise.time_since_last_handshake().is_some();
                let endpoint = self.endpoint;
                return Err(match shaken {
                    true => TunnelError::TimedOut(endpoint),
                    false => TunnelError::NoHandshake(endpoint),
                });
            }
            self.hear(left.min(TICK))?;
        }
    }

    /// What the stack wants to send goes through the noise protocol to the peer.
    fn flush(&mut self) -> Result<(), TunnelError> {
        let mut buffer = [0; DATAGRAM_BYTES];
        self.stack.poll();
        while let Some(packet) = self.stack.outgoing() {
            // Without a session it queues the packet and gives the handshake instead.
            if let TunnResult::WriteToNetwork(datagram) = self.noise.encapsulate(&packet, &mut buffer) {
                send_to(&self.socket, self.endpoint, datagram)?;
            }
        }
        Ok(())
    }

    fn tick(&mut self) -> Result<(), TunnelError> {
        let mut buffer = [0; DATAGRAM_BYTES];
        match self.noise.update_timers(&mut buffer) {
            TunnResult::WriteToNetwork(datagram) => send_to(&self.socket, self.endpoint, datagram),
            // An expired handshake begins anew with the next packet, which TCP repeats.
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => Ok(()),
        }
    }

    /// Waits for one datagram and takes it.
    fn hear(&mut self, limit: Duration) -> Result<(), TunnelError> {
        let failed = |source| TunnelError::Io { endpoint: self.endpoint, source };
        // Zero would mean for ever.
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).map_err(failed)?;
        let mut datagram = [0; DATAGRAM_BYTES];
        let length = match self.socket.recv(&mut datagram) {
            Ok(length) => length,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => {
                    return Ok(());
                }
                // The port is not open yet: a node that boots. The handshake is repeated.
                io::ErrorKind::ConnectionRefused => {
                    std::thread::sleep(limit);
                    return Ok(());
                }
                _ => return Err(failed(error)),
            },
        };
        self.take(&datagram[..length])
    }

    fn take(&mut self, datagram: &[u8]) -> Result<(), TunnelError> {
        let mut buffer = [0; DATAGRAM_BYTES];
        let mut input = datagram;
        loop {
            match self.noise.decapsulate(None, input, &mut buffer) {
                TunnResult::WriteToNetwork(datagram) => {
                    send_to(&self.socket, self.endpoint, datagram)?;
                    // An empty call gives what was queued before the handshake.
                    input = &[];
                }
                TunnResult::WriteToTunnelV4(packet, source) if source == self.peer_address => {
                    self.stack.incoming(packet);
                    return Ok(());
                }
                // Noise on the line, or an address that is not behind this tunnel.
                TunnResult::Done
                | TunnResult::Err(_)
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..) => return Ok(()),
            }
        }
    }
}

/// A datagram that the system has no room or no route for is lost, as datagrams are; the protocols above repeat it.
fn send_to(socket: &UdpSocket, endpoint: SocketAddr, datagram: &[u8]) -> Result<(), TunnelError> {
    match socket.send(datagram) {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::HostUnreachable => Ok(()),
            _ => Err(TunnelError::Io { endpoint, source: error }),
        },
    }
}

#[cfg(test)]
mod tests;
