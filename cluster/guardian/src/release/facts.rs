//! What survives a restart of the guardian, as text in the store's note: one line per owner and per revoked identity.
//! Only facts that change rarely are in it, so that it is not written at every sign of life.

use std::net::IpAddr;
use std::time::Duration;

use super::machine::{Machine, OWNERS_MAX, Place, REVOKED_MAX, Rules};
use super::owner::{Owner, Standing};
use crate::names::Identity;

const FIRST_LINE: &str = "orama guardian facts 1";

/// Why the note of facts cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsProblem {
    #[error("it does not begin with `{FIRST_LINE}`: from a newer guardian, or no note of a guardian")]
    Version,
    #[error("line {0} is not one of `owner` or `revoked`")]
    Line(usize),
    #[error("it names more than {OWNERS_MAX} owners or {REVOKED_MAX} revoked identities")]
    TooMany,
}

impl Machine {
    /// An empty note is the beginning. Who was not absent counts as seen now.
    pub fn restore(rules: Rules, note: &[u8], now: Duration) -> Result<Self, FactsProblem> {
        let mut machine = Machine::new(rules);
        if note.is_empty() {
            return Ok(machine);
        }
        let text = std::str::from_utf8(note).map_err(|_| FactsProblem::Version)?;
        let mut lines = text.lines().zip(1..);
        if lines.next() != Some((FIRST_LINE, 1)) {
            return Err(FactsProblem::Version);
        }
        for (line, number) in lines {
            let bad = FactsProblem::Line(number);
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["owner", identity, standing, overlay, public] => {
                    let identity = Identity::parse(identity).ok_or(bad)?;
                    let owner = owner(standing, overlay, public, now).ok_or(FactsProblem::Line(number))?;
                    machine.owners.insert(identity, owner);
                }
                // A digest looks like an identity.
                ["revoked", digest] if Identity::parse(digest).is_some() => {
                    machine.revoked.insert(digest.to_owned());
                }
                _ => return Err(bad),
            }
        }
        if machine.owners.len() > OWNERS_MAX || machine.revoked.len() > REVOKED_MAX {
            return Err(FactsProblem::TooMany);
        }
        Ok(machine)
    }

    pub fn facts(&self) -> String {
        let mut text = format!("{FIRST_LINE}\n");
        for (identity, owner) in &self.owners {
            let standing = if owner.is_away() { "absent" } else { "present" };
            let (overlay, public) = match owner.usual {
                Some(Place { overlay, public: Some(public) }) => (overlay.to_string(), public.to_string()),
                Some(Place { public: None, .. }) | None => ("-".to_owned(), "-".to_owned()),
            };
            text.push_str(&format!("owner {} {standing} {overlay} {public}\n", identity.as_str()));
        }
        for digest in &self.revoked {
            text.push_str(&format!("revoked {digest}\n"));
        }
        text
    }
}

fn owner(standing: &str, overlay: &str, public: &str, now: Duration) -> Option<Owner> {
    let mut owner = Owner::new(now);
    match standing {
        "present" => {}
        "absent" => owner.standing = Standing::Away,
        _ => return None,
    }
    if (overlay, public) != ("-", "-") {
        let overlay: IpAddr = overlay.parse().ok()?;
        owner.usual = Some(Place { overlay, public: Some(public.parse().ok()?) });
    }
    Some(owner)
}

#[cfg(test)]
mod tests {
    use orama_protocol::guardian_store::FACTS_LIMIT_BYTES;

    use super::*;
    use crate::release::machine::{Sign, Verdict};

    const RULES: Rules = Rules { window: Duration::from_secs(900), hold_down: Duration::from_secs(600) };

    fn now(seconds: u64) -> Duration {
        Duration::from_secs(1_000_000 + seconds)
    }

    fn place() -> Place {
        Place { overlay: [10, 0, 0, 4].into(), public: Some([203, 0, 113, 4].into()) }
    }

    #[test]
    fn what_was_absent_stays_absent_and_the_rest_counts_as_just_seen() {
        let (gone, there) =
            (Identity::parse(&"a".repeat(64)).unwrap(), Identity::parse(&"b".repeat(64)).unwrap());
        let name = crate::names::SecretName::parse("luks-00-g1").unwrap();
        let mut machine = Machine::new(RULES);
        machine.show(&gone, place(), Sign::Stored(&name), now(0));
        machine.show(&there, place(), Sign::Stored(&name), now(800));
        machine.tick(now(901));
        machine.revoke(&"c".repeat(64)).unwrap();
        let text = machine.facts();
        assert_eq!(
            text,
            format!(
                "orama guardian facts 1\nowner {} absent 10.0.0.4 203.0.113.4\nowner {} present 10.0.0.4 203.0.113.4\n\
                 revoked {}\n",
                "a".repeat(64),
                "b".repeat(64),
                "c".repeat(64)
            )
        );
        let mut later = Machine::restore(RULES, text.as_bytes(), now(500_000)).unwrap();
        assert!(!later.is_dirty());
        assert_eq!(later.facts(), text);
        assert_eq!(later.ask(&there, &name, place(), now(500_001)), Verdict::Release);
        assert!(matches!(later.ask(&gone, &name, place(), now(500_001)), Verdict::Held { .. }));
    }

    #[test]
    fn a_note_of_something_else_is_refused() {
        let restore = |text: &str| Machine::restore(RULES, text.as_bytes(), now(0)).err();
        assert_eq!(restore(""), None);
        assert_eq!(restore("orama guardian facts 2\n"), Some(FactsProblem::Version));
        let identity = "a".repeat(64);
        for line in [
            "owner".to_owned(),
            format!("owner {identity} present 10.0.0.4"),
            format!("owner {identity} asleep 10.0.0.4 203.0.113.4"),
            format!("owner {identity} present 10.0.0.4 -"),
            format!("owner {} present - -", "A".repeat(64)),
            "revoked aa".to_owned(),
            String::new(),
        ] {
            assert_eq!(restore(&format!("{FIRST_LINE}\n{line}\n")), Some(FactsProblem::Line(2)), "{line}");
        }
        assert!(Machine::restore(RULES, &[0xff], now(0)).is_err());
    }

    #[test]
    fn the_longest_note_fits_into_the_store() {
        let mut machine = Machine::new(RULES);
        let long = "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        let place = Place { overlay: long, public: Some(long) };
        let name = crate::names::SecretName::parse("luks-00-g1").unwrap();
        for number in 0..OWNERS_MAX + 5 {
            let identity = Identity::parse(&format!("{number:064x}")).unwrap();
            machine.show(&identity, place, Sign::Stored(&name), now(0));
        }
        for number in 0..REVOKED_MAX {
            machine.revoke(&format!("{number:064x}")).unwrap();
        }
        assert!(machine.revoke(&"f".repeat(64)).is_err());
        let text = machine.facts();
        assert!(text.len() <= FACTS_LIMIT_BYTES, "{}", text.len());
        let again = Machine::restore(RULES, text.as_bytes(), now(0)).unwrap();
        assert_eq!(again.owners.len(), OWNERS_MAX);
    }
}
