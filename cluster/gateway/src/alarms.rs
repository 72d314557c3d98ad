//! Asks all guardians what they hold down, raises alarms about it, and passes operators' decisions on. Revocations are
//! in the store and told again until every guardian has confirmed them for good.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use orama_protocol::Redacted;
use orama_protocol::gateway::{Alarm, GuardianAnswer};
use orama_protocol::guardian::{HoldDecision, HoldList};

use crate::registry::{Node, Revocation};
use crate::state::{State, rfc3339};
use crate::store::SqlError;

mod board;
mod guardians;

pub use board::OwnerProblem;
pub use guardians::Guardians;

/// How often the guardians are asked: an operator must hear of a hold of ten minutes while it lasts.
const INTERVAL: Duration = Duration::from_secs(15);
/// Guardians asked at once.
const AT_ONCE: usize = 32;

/// What each guardian said last. In memory: after a restart they are asked anew.
#[derive(Default)]
pub struct Watch(Mutex<BTreeMap<String, HoldList>>);

impl Watch {
    pub fn lists(&self) -> BTreeMap<String, HoldList> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, lists: BTreeMap<String, HoldList>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lists;
    }

    pub fn alarms(&self, nodes: &[Node]) -> Vec<Alarm> {
        board::alarms(&self.lists(), nodes)
    }
}

/// One reading of the store.
struct Known {
    nodes: Vec<Node>,
    tokens: BTreeMap<String, Redacted>,
    revocations: Vec<Revocation>,
}

impl Known {
    fn read(state: &State) -> Result<Self, SqlError> {
        Ok(Self {
            nodes: state.registry.nodes()?,
            tokens: state.registry.guardian_tokens()?,
            revocations: state.registry.revocations()?,
        })
    }

    /// Guardians that this gateway may ask, with the token for each.
    fn guardians(&self) -> Vec<(Node, Redacted)> {
        let guardians = self.nodes.iter().filter(|node| node.guardian);
        let token = |node: &Node| match &node.agent_token {
            Some(agent_token) => Some(guardians::operator_token(agent_token)),
            None => self.tokens.get(&node.node_id).cloned(),
        };
        guardians.filter_map(|node| token(node).map(|token| (node.clone(), token))).collect()
    }
}

/// Runs as long as the gateway does, where there is a mesh.
pub async fn run(state: Arc<State>) {
    let guardians = Guardians::new();
    let mut raised = BTreeMap::new();
    loop {
        if let Err(why) = round(&state, &guardians, &mut raised).await {
            tracing::warn!(why, "the guardians were not asked for what they hold down");
        }
        // A decision ends the pause: what it changed is seen at once.
        let _ = tokio::time::timeout(INTERVAL, state.decided.notified()).await;
    }
}

async fn round(
    state: &Arc<State>,
    guardians: &Guardians,
    raised: &mut BTreeMap<String, String>,
) -> Result<(), String> {
    let known = read(state).await?;
    look(state, guardians, &known).await;
    let alarms = state.watch.alarms(&known.nodes);
    let now: BTreeMap<String, String> =
        alarms.iter().map(|alarm| (board::key(alarm), alarm.text.clone())).collect();
    for (key, text) in &now {
        if !raised.contains_key(key) {
            tracing::error!("ALARM: {text}");
        }
    }
    for (key, text) in raised.iter() {
        if !now.contains_key(key) {
            tracing::info!("over: {text}");
        }
    }
    *raised = now;
    let everybody = known.guardians();
    for revocation in &known.revocations {
        let open = everybody.iter().filter(|(node, _)| !revocation.told.contains(&node.node_id));
        let open: Vec<(Node, Redacted)> =
            open.filter(|(node, _)| node.node_id != revocation.node_id).cloned().collect();
        tell_revoked(state, guardians, &revocation.owner, open).await?;
    }
    Ok(())
}

async fn read(state: &Arc<State>) -> Result<Known, String> {
    let read = state.blocking(Known::read).await.map_err(|error| error.to_string())?;
    read.map_err(|error| error.to_string())
}

