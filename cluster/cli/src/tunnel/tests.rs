//! Two ends on the loopback interface, each in its own thread; the far one answers with what it was sent.

use super::*;

const PORT: u16 = 9998;

struct Far {
    key: PublicKey,
    address: SocketAddr,
}

/// The node's side: a UDP port that answers whoever shakes hands with the known key, and drops every `lossy`th
/// datagram that it should send.
fn far(near: PublicKey, lossy: usize) -> Far {
    let own = PrivateKey::generate();
    let key = own.public();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    std::thread::spawn(move || {
        let secret = x25519::StaticSecret::from(*own.expose());
        let mut noise = Tunn::new(secret, x25519::PublicKey::from(*near.as_bytes()), None, None, 1, None);
        let mut stack = Stack::new("10.0.0.1/24".parse().unwrap());
        let handle = stack.listen(PORT);
        let (mut input, mut output) = ([0; DATAGRAM_BYTES], [0; DATAGRAM_BYTES]);
        let (mut client, mut sent) = (None, 0);
        let mut say = |client: Option<SocketAddr>, datagram: &[u8]| {
            sent += 1;
            if let (Some(client), false) = (client, lossy > 0 && sent % lossy == 0) {
                socket.send_to(datagram, client).unwrap();
            }
        };
        loop {
            let mut length = None;
            if let Ok((received, from)) = socket.recv_from(&mut input) {
                client = Some(from);
                length = Some(received);
            }
            while let Some(received) = length.take() {
                match noise.decapsulate(None, &input[..received], &mut output) {
                    TunnResult::WriteToNetwork(datagram) => {
                        say(client, datagram);
                        length = Some(0);
                    }
                    TunnResult::WriteToTunnelV4(packet, _) => stack.incoming(packet),
                    _ => {}
                }
            }
            let mut echo = [0; 4096];
            stack.poll();
            if let Ok(Some(count @ 1..)) = stack.receive(handle, &mut echo) {
                let mut bytes = &echo[..count];
                while let Ok(Some(taken)) = stack.send(handle, bytes) {
                    bytes = &bytes[taken..];
                }
            }
            stack.poll();
            while let Some(packet) = stack.outgoing() {
                if let TunnResult::WriteToNetwork(datagram) = noise.encapsulate(&packet, &mut output) {
                    say(client, datagram);
                }
            }
            if let TunnResult::WriteToNetwork(datagram) = noise.update_timers(&mut output) {
                say(client, datagram);
            }
        }
    });
    Far { key, address }
}

fn near(key: &PrivateKey, far: &Far, peer: PublicKey) -> Tunnel {
    Tunnel::open(&TunnelSettings {
        private_key: key,
        address: "10.0.0.254/24".parse().unwrap(),
        peer,
        peer_address: Ipv4Addr::new(10, 0, 0, 1),
        endpoint: far.address,
    })
    .unwrap()
}

fn soon(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

fn there_and_back(lossy: usize) {
    let key = PrivateKey::generate();
    let far = far(key.public(), lossy);
    let mut tunnel = near(&key, &far, far.key);
    let handle = tunnel.connect(PORT, soon(30)).unwrap();
    // More than one packet and one window's worth of turns.
    let sent: Vec<u8> = (0..20_000_u32).map(|index| (index % 251) as u8).collect();
    tunnel.send(handle, &sent, soon(30)).unwrap();
    let mut came = Vec::new();
    let mut buffer = [0; 3000];
    while came.len() < sent.len() {
        let count = tunnel.receive(handle, &mut buffer, soon(30)).unwrap();
        assert!(count > 0, "ended after {} bytes", came.len());
        came.extend_from_slice(&buffer[..count]);
    }
    assert_eq!(came, sent);
    tunnel.close(handle);
}

#[test]
fn bytes_go_there_and_back() {
    there_and_back(0);
}

#[test]
fn lost_datagrams_are_repeated() {
    there_and_back(4);
}

#[test]
fn a_peer_with_another_key_is_no_peer() {
    let key = PrivateKey::generate();
    let far = far(key.public(), 0);
    let mut tunnel = near(&key, &far, PrivateKey::generate().public());
    let error = tunnel.connect(PORT, soon(1)).unwrap_err();
    assert!(matches!(error, TunnelError::NoHandshake(_)), "{error}");
}

#[test]
fn a_closed_port_behind_the_tunnel_is_refused() {
    let key = PrivateKey::generate();
    let far = far(key.public(), 0);
    let mut tunnel = near(&key, &far, far.key);
    let error = tunnel.connect(PORT + 1, soon(20)).unwrap_err();
    assert!(matches!(error, TunnelError::Refused), "{error}");
}
