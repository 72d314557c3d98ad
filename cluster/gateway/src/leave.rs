//! How a node leaves: the others are told, re-share what it keeps for them, and only then it is stopped and removed.
//! Each step can be cut off: the store says that it leaves, and whoever comes next goes on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use orama_protocol::gateway::LeaveWait;
use orama_protocol::peers::CustodyStatus;

use crate::agent::{Agents, Ask};
use crate::look;
use crate::mesh::MeshError;
use crate::peers::Seen;
use crate::registry::{Custodies, Leaving, Node, Role};
use crate::state::{Lost, State, now};
use crate::store::SqlError;

/// How long a leaving node may take to answer; it is removed in any case.
const STOP_LIMIT: Duration = Duration::from_secs(15);
/// Pause between attempts to remove a node whose turn has come.
pub const FINISH_PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Store(#[from] SqlError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Who may still have a share of its key with the leaving node, and why that is not known to be over. Pure.
pub fn waiting(
    node: &Node,
    leaving: &Leaving,
    nodes: &[Node],
    visits: &BTreeMap<String, Seen>,
    last: &Custodies,
) -> Vec<LeaveWait> {
    // Nobody is ever told to store a share with a node that is no guardian.
    if leaving.forced || !node.guardian {
        return vec![];
    }
    let others = nodes.iter().filter(|other| other.role == Role::Agent && other.node_id != node.node_id);
    // A node that is enrolling has its first shares with hosts that cannot leave.
    let others = others.filter(|other| other.confirmed_at.is_some());
    let names = |custody: &CustodyStatus| look::holders(custody).any(|holder| holder == node.wg_ip);
    let why = |other: &Node| match visits.get(&other.node_id) {
        None => Some("was not visited yet".to_owned()),
        Some(Seen::Silent(why)) => Some(why.clone()),
        // It was never told of guardians among the nodes, unless it was a newer one once.
        Some(Seen::Old) => last
            .get(&other.node_id)
            .is_some_and(|(_, custody)| names(custody))
            .then(|| "its agent is too old to move its shares".to_owned()),
        Some(Seen::Shown { revision, .. }) if *revision < leaving.revision => {
            Some("does not know of the leave yet".to_owned())
        }
        Some(Seen::Shown { custody: None, .. }) => Some("does not say who keeps its key".to_owned()),
        Some(Seen::Shown { custody: Some(custody), .. }) => names(custody).then(|| match &custody.why {
            None => format!("moves its shares: {}", custody.state),
            Some(failure) => format!("moves its shares: {}; last attempt: {failure}", custody.state),
        }),
    };
    others
        .filter_map(|other| why(other).map(|why| LeaveWait { node_id: other.node_id.clone(), why }))
        .collect()
}

/// Lets the node erase itself, and removes peer and row; nothing when somebody else did so already.
pub async fn finish(state: &Arc<State>, agents: &Agents, node: &Node) -> Result<(), FinishError> {
    let _one_at_a_time = state.finishing.lock().await;
    let id = node.node_id.clone();
    if !state.blocking(move |state| state.registry.leaving()).await??.contains_key(&id) {
        return Ok(());
    }
    tell(agents, node).await;
    let (node_id, public_key) = (node.node_id.clone(), node.public_key.clone());
    state
        .blocking(move |state| {
            // The peer first: while the row is there it can be tried again.
            if let Some(mesh) = &state.mesh {
                mesh.remove_peer(&public_key)?;
            }
            state.registry.remove_leaving(&node_id, now())?;
            Ok::<_, FinishError>(())
        })
        .await??;
    tracing::info!(node_id = node.node_id, "removed");
    state.membership.notify_one();
    Ok(())
}

/// Best effort: a dead node must be able to leave. One whose agent knows of no leave, or cannot do it, is stopped.
async fn tell(agents: &Agents, node: &Node) {
    for order in [&br#"{"action":"leave"}"#[..], br#"{"action":"stop"}"#] {
        let order = Bytes::from_static(order);
        match agents.ask(node, Ask::Post("/v1/agent/command", order), Some(STOP_LIMIT)).await {
            Ok(reply) if reply.status.is_success() => return,
            Ok(reply) => {
                tracing::warn!(node_id = node.node_id, status = %reply.status, "a leaving node refused an order")
            }
            Err(error) => {
                tracing::warn!(node_id = node.node_id, %error, "a leaving node could not be told so");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use orama_protocol::peers::CustodyHolder;

    fn node(last: u8) -> Node {
        Node {
            node_id: format!("node-10.0.0.{last}"),
            wg_ip: Ipv4Addr::new(10, 0, 0, last),
            public_key: String::new(),
            public_ip: Ipv4Addr::LOCALHOST,
            wg_port: 1,
            agent_token: None,
            confirmed_at: Some(1),
            guardian: true,
            role: Role::Agent,
            phase: String::new(),
            detail: String::new(),
        }
    }

    fn shown(revision: u64, holders: &[u8]) -> Seen {
        let holder = |last: &u8| CustodyHolder {
            node_id: format!("node-10.0.0.{last}"),
            wg_ip: format!("10.0.0.{last}"),
        };
        let custody = CustodyStatus {
            keeper: "guardians".into(),
            generation: 1,
            begun: 1,
            k: 3,
            n: holders.len() as u8,
            holders: holders.iter().map(holder).collect(),
            state: "storing".into(),
            why: None,
            next_try_seconds: None,
            stale: 0,
        };
        Seen::Shown { revision, custody: Some(custody) }
    }

    const LEAVING: Leaving = Leaving { since: 0, revision: 7, forced: false };

    fn reasons(seen: Option<Seen>, told_last: &[u8]) -> Vec<String> {
        let visits = seen.into_iter().map(|seen| ("node-10.0.0.3".to_owned(), seen)).collect();
        let Seen::Shown { custody: Some(custody), .. } = shown(7, told_last) else { panic!("it shows one") };
        let last = BTreeMap::from([("node-10.0.0.3".to_owned(), (0, custody))]);
        let waits = waiting(&node(2), &LEAVING, &[node(2), node(3)], &visits, &last);
        waits.into_iter().map(|wait| format!("{}: {}", wait.node_id, wait.why)).collect()
    }

    #[test]
    fn only_a_node_that_knows_of_the_leave_and_names_others_lets_it_go() {
        assert_eq!(reasons(Some(shown(7, &[3, 4, 5])), &[2]), [""; 0]);
        assert_eq!(reasons(Some(shown(9, &[])), &[2]), [""; 0]);
        assert_eq!(reasons(Some(Seen::Old), &[4, 5]), [""; 0]);
        for (seen, expected) in [
            (None, "was not visited yet"),
            (Some(Seen::Silent("unreachable".into())), "unreachable"),
            (Some(Seen::Old), "its agent is too old to move its shares"),
            (Some(shown(6, &[3, 4, 5])), "does not know of the leave yet"),
            (Some(Seen::Shown { revision: 7, custody: None }), "does not say who keeps its key"),
            (Some(shown(7, &[2, 4, 5])), "moves its shares: storing"),
        ] {
            assert_eq!(reasons(seen, &[2, 4, 5]), [format!("node-10.0.0.3: {expected}")]);
        }
    }

    #[test]
    fn nobody_is_waited_for_by_force_or_without_a_guardian() {
        let nodes = [node(2), node(3)];
        let forced = Leaving { forced: true, ..LEAVING };
        assert!(waiting(&node(2), &forced, &nodes, &BTreeMap::new(), &BTreeMap::new()).is_empty());
        let plain = Node { guardian: false, ..node(2) };
        assert!(waiting(&plain, &LEAVING, &nodes, &BTreeMap::new(), &BTreeMap::new()).is_empty());
        let enrolling = Node { confirmed_at: None, ..node(3) };
        let host = Node { role: Role::Peer, ..node(11) };
        assert!(
            waiting(&node(2), &LEAVING, &[node(2), enrolling, host], &BTreeMap::new(), &BTreeMap::new())
                .is_empty()
        );
    }
}
