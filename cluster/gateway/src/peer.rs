//! `orama-gateway peer add|remove|list`.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use orama_gateway::enrollment::code::well_formed_public_key;
use orama_gateway::registry::{Node, NodeKey, Role};
use orama_gateway::{Config, open_registry};
use orama_protocol::Redacted;

use crate::Failure;

/// Largest token file that is read, bytes.
const TOKEN_FILE_LIMIT_BYTES: u64 = 1024;

#[derive(Subcommand)]
pub enum Peer {
    /// Add a host, or change the one with this id
    Add(Add),
    /// Remove a host that was added
    Remove(Remove),
    /// All hosts and nodes, tab-separated: id, overlay address, endpoint, public key, role, guardian
    List(List),
}

#[derive(Args)]
pub struct Add {
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// For example node-10.0.0.11
    #[arg(long)]
    node_id: String,
    /// Address in the overlay
    #[arg(long)]
    wg_ip: Ipv4Addr,
    /// WireGuard public key, base64; several hosts may share one
    #[arg(long)]
    public_key: String,
    /// WireGuard endpoint, ip:port
    #[arg(long)]
    endpoint: SocketAddrV4,
    /// A vault-guardian listens there (the default)
    #[arg(long, overrides_with = "no_guardian")]
    guardian: bool,
    /// File with the token that its guardian takes from operators (its `operator_token_sha256` is the SHA-256 of it), so
    /// that this gateway can tell of held shares and decide about them
    #[arg(long, value_name = "FILE", conflicts_with = "no_guardian")]
    guardian_token_file: Option<PathBuf>,
    /// No vault-guardian listens there
    #[arg(long)]
    no_guardian: bool,
}

#[derive(Args)]
pub struct Remove {
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    #[arg(long)]
    node_id: String,
}

#[derive(Args)]
pub struct List {
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(command: Peer) -> Result<(), Failure> {
    match command {
        Peer::Add(add) => self::add(add),
        Peer::Remove(remove) => {
            let registry = open_registry(&Config::load(&remove.config)?)?;
            if registry.remove_peer(&remove.node_id)? {
                Ok(())
            } else {
                Err(format!("no host {} was added; an enrolled node leaves through the API", remove.node_id)
                    .into())
            }
        }
        Peer::List(list) => {
            for node in open_registry(&Config::load(&list.config)?)?.nodes()? {
                let role = if node.role == Role::Agent { "agent" } else { "peer" };
                let guardian = if node.guardian { "guardian" } else { "-" };
                println!(
                    "{}\t{}\t{}:{}\t{}\t{role}\t{guardian}",
                    node.node_id, node.wg_ip, node.public_ip, node.wg_port, node.public_key
                );
            }
            Ok(())
        }
    }
}

fn add(add: Add) -> Result<(), Failure> {
    let config = Config::load(&add.config)?;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    if add.node_id.is_empty() || add.node_id.len() > 64 || !add.node_id.chars().all(good) {
        return Err(
            format!("--node-id {:?}: at most 64 letters, digits, dots and dashes", add.node_id).into()
        );
    }
    if !config.overlay.network.has_host(add.wg_ip) {
        return Err(format!("--wg-ip {} is not a host of {}", add.wg_ip, config.overlay.network).into());
    }
    if !well_formed_public_key(&add.public_key) {
        return Err("--public-key is not base64 of 32 bytes".into());
    }
    let token = add.guardian_token_file.as_deref().map(read_token).transpose()?;
    let registry = open_registry(&config)?;
    let holder = registry.node(&NodeKey::Address(add.wg_ip))?.filter(|holder| holder.node_id != add.node_id);
    if let Some(holder) = holder {
        return Err(format!("--wg-ip {} belongs to {}", add.wg_ip, holder.node_id).into());
    }
    let stored = registry.put_peer(&Node {
        node_id: add.node_id.clone(),
        wg_ip: add.wg_ip,
        public_key: add.public_key,
        public_ip: *add.endpoint.ip(),
        wg_port: add.endpoint.port(),
        agent_token: None,
        confirmed_at: None,
        guardian: !add.no_guardian,
        role: Role::Peer,
        phase: "peer".into(),
        detail: String::new(),
    })?;
    if !stored {
        return Err(format!("{} is an enrolled node", add.node_id).into());
    }
    if let Some(token) = token {
        registry.set_guardian_token(&add.node_id, &token)?;
    }
    Ok(())
}

fn read_token(path: &Path) -> Result<Redacted, Failure> {
    let mut text = String::new();
    let read = std::fs::File::open(path)
        .and_then(|file| file.take(TOKEN_FILE_LIMIT_BYTES).read_to_string(&mut text));
    read.map_err(|error| format!("cannot read --guardian-token-file {}: {error}", path.display()))?;
    let token = text.trim_end_matches(['\r', '\n']).to_owned();
    if !(16..=512).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        let path = path.display();
        return Err(
            format!("--guardian-token-file {path}: a token is one line of 16 to 512 characters").into()
        );
    }
    Ok(Redacted::new(token))
}
