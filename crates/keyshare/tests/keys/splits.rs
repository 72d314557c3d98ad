//! Splitting and combining.

use std::convert::Infallible;

use orama_keyshare::{CombineError, KEY_BYTES, Share, Threshold, VolumeKey, combine, split, split_with};
use proptest::prelude::*;
use proptest::sample::subsequence;
use rand_core::{TryCryptoRng, TryRng};

fn key(bytes: [u8; 32]) -> VolumeKey {
    VolumeKey::from_slice(&bytes).unwrap()
}

fn share(x: u8, value: u8) -> Share {
    Share::new(x, &[value; 32]).unwrap()
}

#[test]
fn published_points_give_the_published_secret() {
    // 42 + 5x + 7x²
    let points = [(1, 40), (2, 60), (3, 62), (4, 78), (5, 76), (10, 207), (100, 214), (255, 125)];
    let shares: Vec<Share> = points.iter().map(|(x, y)| share(*x, *y)).collect();
    assert_eq!(combine(&shares, 3).unwrap().expose(), &[42; 32]);
    for first in 0..shares.len() {
        for second in 0..first {
            for third in 0..second {
                let three = [&shares[first], &shares[second], &shares[third]];
                assert_eq!(combine(three, 3).unwrap().expose(), &[42; 32]);
            }
        }
    }
}

#[test]
fn there_is_no_share_at_the_key_itself() {
    assert!(Share::new(0, &[1; 32]).is_none());
}

#[test]
fn too_few_repeated_and_foreign_shares_are_refused() {
    let key = VolumeKey::generate().unwrap();
    let mut shares = split(&key, Threshold::for_guardians(5).unwrap()).unwrap();
    let error = |shares: &[&Share], k| combine(shares.iter().copied(), k).err().unwrap();
    let [a, b, c, d, _] = shares.as_slice() else { panic!("{} shares", shares.len()) };
    assert!(matches!(error(&[], 3), CombineError::TooFew { found: 0, needed: 3 }));
    assert!(matches!(error(&[a, b], 3), CombineError::TooFew { found: 2, needed: 3 }));
    assert!(matches!(error(&[a, b, a], 3), CombineError::SamePoint { x: 1 }));
    assert!(matches!(error(&[a, b, c, a], 3), CombineError::SamePoint { x: 1 }));
    for k in 0..3 {
        assert!(matches!(error(&[a, b, c], k), CombineError::Threshold { needed } if needed == k));
    }
    let other = split(&key, Threshold::for_guardians(5).unwrap()).unwrap();
    assert!(matches!(error(&[a, b, c, &other[3]], 3), CombineError::Inconsistent { x: 4 }));
    assert!(matches!(error(&[a, b, c, d, &other[4]], 3), CombineError::Inconsistent { x: 5 }));
    shares.reverse();
    assert!(combine(&shares, 3).unwrap().matches(&key));
}

/// With K-1 shares in hand, each value of the missing share's byte gives another key byte, and all 256 come
/// up: every key is exactly as consistent with those K-1 shares as every other.
#[test]
fn one_share_less_says_nothing_about_the_key() {
    for guardians in [3, 5, 10, 13] {
        let threshold = Threshold::for_guardians(guardians).unwrap();
        let shares = split(&VolumeKey::generate().unwrap(), threshold).unwrap();
        let known = &shares[..usize::from(threshold.k()) - 1];
        let mut seen = vec![[false; 256]; 32];
        for value in 0..=255 {
            let guess = share(threshold.n(), value);
            let candidate = combine(known.iter().chain([&guess]), threshold.k()).unwrap();
            for (seen, byte) in seen.iter_mut().zip(candidate.expose()) {
                seen[usize::from(*byte)] = true;
            }
        }
        assert!(seen.iter().flatten().all(|seen| *seen), "{guardians} guardians");
    }
}

/// Coefficients that are known.
struct Fixed<'a>(&'a [u8]);

impl TryRng for Fixed<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unimplemented!("split fills bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unimplemented!("split fills bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(self.0);
        Ok(())
    }
}

impl TryCryptoRng for Fixed<'_> {}

/// Two shares of 3 of 3 say nothing at all: for each of the 256 values of a key byte, the 65536 polynomials with
/// that constant term give each of the 65536 pairs of values at x = 1 and x = 2 exactly once.
#[test]
fn every_pair_of_shares_fits_every_key_byte_exactly_once() {
    let threshold = Threshold::from_parts(3, 3).unwrap();
    let mut seen = vec![[0u64; 65536 / 64]; KEY_BYTES];
    for first in (0..=255u8).step_by(KEY_BYTES) {
        // 32 key bytes at a time, each with the same polynomial but for the constant term.
        let key = key(std::array::from_fn(|place| first + place as u8));
        seen.iter_mut().for_each(|pairs| pairs.fill(0));
        let mut coefficients = [0; 2 * KEY_BYTES];
        for pair in 0..=u16::MAX {
            let [one, two] = pair.to_le_bytes();
            coefficients[..KEY_BYTES].fill(one);
            coefficients[KEY_BYTES..].fill(two);
            let Ok(shares) = split_with(&key, threshold, &mut Fixed(&coefficients));
            for (place, pairs) in seen.iter_mut().enumerate() {
                let values = [shares[0].bytes()[place], shares[1].bytes()[place]];
                let index = usize::from(u16::from_le_bytes(values));
                let bit = 1 << (index % 64);
                assert_eq!(pairs[index / 64] & bit, 0, "key byte {first} + {place}: {values:?} again");
                pairs[index / 64] |= bit;
            }
        }
    }
}

