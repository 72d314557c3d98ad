//! One owner of disk keys, as a guardian knows it: where it usually is, when it was seen, who asks in its name. Pure.

use std::time::Duration;

use super::machine::{Place, RELEASED_FOR, Rules, Why};
use crate::names::SecretName;

/// Places that are held down for one owner at a time.
const HOLDS_MAX: usize = 4;
/// What was stored a moment ago is given back at once to who stored it: it reads its shares back to check them.
const STORED_LATELY: Duration = Duration::from_secs(30);
/// Secrets remembered for that.
const STORED_MAX: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Here {
        seen: Duration,
    },
    /// It said that it goes down.
    Rebooting {
        seen: Duration,
        until: Duration,
    },
    Away,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldState {
    Held,
    /// The time ran out.
    Released,
    Approved,
}

#[derive(Clone, Debug)]
pub struct Hold {
    pub place: Place,
    pub begun: Duration,
    pub ends: Duration,
    pub why: Why,
    /// Requests for secrets; a hold may also begin with signs of life alone.
    pub requests: u64,
    pub approved: bool,
}

impl Hold {
    pub fn state(&self, now: Duration) -> HoldState {
        match (self.approved, now < self.ends) {
            (true, _) => HoldState::Approved,
            (false, true) => HoldState::Held,
            (false, false) => HoldState::Released,
        }
    }
}

#[derive(Debug)]
pub struct Owner {
    pub usual: Option<Place>,
    pub standing: Standing,
    /// At its usual place, or what became it; none: not in the life of this guardian.
    pub last_seen: Option<Duration>,
    pub holds: Vec<Hold>,
    stored: Vec<(SecretName, Place, Duration)>,
}

impl Owner {
    /// Counts as seen now: what the guardian itself missed is nobody else's fault.
    pub fn new(now: Duration) -> Self {
        let standing = Standing::Here { seen: now };
        Self { usual: None, standing, last_seen: None, holds: Vec::new(), stored: Vec::new() }
    }

    /// The one who asks first is taken for the owner: it has the key of its identity, and nothing else is known.
    pub fn first_place(&mut self, place: Place) {
        if self.usual.is_none() && place.public.is_some() {
            self.usual = Some(place);
        }
    }

    /// What the disk has of it.
    pub fn durable(&self) -> (Option<Place>, bool) {
        (self.usual, self.is_away())
    }

    pub fn is_away(&self) -> bool {
        self.standing == Standing::Away
    }

    pub fn is_at_usual(&self, place: Place) -> bool {
        self.usual.is_some_and(|usual| usual == place && place.public.is_some())
    }

    /// It asked or stored something. That it is back from a reboot it says itself.
    pub fn seen(&mut self, now: Duration) {
        self.standing = match self.standing {
            Standing::Rebooting { until, .. } => Standing::Rebooting { seen: now, until },
            Standing::Here { .. } | Standing::Away => Standing::Here { seen: now },
        };
        self.last_seen = Some(now);
    }

    /// It says that it is there.
    pub fn alive(&mut self, now: Duration) {
        self.standing = Standing::Here { seen: now };
        self.last_seen = Some(now);
    }

    /// It says that it goes down until then at the latest.
    pub fn goes_down(&mut self, until: Duration, now: Duration) {
        self.standing = Standing::Rebooting { seen: now, until };
        self.last_seen = Some(now);
    }

    /// The owner is here now, and this is where it usually is.
    pub fn settle(&mut self, place: Place, now: Duration) {
        if place.public.is_some() {
            self.usual = Some(place);
        }
        self.alive(now);
    }

    pub fn pass_time(&mut self, rules: &Rules, now: Duration) {
        let present_until = match self.standing {
            Standing::Here { seen } => seen + rules.window,
            Standing::Rebooting { seen, until } => until.max(seen + rules.window),
            Standing::Away => Duration::MAX,
        };
        if now > present_until || rules.window.is_zero() && matches!(self.standing, Standing::Here { .. }) {
            self.standing = Standing::Away;
        }
        self.holds.retain(|hold| now < hold.ends + RELEASED_FOR);
        self.stored.retain(|(_, _, at)| now <= *at + STORED_LATELY);
    }

    pub fn remember_stored(&mut self, name: &SecretName, place: Place, now: Duration) {
        self.stored.retain(|(stored, _, _)| stored != name);
        if self.stored.len() >= STORED_MAX {
            self.stored.remove(0);
        }
        self.stored.push((name.clone(), place, now));
    }

    pub fn stored_lately(&self, name: &SecretName, place: Place, now: Duration) -> bool {
        self.stored
            .iter()
            .any(|(stored, from, at)| stored == name && *from == place && now <= *at + STORED_LATELY)
    }

    /// The hold of this place, which begins now when there is none.
    pub fn hold(&mut self, rules: &Rules, place: Place, now: Duration) -> Result<&mut Hold, Why> {
        let why = match self.usual {
            _ if place.public.is_none() => Why::AddressUnknown,
            Some(usual) if usual.overlay != place.overlay => Why::OtherNode,
            Some(usual) if usual.public != place.public => Why::OtherAddress,
            Some(_) | None => Why::Absent,
        };
        let at = match self.holds.iter().position(|hold| hold.place == place) {
            Some(at) => at,
            None => {
                if self.holds.len() >= HOLDS_MAX {
                    // Nobody can crowd the usual place out.
                    let other = self.holds.iter().position(|hold| hold.state(now) == HoldState::Held);
                    let evicted = other.filter(|_| self.is_at_usual(place)).ok_or(Why::TooManyPlaces)?;
                    self.holds.remove(evicted);
                }
                let ends = now + rules.hold_down;
                self.holds.push(Hold { place, begun: now, ends, why, requests: 0, approved: false });
                self.holds.len() - 1
            }
        };
        Ok(&mut self.holds[at])
    }

    /// Holds of places other than this one end no earlier than this.
    pub fn hold_others_longer(&mut self, place: Place, ends: Duration, now: Duration) {
        for hold in &mut self.holds {
            if hold.place != place && hold.state(now) == HoldState::Held {
                hold.ends = hold.ends.max(ends);
            }
        }
    }

    /// What asks from there is the owner.
    pub fn approve(&mut self, place: Place, now: Duration) {
        let asked = self.holds.iter().position(|hold| hold.place == place).map(|at| self.holds.remove(at));
        if self.holds.len() >= HOLDS_MAX {
            self.holds.remove(0);
        }
        let fresh =
            Hold { place, begun: now, ends: now, why: Why::OtherAddress, requests: 0, approved: true };
        self.holds.push(Hold { ends: now, approved: true, ..asked.unwrap_or(fresh) });
        self.settle(place, now);
    }
}
