//! When each node is to be visited next. Pure: time is passed in.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

/// A node that has the newest list is looked at this often: whether it lost the list, and for its custody, by which others
/// are judged when it goes down. As often as a node itself looks who is there.
pub const SETTLED: Duration = Duration::from_secs(15);
/// The same while somebody waits for what it does next.
pub const AWAITED: Duration = Duration::from_secs(2);
/// An agent that does not know lists of peers may be updated to one that does.
pub const UNKNOWN_ROUTE: Duration = Duration::from_secs(600);
/// Pause after the n-th failure in a row: 1, 2, 4 … 64 s, up to a quarter shorter.
const FAILURES_MAX: u32 = 6;

/// How a visit ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The node shows the newest revision.
    Settled,
    /// The node took the list; its status will show it.
    Told,
    /// The agent is older than lists of peers.
    UnknownRoute,
    Failed(String),
}

#[derive(Debug)]
struct Entry {
    due: Instant,
    /// Visits in a row that did not end settled.
    tries: u32,
    failing: bool,
    unknown_route: bool,
    confirmed: bool,
}

#[derive(Debug, Default)]
pub struct Book {
    revision: u64,
    entries: BTreeMap<String, Entry>,
}

impl Book {
    /// Takes the present cluster over. A change is told at once, except to who fails or would not understand.
    pub fn plan<'a>(&mut self, revision: u64, nodes: impl Iterator<Item = (&'a str, bool)>, now: Instant) {
        let mut before = std::mem::take(&mut self.entries);
        let changed = std::mem::replace(&mut self.revision, revision) != revision;
        for (node_id, confirmed) in nodes {
            let fresh = || Entry {
                // An enrolling node has no agent yet; its socket says when it has.
                due: if confirmed { now } else { now + SETTLED },
                tries: 0,
                failing: false,
                unknown_route: false,
                confirmed,
            };
            let mut entry = before.remove(node_id).unwrap_or_else(fresh);
            if entry.confirmed != confirmed {
                entry = fresh();
            }
            if changed && confirmed && !entry.failing && !entry.unknown_route {
                (entry.due, entry.tries) = (now, 0);
            }
            self.entries.insert(node_id.to_owned(), entry);
        }
    }

    pub fn due(&self, now: Instant) -> Vec<String> {
        self.entries.iter().filter(|(_, entry)| entry.due <= now).map(|(id, _)| id.clone()).collect()
    }

    /// When somebody is due next.
    pub fn next(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.due).min()
    }

    /// True when it is news, for the log: the first failure, the first unknown route, the first success after either.
    pub fn record(&mut self, node_id: &str, outcome: &Outcome, now: Instant) -> bool {
        let Some(entry) = self.entries.get_mut(node_id) else { return false };
        let before = (entry.failing, entry.unknown_route);
        entry.failing = matches!(outcome, Outcome::Failed(_));
        entry.unknown_route = *outcome == Outcome::UnknownRoute;
        entry.tries = if *outcome == Outcome::Settled { 0 } else { entry.tries.saturating_add(1) };
        entry.due = now
            + match outcome {
                Outcome::Settled => SETTLED,
                Outcome::UnknownRoute => UNKNOWN_ROUTE,
                Outcome::Told | Outcome::Failed(_) => pause(node_id, entry.tries),
            };
        before != (entry.failing, entry.unknown_route)
    }

    /// Somebody waits for this node: looks at it again soon, unless it fails anyway.
    pub fn hurry(&mut self, node_id: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(node_id)
            && !entry.failing
            && !entry.unknown_route
        {
            entry.due = entry.due.min(now + AWAITED);
        }
    }
}

/// Spread by node, so that a cluster that failed together is not visited together.
fn pause(node_id: &str, tries: u32) -> Duration {
    let mut hasher = DefaultHasher::new();
    (node_id, tries).hash(&mut hasher);
    let shorter = (hasher.finish() % 256) as f64 / 1024.0;
    let seconds = 1_u64 << tries.saturating_sub(1).min(FAILURES_MAX);
    Duration::from_secs(seconds).mul_f64(1.0 - shorter)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "node-10.0.0.2";

    fn failed() -> Outcome {
        Outcome::Failed("silent".into())
    }

    #[test]
    fn a_change_is_told_at_once_and_a_settled_node_is_left_in_peace() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.plan(1, [(NODE, true), ("other", false)].into_iter(), start);
        assert_eq!(book.due(start), [NODE]);
        assert!(!book.record(NODE, &Outcome::Settled, start));
        assert!(book.due(start + SETTLED / 2).is_empty());
        book.plan(1, [(NODE, true)].into_iter(), start);
        assert!(book.due(start).is_empty(), "no change");
        book.plan(2, [(NODE, true)].into_iter(), start);
        assert_eq!(book.due(start), [NODE]);
        book.plan(2, [].into_iter(), start);
        assert_eq!((book.due(start + SETTLED), book.next()), (vec![], None));
    }

    #[test]
    fn failures_back_off_to_a_minute_and_a_change_does_not_cut_the_pause_short() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.plan(1, [(NODE, true)].into_iter(), start);
        let mut pauses = vec![];
        for round in 0..9 {
            assert_eq!(book.record(NODE, &failed(), start), round == 0, "only the first is news");
            pauses.push(book.next().unwrap() - start);
        }
        let seconds = [1, 2, 4, 8, 16, 32, 64, 64, 64].map(Duration::from_secs);
        for (pause, most) in pauses.iter().zip(seconds) {
            assert!(*pause <= most && *pause >= most.mul_f64(0.75), "{pause:?} of {most:?}");
        }
        book.plan(2, [(NODE, true)].into_iter(), start);
        book.hurry(NODE, start);
        assert!(book.due(start + Duration::from_secs(40)).is_empty());
        assert!(book.record(NODE, &Outcome::Settled, start), "that it is back is news");
        book.hurry(NODE, start);
        assert_eq!(book.due(start + AWAITED), [NODE]);
    }

    #[test]
    fn an_old_agent_is_left_alone_and_named_once() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.plan(1, [(NODE, true)].into_iter(), start);
        assert!(book.record(NODE, &Outcome::UnknownRoute, start));
        book.plan(2, [(NODE, true)].into_iter(), start);
        book.hurry(NODE, start);
        assert!(book.due(start + UNKNOWN_ROUTE / 2).is_empty());
        assert!(!book.record(NODE, &Outcome::UnknownRoute, start));
    }

    #[test]
    fn a_node_is_visited_as_soon_as_it_is_enrolled() {
        let (mut book, start) = (Book::default(), Instant::now());
        book.plan(1, [(NODE, false)].into_iter(), start);
        assert!(book.due(start).is_empty());
        book.plan(1, [(NODE, true)].into_iter(), start);
        assert_eq!(book.due(start), [NODE]);
        // A node that takes the list and never shows it is asked ever more seldom.
        for _ in 0..9 {
            book.record(NODE, &Outcome::Told, start);
        }
        assert!(book.due(start + Duration::from_secs(40)).is_empty());
    }
}
