//! The recovery key of a new node: the owner's wish before the enrollment, and the file after it. The gateway between sees
//! neither the key nor the token: the answer is sealed between the node's WireGuard key and one made here.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use orama_mesh::{Ipv4Prefix, PrivateKey, PublicKey};
use orama_protocol::Redacted;
use orama_protocol::enroll::EnrollResponse;
use orama_protocol::recovery::{
    RECOVERY_ANSWER_INFO, RECOVERY_KEY_PATH, RECOVERY_PATH, RecoveryAnswer, RecoveryHandout, RecoveryKey,
    RecoveryRequest,
};
use orama_wallet::statement::{Recovery, UtcSeconds, WireguardKey};
use orama_wallet::{Address, open_between, sealed_from_text};

use super::EnrollArgs;
use super::agent::{NodeAgent, failure};
use super::file::{NodeFile, SealedKey};
use crate::connection::bearer;
use crate::failure::{Exit, Failure};
use crate::gateway::{self, CallError, Gateway};
use crate::output::Output;
use crate::text;
use crate::wallet::Wallet;

/// How long the signed statement is good.
const VALID: Duration = Duration::from_secs(3600);
/// Between two questions to the gateway.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What was asked for, until the answer comes.
pub struct Wish {
    pub request: RecoveryRequest,
    path: PathBuf,
    operator: PrivateKey,
    node: PublicKey,
    owner: Address,
}

/// Everything that can go wrong at this desk goes wrong here, before the node is told anything.
pub fn wish(
    path: &Path,
    args: &EnrollArgs,
    node: (Option<PublicKey>, Option<Address>),
    gateway: &Gateway,
    token: &Redacted,
) -> Result<Wish, Failure> {
    NodeFile::refuse_unwritable(path)?;
    let (Some(node), Some(owner)) = node else {
        let what =
            format!("the node at {} cannot have a recovery key: its image names no owner", args.node_ip);
        return Err(Failure::new(Exit::Failed, what).next(
            "build the image with [owner] wallet = \"0x…\" in agent.toml, or enrol it without --recovery",
        ));
    };
    let wallet = Wallet::find(args.genesis.wallet())?;
    // A gateway that knows nothing of this would enrol the node without.
    handout(gateway, token).map_err(|error| match error {
        CallError::Status { status: 404 | 405, .. } => Failure::new(
            Exit::Failed,
            "this gateway knows nothing of recovery keys; the node is not enrolled",
        )
        .next("upgrade the gateway, or enrol without --recovery"),
        error => error.into_failure("the node is not enrolled"),
    })?;
    let operator = PrivateKey::generate();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let valid_until = UtcSeconds::from_unix_seconds((now + VALID).as_secs())
        .ok_or_else(|| Failure::new(Exit::Failed, "this machine's clock is far in the future"))?;
    let statement = Recovery {
        wireguard: WireguardKey::from_bytes(*node.as_bytes()),
        operator: WireguardKey::from_bytes(*operator.public().as_bytes()),
        valid_until,
    };
    let statement = statement.to_string();
    let signature = wallet.sign(&statement)?;
    signature.verify(&statement, &owner).map_err(|error| {
        let cause = Failure::because(Exit::Unauthorized, &error);
        Failure::new(Exit::Unauthorized, format!("this is not the owner's wallet: {}", cause.what()))
            .next("use the wallet whose address is in the node's image")
    })?;
    let request = RecoveryRequest { statement, signature: signature.to_string() };
    Ok(Wish { request, path: path.to_owned(), operator, node, owner })
}

impl Wish {
    /// Waits for the node's answer and writes the file.
    pub fn fulfil(
        self,
        args: &EnrollArgs,
        enrolled: &EnrollResponse,
        gateway: &Gateway,
        token: &Redacted,
        output: &Output,
    ) -> Result<PathBuf, Failure> {
        let node_id = text::printable(&enrolled.node_id, 64);
        let lacking = |what: String| {
            Failure::new(Exit::Failed, format!("{node_id} has no recovery key: {what}"))
                .next(format!("see `orama monitor report`; if it is enrolled, orama node leave {node_id} --force, and enrol it again"))
        };
        output.progress("waiting for the recovery key");
        let sealed = await_answer(gateway, token, Duration::from_secs(args.wait)).map_err(&lacking)?;
        let answer = self.open(&sealed).map_err(|why| lacking(format!("the node's answer: {why}")))?;
        if answer.node_id != enrolled.node_id {
            return Err(lacking("the answer is another node's".to_owned()));
        }
        let file = self.file(args, answer).map_err(lacking)?;
        file.write_to(&self.path)?;
        output
            .progress(&format!("the recovery key is in {}; keep it away from the node", self.path.display()));
        Ok(self.path)
    }

