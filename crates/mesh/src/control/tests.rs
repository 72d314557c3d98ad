use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use orama_protocol::mesh_control::LINE_LIMIT_BYTES;

use super::*;
use crate::PeerStatus;

/// An interface in memory.
struct FakeTunnel {
    peers: Vec<PeerConfig>,
    broken: bool,
}

impl Tunnel for FakeTunnel {
    fn set_peer(&mut self, peer: &PeerConfig) -> Result<(), String> {
        if self.broken {
            return Err("cannot set peer on orama0: no such device".into());
        }
        self.peers.retain(|known| known.public_key != peer.public_key);
        self.peers.push(peer.clone());
        Ok(())
    }

    fn remove_peer(&mut self, public_key: &PublicKey) -> Result<(), String> {
        self.peers.retain(|known| known.public_key != *public_key);
        Ok(())
    }

    fn read(&self) -> Result<InterfaceStatus, String> {
        Ok(InterfaceStatus {
            name: "orama0".into(),
            public_key: key(200),
            listen_port: 51820,
            addresses: vec!["10.0.0.1/24".parse().unwrap(), "10.0.0.11/24".parse().unwrap()],
            peers: self
                .peers
                .iter()
                .map(|peer| PeerStatus {
                    public_key: peer.public_key,
                    endpoint: peer.endpoint,
                    allowed_ips: peer.allowed_ips.clone(),
                    keepalive_seconds: peer.keepalive_seconds,
                    last_handshake: None,
                    rx_bytes: 0,
                    tx_bytes: 0,
                })
                .collect(),
        })
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn peer(number: u8, allowed_ips: &[&str]) -> MeshPeer {
    MeshPeer {
        public_key: key(number).to_string(),
        endpoint: Some("192.0.2.4:51820".into()),
        allowed_ips: allowed_ips.iter().map(|ip| (*ip).to_owned()).collect(),
        keepalive_seconds: 25,
    }
}

/// A server on a thread, stopped by closing one end of a socket pair.
struct Running {
    path: PathBuf,
    tunnel: Arc<Mutex<FakeTunnel>>,
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    _folder: tempfile::TempDir,
}

impl Running {
    fn start(allowed_uids: Option<Vec<u32>>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mesh.sock");
        let server = Server::bind(&ServerConfig { path: &path, group: None, allowed_uids }).unwrap();
        let tunnel = Arc::new(Mutex::new(FakeTunnel { peers: Vec::new(), broken: false }));
        let (stop, stopped) = UnixStream::pair().unwrap();
        let served = Arc::clone(&tunnel);
        let thread = std::thread::spawn(move || server.serve(&served, stopped));
        Self { path, tunnel, stop: Some(stop), thread: Some(thread), _folder: folder }
    }

    fn client(&self) -> Client {
        Client::new(&self.path)
    }

    /// Sends raw bytes and reads whatever comes until the server closes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.thread.take().unwrap().join().unwrap().unwrap();
        assert!(!self.path.exists(), "the socket file goes with the server");
    }
}

#[test]
fn peers_are_set_shown_and_removed_over_the_socket() {
    let running = Running::start(None);
    let client = running.client();
    client.set_peer(peer(1, &["10.0.0.4/32"])).unwrap();
    client.set_peer(peer(1, &["10.0.0.4/32", "10.0.0.5/32"])).unwrap();
    let MeshResponse::Interface { name, public_key, listen_port, addresses, peers } = client.show().unwrap()
    else {
        panic!("show answers with the interface")
    };
    assert_eq!((name.as_str(), public_key, listen_port), ("orama0", key(200).to_string(), 51820));
    assert_eq!(addresses, ["10.0.0.1/24", "10.0.0.11/24"]);
    assert_eq!(peers, [peer(1, &["10.0.0.4/32", "10.0.0.5/32"])]);
    for _ in 0..2 {
        client.remove_peer(&key(1).to_string()).unwrap();
    }
    assert!(running.tunnel.lock().unwrap().peers.is_empty());
}

#[test]
fn what_a_peer_may_not_be() {
    let running = Running::start(None);
    let client = running.client();
    client.set_peer(peer(9, &["10.0.0.9/32"])).unwrap();
    let with = |change: &dyn Fn(&mut MeshPeer)| {
        let mut changed = peer(1, &["10.0.0.4/32"]);
        change(&mut changed);
        changed
    };
    let cases: Vec<(MeshPeer, &str)> = vec![
        (with(&|peer| peer.public_key = "x".into()), "public_key: a key is 44 characters"),
        (with(&|peer| peer.public_key = key(200).to_string()), "public_key is this interface's own"),
        (with(&|peer| peer.endpoint = Some("example.com:51820".into())), "endpoint is not"),
        (with(&|peer| peer.endpoint = Some("0.0.0.0:51820".into())), "endpoint is not"),
        (with(&|peer| peer.endpoint = Some("192.0.2.4:0".into())), "endpoint is not"),
        (peer(1, &[]), "allowed_ips has 0 entries"),
        (peer(1, &["10.0.0.4"]), "allowed_ips[0]: 10.0.0.4/32 is not a single address (/32)"),
        (peer(1, &["10.0.0.4/24"]), "allowed_ips[0]: 10.0.0.4/24 is not a single address"),
        (peer(1, &["0.0.0.0/0"]), "allowed_ips[0]: 0.0.0.0/0 is not a single address"),
        (
            peer(1, &["10.0.0.4/32", "10.0.1.4/32"]),
            "allowed_ips[1]: 10.0.1.4/32 is not a host address of the overlay",
        ),
        (peer(1, &["10.0.0.255/32"]), "allowed_ips[0]: 10.0.0.255/32 is not a host address"),
        (peer(1, &["10.0.0.0/32"]), "allowed_ips[0]: 10.0.0.0/32 is not a host address"),
        (peer(1, &["fd00::1/128"]), "allowed_ips[0]: not an IPv4 address"),
        (peer(1, &["10.0.0.4/32", "10.0.0.4/32"]), "allowed_ips[1]: 10.0.0.4/32 is listed twice"),
        (peer(1, &["10.0.0.11/32"]), "allowed_ips[0]: 10.0.0.11/32 is this interface's own address"),
        (peer(1, &["10.0.0.9/32"]), "allowed_ips[0]: 10.0.0.9/32 belongs to peer"),
    ];
    for (refused, expected) in cases {
        match client.set_peer(refused.clone()) {
            Err(ClientError::Refused(error)) => assert!(error.starts_with(expected), "{error} / {expected}"),
            other => panic!("{refused:?}: {other:?}"),
        }
    }
    assert_eq!(running.tunnel.lock().unwrap().peers.len(), 1, "nothing refused was set");
}

#[test]
fn a_failing_interface_is_reported_not_hidden() {
    let running = Running::start(None);
    running.tunnel.lock().unwrap().broken = true;
    let error = running.client().set_peer(peer(1, &["10.0.0.4/32"])).unwrap_err();
    assert_eq!(error.to_string(), "the mesh refused: cannot set peer on orama0: no such device");
}

#[test]
fn malformed_lines_are_answered_and_do_no_harm() {
    let running = Running::start(None);
    for bytes in [
        &b"\n"[..],
        b"{}\n",
        b"null\n",
        b"{\"do\":\"destroy\"}\n",
        b"{\"do\":\"remove-peer\",\"public_key\":\"x\"}\n",
        b"{\"do\":\"set-peer\",\"peer\":{\"public_key\":\"x\",\"allowed_ips\":[],\"shell\":\"sh\"}}\n",
        b"\xff\xfe\n",
        b"[[[[[[[[[[\n",
    ] {
        let answer = running.raw(bytes);
        assert!(answer.starts_with("{\"result\":\"error\"") && answer.ends_with('\n'), "{bytes:?}: {answer}");
    }
    assert!(running.raw(b"{\"do\":\"show\"}").contains("the line has no end"));
    assert!(running.raw(b"").is_empty());
    running.client().show().unwrap();
}

#[test]
fn a_line_beyond_the_limit_is_refused_and_the_connection_closed() {
    let running = Running::start(None);
    let mut stream = UnixStream::connect(&running.path).unwrap();
    // Exactly what the server takes off the socket, so that its closing does not race with our writing.
    stream.write_all(&vec![b' '; LINE_LIMIT_BYTES + 1]).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert!(answer.contains("the line is too long"), "{answer}");
    let padded = format!("{{\"do\":\"show\"}}{}\n", " ".repeat(LINE_LIMIT_BYTES - 14));
    assert!(running.raw(padded.as_bytes()).contains("orama0"), "a line of just the limit is taken");
}

#[test]
fn one_connection_may_ask_several_times() {
    let running = Running::start(None);
    assert_eq!(running.raw(b"{\"do\":\"show\"}\n{\"do\":\"show\"}\n").lines().count(), 2);
}

#[test]
fn silent_connections_do_not_keep_others_out_for_ever() {
    let running = Running::start(None);
    let silent: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&running.path).unwrap()).collect();
    assert!(running.raw(b"").contains("too many connections"));
    drop(silent);
    let mut tries = 0..50;
    while tries.next().is_some() && running.client().show().is_err() {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(tries.next().is_some(), "seats are free again");
}

