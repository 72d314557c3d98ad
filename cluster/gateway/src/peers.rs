//! Tells every node who its peers are: after each change of membership, and until its status shows the revision.
//! Owns the visits and what they showed; who is in the list stands in `list`, when to visit whom in `book`.

mod book;
mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix_web::http::StatusCode;
use actix_web::web::Bytes;
use futures_util::{StreamExt, stream};
use orama_protocol::agent::Status;
use orama_protocol::peers::{CustodyStatus, PeerList};

use crate::agent::{Agents, Ask};
use crate::leave;
use crate::look;
use crate::mesh::MeshError;
use crate::registry::{Custodies, Leaving, Node, Role};
use crate::state::{State, now};
use crate::store::SqlError;
use book::{Book, Outcome};
use list::{Everybody, OwnHost};

/// How long one request of a visit may take.
const VISIT_LIMIT: Duration = Duration::from_secs(5);
/// Nodes visited at once.
const AT_ONCE: usize = 32;
/// Other processes change the store as well (`peer add`): it is read at least this often.
const STORE_INTERVAL: Duration = Duration::from_secs(30);
/// After the start the WireGuard peers are set and shake hands first. A change does not wait for that.
const START_PAUSE: Duration = Duration::from_secs(5);
/// Pause when the store or the mesh does not answer.
const RETRY: Duration = Duration::from_secs(5);
/// The service by which a node keeps shares for others.
const GUARDIAN_SERVICE: &str = "vault-guardian";

/// What the last visit of a node showed.
#[derive(Clone, Debug)]
pub enum Seen {
    Shown {
        revision: u64,
        custody: Option<CustodyStatus>,
    },
    /// It answers, but its agent is older than lists of peers.
    Old,
    Silent(String),
}

/// The last visit of each node, in memory: after a restart everybody is visited anew.
#[derive(Default)]
pub struct Visits(Mutex<BTreeMap<String, Seen>>);

impl Visits {
    pub fn all(&self) -> BTreeMap<String, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces and gives the one before.
    fn record(&self, node_id: &str, seen: Seen) -> Option<Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node_id.to_owned(), seen)
    }

    fn keep_only(&self, nodes: &[Node]) {
        let known: BTreeSet<&str> = nodes.iter().map(|node| node.node_id.as_str()).collect();
        let mut visits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        visits.retain(|node_id, _| known.contains(node_id.as_str()));
    }
}

/// One reading of the store.
struct Cluster {
    /// Read first: the nodes are at least as new as it says.
    revision: u64,
    nodes: Vec<Node>,
    leaving: BTreeMap<String, Leaving>,
    last: Custodies,
}

impl Cluster {
    fn read(state: &State) -> Result<Self, SqlError> {
        Ok(Self {
            revision: state.registry.peers_revision()?,
            nodes: state.registry.nodes()?,
            leaving: state.registry.leaving()?,
            last: state.registry.custody_seen()?,
        })
    }

    fn agents(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| node.role == Role::Agent)
    }
}

/// Runs as long as the gateway does. Only where there is a mesh: who has no say over WireGuard has no list to tell.
pub async fn run(state: Arc<State>, agents: Agents) {
    let (mut book, mut finishing) = (Book::default(), BTreeMap::new());
    let _ = tokio::time::timeout(START_PAUSE, state.membership.notified()).await;
    loop {
        let pause = match round(&state, &agents, &mut book, &mut finishing).await {
            Ok(()) => {
                let next = book.next().map(|due| due.saturating_duration_since(Instant::now()));
                next.unwrap_or(STORE_INTERVAL).min(STORE_INTERVAL)
            }
            Err(why) => {
                tracing::warn!(
                    why,
                    retry_seconds = RETRY.as_secs(),
                    "the nodes cannot be told of their peers"
                );
                RETRY
            }
        };
        // A change that comes meanwhile is remembered and ends the next wait at once.
        let _ = tokio::time::timeout(pause, state.membership.notified()).await;
    }
}