async fn look(state: &State, guardians: &Guardians, known: &Known) {
    let asked = known
        .guardians()
        .into_iter()
        .map(|(node, token)| async move { (guardians.list(&node, &token).await, node.node_id) });
    let answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    let mut lists = BTreeMap::new();
    for (answer, node_id) in answers {
        match answer {
            Ok(Some(list)) => {
                lists.insert(node_id, list);
            }
            Ok(None) => {}
            Err(why) => tracing::debug!(node_id, why, "a guardian does not tell what it holds down"),
        }
    }
    state.watch.replace(lists);
}

/// Why a decision was not passed on.
#[derive(Debug, thiserror::Error)]
pub enum DecisionError {
    #[error(transparent)]
    Owner(#[from] OwnerProblem),
    #[error("the gateway failed: {0}")]
    Failed(String),
}

/// Lets the guardians give this node its shares, at this public address or at the only one that asks.
pub async fn approve(
    state: &Arc<State>,
    node: &Node,
    address: Option<String>,
) -> Result<Vec<GuardianAnswer>, DecisionError> {
    let guardians = Guardians::new();
    let known = read(state).await.map_err(DecisionError::Failed)?;
    look(state, &guardians, &known).await;
    let lists = state.watch.lists();
    let owner = board::owner_of(&lists, node)?;
    let address = board::address_to_approve(&lists, &owner, address)?;
    // Who holds nothing of it has nothing to decide, unless the operator speaks ahead of a move.
    let holding = |node: &Node| {
        lists.get(&node.node_id).is_some_and(|list| {
            list.holds.iter().any(|hold| hold.owner == owner && hold.state == "held")
                || list.owners.iter().any(|entry| entry.owner == owner) && address.is_some()
        })
    };
    let asked: Vec<_> = known.guardians().into_iter().filter(|(node, _)| holding(node)).collect();
    let decision = HoldDecision { owner, decision: "approve".into(), address };
    let answers = decide(&guardians, &decision, asked).await;
    state.decided.notify_one();
    Ok(answers)
}

/// Has the shares of this node's key deleted, for good. Kept in the store before anybody is told.
pub async fn revoke(state: &Arc<State>, node: &Node) -> Result<Vec<GuardianAnswer>, DecisionError> {
    let guardians = Guardians::new();
    let known = read(state).await.map_err(DecisionError::Failed)?;
    look(state, &guardians, &known).await;
    let owner = board::owner_of(&state.watch.lists(), node)?;
    let (revoked, node_id) = (owner.clone(), node.node_id.clone());
    let stored = state
        .blocking(move |state| state.registry.add_revocation(&revoked, &node_id, crate::state::now()))
        .await;
    let failed = |error: &dyn std::error::Error| DecisionError::Failed(error.to_string());
    stored.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    tracing::warn!(node_id = node.node_id, at = rfc3339(crate::state::now()), "revoked");
    let everybody = known.guardians().into_iter().filter(|(other, _)| other.node_id != node.node_id);
    let answers = tell_revoked(state, &guardians, &owner, everybody.collect()).await;
    answers.map_err(DecisionError::Failed)
}

async fn tell_revoked(
    state: &Arc<State>,
    guardians: &Guardians,
    owner: &str,
    asked: Vec<(Node, Redacted)>,
) -> Result<Vec<GuardianAnswer>, String> {
    let decision = HoldDecision { owner: owner.to_owned(), decision: "revoke".into(), address: None };
    let answers = decide(guardians, &decision, asked).await;
    let done = answers.iter().filter(|answer| answer.done).map(|answer| answer.node_id.clone());
    let (owner, done): (String, Vec<String>) = (owner.to_owned(), done.collect());
    if !done.is_empty() {
        let stored = state.blocking(move |state| state.registry.revocation_told(&owner, &done)).await;
        stored.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    }
    Ok(answers)
}

async fn decide(
    guardians: &Guardians,
    decision: &HoldDecision,
    asked: Vec<(Node, Redacted)>,
) -> Vec<GuardianAnswer> {
    let asked = asked.into_iter().map(|(node, token)| async move {
        let (done, answer) = match guardians.decide(&node, &token, decision).await {
            Ok(decided) if decided.durable => (true, decided.status),
            Ok(decided) => {
                (decision.decision == "approve", format!("{}, not on its disk yet", decided.status))
            }
            Err(why) => (false, why),
        };
        GuardianAnswer { node_id: node.node_id, done, answer }
    });
    let mut answers: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
    answers.sort_by(|left, right| left.node_id.cmp(&right.node_id));
    answers
}
