//! The life of an invite, as a pure rule: free, reserved for one attempt, used, or expired.
//! The store's conditional UPDATE enforces the same rule atomically; this says why it refused.

/// Shortest and longest lifetime that can be asked for, seconds.
pub const LIFETIME_SECONDS: std::ops::RangeInclusive<u64> = 60..=30 * 24 * 3600;
/// How long one attempt holds an invite, seconds: longer than an attempt may take, so that only a crash of the
/// gateway ever lets it run out.
pub const RESERVATION_SECONDS: i64 = 90;

/// What the store knows of one invite; times in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invite {
    pub expires_at: i64,
    pub used_at: Option<i64>,
    pub reserved_until: Option<i64>,
}

/// Why an invite cannot be used; Display is what the operator reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Also the answer to every guess: only who holds a real token learns more.
    #[error("the invite token is not known to this gateway")]
    Unknown,
    #[error("the invite token was already used")]
    Used,
    #[error("the invite token has expired")]
    Expired,
    #[error("the invite token is being used by another enrollment right now")]
    Reserved,
}

impl Invite {
    pub fn check(self, now: i64) -> Result<(), Unusable> {
        if self.used_at.is_some() {
            return Err(Unusable::Used);
        }
        if self.expires_at <= now {
            return Err(Unusable::Expired);
        }
        if self.reserved_until.is_some_and(|until| until > now) {
            return Err(Unusable::Reserved);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_own_answer() {
        let free = Invite { expires_at: 100, used_at: None, reserved_until: None };
        assert_eq!(free.check(99), Ok(()));
        assert_eq!(free.check(100), Err(Unusable::Expired));
        assert_eq!(Invite { used_at: Some(1), ..free }.check(100), Err(Unusable::Used));
        assert_eq!(Invite { reserved_until: Some(60), ..free }.check(59), Err(Unusable::Reserved));
        assert_eq!(Invite { reserved_until: Some(60), ..free }.check(60), Ok(()));
    }
}