#[test]
fn only_named_users_are_answered_when_users_are_named() {
    let own = nix::unistd::geteuid().as_raw();
    Running::start(Some(vec![own])).client().show().unwrap();
    let running = Running::start(Some(vec![own + 1]));
    match running.client().show() {
        Err(ClientError::Refused(error)) => assert_eq!(error, "this user may not change peers"),
        // The refusal may overtake our request.
        Err(ClientError::Answer(..)) => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_socket_is_for_owner_and_group_and_replaces_only_a_dead_one() {
    let running = Running::start(None);
    assert_eq!(std::fs::metadata(&running.path).unwrap().permissions().mode() & 0o7777, 0o660);
    let config = |path| ServerConfig { path, group: None, allowed_uids: None };
    assert!(matches!(Server::bind(&config(&running.path)), Err(BindError::InUse(_))));

    let folder = tempfile::tempdir().unwrap();
    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    Server::bind(&config(&stale)).unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&config(&file)), Err(BindError::NotSocket(_))));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn the_client_names_what_it_cannot_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mesh.sock");
    let client = Client::new(&path);
    assert!(matches!(client.show(), Err(ClientError::Connect(..))));
    let listener = UnixListener::bind(&path).unwrap();
    let answers = ["not json\n", "{\"result\":\"done\"}\n", "{\"result\":\"done\"", ""];
    let thread = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert!(matches!(client.show(), Err(ClientError::Malformed(..))));
    assert!(matches!(client.show(), Err(ClientError::Unexpected)));
    assert!(matches!(client.show(), Err(ClientError::Length(_))));
    assert!(matches!(client.show(), Err(ClientError::Length(_))));
    thread.join().unwrap();
}
