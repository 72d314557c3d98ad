//! Which interface is the uplink, decided from what the kernel lists. Pure.

/// What matters of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    pub index: u32,
    pub name: String,
    pub ethernet: bool,
    /// Made by software: veth, bridge, dummy, WireGuard. Real and virtio cards have no such kind.
    pub is_virtual: bool,
    pub has_link: bool,
}

/// Interfaces that may be the uplink, best first. A named one may be virtual; an unnamed one never.
pub(crate) fn candidates<'a>(all: &'a [Interface], named: Option<&str>) -> Vec<&'a Interface> {
    let mut candidates: Vec<&Interface> = match named {
        Some(name) => all.iter().filter(|interface| interface.name == name).collect(),
        None => all.iter().filter(|interface| interface.ethernet && !interface.is_virtual).collect(),
    };
    candidates.sort_by_key(|interface| interface.index);
    candidates
}

/// The interface for this attempt: with several links, attempts take turns, so that a cable into a network without
/// DHCP does not keep the node off the other one.
pub(crate) fn choose<'a>(
    all: &'a [Interface],
    named: Option<&str>,
    needs_link: bool,
    attempt: u32,
) -> Result<&'a Interface, String> {
    let candidates = candidates(all, named);
    if candidates.is_empty() {
        return Err(match named {
            Some(name) => format!("there is no interface {name}"),
            None => "there is no ethernet interface".to_owned(),
        });
    }
    let usable: Vec<_> = candidates.iter().filter(|interface| interface.has_link || !needs_link).collect();
    if usable.is_empty() {
        let names: Vec<_> = candidates.iter().map(|interface| interface.name.as_str()).collect();
        return Err(format!("no link on {}", names.join(", ")));
    }
    Ok(usable[attempt.saturating_sub(1) as usize % usable.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(index: u32, name: &str, is_virtual: bool, has_link: bool) -> Interface {
        Interface { index, name: name.into(), ethernet: name != "lo", is_virtual, has_link }
    }

    #[test]
    fn the_first_card_with_a_link_is_chosen_and_attempts_take_turns() {
        let all = [
            interface(1, "lo", false, true),
            interface(5, "eth2", false, true),
            interface(2, "eth0", false, false),
            interface(3, "eth1", false, true),
            interface(4, "br0", true, true),
        ];
        let name = |attempt| choose(&all, None, true, attempt).unwrap().name.clone();
        assert_eq!([name(1), name(2), name(3)], ["eth1", "eth2", "eth1"]);
        assert_eq!(choose(&all, Some("br0"), true, 7).unwrap().name, "br0");
    }

    #[test]
    fn what_is_missing_is_named() {
        let all = [
            interface(1, "lo", false, true),
            interface(2, "eth0", false, false),
            interface(3, "eth1", false, false),
        ];
        assert_eq!(choose(&all, None, true, 1).unwrap_err(), "no link on eth0, eth1");
        assert_eq!(choose(&all, Some("eth7"), true, 1).unwrap_err(), "there is no interface eth7");
        assert_eq!(choose(&all[..1], None, true, 1).unwrap_err(), "there is no ethernet interface");
        assert_eq!(choose(&all, None, false, 1).unwrap().name, "eth0");
    }
}
