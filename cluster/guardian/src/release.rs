//! The release of shares of disk keys: runs the machine (`machine`) with the clock, the store and the addresses that
//! requests come from. All calls block. What a share is remains nobody's business here; only its name counts.

use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use orama_protocol::guardian::{
    HELD_DOWN, Hold, HoldDecided, HoldList, OldHeader, OwnerEntry, Presence, REBOOT_SECONDS_MAX,
};

use crate::clock::Clock;
use crate::names::{Identity, SecretName};
use crate::record::Record;
use crate::store::{DeleteError, FactsError, ReadError, Store};

mod facts;
mod machine;
#[cfg(test)]
mod machine_tests;
mod owner;
mod place;
mod spoken;

pub use facts::FactsProblem;
pub(crate) use machine::ApproveError;
pub use machine::Rules;
use machine::{Machine, Place, Sign, Verdict, Why};
pub(crate) use place::Places;
use spoken::rfc3339;

/// How often absences are noticed and changed facts written. Nothing that a client waits for is written here, because a
/// write into a node's header takes a while.
pub(crate) const TICK: Duration = Duration::from_secs(10);

/// Why a guardian does not know whom it watched over.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    #[error("cannot read the note of facts")]
    Read(#[from] FactsError),
    #[error("the note of facts is damaged")]
    Damaged(#[from] FactsProblem),
}

/// Why a secret was not given.
#[derive(Debug)]
pub(crate) enum FetchError {
    Read(ReadError),
    Held(HeldDown),
    Revoked,
}

/// `held down until <RFC 3339>: <reason>`.
#[derive(Debug)]
pub(crate) struct HeldDown {
    until: String,
    pub seconds: u64,
    why: Why,
}

impl fmt::Display for HeldDown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{HELD_DOWN}{}: {}", self.until, self.why)
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum DecideError {
    #[error(transparent)]
    Approve(#[from] ApproveError),
    #[error(transparent)]
    Revoke(#[from] machine::TooManyRevoked),
}

pub(crate) struct Watch {
    machine: Mutex<Machine>,
    store: Arc<dyn Store>,
    clock: Clock,
    places: Places,
    /// Identities whose secrets are still to be deleted.
    doomed: Mutex<Vec<Identity>>,
    /// One write of facts at a time, so that an older text never follows a newer one. Why the last one failed: a node
    /// that waits for its volume tells it once.
    saving: Mutex<Option<String>>,
}

impl Watch {
    pub fn restore(
        rules: Rules,
        store: Arc<dyn Store>,
        clock: Clock,
        places: Places,
    ) -> Result<Self, RestoreError> {
        let machine = Machine::restore(rules, &store.facts()?, steady(&clock))?;
        Ok(Self {
            machine: Mutex::new(machine),
            store,
            clock,
            places,
            doomed: Mutex::default(),
            saving: Mutex::default(),
        })
    }

    /// The secret, if it may go out now.
    pub fn fetch(
        &self,
        identity: &Identity,
        name: &SecretName,
        source: IpAddr,
    ) -> Result<Record, FetchError> {
        if !name.is_of_disk_key() || self.places.is_own_host(source) {
            return self.store.get(identity, name).map_err(FetchError::Read);
        }
        let place = self.places.of(source, &*self.store);
        let record = match self.store.get(identity, name) {
            Ok(record) => record,
            Err(error) => {
                if matches!(error, ReadError::None) {
                    self.note_old_header(identity, name, place);
                }
                return Err(FetchError::Read(error));
            }
        };
        let now = self.now();
        let verdict = self.machine().ask(identity, name, place, now);
        match verdict {
            Verdict::Release => Ok(record),
            Verdict::Revoked => Err(FetchError::Revoked),
            Verdict::Held { until, why } => {
                let left = until.saturating_sub(now);
                let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                let held = HeldDown { until: self.wall(until, now), seconds, why };
                tracing::warn!(owner = identity.short(), %source, "{held}");
                Err(FetchError::Held(held))
            }
        }
    }

    fn note_old_header(&self, identity: &Identity, name: &SecretName, place: Place) {
        let Some((volume, asked)) = name.generation() else { return };
        let Ok(secrets) = self.store.list(identity) else { return };
        let generations = secrets.iter().filter_map(|secret| {
            let name = SecretName::parse(&secret.name)?;
            name.generation().filter(|(other, _)| *other == volume).map(|(_, generation)| generation)
        });
        if let Some(newest) = generations.max().filter(|newest| *newest > asked) {
            tracing::warn!(
                owner = identity.short(), overlay = %place.overlay, asked, newest,
                "an old generation was asked for: from a copy of an old header?"
            );
            let now = self.now();
            self.machine().old_header(identity, place, asked, newest, now);
        }
    }

    pub fn is_revoked(&self, identity: &Identity) -> bool {
        let revoked = self.machine().is_revoked(identity);
        if revoked && matches!(self.store.list(identity), Ok(secrets) if !secrets.is_empty()) {
            self.doom(identity.clone());
        }
        revoked
    }

    pub fn has_room_for(&self, identity: &Identity, name: &SecretName) -> bool {
        !name.is_of_disk_key() || self.machine().has_room_for(identity)
    }

    /// A secret was stored. Whose it is and where from is on the disk before the client hears of it: a guardian that knows
    /// nothing of an owner takes the first who asks for it.
    pub fn stored(&self, identity: &Identity, name: &SecretName, source: IpAddr) {
        if name.is_of_disk_key() {
            self.show(identity, Sign::Stored(name), source);
            self.save();
        }
    }

    /// A secret was deleted.
    pub fn deleted(&self, identity: &Identity, name: &SecretName) {
        if name.is_of_disk_key()
            && let Ok(secrets) = self.store.list(identity)
            && !secrets
                .iter()
                .filter_map(|secret| SecretName::parse(&secret.name))
                .any(|name| name.is_of_disk_key())
        {
            self.machine().forget(identity);
        }
    }

    pub fn presence(&self, identity: &Identity, presence: Presence, source: IpAddr) {
        let sign = match presence {
            Presence::Alive => Sign::Alive,
            Presence::Rebooting { for_seconds } => {
                Sign::Rebooting(Duration::from_secs(for_seconds.min(REBOOT_SECONDS_MAX)))
            }
        };
        self.show(identity, sign, source);
    }

    fn show(&self, identity: &Identity, sign: Sign<'_>, source: IpAddr) {
        if self.places.is_own_host(source) {
            return;
        }
        let place = self.places.of(source, &*self.store);
        let now = self.now();
        self.machine().show(identity, place, sign, now);
    }

    /// Notices absences, writes what changed and deletes what is revoked.
    pub fn tick(&self) {
        let now = self.now();
        self.machine().tick(now);
        self.save();
        self.execute_doomed();
    }

    pub fn approve(&self, owner: &str, address: Option<IpAddr>) -> Result<HoldDecided, DecideError> {
        let now = self.now();
        self.machine().approve(owner, address, now)?;
        tracing::warn!(owner = &owner[..8], ?address, "an operator approved the release of shares");
        Ok(HoldDecided { status: "approved".into(), durable: self.save() })
    }

    pub fn revoke(&self, owner: &str) -> Result<HoldDecided, DecideError> {
        if let Some(identity) = self.machine().revoke(owner)? {
            self.doom(identity);
        }
        tracing::warn!(owner = &owner[..8], "an operator revoked the identity");
        let (saved, deleted) = (self.save(), self.execute_doomed());
        Ok(HoldDecided { status: "revoked".into(), durable: saved && deleted })
    }

    fn doom(&self, identity: Identity) {
        let mut doomed = lock(&self.doomed);
        if !doomed.contains(&identity) {
            doomed.push(identity);
        }
    }

    /// Whether nothing is left to delete.
    fn execute_doomed(&self) -> bool {
        let doomed = lock(&self.doomed).clone();
        for identity in doomed {
            match self.store.forget(&identity) {
                Ok(()) | Err(DeleteError::None) => {
                    lock(&self.doomed).retain(|other| *other != identity);
                    self.machine().forget(&identity);
                    tracing::info!(owner = identity.short(), "the secrets of a revoked identity are deleted");
                }
                Err(error) => {
                    tracing::warn!("the secrets of a revoked identity are not deleted yet: {error}");
                }
            }
        }
        lock(&self.doomed).is_empty() && self.save()
    }

    /// Writes the facts if they changed. Whether the disk has them.
    fn save(&self) -> bool {
        let mut failing = lock(&self.saving);
        let text = {
            let mut machine = self.machine();
            if !machine.is_dirty() {
                return true;
            }
            machine.set_dirty(false);
            machine.facts()
        };
        let problem = self.store.set_facts(text.as_bytes()).err().map(|error| error.to_string());
        if let Some(error) = &problem {
            self.machine().set_dirty(true);
            if failing.as_ref() != Some(error) {
                tracing::warn!("the facts about owners are not written yet: {error}");
            }
        }
        *failing = problem;
        failing.is_none()
    }

    pub fn list(&self) -> HoldList {
        let now = self.now();
        let machine = self.machine();
        let mut list = HoldList::default();
        for (identity, owner) in machine.owners() {
            let digest = identity.digest();
            let usual = owner.usual;
            list.holds.extend(owner.holds.iter().map(|hold| Hold {
                owner: digest.clone(),
                wg_ip: hold.place.overlay.to_string(),
                address: hold.place.public.map(|address| address.to_string()),
                usual_wg_ip: usual.map(|usual| usual.overlay.to_string()),
                usual_address: usual.and_then(|usual| usual.public).map(|address| address.to_string()),
                state: spoken::state(hold.state(now)).into(),
                since: self.wall(hold.begun, now),
                until: self.wall(hold.ends, now),
                reason: hold.why.to_string(),
                requests: hold.requests,
            }));
            list.owners.push(OwnerEntry {
                owner: digest,
                wg_ip: usual.map(|usual| usual.overlay.to_string()),
                present: !owner.is_away(),
                seen: owner.last_seen.map(|seen| self.wall(seen, now)),
            });
        }
        list.old_headers = machine
            .old_headers()
            .iter()
            .map(|old| OldHeader {
                owner: old.owner.clone(),
                wg_ip: old.place.overlay.to_string(),
                address: old.place.public.map(|address| address.to_string()),
                asked: old.asked,
                newest: old.newest,
                at: self.wall(old.at, now),
                requests: old.requests,
            })
            .collect();
        list
    }

    fn now(&self) -> Duration {
        steady(&self.clock)
    }

    /// A point of steady time as the wall clock shows it.
    fn wall(&self, at: Duration, now: Duration) -> String {
        let wall = self.clock.wall_ns();
        let difference = at.as_nanos() as i128 - now.as_nanos() as i128;
        rfc3339(wall.saturating_add(difference))
    }

    /// A panic in the machine would have left it between two statements of one owner; that one is judged anew.
    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn steady(clock: &Clock) -> Duration {
    Duration::from_nanos(u64::try_from(clock.steady_ns()).unwrap_or(0))
}
