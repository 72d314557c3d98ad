//! Recovery keys on their way from a new node to its operator: sealed between the two, in memory only, found by the
//! invite of the enrollment. Few and short-lived: an operator fetches one within seconds.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use orama_protocol::recovery::{RECOVERY_ANSWER_LIMIT_BYTES, RecoveryHandout};

/// How long one is kept: longer than provisioning may take, and a look at the result.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Most at a time; a further one takes the place of the oldest. As many as nodes may wait for enrollment.
const KEPT_MAX: usize = 256;

#[derive(Default)]
pub struct RecoveryDesk(Mutex<VecDeque<Kept>>);

struct Kept {
    /// SHA-256 of the invite token.
    invite: String,
    node_id: String,
    since: Instant,
    how_far: HowFar,
}

enum HowFar {
    Waiting,
    There(String),
    Failed(String),
}

impl RecoveryDesk {
    /// From now on the node may bring one.
    pub fn expect(&self, invite: &str, node_id: &str, now: Instant) {
        let mut kept = self.lock(now);
        kept.retain(|one| one.node_id != node_id && one.invite != invite);
        if kept.len() >= KEPT_MAX {
            kept.pop_front();
        }
        let (invite, node_id) = (invite.to_owned(), node_id.to_owned());
        kept.push_back(Kept { invite, node_id, since: now, how_far: HowFar::Waiting });
    }

    /// The enrollment came to nothing.
    pub fn forget(&self, node_id: &str) {
        self.lock(Instant::now()).retain(|one| one.node_id != node_id);
    }

    /// False when nobody expects it, or when it is too long.
    pub fn bring(&self, node_id: &str, answer: String, now: Instant) -> bool {
        let mut kept = self.lock(now);
        let sound = answer.len() <= RECOVERY_ANSWER_LIMIT_BYTES;
        let waiting = kept
            .iter_mut()
            .find(|one| sound && one.node_id == node_id && matches!(one.how_far, HowFar::Waiting));
        waiting.map(|one| one.how_far = HowFar::There(answer)).is_some()
    }

    /// A node that brings none any more; what it brought before stays.
    pub fn fail(&self, node_id: &str, why: &str) {
        for one in self.lock(Instant::now()).iter_mut().filter(|one| one.node_id == node_id) {
            if matches!(one.how_far, HowFar::Waiting) {
                one.how_far = HowFar::Failed(why.to_owned());
            }
        }
    }

    /// `None`: nothing was asked for with this invite.
    pub fn show(&self, invite: &str, now: Instant) -> Option<RecoveryHandout> {
        let kept = self.lock(now);
        let found = kept.iter().find(|one| crate::token::same_digest(&one.invite, invite))?;
        let (state, answer, why) = match &found.how_far {
            HowFar::Waiting => ("waiting", None, None),
            HowFar::There(answer) => ("there", Some(answer.clone()), None),
            HowFar::Failed(why) => ("failed", None, Some(why.clone())),
        };
        Some(RecoveryHandout { state: state.into(), answer, why })
    }

    fn lock(&self, now: Instant) -> MutexGuard<'_, VecDeque<Kept>> {
        // Every change above is one assignment or one call.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| now.saturating_duration_since(one.since) < LIFETIME);
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(desk: &RecoveryDesk, invite: &str, now: Instant) -> Option<String> {
        desk.show(invite, now).map(|shown| shown.state)
    }

    #[test]
    fn one_is_brought_once_and_shown_to_its_invite_for_an_hour() {
        let (desk, start) = (RecoveryDesk::default(), Instant::now());
        assert!(!desk.bring("node", "x".into(), start), "nobody asked");
        desk.expect("invite", "node", start);
        assert_eq!(state(&desk, "invite", start).as_deref(), Some("waiting"));
        assert!(!desk.bring("node", "x".repeat(RECOVERY_ANSWER_LIMIT_BYTES + 1), start));
        assert!(desk.bring("node", "sealed".into(), start));
        assert!(!desk.bring("node", "another".into(), start));
        desk.fail("node", "lost");
        let shown = desk.show("invite", start).unwrap();
        assert_eq!((shown.state.as_str(), shown.answer.as_deref()), ("there", Some("sealed")));
        assert_eq!(state(&desk, "other", start), None);
        assert_eq!(state(&desk, "invite", start + LIFETIME), None);
    }

    #[test]
    fn a_failure_is_told_and_an_attempt_that_came_to_nothing_is_not() {
        let (desk, start) = (RecoveryDesk::default(), Instant::now());
        desk.expect("invite", "node", start);
        desk.fail("node", "disk full");
        assert_eq!(desk.show("invite", start).unwrap().why.as_deref(), Some("disk full"));
        assert!(!desk.bring("node", "late".into(), start));
        desk.expect("invite", "node", start);
        assert_eq!(state(&desk, "invite", start).as_deref(), Some("waiting"), "a new attempt");
        desk.forget("node");
        assert_eq!(state(&desk, "invite", start), None);
    }

    #[test]
    fn few_are_kept() {
        let (desk, start) = (RecoveryDesk::default(), Instant::now());
        for number in 0..=KEPT_MAX {
            desk.expect(&format!("i{number}"), &format!("n{number}"), start);
        }
        assert_eq!(state(&desk, "i0", start), None);
        assert_eq!(state(&desk, "i1", start).as_deref(), Some("waiting"));
    }
}
