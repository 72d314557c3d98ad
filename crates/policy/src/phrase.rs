//! Argument conditions in words: `domain is AF_INET, type is SOCK_STREAM`.

use syscalls::Sysno;

use crate::call::table::{Kind, Names, arguments, socket_options};
use crate::names::CLONE_NEW_ANY;
use crate::rules::{Comparison, Condition};

/// All conditions of a rule for one call; `None` when there are none.
pub(crate) fn conditions(call: Sysno, conditions: &[Condition]) -> Option<String> {
    let words: Vec<String> = conditions.iter().map(|one| condition(call, one, conditions)).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// One condition. `all` are those of its rule: what a socket option is called depends on the level.
pub(crate) fn condition(call: Sysno, one: &Condition, all: &[Condition]) -> String {
    let argument = arguments(call).get(usize::from(one.index));
    let name =
        argument.map_or_else(|| format!("argument {}", one.index), |argument| argument.name.to_owned());
    let names = match argument.map(|argument| argument.kind) {
        Some(Kind::Named(names)) => Some(names),
        Some(Kind::SocketOption) => all
            .iter()
            .find(|other| other.index + 1 == one.index && other.comparison == Comparison::Eq)
            .and_then(|level| socket_options(level.value)),
        _ => None,
    };
    let value = show(names, one.value);
    match one.comparison {
        Comparison::Eq => format!("{name} is {value}"),
        Comparison::Ne => format!("{name} is not {value}"),
        Comparison::Lt => format!("{name} is below {value}"),
        Comparison::Le => format!("{name} is at most {value}"),
        Comparison::Gt => format!("{name} is above {value}"),
        Comparison::Ge => format!("{name} is at least {value}"),
        Comparison::MaskedEq(mask) => masked(&name, names, mask, one.value),
    }
}

fn show(names: Option<&Names>, value: u64) -> String {
    match names {
        Some(names) => names.show(value),
        None if value < 4096 => value.to_string(),
        None => format!("{value:#x}"),
    }
}

/// The part of the argument that is one value `is`, single bits are `with` and `without`.
fn masked(name: &str, names: Option<&Names>, mask: u64, value: u64) -> String {
    let Some(names) = names else { return format!("{name} & {mask:#x} is {value:#x}") };
    let mut words = Vec::new();
    let whole = names.mask != 0 && mask & names.mask == names.mask;
    let part = if whole { names.mask } else { 0 };
    if whole {
        words.push(format!("{name} is {}", names.show(value & part)));
    }
    let (with, without) = (value & !part, mask & !value & !part);
    if with != 0 {
        words.push(format!("{name} with {}", names.show(with)));
    }
    if without != 0 {
        let lead = if words.is_empty() { format!("{name} without ") } else { "without ".to_owned() };
        let any = CLONE_NEW_ANY.1;
        let is_clone = names.bits.iter().any(|(_, name)| *name == "CLONE_NEWUSER");
        let list = match is_clone && without & any == any {
            true if without == any => CLONE_NEW_ANY.0.to_owned(),
            true => format!("{}, {}", names.show(without & !any).replace('|', ", "), CLONE_NEW_ANY.0),
            false => names.show(without).replace('|', ", "),
        };
        words.push(lead + &list);
    }
    words.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(call: Sysno, list: &[(u8, Comparison, u64)], expect: &str) {
        let list: Vec<Condition> = list
            .iter()
            .map(|(index, comparison, value)| Condition {
                index: *index,
                wide: false,
                comparison: *comparison,
                value: *value,
            })
            .collect();
        assert_eq!(conditions(call, &list).as_deref().unwrap_or(""), expect);
    }

    #[test]
    fn conditions_read_like_sentences() {
        use Comparison::{Eq, Lt, MaskedEq};
        check(Sysno::read, &[], "");
        check(Sysno::socket, &[(0, Eq, 2), (1, MaskedEq(0xf), 1)], "domain is AF_INET, type is SOCK_STREAM");
        check(
            Sysno::clone,
            &[(0, MaskedEq(0x7e03_0000), 0x1_0000)],
            "flags with CLONE_THREAD and without CLONE_NEW_ANY",
        );
        check(Sysno::mmap, &[(2, MaskedEq(4), 0)], "prot without PROT_EXEC");
        check(Sysno::prlimit64, &[(0, Eq, 0)], "pid is 0");
        check(Sysno::read, &[(2, Lt, 4096)], "size is below 0x1000");
        check(Sysno::setsockopt, &[(1, Eq, 1), (2, Eq, 15)], "level is SOL_SOCKET, option is SO_REUSEPORT");
        check(Sysno::getpid, &[(3, Eq, 1)], "argument 3 is 1");
    }
}
