//! From what guardians say to what operators read. Pure. A guardian may lie: nothing of its text is shown untamed, and an
//! owner is the one whom most guardians name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use orama_protocol::gateway::Alarm;
use orama_protocol::guardian::{Hold, HoldList, OldHeader};

use crate::registry::Node;

/// Entries of each kind that are read of one guardian: 300 owners from four places each.
const ENTRIES_MAX: usize = 1200;

type Lists = BTreeMap<String, HoldList>;

/// Why it is not known whom a decision is about.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerProblem {
    #[error(
        "no guardian that can be asked now keeps a key of {0}; see `orama monitor report` for who answers"
    )]
    Unknown(String),
    #[error("the guardians disagree about who {0} is; nothing was decided")]
    Disagree(String),
    #[error("no guardian holds down anything of this node now")]
    NothingHeld,
    #[error("it asks from {0}: name the address to approve")]
    WhichAddress(String),
    #[error("{0:?} is no IP address")]
    Address(String),
}

/// Keeps of a list what makes sense.
pub fn tame(mut list: HoldList) -> HoldList {
    list.holds.truncate(ENTRIES_MAX);
    list.old_headers.truncate(ENTRIES_MAX);
    list.owners.truncate(ENTRIES_MAX);
    list.holds.retain(|hold| {
        is_digest(&hold.owner)
            && is_address(&hold.wg_ip)
            && [&hold.address, &hold.usual_wg_ip, &hold.usual_address]
                .into_iter()
                .flatten()
                .all(|text| is_address(text))
            && [&hold.since, &hold.until].into_iter().all(|text| is_time(text))
    });
    list.old_headers.retain(|old| {
        is_digest(&old.owner)
            && is_address(&old.wg_ip)
            && old.address.iter().all(|text| is_address(text))
            && is_time(&old.at)
    });
    list.owners.retain(|owner| {
        is_digest(&owner.owner)
            && owner.wg_ip.iter().all(|text| is_address(text))
            && owner.seen.iter().all(|text| is_time(text))
    });
    list
}

fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_time(text: &str) -> bool {
    text.parse::<jiff::Timestamp>().is_ok()
}

pub fn printable(text: &str, limit: usize) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(limit).collect()
}

/// Who this node is at the guardians: named by most of those that know its address. A node that had the address before, and
/// whose shares nobody deleted, was seen longer ago.
pub fn owner_of(lists: &Lists, node: &Node) -> Result<String, OwnerProblem> {
    let wg_ip = node.wg_ip.to_string();
    let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
    for list in lists.values() {
        let named = list.owners.iter().filter(|owner| owner.wg_ip.as_deref() == Some(&wg_ip));
        let mut latest: Vec<_> =
            named.map(|owner| (&owner.seen, owner.present, owner.owner.as_str())).collect();
        latest.sort_unstable();
        match latest[..] {
            [] => {}
            // One that cannot tell two apart says nothing.
            [.., (seen, present, _), (other, there, _)] if (seen, present) == (other, there) => {}
            [.., (_, _, owner)] => *votes.entry(owner).or_default() += 1,
        }
    }
    let most = votes.values().copied().max().ok_or_else(|| OwnerProblem::Unknown(node.node_id.clone()))?;
    let mut winners = votes.iter().filter(|(_, count)| **count == most).map(|(owner, _)| *owner);
    match (winners.next(), winners.next()) {
        (Some(owner), None) => Ok(owner.to_owned()),
        _ => Err(OwnerProblem::Disagree(node.node_id.clone())),
    }
}