/// The product by carry-less multiplication and long division by 0x11b, a bit at a time.
fn schoolbook(a: u8, b: u8) -> u8 {
    let mut product =
        (0..8).filter(|bit| b >> bit & 1 == 1).fold(0u16, |sum, bit| sum ^ (u16::from(a) << bit));
    for bit in (8..16).rev() {
        if product >> bit & 1 == 1 {
            product ^= 0x11b << (bit - 8);
        }
    }
    product as u8
}

#[test]
fn the_same_key_never_splits_the_same_way() {
    let key = VolumeKey::generate().unwrap();
    let threshold = Threshold::for_guardians(5).unwrap();
    let (one, two) = (split(&key, threshold).unwrap(), split(&key, threshold).unwrap());
    assert!(one.iter().zip(&two).all(|(one, two)| one.bytes() != two.bytes()));
    assert!(one.iter().all(|share| share.bytes() != key.expose()));
}

#[test]
fn two_hundred_fifty_five_guardians() {
    let key = VolumeKey::generate().unwrap();
    let shares = split(&key, Threshold::for_guardians(255).unwrap()).unwrap();
    assert_eq!((shares[0].x(), shares[254].x()), (1, 255));
    assert!(combine(&shares[170..], 85).unwrap().matches(&key));
    assert!(combine(&shares[171..], 85).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_k_of_n_give_the_key(
        bytes in any::<[u8; 32]>(),
        (n, order) in (3usize..=24).prop_flat_map(|n| {
            let k = Threshold::for_guardians(n).unwrap().k().into();
            (Just(n), subsequence((0..n).collect::<Vec<_>>(), k..=n).prop_shuffle())
        }),
    ) {
        let threshold = Threshold::for_guardians(n).unwrap();
        let shares = split(&key(bytes), threshold).unwrap();
        let chosen: Vec<&Share> = order.iter().map(|index| &shares[*index]).collect();
        let found = combine(chosen.iter().copied(), threshold.k()).unwrap();
        prop_assert_eq!(found.expose(), &bytes);
        let fewer = &chosen[..usize::from(threshold.k()) - 1];
        prop_assert!(combine(fewer.iter().copied(), threshold.k()).is_err());
    }

    /// Every byte of every share, by Horner's rule with schoolbook products.
    #[test]
    fn shares_are_the_values_of_the_polynomials(
        bytes in any::<[u8; 32]>(),
        (n, coefficients) in (3usize..=60).prop_flat_map(|n| {
            let degree = usize::from(Threshold::for_guardians(n).unwrap().k()) - 1;
            (Just(n), prop::collection::vec(any::<u8>(), degree * KEY_BYTES))
        }),
    ) {
        let threshold = Threshold::for_guardians(n).unwrap();
        let Ok(shares) = split_with(&key(bytes), threshold, &mut Fixed(&coefficients));
        for (x, share) in (1..=threshold.n()).zip(&shares) {
            prop_assert_eq!(share.x(), x);
            for (place, byte) in bytes.iter().enumerate() {
                let rows = coefficients.chunks_exact(KEY_BYTES).rev();
                let expected = rows.fold(0, |value, row| schoolbook(value ^ row[place], x)) ^ byte;
                prop_assert_eq!(share.bytes()[place], expected);
            }
        }
    }

    /// Whatever lies at K points is on some polynomials, and `combine` gives their values at 0.
    #[test]
    fn the_key_is_the_value_at_zero(
        (points, values) in subsequence((1..=255u8).collect::<Vec<_>>(), 3..=40)
            .prop_shuffle()
            .prop_flat_map(|points| {
                let values = prop::collection::vec(any::<[u8; 32]>(), points.len());
                (Just(points), values)
            }),
    ) {
        let inverse = |a: u8| (1..=255).find(|b| schoolbook(a, *b) == 1).unwrap();
        let shares: Vec<_> =
            points.iter().zip(&values).map(|(x, bytes)| Share::new(*x, bytes).unwrap()).collect();
        let mut expected = [0; 32];
        for (x, value) in points.iter().zip(&values) {
            let others = points.iter().filter(|m| *m != x);
            let weight = others.fold(1, |weight, m| schoolbook(weight, schoolbook(*m, inverse(x ^ m))));
            expected.iter_mut().zip(value).for_each(|(sum, byte)| *sum ^= schoolbook(weight, *byte));
        }
        let found = combine(&shares, points.len() as u8).unwrap();
        prop_assert_eq!(found.expose(), &expected);
    }

    #[test]
    fn one_changed_bit_among_spare_shares_is_noticed(byte in 0usize..32, bit in 0u8..8, which in 0usize..5) {
        let shares = split(&key([7; 32]), Threshold::for_guardians(5).unwrap()).unwrap();
        let mut bytes = *shares[which].bytes();
        bytes[byte] ^= 1 << bit;
        let changed = Share::new(shares[which].x(), &bytes).unwrap();
        let set = shares.iter().map(|share| if share.x() == changed.x() { &changed } else { share });
        let found = combine(set, 3);
        prop_assert!(matches!(found, Err(CombineError::Inconsistent { .. })), "a changed share passed");
    }
}
