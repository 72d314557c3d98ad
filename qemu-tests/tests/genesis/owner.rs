//! The owner of a genesis node and one who would like to be: keystores, the `orama` command, and a way to say to the
//! node what the command never would. No gateway and no cluster is anywhere.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use orama_mesh::control::Client;
use orama_protocol::genesis::{GENESIS_KEY_PATH, GenesisKey, UNLOCK_PATH};
use orama_protocol::mesh_control::MeshPeer;
use orama_wallet::keystore::Cost;
use orama_wallet::{Keystore, SecretKey};
use qemu_tests::artifacts::{Artifacts, Image};
use qemu_tests::http::{Answer, Request, send};
use qemu_tests::net::Namespace;
use qemu_tests::node;
use qemu_tests::outcome::OrFail;
use qemu_tests::process::Process;
use qemu_tests::vm::{Machine, PUBLIC_ADDRESS};

/// Whose address is in the image, and somebody else: secret keys.
pub const OWNER: [u8; 32] = [0x11; 32];
pub const OTHER: [u8; 32] = [0x22; 32];
/// Of the node, and of the owner's machine.
pub const NODE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 0, 0, 1);
const OPERATOR: &str = "10.0.0.254";
const PASSWORD: &str = "correct horse battery staple\n";

pub struct Genesis {
    // Dropped in this order.
    pub machine: Machine,
    network: Arc<Namespace>,
    program: PathBuf,
    folder: PathBuf,
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub json: serde_json::Value,
    pub errors: String,
}

impl Genesis {
    pub fn prepare(name: &str) -> Self {
        let artifacts = Artifacts::from_environment().or_fail();
        let folder = artifacts.run_folder(name).or_fail();
        let network = Arc::new(Namespace::create().or_fail());
        let image = artifacts.image(Image::Small).or_fail();
        let mut machine = Machine::new(Arc::clone(&network), &folder, &image).or_fail();
        machine.set_memory_mib(Image::Small.memory_mib());
        std::fs::write(folder.join("password"), PASSWORD).or_fail();
        for (name, key) in [("owner", OWNER), ("other", OTHER)] {
            let key = SecretKey::from_bytes(&key).or_fail();
            let text = Keystore::write(&key, PASSWORD.trim_end().as_bytes(), Cost::Cheap).or_fail();
            std::fs::write(folder.join(name), text).or_fail();
        }
        Self { machine, network, program: artifacts.program("orama").or_fail(), folder }
    }

    pub fn network(&self) -> &Namespace {
        &self.network
    }

    pub fn enroll(&self, keystore: &str) -> Ran {
        self.orama(&["node", "enroll", "--genesis"], keystore)
    }

    pub fn unlock(&self, keystore: &str) -> Ran {
        self.orama(&["node", "unlock", "--genesis"], keystore)
    }

    fn orama(&self, verb: &[&str], keystore: &str) -> Ran {
        let mut command = self.network.command(&self.program);
        command.arg("--json").args(verb).args(["--node-ip", &PUBLIC_ADDRESS.to_string()]);
        command.arg("--keystore").arg(self.folder.join(keystore));
        command.arg("--password-file").arg(self.folder.join("password"));
        // The namespace is all of the owner's machine that there is: no interface of WireGuard in it.
        command.args(["--tunnel", "always", "--wait", "4m"]);
        command.env_clear().env("XDG_CONFIG_HOME", &self.folder).stdin(Stdio::null());
        let output = command.output().or_fail();
        Ran {
            code: output.status.code(),
            json: serde_json::from_slice(&output.stdout).unwrap_or_default(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn node_file(&self) -> toml::Table {
        let path = self.folder.join("orama/nodes/node-10.0.0.1.toml");
        std::fs::read_to_string(&path).or_fail().parse().or_fail()
    }
}

/// A way into the overlay with the owner's own WireGuard key, for requests that the command would never send.
pub struct Overlay<'a> {
    genesis: &'a Genesis,
    token: String,
    _mesh: Process,
    _sockets: tempfile::TempDir,
}

impl<'a> Overlay<'a> {
    pub fn join(genesis: &'a Genesis) -> Self {
        let file = genesis.node_file();
        let key_file = genesis.folder.join("operator.key");
        write_private(&key_file, file["operator"]["wireguard_private_key"].as_str().expect("a text"));
        let sockets = tempfile::tempdir().or_fail();
        let control = sockets.path().join("mesh.sock");
        let mut command = genesis.network.command_with_own_run(&genesis.program);
        command.args(["mesh", "serve", "--userspace", "--control"]).arg(&control);
        command.args(["--address", &format!("{OPERATOR}/24"), "--listen-port", "51821", "--key-file"]);
        command.arg(&key_file);
        let mut mesh = Process::start("mesh", command, &genesis.folder.join("mesh.log")).or_fail();
        let client = Client::new(&control);
        mesh.wait_until("control socket", Duration::from_secs(30), || client.show().is_ok()).or_fail();
        let peer = MeshPeer {
            public_key: file["wireguard_public_key"].as_str().expect("a text").to_owned(),
            endpoint: Some(format!("{PUBLIC_ADDRESS}:51820")),
            allowed_ips: vec![format!("{NODE}/32")],
            keepalive_seconds: 5,
        };
        client.set_peer(peer).or_fail();
        let token = file["agent_token"].as_str().expect("a text").to_owned();
        Self { genesis, token, _mesh: mesh, _sockets: sockets }
    }

    pub fn ask(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> Answer {
        let bearer = format!("Bearer {}", token.unwrap_or(&self.token));
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let request = Request { method, path, headers: &headers, body: body.as_bytes() };
        send(self.genesis.network(), node::agent(NODE), &request, node::PATIENCE).or_fail()
    }

    pub fn sealed_key(&self) -> GenesisKey {
        let answer = self.ask("GET", GENESIS_KEY_PATH, None, "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice(&answer.body).or_fail()
    }

    pub fn bring(&self, body: &str) -> Answer {
        self.ask("POST", UNLOCK_PATH, None, body)
    }

    pub fn status(&self) -> serde_json::Value {
        self.ask("GET", "/v1/agent/status", None, "").json()
    }
}

fn write_private(path: &Path, key: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).or_fail();
    writeln!(file, "{key}").or_fail();
}