/// The public address to approve; none: the one that asks is not known.
pub fn address_to_approve(
    lists: &Lists,
    owner: &str,
    named: Option<String>,
) -> Result<Option<String>, OwnerProblem> {
    if let Some(address) = named {
        return if is_address(&address) { Ok(Some(address)) } else { Err(OwnerProblem::Address(address)) };
    }
    let held = lists.values().flat_map(|list| &list.holds);
    let held = held.filter(|hold| hold.owner == owner && hold.state == "held");
    let asking: BTreeSet<Option<&str>> = held.map(|hold| hold.address.as_deref()).collect();
    match asking.len() {
        0 => Err(OwnerProblem::NothingHeld),
        1 => Ok(asking.into_iter().next().flatten().map(str::to_owned)),
        _ => {
            let shown: Vec<&str> = asking.into_iter().map(|address| address.unwrap_or("somewhere")).collect();
            Err(OwnerProblem::WhichAddress(shown.join(" and from ")))
        }
    }
}

/// What makes two alarms the same one.
pub fn key(alarm: &Alarm) -> String {
    format!("{} {} {} {:?}", alarm.kind, alarm.node_id, alarm.wg_ip, alarm.address)
}

pub fn alarms(lists: &Lists, nodes: &[Node]) -> Vec<Alarm> {
    let of_guardians = u32::try_from(lists.len()).unwrap_or(u32::MAX);
    let mut found: BTreeMap<(String, String, Option<String>, &str), Alarm> = BTreeMap::new();
    let told = lists.values().flat_map(|list| {
        let held = list.holds.iter().filter_map(|hold| from_hold(hold, nodes, of_guardians));
        held.chain(list.old_headers.iter().map(|old| from_old_header(old, nodes, of_guardians)))
    });
    for (owner, alarm) in told {
        // An owner that asks here and is only silent there asks.
        let kind = match alarm.kind.as_str() {
            "old-header" => "old-header",
            _ => "hold",
        };
        let same = (owner, alarm.wg_ip.clone(), alarm.address.clone(), kind);
        match found.entry(same) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(alarm)),
            std::collections::btree_map::Entry::Occupied(mut entry) => merge(entry.get_mut(), alarm),
        }
    }
    let mut alarms: Vec<Alarm> = found.into_values().collect();
    alarms.iter_mut().for_each(|alarm| alarm.text = sentence(alarm));
    alarms
}

fn from_hold(hold: &Hold, nodes: &[Node], of_guardians: u32) -> Option<(String, Alarm)> {
    let kind = match (hold.state.as_str(), hold.requests) {
        ("held", 0) => "returned",
        ("held", _) => "held",
        ("released", 1..) => "released",
        _ => return None,
    };
    let alarm = Alarm {
        node_id: name(nodes, hold.usual_wg_ip.as_deref().unwrap_or(&hold.wg_ip)),
        wg_ip: hold.wg_ip.clone(),
        kind: kind.into(),
        address: hold.address.clone(),
        usual_address: hold.usual_address.clone(),
        since: hold.since.clone(),
        until: Some(hold.until.clone()),
        guardians: 1,
        of_guardians,
        text: String::new(),
    };
    Some((hold.owner.clone(), alarm))
}

fn from_old_header(old: &OldHeader, nodes: &[Node], of_guardians: u32) -> (String, Alarm) {
    let alarm = Alarm {
        node_id: name(nodes, &old.wg_ip),
        wg_ip: old.wg_ip.clone(),
        kind: "old-header".into(),
        address: old.address.clone(),
        usual_address: None,
        since: old.at.clone(),
        until: None,
        guardians: 1,
        of_guardians,
        text: String::new(),
    };
    (old.owner.clone(), alarm)
}

fn name(nodes: &[Node], wg_ip: &str) -> String {
    let node = nodes.iter().find(|node| node.wg_ip.to_string() == wg_ip);
    node.map_or_else(|| format!("a stranger at {wg_ip}"), |node| node.node_id.clone())
}

/// The more urgent kind, the longest time.
fn merge(alarm: &mut Alarm, other: Alarm) {
    let urgency = |kind: &str| ["returned", "released", "held"].iter().position(|known| *known == kind);
    if urgency(&other.kind) > urgency(&alarm.kind) {
        alarm.kind = other.kind;
    }
    alarm.since = alarm.since.clone().min(other.since);
    alarm.until = alarm.until.clone().max(other.until);
    alarm.usual_address = alarm.usual_address.take().or(other.usual_address);
    alarm.guardians += 1;
}

