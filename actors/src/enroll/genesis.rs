//! The first node of a cluster, seen from the actor: a configuration that the owner's wallet signed over this node's
//! one-time key goes the way of one from a gateway. Judging it is `genesis_check`, the HTTP is `page`.

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use actix::{Context, Handler, Message};
use orama_mesh::{PrivateKey, WgConfig};
use orama_protocol::Redacted;
use orama_protocol::genesis::{GenesisAccepted, GenesisOffer, GenesisProgress, GenesisRequest};
use orama_volume::vault::AgentToken;
use orama_wallet::statement::OneTimeKey;
use orama_wallet::{RandomError, SealError, SecretKey, seal, sealed_to_text};
use zeroize::Zeroizing;

use super::genesis_check::{self, Accepted, Expected, GenesisProblem};
use super::machine::{Event, Phase};
use super::{Agreed, EnrollActor};
use crate::supervise::lock;
use crate::unlock::Keeper;

/// Steps that are kept for whoever asks; provisioning has eight.
const STEPS_MAX: usize = 32;

/// What the page shows of a provisioning that the owner began.
#[derive(Clone)]
pub struct Progress(Arc<Mutex<GenesisProgress>>);

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(GenesisProgress { state: "waiting".into(), ..GenesisProgress::default() })))
    }
}

impl Progress {
    pub fn read(&self) -> GenesisProgress {
        lock(&self.0).clone()
    }

    fn begin(&self, agent_token_sealed: String) {
        let state = "enrolling".into();
        let agent_token_sealed = Some(agent_token_sealed);
        *lock(&self.0) = GenesisProgress { state, agent_token_sealed, ..GenesisProgress::default() };
    }

    pub(super) fn step(&self, step: &str) {
        let steps = &mut lock(&self.0).steps;
        if steps.len() < STEPS_MAX {
            steps.push(step.to_owned());
        }
    }

    /// Only what the owner began is the owner's business here.
    pub(super) fn failed(&self, why: &str) {
        let mut progress = lock(&self.0);
        if progress.state == "enrolling" {
            progress.state = "failed".into();
            progress.why = Some(orama_keyshare::printable(why));
            progress.agent_token_sealed = None;
        }
    }
}

/// A request that says it comes from the owner.
#[derive(Message)]
#[rtype(result = "Result<GenesisAccepted, GenesisRefused>")]
pub struct EnrollGenesis(pub GenesisRequest);

#[derive(Debug, thiserror::Error)]
pub enum GenesisRefused {
    #[error("this node's image names no owner")]
    NoOwner,
    #[error("this node is being enrolled already")]
    NotNow,
    #[error(transparent)]
    Problem(GenesisProblem),
    #[error("sealing the agent token")]
    Seal(#[source] SealError),
    #[error("making a secret")]
    Random(#[source] RandomError),
    #[error("making the agent token")]
    Token(#[source] orama_volume::RandomError),
}

impl EnrollActor {
    /// What the page offers; none when the image names no owner.
    pub(super) fn offer(&mut self) -> Option<GenesisOffer> {
        let owner = self.settings.owner?;
        if self.one_time_key.is_none() {
            // Its secret half is dropped here: the key only has to be one that nobody saw before.
            match SecretKey::generate() {
                Ok(key) => self.one_time_key = Some(key.public_key().into()),
                Err(error) => tracing::error!("no one-time key: {error}"),
            }
        }
        let one_time_key = self.one_time_key.as_ref().map(OneTimeKey::to_string)?;
        Some(GenesisOffer { one_time_key, owner: owner.to_string() })
    }

    fn consider_genesis(&mut self, request: &GenesisRequest) -> Result<GenesisAccepted, GenesisRefused> {
        let owner = self.settings.owner.ok_or(GenesisRefused::NoOwner)?;
        if !matches!(self.state.phase, Phase::Offline | Phase::Greeting | Phase::Waiting) {
            return Err(GenesisRefused::NotNow);
        }
        let one_time_key = self.one_time_key.as_ref().ok_or(GenesisRefused::NotNow)?;
        let key = self.own_key.get_or_insert_with(PrivateKey::generate);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let expected = Expected {
            owner,
            one_time_key,
            wireguard: key.public(),
            overlay: self.overlay,
            now_unix_seconds: now.as_secs(),
        };
        let accepted = genesis_check::judge(request, &expected).map_err(GenesisRefused::Problem)?;
        let own = PrivateKey::from_bytes(Zeroizing::new(*key.expose()));
        let agent_token = AgentToken::generate().map_err(GenesisRefused::Token)?;
        let sealed =
            seal(&accepted.token_key, agent_token.expose().as_bytes()).map_err(GenesisRefused::Seal)?;
        let answer = GenesisAccepted {
            status: "enrolling".into(),
            wg_public_key: own.public().to_string(),
            agent_token_sealed: sealed_to_text(&sealed),
        };
        self.agreed = Some(agreed(accepted, own, agent_token)?);
        Ok(answer)
    }
}

fn agreed(accepted: Accepted, own: PrivateKey, agent_token: AgentToken) -> Result<Agreed, GenesisRefused> {
    // As random as a volume key, and nobody else's: the cluster begins here.
    let secret = SecretKey::generate().map_err(GenesisRefused::Random)?.expose();
    let mut digits = String::with_capacity(2 * secret.len());
    for byte in secret.iter() {
        for nibble in [byte >> 4, byte & 15] {
            digits.push(char::from_digit(nibble.into(), 16).unwrap_or('0'));
        }
    }
    Ok(Agreed {
        node_id: accepted.node_id,
        address: accepted.address,
        wireguard: WgConfig {
            private_key: Some(own),
            addresses: vec![accepted.address],
            listen_port: Some(accepted.listen_port),
            peers: vec![accepted.operator],
        },
        keeper: Keeper::Wallet(accepted.owner),
        cluster_secret: Redacted::new(digits),
        agent_token,
        recovery: None,
    })
}

impl Handler<EnrollGenesis> for EnrollActor {
    type Result = Result<GenesisAccepted, GenesisRefused>;

    fn handle(&mut self, EnrollGenesis(request): EnrollGenesis, context: &mut Context<Self>) -> Self::Result {
        let accepted = self.consider_genesis(&request).inspect_err(|refused| {
            tracing::warn!("genesis enrollment refused: {}", crate::describe(refused));
        })?;
        // Used up: the same statement is a replay from here on, also after a failure.
        self.one_time_key = None;
        self.progress.begin(accepted.agent_token_sealed.clone());
        self.console.line("the owner's wallet enrols this node");
        self.apply(Event::OwnerSigned, context);
        Ok(accepted)
    }
}
