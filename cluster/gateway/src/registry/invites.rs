//! Invites in the store. Every change is one conditional statement, so two operators can race safely.

use super::{Cells, Registry};
use crate::invite::{Invite, RESERVATION_SECONDS, Unusable};
use crate::store::{SqlError, Value};

/// Invites are forgotten this long after they expired, seconds; until then their holder is told what happened.
const FORGET_AFTER_SECONDS: i64 = 90 * 24 * 3600;

impl Registry {
    /// `digest` is the lowercase hex SHA-256 of the token text.
    pub fn add_invite(
        &self,
        digest: &str,
        created_by: &str,
        expires_at: i64,
        now: i64,
    ) -> Result<(), SqlError> {
        self.execute(
            "DELETE FROM invite_tokens WHERE expires_at < ?",
            vec![(now - FORGET_AFTER_SECONDS).into()],
        )?;
        self.execute(
            "INSERT INTO invite_tokens (token, created_by, expires_at) VALUES (?, ?, ?)",
            vec![digest.into(), created_by.into(), expires_at.into()],
        )?;
        Ok(())
    }

    /// Whether the invite could be used now. Changes nothing.
    pub fn check_invite(&self, digest: &str, now: i64) -> Result<Result<(), Unusable>, SqlError> {
        let rows = self.query(
            "SELECT expires_at, used_at, reserved_until FROM invite_tokens WHERE token = ?",
            vec![digest.into()],
        )?;
        let Some(row) = rows.into_iter().next() else { return Ok(Err(Unusable::Unknown)) };
        let mut cells = Cells::new(row);
        let invite = Invite {
            expires_at: cells.integer()?,
            used_at: cells.optional_integer()?,
            reserved_until: cells.optional_integer()?,
        };
        Ok(invite.check(now))
    }

    /// Holds the invite for `attempt`; of two callers exactly one succeeds.
    pub fn reserve_invite(
        &self,
        digest: &str,
        attempt: &str,
        now: i64,
    ) -> Result<Result<(), Unusable>, SqlError> {
        let changed = self.execute(
            "UPDATE invite_tokens SET reserved_by = ?1, reserved_until = ?2
             WHERE token = ?3 AND used_at IS NULL AND expires_at > ?4
               AND (reserved_until IS NULL OR reserved_until <= ?4)",
            vec![attempt.into(), (now + RESERVATION_SECONDS).into(), digest.into(), now.into()],
        )?;
        if changed == 1 {
            return Ok(Ok(()));
        }
        // Between the two statements the other attempt may have given it back: say "reserved", which was true.
        Ok(Err(self.check_invite(digest, now)?.err().unwrap_or(Unusable::Reserved)))
    }

    /// Gives the invite back, if `attempt` still holds it and nothing was enrolled with it.
    pub fn release_invite(&self, digest: &str, attempt: &str) -> Result<(), SqlError> {
        self.execute(
            "UPDATE invite_tokens SET reserved_by = NULL, reserved_until = NULL
             WHERE token = ? AND reserved_by = ? AND used_at IS NULL",
            vec![digest.into(), attempt.into()],
        )?;
        Ok(())
    }

    /// Undoes the spending by `attempt`: only for a node that was certainly never told that it is enrolled.
    pub fn unspend_invite(&self, digest: &str, attempt: &str) -> Result<(), SqlError> {
        self.execute(
            "UPDATE invite_tokens SET used_at = NULL, used_by_ip = NULL, reserved_by = NULL, reserved_until = NULL
             WHERE token = ? AND reserved_by = ?",
            vec![Value::from(digest), attempt.into()],
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::for_test;
    use super::*;

    #[test]
    fn a_reservation_excludes_others_until_it_is_released_or_runs_out() {
        let folder = tempfile::tempdir().unwrap();
        let registry = for_test(folder.path());
        registry.add_invite("d", "op", 1000, 0).unwrap();
        assert_eq!(registry.reserve_invite("d", "one", 1).unwrap(), Ok(()));
        assert_eq!(registry.reserve_invite("d", "two", 1).unwrap(), Err(Unusable::Reserved));
        registry.release_invite("d", "two").unwrap();
        assert_eq!(registry.check_invite("d", 1).unwrap(), Err(Unusable::Reserved), "not theirs to release");
        registry.release_invite("d", "one").unwrap();
        assert_eq!(registry.reserve_invite("d", "two", 2).unwrap(), Ok(()));
        assert_eq!(registry.reserve_invite("d", "three", 2 + RESERVATION_SECONDS).unwrap(), Ok(()));
        assert_eq!(registry.reserve_invite("d", "late", 1000).unwrap(), Err(Unusable::Expired));
        assert_eq!(registry.reserve_invite("nothing", "x", 1).unwrap(), Err(Unusable::Unknown));
    }

    #[test]
    fn of_many_racing_threads_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let registry = for_test(folder.path());
        registry.add_invite("d", "op", 1000, 0).unwrap();
        let wins = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|number| {
                    let registry = &registry;
                    scope.spawn(move || registry.reserve_invite("d", &number.to_string(), 1).unwrap().is_ok())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).filter(|won| *won).count()
        });
        assert_eq!(wins, 1);
    }
}
