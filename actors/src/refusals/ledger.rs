//! The list of refused calls, pure: calls and times go in, kinds and counts come out. One kind is one call with one
//! shape of arguments. Bounded in every direction, because what is refused is chosen by whom we do not trust.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use orama_policy::{Call, Consequence, Shape};
use orama_protocol::refusals::REFUSAL_KINDS_MAX;

/// Most kinds of one system call: a program that tries every `ioctl` shall not fill the list with them.
pub const SHAPES_MAX: usize = 16;
/// Most pairs of call and action that are counted apart, per service; twice what a whole profile has. The rest is
/// counted as [`OTHER`].
pub const COUNTERS_MAX: usize = 128;
/// Stands for all calls that have no counter of their own.
pub const OTHER: &str = "other";
/// Most of a text argument that is kept, characters.
const TEXT_CHARS: usize = 200;

#[derive(Debug, Default)]
pub struct Ledger {
    services: BTreeMap<String, Page>,
}

/// What one service was refused.
#[derive(Debug, Default)]
pub struct Page {
    /// In the order in which they were first seen.
    kinds: Vec<Kind>,
    by_shape: HashMap<Shape, usize>,
    shapes: HashMap<u32, usize>,
    counters: BTreeMap<(String, &'static str), u64>,
    total: u64,
    unlisted: u64,
    last_kill: Option<Call>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The first call of this kind.
    pub call: Call,
    pub count: u64,
    /// What became of the last one.
    pub action: Consequence,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
}

/// Whether a call is news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    NewKind,
    Known,
    /// The list is full: the first call that did not fit.
    Full,
    /// The list is full, and that was said.
    Unlisted,
}

impl Ledger {
    pub fn record(&mut self, service: &str, call: Call, action: Consequence, now: Timestamp) -> News {
        // By reference first: this runs for every refused call.
        if !self.services.contains_key(service) {
            self.services.insert(service.to_owned(), Page::default());
        }
        let Some(page) = self.services.get_mut(service) else { return News::Unlisted };
        page.record(call, action, now)
    }

    /// Before a service is started: a kill that is on record afterwards is one of this run.
    pub fn forget_kill(&mut self, service: &str) {
        if let Some(page) = self.services.get_mut(service) {
            page.last_kill = None;
        }
    }

    pub fn page(&self, service: &str) -> Option<&Page> {
        self.services.get(service)
    }

    pub fn pages(&self) -> impl Iterator<Item = (&str, &Page)> {
        self.services.iter().map(|(name, page)| (name.as_str(), page))
    }
}

impl Page {
    fn record(&mut self, mut call: Call, action: Consequence, now: Timestamp) -> News {
        self.total = self.total.saturating_add(1);
        self.count(&call, action);
        let shape = call.shape();
        let news = if let Some(kind) = self.by_shape.get(&shape).and_then(|index| self.kinds.get_mut(*index))
        {
            kind.count = kind.count.saturating_add(1);
            kind.action = action;
            kind.last_seen = now;
            News::Known
        } else {
            self.add(shape, &mut call, action, now)
        };
        if action == Consequence::Killed {
            clean(&mut call);
            self.last_kill = Some(call);
        }
        news
    }

    fn add(&mut self, shape: Shape, call: &mut Call, action: Consequence, now: Timestamp) -> News {
        let shapes = self.shapes.entry(call.number).or_default();
        if self.kinds.len() >= REFUSAL_KINDS_MAX || *shapes >= SHAPES_MAX {
            // Numbers that are not listed must not fill this map either.
            if *shapes == 0 {
                self.shapes.remove(&call.number);
            }
            self.unlisted = self.unlisted.saturating_add(1);
            return if self.unlisted == 1 { News::Full } else { News::Unlisted };
        }
        *shapes += 1;
        clean(call);
        self.by_shape.insert(shape, self.kinds.len());
        let kind = Kind { call: call.clone(), count: 1, action, first_seen: now, last_seen: now };
        self.kinds.push(kind);
        News::NewKind
    }

    fn count(&mut self, call: &Call, action: Consequence) {
        let mut key = (call.name(), action_word(action));
        if !self.counters.contains_key(&key) && self.counters.len() >= COUNTERS_MAX {
            key.0 = OTHER.to_owned();
        }
        let counter = self.counters.entry(key).or_default();
        *counter = counter.saturating_add(1);
    }

    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Calls by name and action.
    pub fn counters(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.counters.iter().map(|((name, action), count)| (name.as_str(), *action, *count))
    }

