//! How many shares there are and how many are needed.

/// Fewest shares that may ever be enough.
pub const K_MIN: u8 = 3;
/// Most guardians: a share's point is a nonzero byte.
pub const GUARDIANS_MAX: usize = 255;

/// Why a number of guardians, or a pair of numbers read from outside, is no threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("{0} guardians are too few: a volume key is split over at least 3")]
    TooFew(usize),
    #[error("{0} guardians are too many: a volume key is split over at most 255")]
    TooMany(usize),
    #[error("{k} of {n} shares is no threshold: at least 3, at most {n}, and one to spare from 4 on")]
    Nonsense { k: u8, n: u8 },
}

/// K of N. Parsed: 3 ≤ K ≤ N, and K < N as soon as N ≥ 4, so that one dead guardian is survivable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Threshold {
    k: u8,
    n: u8,
}

impl Threshold {
    /// The rule for a new split: K = max(3, ⌈N/3⌉).
    pub fn for_guardians(n: usize) -> Result<Self, ThresholdError> {
        if n < usize::from(K_MIN) {
            return Err(ThresholdError::TooFew(n));
        }
        let Ok(n) = u8::try_from(n) else {
            return Err(ThresholdError::TooMany(n));
        };
        Self::from_parts(K_MIN.max(n.div_ceil(3)), n)
    }

    /// A threshold that somebody else chose: within the bounds, but not necessarily by today's rule.
    pub fn from_parts(k: u8, n: u8) -> Result<Self, ThresholdError> {
        let one_to_spare = n <= K_MIN || k < n;
        if k < K_MIN || k > n || !one_to_spare {
            return Err(ThresholdError::Nonsense { k, n });
        }
        Ok(Self { k, n })
    }

    /// Shares needed.
    pub fn k(self) -> u8 {
        self.k
    }

    /// Shares made.
    pub fn n(self) -> u8 {
        self.n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule() {
        let rule = |n| Threshold::for_guardians(n).map(|threshold| (threshold.k(), threshold.n()));
        for (n, k) in [(3, 3), (4, 3), (5, 3), (9, 3), (10, 4), (12, 4), (13, 5), (250, 84), (255, 85)] {
            assert_eq!(rule(n), Ok((k, n as u8)), "{n} guardians");
        }
        for n in 0..3 {
            assert_eq!(rule(n), Err(ThresholdError::TooFew(n)));
        }
        assert_eq!(rule(256), Err(ThresholdError::TooMany(256)));
        assert_eq!(rule(usize::MAX), Err(ThresholdError::TooMany(usize::MAX)));
    }

    #[test]
    fn one_dead_guardian_is_always_survivable_from_four_on() {
        for n in 4..=GUARDIANS_MAX {
            let threshold = Threshold::for_guardians(n).unwrap();
            assert!(threshold.k() < threshold.n(), "{n} guardians");
        }
    }

    #[test]
    fn nonsense_from_outside_is_refused() {
        for (k, n) in [(0, 0), (0, 5), (1, 1), (2, 5), (2, 2), (4, 3), (4, 4), (6, 5), (255, 255), (255, 3)] {
            assert_eq!(Threshold::from_parts(k, n), Err(ThresholdError::Nonsense { k, n }));
        }
        for (k, n) in [(3, 3), (3, 4), (4, 5), (254, 255)] {
            assert!(Threshold::from_parts(k, n).is_ok(), "{k} of {n}");
        }
    }
}
