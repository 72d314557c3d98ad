//! When a share of a disk key goes out at once, when it is held down, and what operators decide: a pure machine. It
//! reads no clock (time is passed in), writes nothing (`is_dirty` says when the facts must be written), and knows
//! no network.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::owner::{Hold, HoldState, Owner};
use crate::names::{Identity, SecretName};

/// Owners that are watched: more than there are hosts in a /24 overlay. Their facts fit into the store's note.
pub const OWNERS_MAX: usize = 300;
/// Identities that are refused for good.
pub const REVOKED_MAX: usize = 200;
/// How long shares go out after a hold ran out or was approved: the owner opens its volume and splits its key anew.
pub const RELEASED_FOR: Duration = Duration::from_secs(15 * 60);
/// Different old generations that are remembered for the report.
const OLD_HEADERS_MAX: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// An owner that gave no sign of life for so long is absent.
    pub window: Duration,
    /// How long a share is held down; zero: never.
    pub hold_down: Duration,
}

/// Where a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Source address of the connection; inside WireGuard nobody can forge it.
    pub overlay: IpAddr,
    /// The address behind it in the Internet; none: it could not be learned.
    pub public: Option<IpAddr>,
}

/// ```text
///   unknown ──first request──► Here ◄───"alive"─── Rebooting
///                              ▲ │ └──"rebooting"─────▲ │
///                              │ └─silent for `window`┐ │ its time passed
///   next request after the     │                      ▼ ▼
///   hold ran out or was        └───────────────────── Away
///   approved                     it asks, or gives signs of life: a hold begins
/// ```
/// A request from another place than the usual one begins a hold as well, whatever the standing; when that hold is over,
/// its place is the usual one. While the owner is alive at its usual place, holds of other places do not run out.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    Release,
    Held { until: Duration, why: Why },
    Revoked,
}

/// Why a share is held down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    Absent,
    OtherAddress,
    OtherNode,
    AddressUnknown,
    TooManyPlaces,
}

/// What the owner of secrets shows besides asking for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign<'a> {
    Alive,
    Rebooting(Duration),
    /// It stored this secret.
    Stored(&'a SecretName),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApproveError {
    #[error("no such owner has keys here")]
    NoOwner,
    #[error("nothing of this owner is held down; name an address to expect it there")]
    NothingHeld,
    #[error("it asks from several addresses: name the one to approve")]
    WhichAddress,
    #[error("the overlay address of this owner is not known yet")]
    NoOverlay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this guardian refuses {REVOKED_MAX} identities already, and forgets none of them")]
pub struct TooManyRevoked;

/// An old generation that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OldAsked {
    pub owner: String,
    pub place: Place,
    pub asked: u64,
    pub newest: u64,
    pub at: Duration,
    pub requests: u64,
}

pub struct Machine {
    pub(super) rules: Rules,
    pub(super) owners: BTreeMap<Identity, Owner>,
    /// Digests of owners.
    pub(super) revoked: BTreeSet<String>,
    old_headers: Vec<OldAsked>,
    dirty: bool,
}