async fn round(
    state: &Arc<State>,
    agents: &Agents,
    book: &mut Book,
    finishing: &mut BTreeMap<String, Instant>,
) -> Result<(), String> {
    let read = state.blocking(Cluster::read).await.map_err(|error| error.to_string())?;
    let cluster = read.map_err(|error| error.to_string())?;
    state.visits.keep_only(&cluster.nodes);
    let known = cluster.agents().map(|node| (node.node_id.as_str(), node.confirmed_at.is_some()));
    book.plan(cluster.revision, known, Instant::now());
    let due = book.due(Instant::now());
    if !due.is_empty() {
        let leaving: BTreeSet<String> = cluster.leaving.keys().cloned().collect();
        let own = state.blocking(own_host).await.map_err(|error| error.to_string())?;
        let own = own.map_err(|error| error.to_string())?;
        let everybody = Everybody::new(&cluster.nodes, &leaving, &own);
        let visits = cluster.agents().filter(|node| due.contains(&node.node_id)).map(|node| {
            let list = everybody.but(&node.node_id, cluster.revision);
            async move { (node, visit(agents, node, list).await) }
        });
        let mut visits = stream::iter(visits).buffer_unordered(AT_ONCE);
        while let Some((node, (outcome, status))) = visits.next().await {
            note(book, node, &outcome);
            let moving = status.as_ref().is_some_and(is_moving);
            learn(state, node, &outcome, status, cluster.revision).await?;
            if moving {
                book.hurry(&node.node_id, Instant::now());
            }
        }
    }
    for node in cluster.agents() {
        let Some(leaving) = cluster.leaving.get(&node.node_id) else { continue };
        let waiting = leave::waiting(node, leaving, &cluster.nodes, &state.visits.all(), &cluster.last);
        for other in &waiting {
            book.hurry(&other.node_id, Instant::now());
        }
        let tried = finishing.get(&node.node_id).is_some_and(|at| at.elapsed() < leave::FINISH_PAUSE);
        if waiting.is_empty() && !tried {
            finishing.insert(node.node_id.clone(), Instant::now());
            if let Err(error) = leave::finish(state, agents, node).await {
                tracing::warn!(node_id = node.node_id, %error, "a node could not be removed yet");
            }
        }
    }
    finishing.retain(|node_id, _| cluster.leaving.contains_key(node_id));
    Ok(())
}

