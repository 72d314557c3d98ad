//! Challenges for the owner's wallet: random, used once, few at a time and short-lived; and a limit on how often keys
//! are tried. Pure: time and random bytes are passed in.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use subtle::ConstantTimeEq;

/// How long a challenge may be answered.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// Most challenges that are open at a time; a further one takes the place of the oldest.
pub const OPEN_MAX: usize = 4;
/// Between two tries of a key: a try costs a key derivation, and nobody mistypes a sealed key.
pub const TRY_EVERY: Duration = Duration::from_secs(1);

pub type Challenge = [u8; 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    #[error("the challenge was never given out, is used up, or is older than {} s", LIFETIME.as_secs())]
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooSoon {
    #[error("a key is being tried already")]
    Busy,
    #[error("a key was tried less than {} s ago", TRY_EVERY.as_secs())]
    Pause,
}

/// Which challenges are open, and whether a key may be tried now.
#[derive(Debug, Default)]
pub struct Challenges {
    /// Oldest first.
    open: VecDeque<(Challenge, Instant)>,
    trying: bool,
    last_try: Option<Instant>,
}

impl Challenges {
    /// Opens a challenge of these random bytes.
    pub fn give(&mut self, random: Challenge, now: Instant) {
        self.expire(now);
        while self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        self.open.push_back((random, now + LIFETIME));
    }

    /// Uses the challenge up: whatever comes of it, it is good no second time.
    pub fn take(&mut self, challenge: &Challenge, now: Instant) -> Result<(), ChallengeError> {
        self.expire(now);
        let found = self.open.iter().position(|(open, _)| bool::from(open.ct_eq(challenge)));
        found.and_then(|index| self.open.remove(index)).map(drop).ok_or(ChallengeError::Unknown)
    }

    /// Whether a key may be tried now.
    pub fn may_try(&self, now: Instant) -> Result<(), TooSoon> {
        match self.last_try {
            _ if self.trying => Err(TooSoon::Busy),
            Some(last) if now < last + TRY_EVERY => Err(TooSoon::Pause),
            _ => Ok(()),
        }
    }

    /// Begins a try; [`Challenges::tried`] ends it.
    pub fn begin_try(&mut self) {
        self.trying = true;
    }

    pub fn tried(&mut self, now: Instant) {
        self.trying = false;
        self.last_try = Some(now);
    }

    fn expire(&mut self, now: Instant) {
        while self.open.front().is_some_and(|(_, until)| *until <= now) {
            self.open.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_challenge_is_good_once_and_for_a_minute() {
        let start = Instant::now();
        let mut challenges = Challenges::default();
        challenges.give([1; 32], start);
        challenges.give([2; 32], start);
        assert_eq!(challenges.take(&[9; 32], start), Err(ChallengeError::Unknown));
        assert_eq!(challenges.take(&[1; 32], after(start, 59)), Ok(()));
        assert_eq!(challenges.take(&[1; 32], after(start, 59)), Err(ChallengeError::Unknown));
        assert_eq!(challenges.take(&[2; 32], after(start, 60)), Err(ChallengeError::Unknown));
    }

    #[test]
    fn few_are_open_at_a_time() {
        let start = Instant::now();
        let mut challenges = Challenges::default();
        for number in 0..10_000_u32 {
            let mut random = [0; 32];
            random[..4].copy_from_slice(&number.to_be_bytes());
            challenges.give(random, start);
            assert!(challenges.open.len() <= OPEN_MAX);
        }
        let newest = |number: u32| {
            let mut random = [0; 32];
            random[..4].copy_from_slice(&number.to_be_bytes());
            random
        };
        assert_eq!(challenges.take(&newest(9995), start), Err(ChallengeError::Unknown));
        assert_eq!(challenges.take(&newest(9996), start), Ok(()));
        assert_eq!(challenges.take(&newest(9999), start), Ok(()));
    }

    #[test]
    fn keys_are_tried_one_at_a_time_and_once_a_second() {
        let start = Instant::now();
        let mut challenges = Challenges::default();
        assert_eq!(challenges.may_try(start), Ok(()));
        challenges.begin_try();
        assert_eq!(challenges.may_try(after(start, 5)), Err(TooSoon::Busy));
        challenges.tried(after(start, 6));
        assert_eq!(challenges.may_try(after(start, 6)), Err(TooSoon::Pause));
        assert_eq!(challenges.may_try(after(start, 7)), Ok(()));
    }
}
