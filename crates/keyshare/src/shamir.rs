//! Split a volume key into shares and put it together again: one polynomial over GF(256) for each of the
//! 32 bytes, all evaluated at the same points x = 1..=N, the key at x = 0.

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, Zeroizing};

use crate::field::{inverse, mul};
use crate::key::{KEY_BYTES, KeyError, VolumeKey};
use crate::threshold::{K_MIN, Threshold};

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
///
/// All coefficients, the top one included, are uniformly random bytes, zero included. Drawing the top one
/// again when it is zero would tell K-1 guardians together one value that each key byte does not have.
pub fn split(key: &VolumeKey, threshold: Threshold) -> Result<Vec<Share>, SplitError> {
    let degree = usize::from(threshold.k()) - 1;
    let mut coefficients = Zeroizing::new(vec![0; degree * KEY_BYTES]);
    getrandom::fill(&mut coefficients).map_err(SplitError::Random)?;
    Ok((1..=threshold.n()).filter_map(|x| evaluate(key, &coefficients, x)).collect())
}

/// The share at x by Horner's rule, highest coefficients first. None at x = 0.
fn evaluate(key: &VolumeKey, coefficients: &[u8], x: u8) -> Option<Share> {
    let mut share = Share::zeroed(x)?;
    for row in coefficients.chunks_exact(KEY_BYTES).chain([key.expose().as_slice()]) {
        for (value, coefficient) in share.bytes.iter_mut().zip(row) {
            *value = mul(*value, x) ^ coefficient;
        }
    }
    Some(share)
}

/// Puts the key together from at least `k` shares with different points. More than `k` are checked
/// against each other, so that a share of another split is noticed.
pub fn combine<'a>(shares: impl IntoIterator<Item = &'a Share>, k: u8) -> Result<VolumeKey, CombineError> {
    let shares: Vec<&Share> = shares.into_iter().collect();
    if k < K_MIN {
        return Err(CombineError::Threshold { needed: k });
    }
    for (index, share) in shares.iter().enumerate() {
        if shares[..index].iter().any(|earlier| earlier.x == share.x) {
            return Err(CombineError::SamePoint { x: share.x });
        }
    }
    let Some((used, spare)) = shares.split_at_checked(usize::from(k)) else {
        return Err(CombineError::TooFew { found: shares.len(), needed: k });
    };
    for share in spare {
        let mut expected = Zeroizing::new([0; KEY_BYTES]);
        interpolate(used, share.x, &mut expected);
        if !bool::from(expected.ct_eq(share.bytes())) {
            return Err(CombineError::Inconsistent { x: share.x });
        }
    }
    let mut key = VolumeKey::zeroed().map_err(CombineError::Key)?;
    interpolate(used, 0, key.bytes_mut());
    Ok(key)
}

/// Lagrange: the value at `at` of the polynomials through `shares`, whose points differ. Points are public,
/// values are not.
fn interpolate(shares: &[&Share], at: u8, value: &mut [u8; KEY_BYTES]) {
    value.fill(0);
    for share in shares {
        let mut weight = 1;
        for other in shares.iter().filter(|other| other.x != share.x) {
            weight = mul(weight, mul(at ^ other.x, inverse(share.x ^ other.x)));
        }
        for (sum, byte) in value.iter_mut().zip(share.bytes.iter()) {
            *sum ^= mul(weight, *byte);
        }
    }
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
                    at(2) == key ^ mul(key ^ at(1), 2)
                })
                .count();
        }
        assert!((150..400).contains(&straight), "{straight} of 65536 are straight lines");
    }
}
