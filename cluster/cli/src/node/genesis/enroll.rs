//! `orama node enroll --genesis`: the node's one-time key, a configuration, the owner's signature over both, and
//! then the node is followed until it runs.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orama_mesh::{PrivateKey, PublicKey};
use orama_protocol::enroll::RegistrationCode;
use orama_protocol::genesis::{
    GENESIS_ENROLL_PATH, GENESIS_PROGRESS_PATH, GenesisAccepted, GenesisConfiguration, GenesisOffer,
    GenesisProgress, GenesisRequest,
};
use orama_protocol::{Redacted, WIREGUARD_PORT};
use orama_wallet::statement::{Genesis, OneTimeKey, UtcSeconds, WireguardKey};
use orama_wallet::{Address, SecretKey, open, sealed_from_text};
use sha2::{Digest as _, Sha256};

use super::super::EnrollArgs;
use super::super::agent::{NodeAgent, failure};
use super::super::file::{NodeFile, NodeFiles};
use super::super::recovery::keep_genesis_key;
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, NodeClient};
use crate::output::Output;
use crate::text;
use crate::wallet::Wallet;

/// How long the signed statement is good: looking at it on the wallet, and slow clocks.
const VALID: Duration = Duration::from_secs(3600);
/// Between two looks at the node's progress, and how many of them may fail before port 9999 counts as closed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const MISSES_MAX: u32 = 3;

/// What the node said on port 9999.
struct Offer {
    one_time_key: OneTimeKey,
    owner: Address,
    wireguard: PublicKey,
}

pub fn run(args: EnrollArgs, output: &Output) -> Result<(), Failure> {
    if let Some(path) = &args.recovery {
        NodeFile::refuse_unwritable(path)?;
    }
    let operator_address = args.genesis.operator()?;
    let wallet = Wallet::find(&args.genesis.wallet)?;
    let files = NodeFiles::of_this_user()?;
    let node = PublicPort { client: NodeClient::direct(), ip: args.node_ip, port: args.node_port };

    output.progress(&format!("asking {} for its one-time key", args.node_ip));
    let offer = node.offer()?;
    let operator = PrivateKey::generate();
    let mut file = NodeFile::new(
        args.node_ip,
        args.genesis.address,
        (offer.wireguard, WIREGUARD_PORT),
        offer.owner,
        (&operator, operator_address),
    );
    refuse_overwriting(&files, &file.node_id)?;
    let token_key = SecretKey::generate().map_err(|error| Failure::because(Exit::Failed, &error))?;
    let configuration = GenesisConfiguration {
        node_id: file.node_id.clone(),
        wireguard_address: args.genesis.address.to_string(),
        listen_port: WIREGUARD_PORT,
        operator_public_key: operator.public().to_string(),
        operator_address: operator_address.address().to_string(),
        token_key: token_key.public_key().to_string(),
    };
    output.progress(&format!(
        "signing: {} with WireGuard key {} becomes the first node of a cluster of {}",
        file.node_id, offer.wireguard, offer.owner
    ));
    let (request, owner_public_key) = signed(&configuration, &offer, &wallet)?;
    file.owner_public_key = Some(owner_public_key.to_string());

    // Before the node hears of it: a power cut here must not lose the only key that reaches the node.
    let path = files.write(&file)?;
    let sealed = match node.enroll(&request, output) {
        Ok(sealed) => sealed,
        Err(error) => {
            files.remove(&file.node_id)?;
            return Err(error);
        }
    };
    file.agent_token = Some(opened(&token_key, &sealed)?);
    files.write(&file)?;
    output.progress(&format!("what reaches the node is kept in {}", path.display()));
    if let Err(error) = node.follow(output) {
        files.remove(&file.node_id)?;
        return Err(error);
    }

    let mut json = serde_json::json!({
        "status": "enrolled", "node_id": file.node_id, "wg_ip": file.wg_ip, "file": path,
    });
    if args.no_wait && args.recovery.is_none() {
        output.answer(&json, &format!("{} is enrolled", file.node_id));
        return Ok(());
    }
    let agent = NodeAgent::of(&file, args.genesis.tunnel)?;
    let running = agent.until_running(&file.node_id, Duration::from_secs(args.wait), output)?;
    json["phase"] = running.phase.into();
    json["healthy"] = running.healthy.into();
    let said = format!("{} is running at {}; keep {}", file.node_id, file.wg_ip, path.display());
    if let Some(recovery) = &args.recovery {
        keep_genesis_key(recovery, &agent, file, output)?;
        json["recovery"] = recovery.display().to_string().into();
    }
    output.answer(&json, &said);
    Ok(())
}

/// A file with a token opens the API of some node: perhaps of another cluster with the same addresses.
fn refuse_overwriting(files: &NodeFiles, node_id: &str) -> Result<(), Failure> {
    match files.read(node_id)? {
        Some(file) if file.agent_token.is_some() => {
            let what = format!("there is a file of {node_id} already: {}", files.path(node_id).display());
            Err(Failure::new(Exit::Usage, what)
                .next("move it away if that node is gone, or set XDG_CONFIG_HOME for another cluster"))
        }
        _ => Ok(()),
    }
}

