//! Carries bytes between two listeners' worlds: whoever connects to a port of the host reaches the gateway
//! inside the private namespace. Knows nothing of what it carries.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::net::Namespace;

/// Opens `127.0.0.1:<port>` (0: any free one) where the caller is, and forwards to `target` inside the
/// namespace for as long as this process lives. Returns the address it listens on.
pub fn start(network: &Namespace, port: u16, target: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let address = listener.local_addr()?;
    // The listener belongs to the host's namespace whoever accepts on it; the thread that accepts is inside,
    // so that what it connects, and what its children connect, is inside too.
    network.spawn("forward", move || {
        for client in listener.incoming().flatten() {
            std::thread::spawn(move || {
                // A connection that fails is closed; the client sees that.
                let _ = carry(client, target);
            });
        }
    })?;
    Ok(address)
}

fn carry(client: TcpStream, target: SocketAddr) -> std::io::Result<()> {
    let server = TcpStream::connect_timeout(&target, Duration::from_secs(5))?;
    let (client_in, server_in) = (client.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || copy(client_in, server));
    copy(server_in, client);
    // Its own failure is the end of the connection, which is where we are.
    let _ = up.join();
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = [0_u8; 16 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Fails when the peer is gone already.
    let _ = to.shutdown(Shutdown::Write);
}
