//! Arithmetic in GF(256) with the polynomial x^8+x^4+x^3+x+1 (0x11b).
//! Constant time: no table is indexed by, and no branch depends on, an operand. Addition is XOR and needs
//! no function here.

use std::hint::black_box;

/// The reduction polynomial without its x^8 term.
const REDUCTION: u8 = 0x1b;

/// 0xff when the lowest bit is set, else 0. The black box keeps the optimizer from turning the mask back
/// into a branch on a secret bit.
fn mask(bit: u8) -> u8 {
    black_box((bit & 1).wrapping_neg())
}

/// The product of two field elements.
pub(crate) fn mul(a: u8, b: u8) -> u8 {
    let (mut a, mut b, mut product) = (a, b, 0);
    for _ in 0..8 {
        product ^= a & mask(b);
        let overflow = mask(a >> 7);
        a = (a << 1) ^ (overflow & REDUCTION);
        b >>= 1;
    }
    product
}

/// The multiplicative inverse, `a^254`; 0 for 0, which has none.
pub(crate) fn inverse(a: u8) -> u8 {
    // a^254 = a^2 · a^4 · a^8 · … · a^128: seven squarings whatever the operand.
    let mut power = mul(a, a);
    let mut result = power;
    for _ in 0..6 {
        power = mul(power, power);
        result = mul(result, power);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Schoolbook: carry-less product, then long division by 0x11b. Shares nothing with `mul`.
    fn reference(a: u8, b: u8) -> u8 {
        let mut product: u16 = 0;
        for bit in 0..8 {
            if b >> bit & 1 == 1 {
                product ^= u16::from(a) << bit;
            }
        }
        for bit in (8..16).rev() {
            if product >> bit & 1 == 1 {
                product ^= 0x11b << (bit - 8);
            }
        }
        product as u8
    }

    #[test]
    fn every_product_is_the_schoolbook_one() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), reference(a, b), "{a} times {b}");
            }
        }
    }

    #[test]
    fn every_element_but_zero_has_its_inverse() {
        assert_eq!(inverse(0), 0);
        for a in 1..=255 {
            assert_eq!(mul(a, inverse(a)), 1, "inverse of {a}");
        }
    }

    #[test]
    fn published_vectors() {
        assert_eq!(mul(170, 255), 235);
        assert_eq!(inverse(42), 152);
        assert_eq!(inverse(2), 141);
        // p(x) = 42 + 5x + 7x²
        let p = |x: u8| 42 ^ mul(5, x) ^ mul(7, mul(x, x));
        let values = [(1, 40), (2, 60), (3, 62), (4, 78), (5, 76), (10, 207), (100, 214), (255, 125)];
        for (x, y) in values {
            assert_eq!(p(x), y, "p({x})");
        }
    }
}
