//! One operator's attempt to enrol one node: invite, address, configuration, row, WireGuard peer, answer.
//! Everything it takes on the way it gives back when it fails before the node was told that it is registered.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use orama_keyshare::lifecycle::GENESIS_GUARDIANS;
use orama_protocol::Redacted;
use orama_protocol::enroll::NodeConfig;
use orama_protocol::mesh_control::MeshPeer;
use orama_protocol::recovery::RecoveryRequest;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::waiting::{Answer, Call, Claim, HeldAddress, NoClaim};
use crate::config::Mesh;
use crate::invite::Unusable;
use crate::look;
use crate::mesh::MeshError;
use crate::node_config::{self, MeshHost, Place};
use crate::registry::{Node, Role};
use crate::state::{Lost, State, now};
use crate::store::SqlError;
use crate::token;

/// Fewest guardians that a key can be split over: K is at least 3.
pub const GUARDIANS_NEEDED: usize = 3;
/// How long the node may think about its configuration; it only parses it.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// After this the node is not registered any more: the operator's client gives up after 60 s, and an attempt that
/// it took for failed must not succeed behind its back.
pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(40);
/// How long the socket may take for one message from us.
const SOCKET_LIMIT: Duration = Duration::from_secs(5);

/// How long the address of a guardian that left is given to nobody, seconds: a node that was off meanwhile has time to
/// come back, hear of it and move its shares.
const FORMER_SECONDS: i64 = 24 * 3600;

pub struct Request {
    /// SHA-256 of the invite token.
    pub invite: String,
    pub code: String,
    pub node_ip: Ipv4Addr,
    /// What the operator saw at the node; a caller that did not look names none.
    pub wireguard_public_key: Option<String>,
    /// Passed on to the node, which judges it.
    pub recovery: Option<RecoveryRequest>,
}

pub struct Enrolled {
    pub node_id: String,
    pub wg_ip: Ipv4Addr,
}

#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    #[error(transparent)]
    Invite(#[from] Unusable),
    #[error(
        "this gateway has no mesh control socket: enrol through a gateway that owns a WireGuard interface"
    )]
    NoMesh,
    #[error("no node is waiting with this code")]
    UnknownCode,
    #[error("another operator is enrolling the node with this code right now")]
    Busy,
    #[error(
        "the cluster has {have} guardians that were added with `peer add`, at least {GUARDIANS_NEEDED} are needed to \
         keep a new node's key, and no node of an owner was adopted, whose wallet could keep it"
    )]
    TooFewGuardians { have: usize },
    #[error(
        "the cluster has {have} guardians that were added with `peer add`, fewer than {GUARDIANS_NEEDED}: until five \
         nodes keep shares only the owner's wallet opens the new node after a reboot, and without a recovery file there \
         is no way to bring it the key: give the owner's wallet and --recovery FILE, as in orama node enroll --recovery \
         FILE --keystore FILE …"
    )]
    NoRecoveryFile { have: usize },
    #[error(
        "the node that waits with this code has another WireGuard key than the one at the address you gave: somebody \
         may be posing as it; restart the node for a new code"
    )]
    OtherKey,
    #[error("the node's WireGuard key already belongs to {0}")]
    KeyTaken(String),
    #[error("no address is free in the overlay network {0}")]
    Exhausted(String),
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error("the node refused the configuration: {0}")]
    Refused(String),
    #[error("the node's connection ended before the enrollment was complete")]
    NodeLeft,
    #[error("the node did not answer in {} s", ANSWER_LIMIT.as_secs())]
    NoAnswer,
    #[error("the enrollment took longer than {} s", ATTEMPT_LIMIT.as_secs())]
    TooSlow,
    #[error("the node id or address was taken by another enrollment meanwhile: try again")]
    Conflict,
    #[error(transparent)]
    Store(SqlError),
    #[error(transparent)]
    Random(#[from] token::NoRandom),
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl From<SqlError> for AttemptError {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Constraint(_) => Self::Conflict,
            SqlError::Failed(_) => Self::Store(error),
        }
    }
}

