//! Split a volume key into shares and put it together again: one polynomial over GF(256) for each of the
//! 32 bytes, all evaluated at the same points x = 1..=N, the key at x = 0.

use rand_core::TryCryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::field::{Interpolation, Point};
use crate::key::{KEY_BYTES, KeyError, VolumeKey};
use crate::threshold::{K_MIN, Threshold};
use crate::weighted::WeightedSum;

/// Why a key was not split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    #[error("the kernel gave no random bytes for the shares")]
    Random(#[source] getrandom::Error),
}

/// Why shares did not become a key. A wrong set of shares is always one of these, never a wrong key,
/// as far as shares alone can tell: the LUKS header has the last word.
#[derive(Debug, thiserror::Error)]
pub enum CombineError {
    #[error("{needed} is no threshold: at least 3 shares are always needed")]
    Threshold { needed: u8 },
    #[error("{found} shares are not enough, {needed} are needed")]
    TooFew { found: usize, needed: u8 },
    #[error("two shares have the same point {x}")]
    SamePoint { x: u8 },
    #[error("the share at point {x} does not belong to the others")]
    Inconsistent { x: u8 },
    #[error("the volume key has no safe place in memory")]
    Key(#[source] KeyError),
}

/// One share: the value of the 32 polynomials at the point x, which is never 0. Wiped on drop; on the
/// heap, so that moving a share leaves no copy behind. No Debug, no Clone, no Serialize.
pub struct Share {
    x: u8,
    bytes: Box<[u8; KEY_BYTES]>,
}

impl Share {
    /// A share from its parts; none at the point 0, where the key itself is.
    pub fn new(x: u8, bytes: &[u8; KEY_BYTES]) -> Option<Self> {
        let mut share = Self::zeroed(x)?;
        share.bytes.copy_from_slice(bytes);
        Some(share)
    }

    fn zeroed(x: u8) -> Option<Self> {
        (x != 0).then(|| Self { x, bytes: Box::new([0; KEY_BYTES]) })
    }

    /// The point; public.
    pub fn x(&self) -> u8 {
        self.x
    }

    /// The secret bytes.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

/// Splits the key into N shares at x = 1..=N, any K of which give it back.
pub fn split(key: &VolumeKey, threshold: Threshold) -> Result<Vec<Share>, SplitError> {
    split_with(key, threshold, &mut getrandom::SysRng).map_err(SplitError::Random)
}

/// [`split`] with randomness from elsewhere, for simulations that are to be repeated. Whoever knows the
/// generator's output and one share knows the key.
///
/// All coefficients, the top one included, are uniformly random bytes, zero included. Drawing the top one
/// again when it is zero would tell K-1 guardians together one value that each key byte does not have.
pub fn split_with<R: TryCryptoRng + ?Sized>(
    key: &VolumeKey,
    threshold: Threshold,
    random: &mut R,
) -> Result<Vec<Share>, R::Error> {
    let degree = usize::from(threshold.k()) - 1;
    let mut coefficients = Zeroizing::new(vec![0; degree * KEY_BYTES]);
    random.try_fill_bytes(&mut coefficients)?;
    Ok(evaluate_all(key, &coefficients, threshold.n()))
}

/// The shares at 1..=n, from the coefficients of x¹, x² and so on.
fn evaluate_all(key: &VolumeKey, coefficients: &[u8], n: u8) -> Vec<Share> {
    let (rows, _) = coefficients.as_chunks();
    let mut sum = WeightedSum::new();
    (1..=n).filter_map(|x| evaluate(key, rows, x, &mut sum)).collect()
}

/// The share at x. None at x = 0.
fn evaluate(key: &VolumeKey, rows: &[[u8; KEY_BYTES]], x: u8, sum: &mut WeightedSum) -> Option<Share> {
    let mut share = Share::zeroed(x)?;
    let mut power = Point::ONE;
    for row in rows {
        power = power.times(Point(x));
        sum.add(power, row);
    }
    // Last, so that the key by itself never stands outside its page.
    sum.add(Point::ONE, key.expose());
    sum.take(&mut share.bytes);
    Some(share)
}

/// Puts the key together from at least `k` shares with different points. More than `k` are checked
/// against each other, so that a share of another split is noticed.
pub fn combine<'a>(shares: impl IntoIterator<Item = &'a Share>, k: u8) -> Result<VolumeKey, CombineError> {
    combine_all(&shares.into_iter().collect::<Vec<_>>(), k)
}

fn combine_all(shares: &[&Share], k: u8) -> Result<VolumeKey, CombineError> {
    if k < K_MIN {
        return Err(CombineError::Threshold { needed: k });
    }
    let mut seen = [false; 256];
    for share in shares {
        if std::mem::replace(&mut seen[usize::from(share.x)], true) {
            return Err(CombineError::SamePoint { x: share.x });
        }
    }
    let Some((used, spare)) = shares.split_at_checked(usize::from(k)) else {
        return Err(CombineError::TooFew { found: shares.len(), needed: k });
    };
    let interpolation = Interpolation::new(used.iter().map(|share| Point(share.x)).collect());
    let mut sum = WeightedSum::new();
    let mut value_at = |at: Point, value: &mut [u8; KEY_BYTES]| {
        interpolation.weights(at).zip(used).for_each(|(weight, share)| sum.add(weight, &share.bytes));
        sum.take(value);
    };
    for share in spare {
        let mut expected = Zeroizing::new([0; KEY_BYTES]);
        value_at(Point(share.x), &mut expected);
        if !bool::from(expected.ct_eq(share.bytes())) {
            return Err(CombineError::Inconsistent { x: share.x });
        }
    }
    let mut key = VolumeKey::zeroed().map_err(CombineError::Key)?;
    value_at(Point::ZERO, key.bytes_mut());
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2048 splits × 32 bytes: a top coefficient is 0 about 256 times, and never if it were drawn again.
    #[test]
    fn the_top_coefficient_may_be_zero() {
        let key = VolumeKey::generate().unwrap();
        let threshold = Threshold::for_guardians(3).unwrap();
        let mut straight = 0;
        for _ in 0..2048 {
            let shares = split(&key, threshold).unwrap();
            // 42 + 5x + 0x²: the line through x = 0 and x = 1 then also meets x = 2.
            straight += (0..KEY_BYTES)
                .filter(|&byte| {
                    let at = |x: usize| shares[x - 1].bytes[byte];
                    let key = key.expose()[byte];
                    at(2) == key ^ Point(key ^ at(1)).times(Point(2)).0
                })
                .count();
        }
        assert!((150..400).contains(&straight), "{straight} of 65536 are straight lines");
    }
}
