//! Start order: dependencies first, then `order`, then the name. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// One service to be placed.
pub(crate) struct Node<'a> {
    pub name: &'a str,
    pub order: u32,
    pub after: &'a [String],
}

/// The names in start order, and for every service that cannot be placed the cycle it is in or waits for.
pub(crate) fn sort(nodes: &[Node<'_>]) -> (Vec<String>, BTreeMap<String, String>) {
    let present: BTreeSet<&str> = nodes.iter().map(|node| node.name).collect();
    let mut waiting: BTreeMap<&str, &Node<'_>> = nodes.iter().map(|n| (n.name, n)).collect();
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    let mut sorted = Vec::with_capacity(nodes.len());
    loop {
        // A dependency that is not present (refused) does not hold its dependents back here.
        let next = waiting
            .values()
            .filter(|node| {
                node.after.iter().all(|d| placed.contains(d.as_str()) || !present.contains(d.as_str()))
            })
            .min_by_key(|node| (node.order, node.name))
            .map(|node| node.name);
        let Some(name) = next else { break };
        waiting.remove(name);
        placed.insert(name);
        sorted.push(name.to_owned());
    }
    let stuck = waiting.keys().map(|name| ((*name).to_owned(), cycle(name, &waiting))).collect();
    (sorted, stuck)
}

/// Follows unplaced dependencies from `start` until one repeats.
fn cycle(start: &str, waiting: &BTreeMap<&str, &Node<'_>>) -> String {
    let mut path = vec![start];
    loop {
        let here = path[path.len() - 1];
        let next = waiting[here].after.iter().find(|d| waiting.contains_key(d.as_str()));
        let Some(next) = next else { return path.join(" -> ") };
        let seen = path.contains(&next.as_str());
        path.push(next);
        if seen {
            return path.join(" -> ");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(services: &[(&str, u32, &[&str])], expect: &[&str], stuck: &[(&str, &str)]) {
        let after: Vec<Vec<String>> =
            services.iter().map(|s| s.2.iter().map(|d| (*d).to_owned()).collect()).collect();
        let nodes: Vec<Node<'_>> = services
            .iter()
            .zip(&after)
            .map(|((name, order, _), after)| Node { name, order: *order, after })
            .collect();
        let (sorted, left) = sort(&nodes);
        assert_eq!(sorted, expect);
        let left: Vec<(&str, &str)> = left.iter().map(|(n, c)| (n.as_str(), c.as_str())).collect();
        assert_eq!(left, stuck);
    }

    #[test]
    fn dependencies_win_over_order_and_order_over_name() {
        check(&[("b", 5, &[]), ("a", 5, &[]), ("z", 1, &[])], &["z", "a", "b"], &[]);
        check(&[("a", 1, &["b"]), ("b", 9, &[]), ("c", 5, &[])], &["c", "b", "a"], &[]);
        check(&[("a", 1, &["gone"])], &["a"], &[]);
    }

    #[test]
    fn a_cycle_takes_only_itself_and_its_dependents_down() {
        check(
            &[("a", 1, &["b"]), ("b", 1, &["a"]), ("c", 1, &["a"]), ("d", 1, &[])],
            &["d"],
            &[("a", "a -> b -> a"), ("b", "b -> a -> b"), ("c", "c -> a -> b -> a")],
        );
        check(&[("a", 1, &["a"])], &[], &[("a", "a -> a")]);
    }
}