/// Checks what can be checked without taking anything, then holds the invite for the time of the attempt.
pub async fn run(state: Arc<State>, request: Request) -> Result<Enrolled, AttemptError> {
    let mesh = state.config.mesh.clone().filter(|_| state.mesh.is_some()).ok_or(AttemptError::NoMesh)?;
    let (nodes, owner) = state
        .blocking(|state| Ok::<_, SqlError>((state.registry.nodes()?, state.registry.owner_public_key()?)))
        .await??;
    keeper(&nodes, owner, request.recovery.is_some())?;
    if !state.waiting.knows(&request.code) {
        return Err(AttemptError::UnknownCode);
    }

    let attempt = token::generate()?.expose().to_owned();
    let (invite, holder) = (request.invite.clone(), attempt.clone());
    state.blocking(move |state| state.registry.reserve_invite(&invite, &holder, now())).await???;
    let (invite, holder) = (request.invite.clone(), attempt.clone());
    let result = with_invite(&state, &mesh, request, attempt).await;
    if result.is_err() {
        // Does nothing when the invite was spent.
        let released = state.blocking(move |state| state.registry.release_invite(&invite, &holder)).await;
        if let Ok(Err(error)) = released {
            tracing::error!(%error, "an invite could not be given back; its reservation runs out by itself");
        }
    }
    result
}

async fn with_invite(
    state: &Arc<State>,
    mesh: &Mesh,
    request: Request,
    attempt: String,
) -> Result<Enrolled, AttemptError> {
    let deadline = Instant::now() + ATTEMPT_LIMIT;
    let claim = state.waiting.claim(&request.code).map_err(|why| match why {
        NoClaim::Unknown => AttemptError::UnknownCode,
        NoClaim::Busy => AttemptError::Busy,
    })?;
    let shown = request.wireguard_public_key.as_ref();
    if shown.is_some_and(|key| *key != claim.introduction.wireguard_public_key) {
        return Err(AttemptError::OtherKey);
    }
    let wanted = request.recovery.is_some();
    let offer = prepare(state, mesh, &claim, (request.node_ip, wanted)).await?;
    // Held until the row is stored or the attempt is over.
    let _address = offer.address;
    let result = async {
        let agent_token = Some(propose(&claim, offer.config, request.recovery).await?);
        let node = Node { agent_token, ..offer.node };
        if wanted {
            // Before the node goes on: it brings the key within seconds.
            state.recovery.expect(&request.invite, &node.node_id, std::time::Instant::now());
        }
        let registered =
            register(state, &claim, &node, &Hold { invite: request.invite, attempt, deadline }).await;
        registered.inspect_err(|_| state.recovery.forget(&node.node_id))?;
        Ok(Enrolled { node_id: node.node_id, wg_ip: node.wg_ip })
    }
    .await;
    if let Err(error) = &result {
        abort(&claim, error).await;
    }
    result
}

/// The attempt's hold on the invite, and until when it may end well.
#[derive(Clone)]
struct Hold {
    invite: String,
    attempt: String,
    deadline: Instant,
}

struct Offer {
    config: Box<NodeConfig>,
    node: Node,
    address: HeldAddress,
}

/// Chooses the address and composes what the node is told; beside its public address, whether there will be a recovery
/// file.
async fn prepare(
    state: &Arc<State>,
    mesh: &Mesh,
    claim: &Claim,
    (node_ip, recovery): (Ipv4Addr, bool),
) -> Result<Offer, AttemptError> {
    let key = claim.introduction.wireguard_public_key.clone();
    let (own, nodes, mut taken, owner) = state
        .blocking(move |state| {
            // First, so that its old address is free again.
            forget_unfinished(state, &key)?;
            let own = state.mesh.as_ref().ok_or(AttemptError::NoMesh)?.show()?;
            let (taken, owner) = (promised_addresses(state)?, state.registry.owner_public_key()?);
            Ok::<_, AttemptError>((own, state.registry.nodes()?, taken, owner))
        })
        .await??;
    // Again: guardians may have gone since the first look.
    let owner = keeper(&nodes, owner, recovery)?;
    let key = &claim.introduction.wireguard_public_key;
    if own.public_key == *key {
        return Err(AttemptError::KeyTaken("this gateway".into()));
    }
    if let Some(owner) = nodes.iter().find(|node| node.public_key == *key) {
        return Err(AttemptError::KeyTaken(owner.node_id.clone()));
    }

    let overlay = state.config.overlay;
    taken.extend(nodes.iter().map(|node| node.wg_ip));
    taken.extend([overlay.address, overlay.network.operators()]);
    taken.extend(&own.addresses);
    let address = state
        .waiting
        .hold_address(|held| overlay.network.lowest_free(&taken.union(held).copied().collect()))
        .ok_or_else(|| AttemptError::Exhausted(overlay.network.to_string()))?;
    let place = Place {
        wg_ip: address.address,
        prefix: overlay.network.prefix(),
        listen_port: claim.introduction.wireguard_port,
    };
    let hosts = mesh_hosts(&nodes, overlay.address, &own.public_key, mesh);
    let mut config = node_config::compose(place, state.cluster_secret.clone(), &hosts);
    config.owner_public_key = owner;
    let node = Node {
        node_id: config.node_id.clone(),
        wg_ip: place.wg_ip,
        public_key: key.clone(),
        public_ip: node_ip,
        wg_port: place.listen_port,
        agent_token: None,
        confirmed_at: None,
        // Its own guardian holds nothing yet: it becomes one when keys are split anew.
        guardian: false,
        role: Role::Agent,
        phase: "enrolling".into(),
        detail: String::new(),
    };
    Ok(Offer { config: Box::new(config), node, address })
}