fn sentence(alarm: &Alarm) -> String {
    let Alarm { node_id, kind, guardians, of_guardians, .. } = alarm;
    let from = alarm.address.as_deref().unwrap_or("an unknown address");
    let usual = match &alarm.usual_address {
        Some(usual) if alarm.address.as_ref() == Some(usual) => {
            ", its usual address, after an absence".to_owned()
        }
        Some(usual) => format!(" (usually {usual})"),
        None => String::new(),
    };
    let until = alarm.until.as_deref().unwrap_or("now");
    let at = format!("{guardians} of {of_guardians} guardians");
    let answer = format!("was this you? orama node approve {node_id} | orama node revoke {node_id}");
    match kind.as_str() {
        "held" => {
            format!("{node_id} asks for its key from {from}{usual}, held at {at} until {until}: {answer}")
        }
        "returned" => {
            format!(
                "{node_id} shows itself again from {from}{usual}; {at} would hold its key until {until}: {answer}"
            )
        }
        "released" => format!(
            "{node_id} asked for its key from {from}{usual}, and nobody objected until {until}: {at} give it: if \
             this was not you: orama node revoke {node_id}"
        ),
        _ => format!(
            "somebody asks {at} from {from} for a key of {node_id} that it has replaced: a copy of an old header? \
             If this was not you: orama node revoke {node_id}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use orama_protocol::guardian::OwnerEntry;

    use super::*;
    use crate::registry::Role;

    fn node() -> Node {
        Node {
            node_id: "node-10.0.0.4".into(),
            wg_ip: Ipv4Addr::new(10, 0, 0, 4),
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

    fn hold(address: &str, state: &str, requests: u64) -> Hold {
        Hold {
            owner: "a".repeat(64),
            wg_ip: "10.0.0.4".into(),
            address: Some(address.into()),
            usual_wg_ip: Some("10.0.0.4".into()),
            usual_address: Some("203.0.113.4".into()),
            state: state.into(),
            since: format!("2026-01-01T00:0{requests}:00Z"),
            until: format!("2026-01-01T00:1{requests}:00Z"),
            reason: String::new(),
            requests,
        }
    }

    fn lists(each: &[&[Hold]]) -> Lists {
        let entry =
            OwnerEntry { owner: "a".repeat(64), wg_ip: Some("10.0.0.4".into()), present: false, seen: None };
        let list = |holds: &&[Hold]| HoldList {
            holds: holds.to_vec(),
            old_headers: vec![],
            owners: vec![entry.clone()],
        };
        each.iter().map(list).enumerate().map(|(number, list)| (format!("g{number}"), list)).collect()
    }

    #[test]
    fn guardians_that_say_the_same_make_one_alarm() {
        let lists = lists(&[
            &[hold("198.51.100.7", "held", 3)],
            &[hold("198.51.100.7", "held", 0), hold("203.0.113.4", "approved", 1)],
            &[],
        ]);
        let alarms = alarms(&lists, &[node()]);
        assert_eq!(alarms.len(), 1, "{alarms:?}");
        assert_eq!(
            alarms[0].text,
            "node-10.0.0.4 asks for its key from 198.51.100.7 (usually 203.0.113.4), held at 2 of 3 guardians until \
             2026-01-01T00:13:00Z: was this you? orama node approve node-10.0.0.4 | orama node revoke node-10.0.0.4"
        );
        assert_eq!(alarms[0].since, "2026-01-01T00:00:00Z");
    }

    #[test]
    fn absences_lapsed_holds_and_old_headers_are_told_apart() {
        let mut lists = lists(&[&[hold("203.0.113.4", "held", 1)], &[hold("198.51.100.7", "released", 2)]]);
        let old = OldHeader {
            owner: "b".repeat(64),
            wg_ip: "10.0.0.9".into(),
            address: None,
            asked: 3,
            newest: 5,
            at: "2026-01-01T00:00:00Z".into(),
            requests: 1,
        };
        lists.get_mut("g0").unwrap().old_headers.push(old);
        let texts: Vec<String> = alarms(&lists, &[node()]).into_iter().map(|alarm| alarm.text).collect();
        assert_eq!(texts.len(), 3);
        assert!(texts[0].contains("198.51.100.7 (usually 203.0.113.4), and nobody objected"), "{texts:?}");
        assert!(texts[1].contains("203.0.113.4, its usual address, after an absence, held"), "{texts:?}");
        assert!(texts[2].starts_with("somebody asks 1 of 2 guardians from an unknown address"), "{texts:?}");
        assert!(texts[2].contains("a stranger at 10.0.0.9"), "{texts:?}");
    }

    #[test]
    fn an_owner_is_whom_most_guardians_name() {
        let mut lists = lists(&[&[], &[], &[]]);
        assert_eq!(owner_of(&lists, &node()), Ok("a".repeat(64)));
        lists.get_mut("g0").unwrap().owners[0].owner = "b".repeat(64);
        assert_eq!(owner_of(&lists, &node()), Ok("a".repeat(64)));
        lists.remove("g2");
        assert!(matches!(owner_of(&lists, &node()), Err(OwnerProblem::Disagree(_))));
        lists.values_mut().for_each(|list| list.owners.clear());
        assert!(matches!(owner_of(&lists, &node()), Err(OwnerProblem::Unknown(_))));
    }

    #[test]
    fn a_former_node_of_the_address_was_seen_longer_ago() {
        let entry = |digit: &str, seen: Option<&str>| OwnerEntry {
            owner: digit.repeat(64),
            wg_ip: Some("10.0.0.4".into()),
            present: false,
            seen: seen.map(str::to_owned),
        };
        let former = entry("b", Some("2026-01-01T00:00:00Z"));
        let mut lists = lists(&[&[], &[]]);
        for list in lists.values_mut() {
            list.owners = vec![entry("a", Some("2026-01-01T00:00:01Z")), former.clone()];
        }
        assert_eq!(owner_of(&lists, &node()), Ok("a".repeat(64)));
        lists.get_mut("g0").unwrap().owners[0].seen = former.seen.clone();
        assert_eq!(owner_of(&lists, &node()), Ok("a".repeat(64)), "one that cannot tell says nothing");
        lists.get_mut("g1").unwrap().owners[0].seen = None;
        assert_eq!(owner_of(&lists, &node()), Ok("b".repeat(64)));
    }

    #[test]
    fn an_address_is_named_when_several_ask() {
        let owner = "a".repeat(64);
        let one = lists(&[&[hold("198.51.100.7", "held", 1)], &[hold("198.51.100.7", "held", 1)]]);
        assert_eq!(address_to_approve(&one, &owner, None), Ok(Some("198.51.100.7".into())));
        let two = lists(&[&[hold("198.51.100.7", "held", 1)], &[hold("203.0.113.4", "held", 1)]]);
        assert!(matches!(address_to_approve(&two, &owner, None), Err(OwnerProblem::WhichAddress(_))));
        assert_eq!(address_to_approve(&two, &owner, Some("192.0.2.1".into())), Ok(Some("192.0.2.1".into())));
        assert_eq!(address_to_approve(&lists(&[&[]]), &owner, None), Err(OwnerProblem::NothingHeld));
        assert!(address_to_approve(&two, &owner, Some("here".into())).is_err());
    }

    #[test]
    fn what_makes_no_sense_is_dropped() {
        let mut list = HoldList { holds: vec![hold("198.51.100.7", "held", 1)], ..HoldList::default() };
        assert_eq!(tame(list.clone()), list);
        list.holds[0].since = "\u{1b}[2J".into();
        assert_eq!(tame(list.clone()), HoldList::default());
        list.holds = vec![Hold { address: Some("<b>".into()), ..hold("198.51.100.7", "held", 1) }; 5000];
        assert!(tame(list).holds.is_empty());
    }
}
