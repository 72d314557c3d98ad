//! Who may start now, and who stops when: pure functions over names, `after` lists and states.

use std::collections::{BTreeMap, BTreeSet};

/// One service in an order: its name and what it starts after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub name: String,
    pub after: Vec<String>,
}

/// Services that are not told yet and whose predecessors have all had their chance. A predecessor that is not in
/// `settled` at all (its policy was refused, or it is not part of this image) is not waited for.
pub fn may_start(order: &[Node], told: &BTreeSet<String>, settled: &BTreeMap<String, bool>) -> Vec<String> {
    order
        .iter()
        .filter(|node| !told.contains(&node.name))
        .filter(|node| node.after.iter().all(|name| settled.get(name).copied().unwrap_or(true)))
        .map(|node| node.name.clone())
        .collect()
}

/// Groups in which services stop: all of one group at once, each group after the one before. The reverse of the
/// start: nobody stops before those that start after it.
pub fn stop_groups(order: &[Node]) -> Vec<Vec<String>> {
    let mut left: Vec<&Node> = order.iter().collect();
    let mut groups = Vec::new();
    while !left.is_empty() {
        let needed: BTreeSet<&String> = left.iter().flat_map(|node| &node.after).collect();
        let (stay, go): (Vec<&Node>, Vec<&Node>) =
            left.iter().copied().partition(|node| needed.contains(&node.name));
        if go.is_empty() {
            // A cycle cannot come from loaded policies; should it, the rest stops at once.
            groups.push(stay.iter().map(|node| node.name.clone()).collect());
            return groups;
        }
        groups.push(go.iter().map(|node| node.name.clone()).collect());
        left = stay;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, after: &[&str]) -> Node {
        Node { name: name.into(), after: after.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn waits_for_predecessors_and_for_nothing_else() {
        let order = [node("rqlite", &[]), node("olric", &[]), node("gateway", &["rqlite", "olric", "gone"])];
        let mut told = BTreeSet::new();
        let mut settled: BTreeMap<_, _> = order.iter().map(|node| (node.name.clone(), false)).collect();
        assert_eq!(may_start(&order, &told, &settled), ["rqlite", "olric"]);
        told.extend(["rqlite".to_owned(), "olric".to_owned()]);
        settled.insert("rqlite".into(), true);
        assert!(may_start(&order, &told, &settled).is_empty());
        settled.insert("olric".into(), true);
        assert_eq!(may_start(&order, &told, &settled), ["gateway"]);
    }

    #[test]
    fn stops_in_reverse() {
        let order = [node("a", &[]), node("b", &["a"]), node("c", &["a"]), node("d", &["b", "c"])];
        assert_eq!(stop_groups(&order), [vec!["d"], vec!["b", "c"], vec!["a"]]);
        assert_eq!(stop_groups(&[]), Vec::<Vec<String>>::new());
        let cycle = [node("a", &["b"]), node("b", &["a"])];
        assert_eq!(stop_groups(&cycle), [["a", "b"]]);
    }
}
