//! `orama node unlock`: takes the sealed key, from the node (`--genesis`) or from a file that was kept (`--recovery`), has
//! the wallet open it, and hands it over through WireGuard with the owner's signature over a fresh challenge.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use orama_protocol::Redacted;
use orama_protocol::genesis::{
    GENESIS_KEY_PATH, GenesisKey, UNLOCK_CHALLENGE_PATH, UNLOCK_PATH, UnlockRequest,
};
use orama_protocol::recovery::UnlockChallenge;
use orama_wallet::statement::{Unlock, UnlockKind};

use super::super::agent::{NodeAgent, TunnelMode, failure};
use super::super::file::{NodeFile, NodeFiles, read_path};
use crate::failure::{Exit, Failure};
use crate::gateway;
use crate::output::Output;
use crate::text;
use crate::wallet::{Wallet, WalletArgs};

/// How long a node may take to answer for the first time, and the pause between.
const PATIENCE: Duration = Duration::from_secs(20);
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Args)]
pub struct UnlockArgs {
    /// The first node of a cluster: with the sealed key that the node keeps.
    #[arg(long, required_unless_present = "recovery", conflicts_with = "recovery")]
    genesis: bool,
    /// With the file that `orama node enroll --recovery` wrote, when too few guardians are left.
    #[arg(long, value_name = "FILE", conflicts_with = "node_id")]
    recovery: Option<PathBuf>,
    /// The node's public address, as it was given to `enroll`.
    #[arg(long, value_name = "IP")]
    node_ip: Ipv4Addr,
    /// The node's id, when more than one file is about this address.
    #[arg(long, value_name = "ID", value_parser = super::super::node_id)]
    node_id: Option<String>,
    /// Who carries packets to the node's overlay address.
    #[arg(long, value_enum, default_value_t = TunnelMode::Auto)]
    tunnel: TunnelMode,
    #[command(flatten)]
    wallet: WalletArgs,
    /// Return once the node has its key, without waiting for its services.
    #[arg(long)]
    no_wait: bool,
    /// How long to wait for the node to run.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = text::parse_span)]
    wait: u64,
}

pub fn run(args: UnlockArgs, output: &Output) -> Result<(), Failure> {
    let mut file = match &args.recovery {
        Some(path) => read_path(path)?,
        None => find(&args)?,
    };
    // It may have moved since it was enrolled.
    file.node_ip = args.node_ip;
    let node_id = file.node_id.clone();
    let agent = NodeAgent::of(&file, args.tunnel)?;
    let kind = if args.recovery.is_some() { UnlockKind::Recovery } else { UnlockKind::Genesis };
    let asking = match kind {
        UnlockKind::Genesis => format!("asking {node_id} for its sealed key"),
        UnlockKind::Recovery => format!("asking {node_id} for a challenge"),
    };
    output.progress(&asking);
    let (sealed_key, found) = first(kind, &agent, &file, output)?;
    check_volume(&file, &found)?;
    let wallet = Wallet::find(&args.wallet)?;
    let key = wallet.open_key(&sealed_key)?;
    // The owner may have taken longer over the wallet than a challenge lives.
    let (_, fresh) = fetch(kind, &agent, &file)?;
    let signature = sign(kind, &wallet, &file, &fresh)?;
    output.progress("handing over the key");
    let request = UnlockRequest {
        key: Redacted::new(STANDARD.encode(*key)),
        challenge: fresh.challenge,
        signature,
        kind: match kind {
            // What an older node, which knows no other, understands too.
            UnlockKind::Genesis => String::new(),
            UnlockKind::Recovery => "recovery".into(),
        },
    };
    agent
        .post(UNLOCK_PATH, &request)
        .map_err(|error| failure(error, &format!("{node_id} is not unlocked")))?;
    let mut json = serde_json::json!({ "status": "unlocking", "node_id": node_id, "wg_ip": file.wg_ip });
    if args.no_wait {
        output.answer(&json, &format!("{node_id} has its key"));
        return Ok(());
    }
    let running = agent.until_running(&node_id, Duration::from_secs(args.wait), output)?;
    json["phase"] = running.phase.into();
    json["healthy"] = running.healthy.into();
    output.answer(&json, &format!("{node_id} is running at {}", file.wg_ip));
    Ok(())
}

