//! The command's own WireGuard against another implementation behind a real interface, in a network namespace made
//! here. Needs root and /dev/net/tun. What arrives comes from an address that no interface of this machine has.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use orama_mesh::PrivateKey;
use orama_mesh::control::Client;
use orama_protocol::mesh_control::{MeshPeer, MeshResponse};

const NODE: &str = "10.0.0.1";
const OPERATOR: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const PORT: u16 = 51820;

/// Ends with the test, however that ends.
struct Mesh(Child);

impl Drop for Mesh {
    fn drop(&mut self) {
        let _ended_already = self.0.kill();
        let _status = self.0.wait();
    }
}

fn own_network() {
    assert!(nix::unistd::geteuid().is_root(), "this test makes network namespaces: run it as root");
    assert!(Path::new("/dev/net/tun").exists(), "this test needs /dev/net/tun");
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace of our own");
    let up = Command::new("/usr/sbin/ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success());
}

/// The node's side: its public key.
fn start_mesh(folder: &Path, operator: &PrivateKey) -> (Mesh, String) {
    let mesh = Command::new(env!("CARGO_BIN_EXE_orama"))
        .args(["mesh", "serve", "--userspace", "--interface", "oramatun0", "--control", "mesh.sock"])
        .args(["--key-file", "wg.key", "--address", &format!("{NODE}/24")])
        .args(["--listen-port", &PORT.to_string()])
        .current_dir(folder)
        .env_clear()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mesh = Mesh(mesh);
    let client = Client::new(folder.join("mesh.sock"));
    let mut left = 400;
    let key = loop {
        match client.show() {
            Ok(MeshResponse::Interface { public_key, .. }) => break public_key,
            other => assert!(left > 0, "no mesh: {other:?}"),
        }
        left -= 1;
        std::thread::sleep(Duration::from_millis(25));
    };
    let peer = MeshPeer {
        public_key: operator.public().to_string(),
        endpoint: None,
        allowed_ips: vec![format!("{OPERATOR}/32")],
        keepalive_seconds: 0,
    };
    client.set_peer(peer).unwrap();
    (mesh, key)
}

/// Answers every request with a refusal of `bytes` bytes, and tells from where each came.
fn start_agent(bytes: usize) -> mpsc::Receiver<std::net::IpAddr> {
    let listener = TcpListener::bind((NODE, 9998)).unwrap();
    let (sender, seen) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let from = stream.peer_addr().unwrap().ip();
            let mut reader = BufReader::new(stream);
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let body = format!("{{\"error\":\"told through the tunnel {}\"}}", "x".repeat(bytes));
            let head =
                format!("HTTP/1.1 409 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let mut stream = reader.into_inner();
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).unwrap();
            // The client's end first, so that nothing of the answer is cut off.
            let _gone = stream.read(&mut [0]);
            sender.send(from).unwrap();
        }
    });
    seen
}

fn unlock(folder: &Path, mode: &str) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_orama"))
        .args(["--json", "node", "unlock", "--genesis", "--node-ip", "127.0.0.1", "--tunnel", mode])
        .env_clear()
        .env("XDG_CONFIG_HOME", folder)
        .output()
        .unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn requests_go_through_the_commands_own_wireguard() {
    own_network();
    let folder = tempfile::tempdir().unwrap();
    let operator = PrivateKey::generate();
    let (mesh, node_key) = start_mesh(folder.path(), &operator);
    // More than one TCP window and many packets.
    let seen = start_agent(400_000);
    let file = folder.path().join("orama/nodes/node-10.0.0.1.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let text = format!(
        "version = 1\nnode_id = \"node-{NODE}\"\nnode_ip = \"127.0.0.1\"\nwg_ip = \"{NODE}\"\nwireguard_port = {PORT}\n\
         wireguard_public_key = \"{node_key}\"\nowner = \"0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A\"\n\
         agent_token = \"{}\"\n[operator]\nwireguard_private_key = \"{}\"\naddress = \"{OPERATOR}/24\"\n",
        "ab".repeat(32),
        operator.to_base64().as_str(),
    );
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();

    for mode in ["always", "auto"] {
        let (code, errors) = unlock(folder.path(), mode);
        assert!(code == 1 && errors.contains("told through the tunnel"), "{mode}: {code} {errors}");
        assert_eq!(seen.recv_timeout(Duration::from_secs(5)).unwrap(), OPERATOR, "{mode}");
    }
    let (code, errors) = unlock(folder.path(), "never");
    assert!(code == 1 && errors.contains("told through the tunnel"), "{errors}");
    assert_ne!(seen.recv_timeout(Duration::from_secs(5)).unwrap(), OPERATOR);

    // Nobody behind the port: an error that says where, soon enough.
    drop(mesh);
    let (code, errors) = unlock(folder.path(), "always");
    assert!(code == 3 && errors.contains("127.0.0.1:51820"), "{code} {errors}");
}
