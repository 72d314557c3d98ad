//! Asks the whole cluster before a node goes away: whose key could nobody put together then? The rule itself is
//! `orama_keyshare::lifecycle::guard`; this gathers what it needs, from the nodes or from what they told last.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use orama_keyshare::lifecycle::guard::{Endangered, Going, SplitKey, endangered};
use orama_protocol::peers::CustodyStatus;

use crate::agent::Agents;
use crate::look;
use crate::registry::{Custodies, Node, Role};
use crate::state::{Lost, State};
use crate::store::SqlError;

/// How long one node may take: whoever is slower now does not count as reachable.
const LOOK_LIMIT: Duration = Duration::from_secs(3);
/// Nodes asked at once: 250 take at most four rounds.
const AT_ONCE: usize = 64;
/// A node that was told to go counts as gone for so long, although it may still answer.
const GOING: Duration = Duration::from_secs(60);

/// Nodes that were let go a moment ago: two that may go one by one may not go together.
#[derive(Default)]
pub struct Departures(Mutex<HashMap<Ipv4Addr, Instant>>);

impl Departures {
    /// Decides and remembers in one step.
    fn let_go(
        &self,
        keys: &[SplitKey],
        node: Ipv4Addr,
        going: Going,
        mut reachable: BTreeSet<Ipv4Addr>,
        now: Instant,
    ) -> Vec<Endangered> {
        let mut gone = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gone.retain(|_, at| now.duration_since(*at) < GOING);
        reachable.retain(|address| !gone.contains_key(address));
        let found = endangered(keys, node, going, &reachable);
        if found.is_empty() {
            gone.insert(node, now);
        }
        found
    }

    /// It stays after all.
    pub fn stays(&self, node: Ipv4Addr) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&node);
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error("{}", refusal(.0))]
    Endangered(Vec<Endangered>),
    #[error(transparent)]
    Store(#[from] SqlError),
    #[error(transparent)]
    Lost(#[from] Lost),
}

/// Owners named in one refusal; the rest are counted.
const NAMED: usize = 8;

fn refusal(endangered: &[Endangered]) -> String {
    let named: Vec<String> = endangered.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match endangered.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more keys"),
    };
    format!("without this node {}{more}; bring missing holders back first, or force it", named.join("; "))
}

/// Lets the node go, or says whose key forbids it.
pub async fn check(state: &Arc<State>, agents: &Agents, node: &Node, going: Going) -> Result<(), GuardError> {
    let read =
        state.blocking(|state| Ok::<_, SqlError>((state.registry.nodes()?, state.registry.custody_seen()?)));
    let (nodes, last) = read.await??;
    // Of a node that leaves neither its key nor its share counts.
    let asked = nodes.iter().filter(|other| going == Going::Down || other.node_id != node.node_id);
    let looks = asked.map(|other| async move {
        let found = match other.role {
            Role::Agent => look::agent(agents, other, LOOK_LIMIT).await.map(|status| status.custody),
            Role::Peer => look::guardian(other.wg_ip, LOOK_LIMIT).await.map(|()| None),
        };
        (other, found)
    });
    let looks: Vec<_> = stream::iter(looks).buffer_unordered(AT_ONCE).collect().await;
    let reachable = looks.iter().filter(|(_, found)| found.is_ok()).map(|(other, _)| other.wg_ip).collect();
    let keys: Vec<SplitKey> = looks
        .into_iter()
        .filter_map(|(other, found)| split_key(other, found.ok().flatten(), &last))
        .collect();
    let found = state.departures.let_go(&keys, node.wg_ip, going, reachable, Instant::now());
    if found.is_empty() { Ok(()) } else { Err(GuardError::Endangered(found)) }
}

/// A locked node tells nothing, and needs its holders most: then what it told last counts.
fn split_key(owner: &Node, fresh: Option<CustodyStatus>, last: &Custodies) -> Option<SplitKey> {
    let custody = fresh.or_else(|| last.get(&owner.node_id).map(|(_, custody)| custody.clone()))?;
    (custody.keeper == "guardians").then(|| SplitKey {
        owner_id: owner.node_id.clone(),
        owner: owner.wg_ip,
        k: custody.k,
        holders: look::holders(&custody).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_that_may_go_one_by_one_do_not_go_together() {
        let ip = |last: u8| Ipv4Addr::new(10, 0, 0, last);
        let all: BTreeSet<Ipv4Addr> = (1..=5).map(ip).collect();
        let key = SplitKey {
            owner_id: "node-10.0.0.1".into(),
            owner: ip(1),
            k: 3,
            holders: (2..=5).map(ip).collect(),
        };
        let (departures, start) = (Departures::default(), Instant::now());
        let let_go = |last: u8, now: Instant| {
            departures.let_go(std::slice::from_ref(&key), ip(last), Going::Down, all.clone(), now)
        };
        assert!(let_go(2, start).is_empty());
        assert_eq!(let_go(3, start)[0].left, 2, "the first is on its way down, although it answers");
        assert!(let_go(2, start).is_empty(), "the same order again is no second node");
        assert!(let_go(3, start + GOING).is_empty());
        departures.stays(ip(3));
        assert!(let_go(4, start + GOING).is_empty(), "it stayed after all");
    }

    #[test]
    fn a_refusal_names_a_few_owners_and_counts_the_rest() {
        let found = |number: usize| Endangered { owner_id: format!("n{number}"), left: 2, needed: 3 };
        let text = refusal(&[found(1)]);
        assert!(text.contains("the key of n1 would have 2 reachable holders and needs 3; bring"), "{text}");
        let text = refusal(&(0..20).map(found).collect::<Vec<_>>());
        assert!(text.contains("n7") && !text.contains("n8 ") && text.contains("12 more keys"), "{text}");
    }
}