fn find(args: &UnlockArgs) -> Result<NodeFile, Failure> {
    let files = NodeFiles::of_this_user()?;
    if let Some(node_id) = &args.node_id {
        return files.read(node_id)?.ok_or_else(|| {
            Failure::new(Exit::NotFound, format!("there is no file {}", files.path(node_id).display()))
                .next("it is where the node was enrolled with --genesis")
        });
    }
    let mut known = files.all()?;
    known.retain(|file| file.node_ip == args.node_ip || file.wg_ip == args.node_ip);
    match (known.pop(), known.is_empty()) {
        (Some(file), true) => Ok(file),
        (Some(_), false) => {
            Err(Failure::new(Exit::Usage, format!("more than one file is about a node at {}", args.node_ip))
                .next("say which with --node-id ID"))
        }
        (None, _) => {
            Err(Failure::new(Exit::NotFound, format!("no node at {} was enrolled from here", args.node_ip))
                .next("run this where `orama node enroll --genesis` was run, or copy its file here; if the address changed, add --node-id ID"))
        }
    }
}

/// A node that boots listens a moment after its WireGuard is up.
fn first(
    kind: UnlockKind,
    agent: &NodeAgent,
    file: &NodeFile,
    output: &Output,
) -> Result<(String, UnlockChallenge), Failure> {
    let end = Instant::now() + PATIENCE;
    let mut said = false;
    loop {
        match fetch(kind, agent, file) {
            Err(failure) if failure.exit == Exit::Unreachable && Instant::now() < end => {
                if !std::mem::replace(&mut said, true) {
                    output.progress("it does not answer yet; asking again");
                }
                std::thread::sleep(ASK_AGAIN);
            }
            result => return result,
        }
    }
}

/// The sealed key, and a challenge.
fn fetch(kind: UnlockKind, agent: &NodeAgent, file: &NodeFile) -> Result<(String, UnlockChallenge), Failure> {
    match (kind, &file.recovery) {
        (UnlockKind::Recovery, Some(kept)) => {
            let doing = format!("{} gives no challenge", file.node_id);
            let body = agent.get(UNLOCK_CHALLENGE_PATH).map_err(|error| failure(error, &doing))?;
            let challenge =
                gateway::decode(UNLOCK_CHALLENGE_PATH, &body).map_err(|error| failure(error, &doing))?;
            Ok((kept.sealed_key.clone(), challenge))
        }
        (UnlockKind::Recovery, None) => {
            Err(Failure::new(Exit::Usage, "there is no recovery key in this file")
                .next("give the file that `orama node enroll --recovery` wrote"))
        }
        (UnlockKind::Genesis, _) => {
            let doing = format!("{} gives no sealed key", file.node_id);
            let body = agent.get(GENESIS_KEY_PATH).map_err(|error| failure(error, &doing))?;
            let key: GenesisKey =
                gateway::decode(GENESIS_KEY_PATH, &body).map_err(|error| failure(error, &doing))?;
            let GenesisKey { sealed_key, challenge, node_id, volume, expires_seconds } = key;
            Ok((sealed_key, UnlockChallenge { challenge, node_id, volume, expires_seconds }))
        }
    }
}

/// A kept key is of one volume: a node that was enrolled again since has another.
fn check_volume(file: &NodeFile, found: &UnlockChallenge) -> Result<(), Failure> {
    match &file.recovery {
        Some(kept) if kept.volume != found.volume => {
            let found = text::printable(&found.volume, 64);
            let what = format!("the recovery key is of volume {}, {} has {found}", kept.volume, file.node_id);
            Err(Failure::new(Exit::Usage, what).next("look for the file of the node's last enrollment"))
        }
        Some(_) | None => Ok(()),
    }
}

/// Over the node that the file is about, whatever the answer says: a signature must not open another one.
fn sign(
    kind: UnlockKind,
    wallet: &Wallet,
    file: &NodeFile,
    fresh: &UnlockChallenge,
) -> Result<String, Failure> {
    let malformed = |what: &str| Failure::new(Exit::Failed, format!("{} sent {what}", file.node_id));
    if fresh.node_id != file.node_id {
        return Err(malformed("the key of another node"));
    }
    let challenge =
        decode_challenge(&fresh.challenge).ok_or_else(|| malformed("a challenge that is none"))?;
    let statement = Unlock {
        kind,
        node: file.node_id.parse().map_err(|error| Failure::because(Exit::Usage, &error))?,
        volume: fresh.volume.parse().map_err(|_| malformed("a volume id that is none"))?,
        challenge,
    }
    .to_string();
    let signature = wallet.sign(&statement)?;
    signature.verify(&statement, &file.owner).map_err(|error| {
        let cause = Failure::because(Exit::Unauthorized, &error);
        Failure::new(Exit::Unauthorized, format!("this is not the owner's wallet: {}", cause.what()))
            .next("use the wallet that enrolled this node")
    })?;
    Ok(signature.to_string())
}

fn decode_challenge(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}