    /// All calls, listed or not.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Calls whose kind did not fit.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }

    pub fn last_kill(&self) -> Option<&Call> {
        self.last_kill.as_ref()
    }
}

/// `ran`, `killed` or `errno`.
pub fn action_word(action: Consequence) -> &'static str {
    match action {
        Consequence::Runs => "ran",
        Consequence::Killed => "killed",
        Consequence::Errno(_) => "errno",
    }
}

/// Texts come from the service's memory: they go into logs and into TOML that a person pastes, so they are short and
/// stay on their line.
fn clean(call: &mut Call) {
    for text in call.texts.iter_mut().flatten() {
        *text = text.chars().map(|c| if c.is_control() { '?' } else { c }).take(TEXT_CHARS).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKET: u32 = 41;
    const IOCTL: u32 = 16;
    const OPENAT: u32 = 257;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn calls_of_one_shape_are_one_kind() {
        let mut ledger = Ledger::default();
        let mut call = Call::new(OPENAT, [1, 2, 0, 0, 0, 0]);
        call.texts[1] = Some("/etc/shadow\n[[seccomp.allow]]".repeat(100));
        assert_eq!(ledger.record("rqlite", call.clone(), Consequence::Runs, at(1)), News::NewKind);
        assert_eq!(ledger.record("rqlite", call.clone(), Consequence::Killed, at(2)), News::Known);
        assert_eq!(ledger.record("gateway", call, Consequence::Errno(1), at(3)), News::NewKind);
        let page = ledger.page("rqlite").unwrap();
        let kind = &page.kinds()[0];
        assert_eq!((kind.count, kind.action), (2, Consequence::Killed));
        assert_eq!((kind.first_seen, kind.last_seen), (at(1), at(2)));
        let text = kind.call.texts[1].clone().unwrap();
        assert!(text.len() == TEXT_CHARS && !text.contains('\n'), "{text}");
        assert_eq!(page.last_kill().unwrap().number, OPENAT);
        let counted: Vec<_> = page.counters().collect();
        assert_eq!(counted, [("openat", "killed", 1), ("openat", "ran", 1)]);
        ledger.forget_kill("rqlite");
        assert_eq!(ledger.page("rqlite").unwrap().last_kill(), None);
        assert_eq!(ledger.pages().count(), 2);
    }

    #[test]
    fn a_program_that_tries_everything_fills_its_own_page_and_no_more() {
        let mut ledger = Ledger::default();
        let mut full = 0;
        for number in 0..100_000 {
            let call = Call::new(number, [u64::from(number); 6]);
            full += usize::from(ledger.record("hostile", call, Consequence::Errno(1), at(1)) == News::Full);
        }
        let page = ledger.page("hostile").unwrap();
        assert_eq!(full, 1, "said once");
        assert_eq!(page.kinds().len(), REFUSAL_KINDS_MAX);
        assert_eq!((page.total(), page.unlisted()), (100_000, 100_000 - REFUSAL_KINDS_MAX as u64));
        assert_eq!(page.counters().count(), COUNTERS_MAX + 1);
        assert_eq!(page.counters().map(|(_, _, count)| count).sum::<u64>(), 100_000);
        assert!(page.shapes.len() <= REFUSAL_KINDS_MAX);
        let socket = Call::new(SOCKET, [16, 3, 0, 0, 0, 0]);
        assert_eq!(ledger.record("rqlite", socket, Consequence::Runs, at(1)), News::NewKind);
    }

    #[test]
    fn one_call_does_not_take_all_the_room() {
        let mut ledger = Ledger::default();
        for request in 0..1000 {
            let call = Call::new(IOCTL, [0, request, 0, 0, 0, 0]);
            ledger.record("hostile", call, Consequence::Errno(1), at(1));
        }
        assert!(ledger.page("hostile").unwrap().kinds().len() <= SHAPES_MAX);
        let socket = Call::new(SOCKET, [16, 3, 0, 0, 0, 0]);
        assert_eq!(ledger.record("hostile", socket, Consequence::Runs, at(1)), News::NewKind);
    }
}