/// Addresses that no row has and no new node may get: operators' own, and those of guardians that left, for a day and as
/// long as somebody's key is known to be split over them. A new node there would be taken for the holder that it is not.
fn promised_addresses(state: &State) -> Result<BTreeSet<Ipv4Addr>, SqlError> {
    let mut promised: BTreeSet<Ipv4Addr> = state.registry.operator_addresses()?.into_iter().collect();
    promised.extend(state.registry.former_guardians(now() - FORMER_SECONDS)?);
    for (_, custody) in state.registry.custody_seen()?.values() {
        promised.extend(look::holders(custody));
    }
    Ok(promised)
}

/// A node that says hello with the key of an unfinished enrollment is that node, at its beginning again.
fn forget_unfinished(state: &State, key: &str) -> Result<(), SqlError> {
    for node in state.registry.nodes()? {
        let unfinished = node.role == Role::Agent && node.confirmed_at.is_none();
        if unfinished && node.public_key == key {
            state.registry.fail_enrollment(&node.node_id, "the node began its enrollment anew", now())?;
            remove_from_mesh(state, &node.public_key);
        }
    }
    Ok(())
}

/// Whether a new node's first shares go there. Enrolled nodes do not know the new one yet; they get shares when it
/// splits its key anew, after it was told of them.
fn is_first_guardian(node: &Node) -> bool {
    node.guardian && node.role == Role::Peer
}

/// The owner whose wallet keeps a new node's key until five others can; none where it can be split at once. Nobody but the
/// holder of a recovery file has a WireGuard tunnel to the new node, so without one no wallet would be of any use; where
/// the five are there already, that is a matter of seconds and needs none.
fn keeper(nodes: &[Node], owner: Option<String>, recovery: bool) -> Result<Option<String>, AttemptError> {
    let have = nodes.iter().filter(|node| is_first_guardian(node)).count();
    let soon = nodes.iter().filter(|node| node.keeps_shares()).count() >= GENESIS_GUARDIANS;
    match owner {
        _ if have >= GUARDIANS_NEEDED => Ok(None),
        None => Err(AttemptError::TooFewGuardians { have }),
        Some(_) if !recovery && !soon => Err(AttemptError::NoRecoveryFile { have }),
        Some(owner) => Ok(Some(owner)),
    }
}

/// Everybody whom a new node shall know, by address: this host, hosts without enrolment, confirmed nodes.
fn mesh_hosts(nodes: &[Node], own_address: Ipv4Addr, own_key: &str, mesh: &Mesh) -> Vec<MeshHost> {
    let known = nodes.iter().filter(|node| node.role == Role::Peer || node.confirmed_at.is_some());
    let mut hosts: Vec<MeshHost> = known
        .map(|node| MeshHost {
            node_id: node.node_id.clone(),
            wg_ip: node.wg_ip,
            public_key: node.public_key.clone(),
            // Whatever was written down for addresses behind our own key, this is where we listen.
            endpoint: if node.public_key == own_key {
                mesh.endpoint.to_string()
            } else {
                format!("{}:{}", node.public_ip, node.wg_port)
            },
            guardian: is_first_guardian(node),
        })
        .collect();
    if !hosts.iter().any(|host| host.wg_ip == own_address) {
        hosts.push(MeshHost {
            node_id: node_config::node_id(own_address),
            wg_ip: own_address,
            public_key: own_key.to_owned(),
            endpoint: mesh.endpoint.to_string(),
            guardian: false,
        });
    }
    hosts.sort_by_key(|host| host.wg_ip);
    hosts
}

