//! Files against each other: what may exist once on a node, and who waits for whom.

use std::collections::BTreeMap;
use std::path::Path;

use crate::spanned::Spanned;

use crate::error::did_you_mean;
use crate::lint::{Finding, Findings, Profile, Severity};
use crate::order::{Node, sort};

pub(super) fn lint(profiles: &[Profile<'_>]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (index, profile) in profiles.iter().enumerate() {
        let mut list = Findings::new(profile.file, profile.text);
        twice(&mut list, profile, &profiles[..index]);
        if profiles.len() > 1 {
            unknown_dependencies(&mut list, profile, profiles);
        }
        found.extend(list.found);
    }
    found.extend(cycles(profiles));
    found
}

fn twice(list: &mut Findings<'_>, profile: &Profile<'_>, others: &[Profile<'_>]) {
    const TWICE: (Severity, &str) = (Severity::Error, "used-twice");
    for other in others {
        let (mine, its) = (&profile.policy, &other.policy);
        if mine.name == its.name {
            let what = format!("the name `{}` is already taken by {}", mine.name, other.file);
            list.add(TWICE, profile.raw.name.span(), what, "names exist once on a node");
        }
        if mine.uid == its.uid {
            let span = profile.raw.user.get_ref().uid.span();
            let what = format!("uid {} is already taken by `{}` ({})", mine.uid, its.name, other.file);
            list.add(TWICE, span, what, "with one uid the services could read and signal each other");
        }
        for (path, text) in mine.filesystem.writable.iter().zip(&profile.raw.filesystem.writable) {
            let meets = |outer: &Path, inner: &Path| inner.starts_with(outer);
            if its.filesystem.writable.iter().any(|theirs| meets(theirs, path) || meets(path, theirs)) {
                let what =
                    format!("`{}` is also writable for `{}` ({})", path.display(), its.name, other.file);
                list.add(TWICE, text.span(), what, "a data folder belongs to one service");
            }
        }
    }
}

fn unknown_dependencies(list: &mut Findings<'_>, profile: &Profile<'_>, all: &[Profile<'_>]) {
    let known = || all.iter().map(|profile| profile.policy.name.as_str());
    for dependency in &profile.raw.after {
        let name = dependency.get_ref();
        if !known().any(|known| known == name) {
            let hint = did_you_mean(name, known())
                .unwrap_or_else(|| "on a node that has no such service this one is refused".to_owned());
            let what = format!("`after` names `{name}`, which none of these files is");
            list.warn("unknown-dependency", dependency.span(), what, hint);
        }
    }
}

fn cycles(profiles: &[Profile<'_>]) -> Vec<Finding> {
    let nodes: Vec<Node<'_>> = profiles
        .iter()
        .map(|profile| {
            let policy = &profile.policy;
            Node { name: &policy.name, order: policy.order, after: &policy.after }
        })
        .collect();
    let (_, stuck): (_, BTreeMap<String, String>) = sort(&nodes);
    let mut found = Vec::new();
    for profile in profiles {
        let Some(cycle) = stuck.get(&profile.policy.name) else { continue };
        // The dependency that leads into the cycle is the second name of it.
        let next = cycle.split(" -> ").nth(1).unwrap_or_default();
        let at = profile.raw.after.iter().find(|dependency| dependency.get_ref() == next);
        let span = at.map_or(0..0, Spanned::span);
        let mut list = Findings::new(profile.file, profile.text);
        let what = format!("`after` is a cycle: {cycle}");
        list.add((Severity::Error, "cycle"), span, what, "one of them must start without the other");
        found.extend(list.found);
    }
    found
}
