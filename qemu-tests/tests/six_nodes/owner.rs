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
    pub errors: String,
}

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
        let address = format!("{address}/24");
        let more = ["--genesis", "--address", &address, "--operator-address", "10.0.0.254", "--wait", "4m"];
        self.run(fleet, &[&["node", "enroll", "--node-ip", &public.to_string()], &more[..]].concat(), true)
    }

    pub fn unlock(&self, fleet: &Fleet, public: Ipv4Addr) -> Ran {
        let arguments = ["node", "unlock", "--genesis", "--wait", "4m", "--node-ip", &public.to_string()];
        self.run(fleet, &arguments, true)
    }

    /// Lets the gateway take the node over.
    pub fn adopt(&self, fleet: &Fleet, node_id: &str) -> Ran {
        let file = self.folder.join(format!("orama/nodes/{node_id}.toml"));
        self.run(fleet, &["node", "adopt", &file.display().to_string()], false)
    }

    fn run(&self, fleet: &Fleet, arguments: &[&str], wallet: bool) -> Ran {
        let mut command = fleet.network().command(&self.program);
        // The gateway's overlay is on this machine too, but without the owner's address: the command brings its own.
        command.arg("--json").args(arguments).args(["--tunnel", "always"]).env_clear();
        if wallet {
            command.arg("--keystore").arg(self.folder.join("keystore"));
            command.arg("--password-file").arg(self.folder.join("password"));
        }
        command.env("XDG_CONFIG_HOME", &self.folder).env("ORAMA_GATEWAY", Operator::gateway_url());
        command.env("ORAMA_CA", &fleet.cluster.pki().authority);
        command.env("ORAMA_API_KEY_FILE", fleet.cluster.api_key()).stdin(Stdio::null());
        let output = command.output().or_fail();
        Ran { code: output.status.code(), errors: String::from_utf8_lossy(&output.stderr).into_owned() }
    }
}