    fn open(&self, sealed: &str) -> Result<RecoveryAnswer, String> {
        let shared = self.operator.agree(&self.node).ok_or("the node's WireGuard key is none")?;
        let info = [RECOVERY_ANSWER_INFO, self.node.as_bytes(), self.operator.public().as_bytes()].concat();
        let text = open_between(&shared, &info, sealed).map_err(|error| error.to_string())?;
        // The parser's own words may repeat the token.
        serde_json::from_slice(&text).map_err(|error| format!("not understood (column {})", error.column()))
    }

    fn file(&self, args: &EnrollArgs, answer: RecoveryAnswer) -> Result<NodeFile, String> {
        let address: Ipv4Prefix =
            answer.wireguard_address.parse().map_err(|error| format!("wireguard_address: {error}"))?;
        let operator = answer.operator_address.parse().ok();
        let operator = operator.and_then(|address_of| Ipv4Prefix::new(address_of, address.length()));
        let operator = operator.ok_or("operator_address is no address of the overlay")?;
        sealed_from_text(&answer.sealed_key).map_err(|error| format!("sealed_key: {error}"))?;
        let token = bearer(answer.agent_token.expose()).ok_or("agent_token is no token")?;
        let node = (self.node, answer.wireguard_port);
        let mut file = NodeFile::new(args.node_ip, address, node, self.owner, (&self.operator, operator));
        if file.node_id != answer.node_id {
            return Err(format!("wireguard_address {address} is not that of {}", answer.node_id));
        }
        file.agent_token = Some(token);
        file.recovery = Some(SealedKey { volume: answer.volume, sealed_key: answer.sealed_key });
        Ok(file)
    }
}

fn handout(gateway: &Gateway, token: &Redacted) -> Result<RecoveryHandout, CallError> {
    gateway::decode(RECOVERY_PATH, &gateway.get_with_invite(RECOVERY_PATH, token)?)
}

fn await_answer(gateway: &Gateway, token: &Redacted, wait: Duration) -> Result<String, String> {
    let end = Instant::now() + wait;
    loop {
        match handout(gateway, token) {
            Ok(RecoveryHandout { answer: Some(answer), .. }) => return Ok(answer),
            Ok(shown) if shown.state == "waiting" => {}
            Ok(shown) => {
                return Err(text::printable(shown.why.as_deref().unwrap_or("the gateway lost it"), 300));
            }
            // The gateway may be busy; one that restarted has nothing any more and says so.
            Err(CallError::Unreachable(..) | CallError::Timeout(_)) => {}
            Err(error) => return Err(Failure::because(Exit::Failed, &error).what().to_owned()),
        }
        if Instant::now() + ASK_AGAIN > end {
            return Err(format!("none came within {}", text::span(wait.as_secs())));
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// Of the first node of a cluster, from the node itself: the wallet's sealed key is in its header.
pub fn keep_genesis_key(
    path: &Path,
    agent: &NodeAgent,
    mut file: NodeFile,
    output: &Output,
) -> Result<(), Failure> {
    let doing = format!("{} is enrolled, but gives no recovery key", file.node_id);
    let body = agent.get(RECOVERY_KEY_PATH).map_err(|error| failure(error, &doing))?;
    let key: RecoveryKey =
        gateway::decode(RECOVERY_KEY_PATH, &body).map_err(|error| failure(error, &doing))?;
    if key.node_id != file.node_id || sealed_from_text(&key.sealed_key).is_err() {
        return Err(Failure::new(Exit::Failed, format!("{doing}: it sent something else")));
    }
    file.recovery = Some(SealedKey { volume: key.volume, sealed_key: key.sealed_key });
    file.write_to(path)?;
    output.progress(&format!("the recovery key is in {}; keep it away from the node", path.display()));
    Ok(())
}