impl Machine {
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            owners: BTreeMap::new(),
            revoked: BTreeSet::new(),
            old_headers: Vec::new(),
            dirty: false,
        }
    }

    /// Whether the durable facts changed since they were last written.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    pub fn set_dirty(&mut self, dirty: bool) {
        self.dirty = dirty;
    }

    pub fn is_revoked(&self, identity: &Identity) -> bool {
        !self.revoked.is_empty() && self.revoked.contains(&identity.digest())
    }

    /// Whether keys of one more owner can be watched.
    pub fn has_room_for(&self, identity: &Identity) -> bool {
        self.owners.contains_key(identity) || self.owners.len() < OWNERS_MAX
    }

    /// The owner asks for a secret that is there.
    pub fn ask(&mut self, identity: &Identity, name: &SecretName, place: Place, now: Duration) -> Verdict {
        if self.is_revoked(identity) {
            return Verdict::Revoked;
        }
        if self.rules.hold_down.is_zero() || !self.has_room_for(identity) {
            return Verdict::Release;
        }
        let rules = self.rules;
        let owner = self.owner(identity, now);
        let before = owner.durable();
        owner.pass_time(&rules, now);
        owner.first_place(place);
        let verdict = if owner.is_at_usual(place) && !owner.is_away() {
            owner.seen(now);
            Verdict::Release
        } else if owner.stored_lately(name, place, now) {
            Verdict::Release
        } else {
            match owner.hold(&rules, place, now) {
                Ok(hold) => {
                    hold.requests += 1;
                    match hold.state(now) {
                        HoldState::Held => Verdict::Held { until: hold.ends, why: hold.why },
                        HoldState::Released | HoldState::Approved => {
                            owner.settle(place, now);
                            Verdict::Release
                        }
                    }
                }
                Err(why) => Verdict::Held { until: now + rules.hold_down, why },
            }
        };
        owner.pass_time(&rules, now);
        self.dirty |= owner.durable() != before;
        verdict
    }

    /// The owner shows itself. Who has no keys here is not remembered, unless it stores one now.
    pub fn show(&mut self, identity: &Identity, place: Place, sign: Sign<'_>, now: Duration) {
        let stores = matches!(sign, Sign::Stored(_));
        let known = self.owners.contains_key(identity);
        if self.is_revoked(identity) || !(known || stores && self.has_room_for(identity)) {
            return;
        }
        let rules = self.rules;
        let owner = self.owner(identity, now);
        let before = owner.durable();
        owner.pass_time(&rules, now);
        owner.first_place(place);
        if let Sign::Stored(name) = sign {
            owner.remember_stored(name, place, now);
        }
        if owner.is_at_usual(place) && !owner.is_away() {
            match sign {
                Sign::Alive => owner.alive(now),
                Sign::Stored(_) => owner.seen(now),
                Sign::Rebooting(time) => owner.goes_down(now + time, now),
            }
            // Two of them: whoever asks from elsewhere has a copy.
            owner.hold_others_longer(place, now + rules.hold_down, now);
        } else if rules.hold_down.is_zero() {
            owner.settle(place, now);
        } else if let Ok(hold) = owner.hold(&rules, place, now)
            && hold.state(now) != HoldState::Held
        {
            owner.settle(place, now);
        }
        owner.pass_time(&rules, now);
        self.dirty |= owner.durable() != before;
    }

    /// Marks who became absent, and forgets holds that are long over.
    pub fn tick(&mut self, now: Duration) {
        for owner in self.owners.values_mut() {
            let before = owner.durable();
            owner.pass_time(&self.rules, now);
            self.dirty |= owner.durable() != before;
        }
    }

    /// A secret that is not there was asked for, and a newer one of its kind is.
    pub fn old_header(&mut self, identity: &Identity, place: Place, asked: u64, newest: u64, now: Duration) {
        let owner = identity.digest();
        let same = |old: &&mut OldAsked| old.owner == owner && old.asked == asked && old.place == place;
        if let Some(old) = self.old_headers.iter_mut().find(same) {
            (old.newest, old.at, old.requests) = (newest, now, old.requests.saturating_add(1));
            return;
        }
        if self.old_headers.len() >= OLD_HEADERS_MAX {
            self.old_headers.remove(0);
        }
        self.old_headers.push(OldAsked { owner, place, asked, newest, at: now, requests: 1 });
    }

    pub fn old_headers(&self) -> &[OldAsked] {
        &self.old_headers
    }

    /// Its last key is gone: there is nothing to watch over any more.
    pub fn forget(&mut self, identity: &Identity) {
        self.dirty |= self.owners.remove(identity).is_some();
    }

    /// An operator knows that it is the owner who asks. `address` is a public one.
    pub fn approve(
        &mut self,
        digest: &str,
        address: Option<IpAddr>,
        now: Duration,
    ) -> Result<(), ApproveError> {
        let rules = self.rules;
        let owner = self.owners.iter_mut().find(|(identity, _)| identity.digest() == digest);
        let (_, owner) = owner.ok_or(ApproveError::NoOwner)?;
        owner.pass_time(&rules, now);
        let held = |hold: &&Hold| hold.state(now) == HoldState::Held;
        let place = match address {
            Some(address) => {
                let asks = owner.holds.iter().filter(held).find(|hold| hold.place.public == Some(address));
                let overlay = match (asks, owner.usual) {
                    (Some(hold), _) => hold.place.overlay,
                    (None, Some(usual)) => usual.overlay,
                    (None, None) => return Err(ApproveError::NoOverlay),
                };
                Place { overlay, public: Some(address) }
            }
            None => {
                let mut asking = owner.holds.iter().filter(held).map(|hold| hold.place);
                match (asking.next(), asking.next()) {
                    (Some(place), None) => place,
                    (Some(_), Some(_)) => return Err(ApproveError::WhichAddress),
                    (None, _) => return Err(ApproveError::NothingHeld),
                }
            }
        };
        owner.approve(place, now);
        self.dirty = true;
        Ok(())
    }

    /// The owner is refused from now on. Gives its identity, if it has keys here, so that they are deleted.
    pub fn revoke(&mut self, digest: &str) -> Result<Option<Identity>, TooManyRevoked> {
        if !self.revoked.contains(digest) {
            if self.revoked.len() >= REVOKED_MAX {
                return Err(TooManyRevoked);
            }
            self.revoked.insert(digest.to_owned());
            self.dirty = true;
        }
        let identity = self.owners.keys().find(|identity| identity.digest() == digest).cloned();
        Ok(identity)
    }

    /// Everybody with keys here, by identity.
    pub fn owners(&self) -> impl Iterator<Item = (&Identity, &Owner)> {
        self.owners.iter()
    }

    fn owner(&mut self, identity: &Identity, now: Duration) -> &mut Owner {
        self.owners.entry(identity.clone()).or_insert_with(|| Owner::new(now))
    }
}
