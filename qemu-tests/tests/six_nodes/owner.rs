//! The owner of the cluster: a keystore, and the `orama` command with its own WireGuard, run beside the gateway.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;

use orama_wallet::keystore::Cost;
use orama_wallet::{Keystore, SecretKey};
use qemu_tests::artifacts::Artifacts;
use qemu_tests::fleet::Fleet;
use qemu_tests::operator::Operator;
use qemu_tests::outcome::OrFail;

/// Whose address is in the image.
const OWNER: [u8; 32] = [0x11; 32];
const PASSWORD: &str = "correct horse battery staple\n";

pub struct Owner {
    program: PathBuf,
    folder: PathBuf,
}

/// How a run of the command ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub answer: String,
    pub errors: String,
}

/// The gateway's overlay is on this machine too, but without the owner's address: the command brings its own.
const OWN_TUNNEL: [&str; 2] = ["--tunnel", "always"];

impl Owner {
    pub fn beside(fleet: &Fleet, artifacts: &Artifacts) -> Self {
        let folder = fleet.folder().join("owner");
        std::fs::create_dir_all(&folder).or_fail();
        std::fs::write(folder.join("password"), PASSWORD).or_fail();
        let key = SecretKey::from_bytes(&OWNER).or_fail();
        let keystore = Keystore::write(&key, PASSWORD.trim_end().as_bytes(), Cost::Cheap).or_fail();
        std::fs::write(folder.join("keystore"), keystore).or_fail();
        Self { program: artifacts.program("orama").or_fail(), folder }
    }

    /// Enrols the first node, with this overlay address.
    pub fn enroll(&self, fleet: &Fleet, public: Ipv4Addr, address: Ipv4Addr) -> Ran {
        let (public, address) = (public.to_string(), format!("{address}/24"));
        let order = ["node", "enroll", "--node-ip", &public, "--genesis", "--address", &address];
        let more = ["--operator-address", "10.0.0.254", "--wait", "4m"];
        self.run_with_wallet(fleet, &[&order[..], &more, &OWN_TUNNEL].concat())
    }

    /// Enrols a node through the gateway, and keeps its recovery file under this name.
    pub fn join(&self, fleet: &Fleet, public: Ipv4Addr, invite: &str, file: &str) -> Ran {
        let (public, file, token) = (public.to_string(), self.path(file), self.path("invite"));
        std::fs::write(&token, invite).or_fail();
        let order = ["node", "enroll", "--node-ip", &public, "--token-file", &token, "--recovery", &file];
        self.run_with_wallet(fleet, &[&order[..], &["--no-wait"]].concat())
    }

    pub fn unlock(&self, fleet: &Fleet, public: Ipv4Addr) -> Ran {
        let order = ["node", "unlock", "--genesis", "--wait", "4m", "--node-ip", &public.to_string()];
        self.run_with_wallet(fleet, &[&order[..], &OWN_TUNNEL].concat())
    }

    /// Opens a node with the recovery file of this name.
    pub fn recover(&self, fleet: &Fleet, public: Ipv4Addr, file: &str) -> Ran {
        let (public, file) = (public.to_string(), self.path(file));
        let order = ["node", "unlock", "--recovery", &file, "--wait", "4m", "--node-ip", &public];
        self.run_with_wallet(fleet, &[&order[..], &OWN_TUNNEL].concat())
    }

    /// Lets the gateway take the node over.
    pub fn adopt(&self, fleet: &Fleet, node_id: &str) -> Ran {
        let file = self.path(&format!("orama/nodes/{node_id}.toml"));
        self.run(fleet, &[&["node", "adopt", &file], &OWN_TUNNEL[..]].concat())
    }

    fn run_with_wallet(&self, fleet: &Fleet, arguments: &[&str]) -> Ran {
        let (keystore, password) = (self.path("keystore"), self.path("password"));
        self.run(fleet, &[arguments, &["--keystore", &keystore, "--password-file", &password]].concat())
    }

    fn run(&self, fleet: &Fleet, arguments: &[&str]) -> Ran {
        let mut command = fleet.network().command(&self.program);
        command.arg("--json").args(arguments).env_clear();
        command.env("XDG_CONFIG_HOME", &self.folder).env("ORAMA_GATEWAY", Operator::gateway_url());
        command.env("ORAMA_CA", &fleet.cluster.pki().authority);
        command.env("ORAMA_API_KEY_FILE", fleet.cluster.api_key()).stdin(Stdio::null());
        let output = command.output().or_fail();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ran { code: output.status.code(), answer: text(&output.stdout), errors: text(&output.stderr) }
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }
}