/// Sends the configuration and waits for the node's word.
async fn propose(
    claim: &Claim,
    config: Box<NodeConfig>,
    recovery: Option<RecoveryRequest>,
) -> Result<Redacted, AttemptError> {
    let (sender, answer) = oneshot::channel();
    call(claim, Call::Offer { config, recovery, answer: sender }).await?;
    match timeout(ANSWER_LIMIT, answer).await {
        Ok(Ok(Answer::Accepted(token))) => Ok(token),
        Ok(Ok(Answer::Refused(reason))) => Err(AttemptError::Refused(reason)),
        Ok(Err(_)) => Err(AttemptError::NodeLeft),
        Err(_) => Err(AttemptError::NoAnswer),
    }
}

/// Peer, row, then the node's go-ahead; each is undone when the next fails. The peer is first because a mesh that
/// does not answer is the likely failure, and then nothing was stored.
async fn register(state: &Arc<State>, claim: &Claim, node: &Node, hold: &Hold) -> Result<(), AttemptError> {
    let (row, held) = (node.clone(), hold.clone());
    state
        .blocking(move |state| {
            let mesh = state.mesh.as_ref().ok_or(AttemptError::NoMesh)?;
            mesh.set_peer(mesh_peer(&row))?;
            let stored = store(state, &row, &held);
            if stored.is_err() {
                remove_from_mesh(state, &row.public_key);
            }
            stored
        })
        .await??;

    let (sent, confirmed) = oneshot::channel();
    let go = Call::Register { node_id: node.node_id.clone(), public_key: node.public_key.clone(), sent };
    let told = match call(claim, go).await {
        Ok(()) => timeout(SOCKET_LIMIT, confirmed).await.is_ok_and(|sent| sent.is_ok()),
        Err(_) => false,
    };
    if told {
        return Ok(());
    }
    let (row, held) = (node.clone(), hold.clone());
    state
        .blocking(move |state| {
            remove_from_mesh(state, &row.public_key);
            state.registry.remove_agent(&row.node_id)?;
            state.membership.notify_one();
            state.registry.unspend_invite(&held.invite, &held.attempt)
        })
        .await??;
    Err(AttemptError::NodeLeft)
}

fn store(state: &State, row: &Node, hold: &Hold) -> Result<(), AttemptError> {
    if Instant::now() > hold.deadline {
        return Err(AttemptError::TooSlow);
    }
    if state.registry.enroll(row, &hold.invite, &hold.attempt, now())? {
        state.membership.notify_one();
        Ok(())
    } else {
        // Our reservation ran out and another attempt was quicker.
        Err(AttemptError::Invite(Unusable::Used))
    }
}

/// The WireGuard peer of an enrolled node.
pub fn mesh_peer(node: &Node) -> MeshPeer {
    MeshPeer {
        public_key: node.public_key.clone(),
        endpoint: Some(format!("{}:{}", node.public_ip, node.wg_port)),
        allowed_ips: vec![format!("{}/32", node.wg_ip)],
        keepalive_seconds: node_config::KEEPALIVE_SECONDS,
    }
}

/// Best effort: without its row the peer is not set again at the next start.
pub fn remove_from_mesh(state: &State, public_key: &str) {
    if let Some(Err(error)) = state.mesh.as_ref().map(|mesh| mesh.remove_peer(public_key)) {
        tracing::warn!(%error, "a WireGuard peer could not be removed");
    }
}

async fn call(claim: &Claim, call: Call) -> Result<(), AttemptError> {
    match timeout(SOCKET_LIMIT, claim.calls.send(call)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(AttemptError::NodeLeft),
    }
}

async fn abort(claim: &Claim, error: &AttemptError) {
    // A node that refused is waiting again, and one that left hears nothing.
    if !matches!(error, AttemptError::Refused(_)) {
        let _ = call(claim, Call::Abort { reason: error.to_string() }).await;
    }
}
