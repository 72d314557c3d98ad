//! The two tables that calls are read by, parsed once: which arguments a call has (calls.txt) and what their values
//! are called (names.txt).

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::LazyLock;

use syscalls::Sysno;

/// One argument of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Argument {
    /// As in the manual page: `domain`, `request`.
    pub name: &'static str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fd,
    /// An fd that may be AT_FDCWD.
    Dirfd,
    /// A NUL-terminated path.
    Path,
    /// Another NUL-terminated text.
    Text,
    /// A socket address, whose length is the next argument.
    Address,
    /// Signed decimal.
    Int,
    /// Unsigned decimal.
    Size,
    Pointer,
    /// Octal.
    Mode,
    /// Values with names.
    Named(&'static Names),
    /// A socket option: which names it has depends on the argument before it.
    SocketOption,
    Plain,
}

/// Names of one kind of value.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// The part of the argument that is one value; the rest is single bits.
    pub mask: u64,
    pub values: Vec<(u64, &'static str)>,
    pub bits: Vec<(u64, &'static str)>,
}

impl Names {
    /// The value as C would write it: names joined by `|`, what has none in hexadecimal.
    pub(crate) fn show(&self, value: u64) -> String {
        let mut words: Vec<String> = Vec::new();
        let named = self.values.iter().find(|(known, _)| *known == value & self.mask);
        let mut rest = value;
        if let Some((known, name)) = named.filter(|(known, _)| *known != 0 || value == 0 || self.mask != 0) {
            words.push((*name).to_owned());
            rest &= !known;
        }
        for (bit, name) in &self.bits {
            if rest & bit == *bit {
                words.push((*name).to_owned());
                rest &= !bit;
            }
        }
        if rest != 0 || words.is_empty() {
            words.push(if rest < 10 { rest.to_string() } else { format!("{rest:#x}") });
        }
        words.join("|")
    }
}

/// The names of a level's socket options; `None` for levels without a list.
pub(crate) fn socket_options(level: u64) -> Option<&'static Names> {
    kinds().get(format!("sockopt.{level}").as_str())
}

/// The arguments of a call; empty for calls without any and for numbers that are no call.
pub(crate) fn arguments(call: Sysno) -> &'static [Argument] {
    static TABLE: LazyLock<BTreeMap<Sysno, Vec<Argument>>> = LazyLock::new(|| {
        lines(include_str!("calls.txt"))
            .filter_map(|line| {
                let mut words = line.split(' ');
                let call = Sysno::from_str(words.next()?).ok()?;
                Some((call, words.map(argument).collect()))
            })
            .collect()
    });
    TABLE.get(&call).map_or(&[], Vec::as_slice)
}

/// Every name of a value, with the value, in alphabetical order.
pub(crate) fn constants() -> &'static BTreeMap<&'static str, u64> {
    static TABLE: LazyLock<BTreeMap<&'static str, u64>> = LazyLock::new(|| {
        let all = kinds().values().flat_map(|names| names.values.iter().chain(&names.bits));
        all.map(|(value, name)| (*name, *value)).collect()
    });
    &TABLE
}

fn kinds() -> &'static BTreeMap<&'static str, Names> {
    static TABLE: LazyLock<BTreeMap<&'static str, Names>> = LazyLock::new(|| {
        lines(include_str!("names.txt"))
            .filter_map(|line| {
                let (kind, rest) = line.split_once(' ')?;
                let (mask, rest) = rest.split_once(' ')?;
                let (values, bits) = rest.split_once('|').unwrap_or((rest, ""));
                let mask = if mask == "all" { u64::from(u32::MAX) } else { number(mask)? };
                Some((kind, Names { mask, values: pairs(values), bits: pairs(bits) }))
            })
            .collect()
    });
    &TABLE
}

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

fn pairs(text: &'static str) -> Vec<(u64, &'static str)> {
    let pair = |word: &'static str| {
        let (name, value) = word.split_once('=')?;
        Some((number(value)?, name))
    };
    text.split_whitespace().filter_map(pair).collect()
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn argument(word: &'static str) -> Argument {
    let (name, kind) = word.split_once(':').unwrap_or((word, word));
    let kind = match kind {
        "fd" => Kind::Fd,
        "dirfd" => Kind::Dirfd,
        "path" => Kind::Path,
        "text" => Kind::Text,
        "sockaddr" => Kind::Address,
        "int" | "pid" => Kind::Int,
        "size" => Kind::Size,
        "ptr" | "address" => Kind::Pointer,
        "mode" => Kind::Mode,
        "sockopt" => Kind::SocketOption,
        other => kinds().get(other).map_or(Kind::Plain, Kind::Named),
    };
    Argument { name, kind }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_architecture_has_its_line_and_every_line_its_call() {
        let listed: Vec<&str> =
            lines(include_str!("calls.txt")).map(|line| line.split(' ').next().expect("name")).collect();
        for name in &listed {
            assert!(Sysno::from_str(name).is_ok(), "{name} is no call");
            assert_eq!(listed.iter().filter(|other| other == &name).count(), 1, "{name} is listed twice");
        }
        for call in Sysno::iter() {
            assert!(listed.contains(&call.name()), "{call} has no line");
            assert!(arguments(call).len() <= 6, "{call} has too many arguments");
        }
    }

    #[test]
    fn every_kind_with_a_colon_is_one() {
        let plain =
            ["ptr", "int", "size", "pid", "fd", "dirfd", "path", "text", "mode", "sockaddr", "sockopt"];
        for line in lines(include_str!("calls.txt")) {
            for (_, kind) in line.split(' ').filter_map(|word| word.split_once(':')) {
                let known = plain.contains(&kind) || kind == "address" || kinds().contains_key(kind);
                assert!(known, "{line}: {kind}");
            }
        }
    }

    #[test]
    fn every_pair_of_the_names_was_understood_and_no_name_means_two_things() {
        let written = lines(include_str!("names.txt")).flat_map(str::split_whitespace);
        for word in written.filter(|word| word.contains('=')) {
            let (name, value) = word.split_once('=').expect("pair");
            assert_eq!(constants().get(name).copied(), number(value), "{word}");
        }
    }
}
