//! The owner's wish for a recovery key, on a configuration that a gateway brings: judged before anything is formatted,
//! and answered through the gateway, sealed between this node's WireGuard key and the operator's.

use std::net::Ipv4Addr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use orama_mesh::{Ipv4Prefix, PeerConfig, PrivateKey, PublicKey as WireguardPublic};
use orama_protocol::Redacted;
use orama_protocol::enroll::NodeMessage;
use orama_protocol::recovery::{RECOVERY_ANSWER_INFO, RecoveryAnswer, RecoveryRequest};
use orama_volume::uuid_text;
use orama_wallet::statement::{Recovery, StatementError, UtcSeconds, WireguardKey};
use orama_wallet::{Address, PublicKey, RecoverError, Signature, SignatureError, VerifyError, seal_between};
use tokio::sync::{mpsc, oneshot};
use zeroize::Zeroizing;

use super::Agreed;
use super::check::Checked;
use crate::unlock::Recovered;

/// How far ahead a statement may be valid, seconds.
const VALIDITY_LIMIT_SECONDS: u64 = 24 * 3600;
/// Seconds between packets to the operator's machine that keep its way to us open.
const KEEPALIVE_SECONDS: u16 = 25;
/// How long the gateway may take to say that it keeps the answer.
const KEPT_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum RecoveryProblem {
    #[error(
        "a recovery key is asked for, but this node's image names no owner: [owner] wallet in agent.toml"
    )]
    NoOwner,
    #[error("the recovery statement's signature")]
    Signature(#[source] SignatureError),
    #[error("the recovery statement's signature")]
    Recover(#[source] RecoverError),
    #[error("a recovery key is asked for, but not by the owner of this node's image: {0}")]
    Signer(VerifyError),
    #[error("the recovery statement")]
    Statement(#[source] StatementError),
    #[error("the recovery statement is for WireGuard key {0}, which is not this node's")]
    WireguardKey(WireguardKey),
    #[error("the recovery statement is valid until {until}, and this node's clock says {now}")]
    Time { until: UtcSeconds, now: u64 },
    #[error("the operator's WireGuard key {0} is this node's own, another peer's, or none")]
    OperatorKey(WireguardPublic),
    #[error("the overlay {0} has no address for the operator's machine")]
    NoAddress(Ipv4Prefix),
    #[error("the operator's machine would have the overlay address {0}, which another host has")]
    AddressTaken(Ipv4Addr),
}

/// A wish that the node will fulfil.
pub(super) struct Wish {
    /// The owner's key, recovered from the signature.
    pub owner: PublicKey,
    operator: WireguardPublic,
    operator_address: Ipv4Addr,
    shared: Zeroizing<[u8; 32]>,
}

pub(super) struct Expected {
    pub owner: Option<Address>,
    pub overlay: Ipv4Prefix,
    pub now_unix_seconds: u64,
}

impl Expected {
    pub fn now(owner: Option<Address>, overlay: Ipv4Prefix) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { owner, overlay, now_unix_seconds: now.as_secs() }
    }
}

/// The signature first: nothing that the owner did not sign is looked at. A good wish adds the operator's peer.
pub(super) fn judge(
    request: &RecoveryRequest,
    expected: &Expected,
    checked: &mut Checked,
) -> Result<Wish, RecoveryProblem> {
    let owner = expected.owner.ok_or(RecoveryProblem::NoOwner)?;
    let signature: Signature = request.signature.parse().map_err(RecoveryProblem::Signature)?;
    let signer = signature.recover(&request.statement).map_err(RecoveryProblem::Recover)?;
    signature.verify(&request.statement, &owner).map_err(RecoveryProblem::Signer)?;
    let statement: Recovery = request.statement.parse().map_err(RecoveryProblem::Statement)?;
    let (until, now) = (statement.valid_until, expected.now_unix_seconds);
    if !(1..=VALIDITY_LIMIT_SECONDS).contains(&until.unix_seconds().saturating_sub(now)) {
        return Err(RecoveryProblem::Time { until, now });
    }
    let operator = WireguardPublic::from_bytes(*statement.operator.as_bytes());
    let key = checked.wireguard.private_key.as_ref();
    let key = key.filter(|key| key.public().as_bytes() == statement.wireguard.as_bytes());
    let key = key.ok_or(RecoveryProblem::WireguardKey(statement.wireguard))?;
    let known = checked.wireguard.peers.iter().any(|peer| peer.public_key == operator);
    let shared = key.agree(&operator).filter(|_| !known && operator != key.public());
    let shared = shared.ok_or(RecoveryProblem::OperatorKey(operator))?;
    let operator_address = free_address(checked, expected.overlay)?;
    checked.wireguard.peers.push(PeerConfig {
        public_key: operator,
        // It calls us, from wherever it is.
        endpoint: None,
        allowed_ips: vec![Ipv4Prefix::host(operator_address)],
        keepalive_seconds: KEEPALIVE_SECONDS,
    });
    Ok(Wish { owner: signer, operator, operator_address, shared })
}

/// The last one of the overlay, which gateways do not give to nodes.
fn free_address(checked: &Checked, overlay: Ipv4Prefix) -> Result<Ipv4Addr, RecoveryProblem> {
    if overlay.length() > 30 {
        return Err(RecoveryProblem::NoAddress(overlay));
    }
    let last = Ipv4Addr::from((overlay.network().address().to_bits() | (u32::MAX >> overlay.length())) - 1);
    let host = Ipv4Prefix::host(last);
    let mut claimed = checked.wireguard.peers.iter().flat_map(|peer| &peer.allowed_ips);
    // A whole network that contains it is fine: the longer prefix wins.
    if checked.address.address() == last || claimed.any(|prefix| *prefix == host) {
        return Err(RecoveryProblem::AddressTaken(last));
    }
    Ok(last)
}

/// What the answer says beside the sealed key.
pub(super) struct Answerer {
    wish: Wish,
    node: WireguardPublic,
    answer: RecoveryAnswer,
    outgoing: Option<mpsc::Sender<NodeMessage>>,
    kept: oneshot::Receiver<()>,
}

impl Answerer {
    /// `kept` hears when the gateway has the answer.
    pub fn new(
        wish: Wish,
        own: &PrivateKey,
        answer: RecoveryAnswer,
        outgoing: Option<mpsc::Sender<NodeMessage>>,
        kept: oneshot::Receiver<()>,
    ) -> Self {
        Self { wish, node: own.public(), answer, outgoing, kept }
    }

    /// Gives the sealed key away and tells the provisioning whether it arrived.
    pub async fn hand_out(self, mut keys: mpsc::Receiver<Recovered>) {
        if let Some(Recovered { sealed_key, volume, taken }) = keys.recv().await {
            // Whoever waits is gone when the provisioning was.
            let _ = taken.send(self.send(sealed_key, volume).await);
        }
    }

    async fn send(mut self, sealed_key: String, volume: [u8; 16]) -> Result<(), String> {
        (self.answer.sealed_key, self.answer.volume) = (sealed_key, uuid_text(volume));
        self.answer.operator_address = self.wish.operator_address.to_string();
        let text = serde_json::to_vec(&self.answer).map(Zeroizing::new).map_err(|error| error.to_string())?;
        let info = [RECOVERY_ANSWER_INFO, self.node.as_bytes(), self.wish.operator.as_bytes()].concat();
        let answer = seal_between(&self.wish.shared, &info, &text).map_err(|error| error.to_string())?;
        let lost = || "the connection to the gateway is lost".to_owned();
        let outgoing = self.outgoing.take().ok_or_else(lost)?;
        outgoing.try_send(NodeMessage::Recovery { answer }).map_err(|_| lost())?;
        match tokio::time::timeout(KEPT_LIMIT, self.kept).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(lost()),
            Err(_) => {
                Err(format!("the gateway does not say that it has it within {} s", KEPT_LIMIT.as_secs()))
            }
        }
    }
}

/// An answer that has everything but what provisioning makes.
pub(super) fn answer(agreed: &Agreed) -> RecoveryAnswer {
    RecoveryAnswer {
        node_id: agreed.node_id.clone(),
        volume: String::new(),
        sealed_key: String::new(),
        wireguard_address: agreed.address.to_string(),
        wireguard_port: agreed.wireguard.listen_port.unwrap_or(orama_protocol::WIREGUARD_PORT),
        operator_address: String::new(),
        agent_token: Redacted::new(agreed.agent_token.expose().to_owned()),
    }
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