/// Why there is no list to tell.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error("there is no mesh")]
    NoMesh,
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    TooMany(#[from] list::TooMany),
    #[error(transparent)]
    Store(#[from] SqlError),
}

/// What this node is told of its peers now.
pub fn list_for(state: &State, node_id: &str) -> Result<PeerList, ListError> {
    let cluster = Cluster::read(state)?;
    let leaving = cluster.leaving.keys().cloned().collect();
    let everybody = Everybody::new(&cluster.nodes, &leaving, &own_host(state)?);
    Ok(everybody.but(node_id, cluster.revision)?)
}

fn own_host(state: &State) -> Result<OwnHost, ListError> {
    let config = state.config.mesh.as_ref().ok_or(ListError::NoMesh)?;
    let own = state.mesh.as_ref().ok_or(ListError::NoMesh)?.show()?;
    Ok(OwnHost {
        address: state.config.overlay.address,
        public_key: own.public_key,
        endpoint: config.endpoint.to_string(),
    })
}

/// Looks first: a node that has the list already is not told again.
async fn visit(
    agents: &Agents,
    node: &Node,
    list: Result<PeerList, list::TooMany>,
) -> (Outcome, Option<Status>) {
    let status = match look::agent(agents, node, VISIT_LIMIT).await {
        Ok(status) => status,
        Err(why) => return (Outcome::Failed(why), None),
    };
    if node.confirmed_at.is_none() {
        return (Outcome::Settled, Some(status));
    }
    let outcome = match list {
        Ok(list) if list.revision == status.peers_revision => Outcome::Settled,
        Ok(list) => tell(agents, node, &list).await,
        Err(error) => Outcome::Failed(error.to_string()),
    };
    (outcome, Some(status))
}

async fn tell(agents: &Agents, node: &Node, list: &PeerList) -> Outcome {
    let body = match serde_json::to_vec(list) {
        Ok(body) => Bytes::from(body),
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match agents.ask(node, Ask::Put("/v1/agent/peers", body), Some(VISIT_LIMIT)).await {
        Ok(reply) if reply.status.is_success() => Outcome::Told,
        Ok(reply) if matches!(reply.status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => {
            Outcome::UnknownRoute
        }
        Ok(reply) => {
            let reason: String = String::from_utf8_lossy(&reply.body).chars().take(200).collect();
            Outcome::Failed(format!("the list was refused with {}: {reason:?}", reply.status))
        }
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn note(book: &mut Book, node: &Node, outcome: &Outcome) {
    let news = book.record(&node.node_id, outcome, Instant::now());
    let node_id = &node.node_id;
    match outcome {
        Outcome::Settled | Outcome::Told if news => tracing::info!(node_id, "the node takes lists of peers"),
        Outcome::UnknownRoute if news => {
            tracing::warn!(node_id, "the agent is older than lists of peers; it keeps those it enrolled with")
        }
        Outcome::Failed(why) if news => tracing::warn!(node_id, why, "the node cannot be told of its peers"),
        Outcome::Settled | Outcome::Told | Outcome::UnknownRoute | Outcome::Failed(_) => {}
    }
}

/// Keeps what the visit showed, and what follows from it for the store.
async fn learn(
    state: &Arc<State>,
    node: &Node,
    outcome: &Outcome,
    status: Option<Status>,
    revision: u64,
) -> Result<(), String> {
    let node_id = node.node_id.clone();
    let Some(status) = status else {
        let Outcome::Failed(why) = outcome else { return Ok(()) };
        state.visits.record(&node_id, Seen::Silent(why.clone()));
        return Ok(());
    };
    let seen = match outcome {
        Outcome::UnknownRoute => Seen::Old,
        Outcome::Settled | Outcome::Told | Outcome::Failed(_) => {
            Seen::Shown { revision: status.peers_revision, custody: status.custody.clone() }
        }
    };
    let before = state.visits.record(&node_id, seen);
    let custody = status.custody.clone().filter(|custody| match &before {
        Some(Seen::Shown { custody: Some(last), .. }) => last != custody,
        Some(Seen::Shown { .. } | Seen::Old | Seen::Silent(_)) | None => true,
    });
    let keeps = status.services.get(GUARDIAN_SERVICE).is_some_and(|service| service.healthy);
    let guardian = keeps && !node.guardian;
    let confirmed = node.confirmed_at.is_none() && is_past_enrollment(&status);
    let behind = is_behind(revision, status.peers_revision, now());
    if status.peers_revision > revision && !behind && matches!(outcome, Outcome::Failed(_)) {
        let claimed = status.peers_revision;
        tracing::error!(node_id, claimed, revision, "a node claims a list of peers that was never made");
    }
    if custody.is_none() && !guardian && !confirmed && !behind {
        return Ok(());
    }
    let stored = state.blocking(move |state| {
        if let Some(custody) = custody {
            state.registry.see_custody(&node_id, &custody, now())?;
        }
        if guardian {
            tracing::info!(node_id, "the node keeps shares for others from now on");
            state.registry.mark_guardian(&node_id)?;
        }
        if confirmed {
            state.registry.confirm(&node_id, now())?;
        }
        if behind {
            tracing::warn!(node_id, "a node knows a newer list of peers than this store: was it restored?");
            state.registry.raise_peers_revision(now())?;
        }
        Ok::<_, SqlError>(())
    });
    stored.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    if guardian || confirmed || behind {
        state.membership.notify_one();
    }
    Ok(())
}

/// The node has left enrollment behind: its volume is committed before any other of these phases.
pub fn is_past_enrollment(status: &Status) -> bool {
    !matches!(status.phase.as_str(), "starting" | "enrolling" | "provisioning")
}

/// Its key is being split anew: whoever needs to know where the shares are must not go by what was.
fn is_moving(status: &Status) -> bool {
    status.custody.as_ref().is_some_and(|custody| !matches!(custody.state.as_str(), "settled" | "sweeping"))
}

/// Whether this store is older than a list that a node was told. Revisions begin at the time and grow more slowly, so
/// one that is not of the past is a lie, and does not drive ours up.
fn is_behind(revision: u64, claimed: u64, now: i64) -> bool {
    claimed > revision && u64::try_from(now).is_ok_and(|now| claimed <= now)
}

#[cfg(test)]
mod tests {
    use super::is_behind;

    #[test]
    fn only_a_revision_of_the_past_is_believed() {
        assert!(is_behind(100, 150, 200));
        assert!(!is_behind(100, 100, 200));
        assert!(!is_behind(100, 90, 200));
        assert!(!is_behind(100, 201, 200));
        assert!(!is_behind(100, u64::MAX, 200));
        assert!(!is_behind(100, 150, -1));
    }
}
