//! `orama mesh serve` for real, in network namespaces made here. Needs root and /dev/net/tun.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use orama_mesh::control::{Client, ClientError};
use orama_protocol::mesh_control::{MeshPeer, MeshResponse};

/// RFC 7748 §6.1, Bob's public key: any valid one will do.
const PEER: &str = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=";

/// This thread, and what it starts, gets a network of its own; the machine's stays as it is.
fn own_network() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
    assert!(Path::new("/dev/net/tun").exists(), "this test needs /dev/net/tun");
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");
}

fn serve(folder: &Path, interface: &str, port: u16) -> Child {
    Command::new(env!("CARGO_BIN_EXE_orama"))
        .args(["--json", "mesh", "serve", "--userspace", "--interface", interface, "--control", "mesh.sock"])
        .args(["--key-file", "wg.key", "--address", "10.0.0.1/24", "--address", "10.0.0.11/24"])
        .args(["--listen-port", &port.to_string()])
        .current_dir(folder)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The links of this thread's network; `/proc/net` itself would be that of the main thread.
fn links() -> String {
    std::fs::read_to_string("/proc/thread-self/net/dev").unwrap()
}

fn wait(mut child: Child) -> (i32, String) {
    for _ in 0..400 {
        if let Some(status) = child.try_wait().unwrap() {
            let mut text = String::new();
            child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
            return (status.code().expect("it exits, it is not killed"), text);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    child.kill().unwrap();
    panic!("orama mesh serve does not end");
}

#[test]
fn peers_are_managed_over_the_socket_and_a_signal_removes_everything() {
    own_network();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = serve(folder.path(), "oramatest0", 51820);
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: serde_json::Value =
            serde_json::from_str(&line).expect("one line of JSON when it is ready");
        assert_eq!((ready["ready"].as_bool(), ready["listen_port"].as_u64()), (Some(true), Some(51820)));

        let client = Client::new(folder.path().join("mesh.sock"));
        let peer = MeshPeer {
            public_key: PEER.to_owned(),
            endpoint: Some("192.0.2.4:51820".to_owned()),
            allowed_ips: vec!["10.0.0.4/32".to_owned()],
            keepalive_seconds: 25,
        };
        client.set_peer(peer.clone()).unwrap();
        client.set_peer(peer.clone()).unwrap();
        let own = MeshPeer { allowed_ips: vec!["10.0.0.11/32".to_owned()], ..peer.clone() };
        assert!(matches!(client.set_peer(own), Err(ClientError::Refused(_))));
        let MeshResponse::Interface { name, public_key, addresses, peers, .. } = client.show().unwrap()
        else {
            panic!("show answers with the interface")
        };
        assert_eq!(
            (name.as_str(), public_key.as_str()),
            ("oramatest0", ready["public_key"].as_str().unwrap())
        );
        assert_eq!((addresses, peers), (vec!["10.0.0.1/24".into(), "10.0.0.11/24".into()], vec![peer]));
        client.remove_peer(PEER).unwrap();
        assert!(links().contains("oramatest0"));

        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let (code, text) = wait(child);
        assert_eq!(code, 0, "{signal}: {text}");
        assert!(!links().contains("oramatest0"), "{signal}: the interface goes");
        assert!(!folder.path().join("mesh.sock").exists(), "{signal}: the socket goes");
        assert!(folder.path().join("wg.key").exists(), "the key stays");
    }
}

#[test]
fn a_port_or_a_name_in_use_is_an_error_and_leaves_nothing() {
    own_network();
    let folder = tempfile::tempdir().unwrap();
    let _taken = UdpSocket::bind("0.0.0.0:51821").unwrap();
    let (code, text) = wait(serve(folder.path(), "oramatest1", 51821));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("cannot give oramatest1 its key and port"), "{text}");
    assert!(!links().contains("oramatest1"));
    let (code, text) = wait(serve(folder.path(), "lo", 51822));
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("lo exists and is not a WireGuard interface"), "{text}");
}
