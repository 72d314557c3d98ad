//! The other side of the pipe: a process with network and mount namespaces of its own that does what its
//! standard input says, one line for one answer.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use orama_mesh::{Backend, Interface, PeerConfig, PrivateKey, WgConfig};

pub const ARGUMENT: &str = "--helper-process";

#[derive(Default)]
struct Helper {
    key: Option<PrivateKey>,
    interface: Option<Interface>,
}

pub fn run() {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces of our own");
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");
    // boringtun keeps its socket in /var/run/wireguard, for all namespaces the same.
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none).expect("a /run of our own");
    println!("ready");
    let mut helper = Helper::default();
    for line in std::io::stdin().lock().lines() {
        let words: Vec<String> = line.expect("text").split(' ').map(str::to_owned).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = helper.perform(&words).unwrap_or_else(|error| format!("error: {error}"));
        println!("{answer}");
    }
}

impl Helper {
    fn perform(&mut self, words: &[&str]) -> Result<String, String> {
        match words {
            ["up", backend, name, port, addresses] => {
                let backend = if *backend == "kernel" { Backend::Kernel } else { Backend::Userspace };
                self.up(backend, name, port, addresses, Vec::new())
            }
            ["adopt", name, port, addresses] => self.up(Backend::Kernel, name, port, addresses, Vec::new()),
            ["adopt", name, port, addresses, key, endpoint, ips] => {
                self.up(Backend::Kernel, name, port, addresses, vec![peer(key, endpoint, ips)])
            }
            ["peer", key, endpoint, ips] => done(self.interface().set_peer(&peer(key, endpoint, ips))),
            ["remove", key] => done(self.interface().remove_peer(&key.parse().unwrap())),
            ["read"] => self.read(),
            ["drop"] => {
                self.interface = None;
                Ok("done".to_owned())
            }
            ["down"] => done(self.interface.take().expect("an interface").down()),
            ["listen", address] => listen(address.parse().unwrap()),
            ["connect", address] => Ok(connect(address.parse().unwrap())),
            ["links"] => std::fs::read_to_string("/proc/net/dev")
                .map(|text| text.replace('\n', " "))
                .map_err(|error| error.to_string()),
            other => Err(format!("unknown request {other:?}")),
        }
    }

    fn up(
        &mut self,
        backend: Backend,
        name: &str,
        port: &str,
        addresses: &str,
        peers: Vec<PeerConfig>,
    ) -> Result<String, String> {
        let key = self.key.get_or_insert_with(PrivateKey::generate);
        let config = WgConfig {
            private_key: Some(PrivateKey::from_base64(&key.to_base64()).unwrap()),
            addresses: addresses.split(',').map(|text| text.parse().unwrap()).collect(),
            listen_port: Some(port.parse().unwrap()),
            peers,
        };
        self.interface = Some(Interface::up(name, &config, backend).map_err(|error| chain(&error))?);
        Ok(key.public().to_string())
    }

    fn interface(&mut self) -> &mut Interface {
        self.interface.as_mut().expect("an interface")
    }

    fn read(&mut self) -> Result<String, String> {
        let status = self.interface().read().map_err(|error| chain(&error))?;
        let addresses: Vec<String> = status.addresses.iter().map(|address| address.to_string()).collect();
        let mut words = vec![status.listen_port.to_string(), addresses.join(",")];
        for peer in &status.peers {
            words.push(peer.public_key.to_string());
            words.push(peer.endpoint.map_or("-".to_owned(), |endpoint| endpoint.to_string()));
            words.push(peer.allowed_ips.len().to_string());
            let fresh = peer
                .last_handshake
                .and_then(|at| at.elapsed().ok())
                .is_some_and(|ago| ago < Duration::from_secs(120));
            words.push(if fresh { "handshake" } else { "no-handshake" }.to_owned());
            let traffic = peer.rx_bytes > 0 && peer.tx_bytes > 0;
            words.push(if traffic { "traffic" } else { "no-traffic" }.to_owned());
        }
        Ok(words.join(" "))
    }
}

fn peer(key: &str, endpoint: &str, ips: &str) -> PeerConfig {
    PeerConfig {
        public_key: key.parse().unwrap(),
        endpoint: (endpoint != "-").then(|| endpoint.parse().unwrap()),
        allowed_ips: ips.split(',').map(|ip| ip.parse().unwrap()).collect(),
        keepalive_seconds: 25,
    }
}

/// Greets everybody who connects, until the process ends.
fn listen(address: SocketAddr) -> Result<String, String> {
    let listener = TcpListener::bind(address).map_err(|error| format!("bind {address}: {error}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _caller_gone = (&stream).write_all(b"hello");
        }
    });
    Ok("done".to_owned())
}

fn connect(address: SocketAddr) -> String {
    let patience = Duration::from_secs(3);
    let greeting = TcpStream::connect_timeout(&address, patience).and_then(|mut stream| {
        stream.set_read_timeout(Some(patience))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    });
    greeting.unwrap_or_else(|_| "failed".to_owned())
}

fn done<E: std::error::Error>(result: Result<(), E>) -> Result<String, String> {
    result.map(|()| "done".to_owned()).map_err(|error| chain(&error))
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