fn signed(
    configuration: &GenesisConfiguration,
    offer: &Offer,
    wallet: &Wallet,
) -> Result<(GenesisRequest, orama_wallet::PublicKey), Failure> {
    let configuration_text = serde_json::to_string(configuration).expect("wire types are JSON");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let valid_until = UtcSeconds::from_unix_seconds((now + VALID).as_secs())
        .ok_or_else(|| Failure::new(Exit::Failed, "this machine's clock is far in the future"))?;
    let statement = Genesis {
        node: configuration.node_id.parse().map_err(|error| Failure::because(Exit::Usage, &error))?,
        wireguard: WireguardKey::from_bytes(*offer.wireguard.as_bytes()),
        one_time_key: offer.one_time_key.clone(),
        configuration: Sha256::digest(&configuration_text).into(),
        valid_until,
    };
    let statement = statement.to_string();
    let signature = wallet.sign(&statement)?;
    signature.verify(&statement, &offer.owner).map_err(|error| {
        let cause = Failure::because(Exit::Unauthorized, &error);
        Failure::new(Exit::Unauthorized, format!("this is not the owner's wallet: {}", cause.what()))
            .next("use the wallet whose address is in the node's image")
    })?;
    let owner = signature.recover(&statement).map_err(|error| Failure::because(Exit::Failed, &error))?;
    let signature = signature.to_string();
    Ok((GenesisRequest { statement, configuration: configuration_text, signature }, owner))
}

fn opened(token_key: &SecretKey, sealed: &str) -> Result<Redacted, Failure> {
    let failed = |why: &str| Failure::new(Exit::Failed, format!("the node's agent token: {why}"));
    let sealed = sealed_from_text(sealed).map_err(|error| failed(&error.to_string()))?;
    let token = open(token_key, &sealed).map_err(|error| failed(&error.to_string()))?;
    let hex = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let text =
        std::str::from_utf8(&token).ok().filter(|text| text.len() == 64 && text.bytes().all(|b| hex(&b)));
    text.map(|text| Redacted::new(text.to_owned())).ok_or_else(|| failed("it is not 64 lowercase hex digits"))
}

/// Port 9999 of the node.
struct PublicPort {
    client: NodeClient,
    ip: Ipv4Addr,
    port: u16,
}

impl PublicPort {
    fn url(&self, path: &str) -> String {
        format!("http://{}:{}{path}", self.ip, self.port)
    }

    fn offer(&self) -> Result<Offer, Failure> {
        let doing = format!("cannot get the one-time key of the node at {}", self.ip);
        let in_mode = "check that an OramaOS node in enrollment mode is at this address";
        let url = self.url("/");
        let body = self.client.get(&url, None).map_err(|error| failure(error, &doing).next(in_mode))?;
        let shown: RegistrationCode =
            gateway::decode(&url, &body).map_err(|error| failure(error, &doing).next(in_mode))?;
        let (Some(GenesisOffer { one_time_key, owner }), Some(wireguard)) =
            (shown.genesis, shown.wireguard_public_key)
        else {
            let what = format!("{doing}: its image names no owner's wallet");
            return Err(Failure::new(Exit::Failed, what)
                .next("build the image with [owner] wallet = \"0x…\" in agent.toml"));
        };
        let malformed = |error: &dyn std::error::Error| {
            let cause = Failure::because(Exit::Failed, error);
            Failure::new(Exit::Failed, format!("{doing}: {}", cause.what())).next(in_mode)
        };
        Ok(Offer {
            one_time_key: one_time_key.parse().map_err(|error| malformed(&error))?,
            owner: owner.parse().map_err(|error| malformed(&error))?,
            wireguard: wireguard.parse().map_err(|error| malformed(&error))?,
        })
    }

    /// The sealed agent token.
    fn enroll(&self, request: &GenesisRequest, output: &Output) -> Result<String, Failure> {
        let url = self.url(GENESIS_ENROLL_PATH);
        let answer = self.client.post(&url, request, None);
        let decoded = answer.and_then(|body| gateway::decode::<GenesisAccepted>(&url, &body));
        match decoded {
            Ok(accepted) => Ok(accepted.agent_token_sealed),
            Err(error @ (CallError::Timeout(_) | CallError::Unreachable(..))) => {
                output.progress("no answer; asking the node whether it took the configuration");
                self.progress()
                    .ok()
                    .and_then(|progress| progress.agent_token_sealed)
                    .ok_or_else(|| failure(error, &format!("the node at {} is not enrolled", self.ip)))
            }
            Err(error) => Err(failure(error, &format!("the node at {} is not enrolled", self.ip))),
        }
    }

    fn progress(&self) -> Result<GenesisProgress, CallError> {
        let url = self.url(GENESIS_PROGRESS_PATH);
        gateway::decode(&url, &self.client.get(&url, None)?)
    }

    /// Until the port closes for good.
    fn follow(&self, output: &Output) -> Result<(), Failure> {
        let mut said = BTreeSet::new();
        let mut misses = 0;
        while misses < MISSES_MAX {
            match self.progress() {
                Ok(progress) => {
                    misses = 0;
                    for step in progress.steps {
                        let step = text::printable(&step, 200);
                        if said.insert(step.clone()) {
                            output.progress(&step);
                        }
                    }
                    if progress.state == "failed" {
                        let why = text::printable(progress.why.as_deref().unwrap_or("no reason given"), 500);
                        return Err(Failure::new(Exit::Failed, format!("the node was not enrolled: {why}"))
                            .next("the node is back in enrollment mode: try again"));
                    }
                }
                Err(_) => misses += 1,
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }
}
