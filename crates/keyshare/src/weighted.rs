//! Sums of secret 32-byte blocks with PUBLIC weights in GF(256): all that splitting and combining do to
//! secrets. Constant time in the blocks: whole words of them are XORed, shifted, masked and multiplied by a
//! constant, in a sequence and at addresses that the weights alone decide.

use zeroize::Zeroize;

use crate::field::Point;

/// Bytes in a block: those of a volume key.
pub(crate) const BLOCK_BYTES: usize = 32;
const WORDS: usize = BLOCK_BYTES / 8;
type Block = [u64; WORDS];

const LOW_SEVEN_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const LOWEST_BITS: u64 = 0x0101_0101_0101_0101;
/// The polynomial without its x^8 term.
const REDUCTION: u64 = 0x1b;

/// Eight products with x at once. The multiplication spreads each byte's carried bit to the reduction.
fn doubled(word: u64) -> u64 {
    ((word & LOW_SEVEN_BITS) << 1) ^ (((word >> 7) & LOWEST_BITS) * REDUCTION)
}

/// The sum of the terms added since the last `take`. As all terms with the same weight may be summed before
/// they are weighted, they are: by the low and by the high half of the weight, so that a term costs two XORs
/// and only the end multiplies. Wiped on drop.
pub(crate) struct WeightedSum {
    /// Sums of the terms by the low four bits of their weight.
    low: [Block; 16],
    /// … and by the high four.
    high: [Block; 16],
}

impl WeightedSum {
    pub(crate) fn new() -> Self {
        Self { low: [[0; WORDS]; 16], high: [[0; WORDS]; 16] }
    }

    /// Adds `weight` times the block.
    pub(crate) fn add(&mut self, weight: Point, block: &[u8; BLOCK_BYTES]) {
        let low = &mut self.low[usize::from(weight.0 & 15)];
        let high = &mut self.high[usize::from(weight.0 >> 4)];
        let (words, _) = block.as_chunks();
        for ((low, high), word) in low.iter_mut().zip(high).zip(words) {
            let word = u64::from_le_bytes(*word);
            *low ^= word;
            *high ^= word;
        }
    }

    /// Writes the sum to `block` and starts again from nothing.
    pub(crate) fn take(&mut self, block: &mut [u8; BLOCK_BYTES]) {
        sums_by_bit(&mut self.low);
        sums_by_bit(&mut self.high);
        let (words, _) = block.as_chunks_mut();
        for (index, word) in words.iter_mut().enumerate() {
            // Horner over the bits of the weights, highest first: the value lives in a register until it
            // is where it belongs.
            let bits =
                [&self.high, &self.low].into_iter().flat_map(|half| [8, 4, 2, 1].map(|bit| half[bit][index]));
            let sum = bits.fold(0, |sum, term| doubled(sum) ^ term);
            *word = sum.to_le_bytes();
        }
        self.low.as_flattened_mut().fill(0);
        self.high.as_flattened_mut().fill(0);
    }
}

/// Leaves at 1, 2, 4 and 8 the sum of the terms whose half weight has that bit.
fn sums_by_bit(halves: &mut [Block; 16]) {
    for bit in [8, 4, 2] {
        let (lower, upper) = halves.split_at_mut(bit);
        let Some((sum, upper)) = upper.split_first_mut() else { continue };
        for (lower, term) in lower[1..].iter_mut().zip(upper) {
            for ((lower, sum), word) in lower.iter_mut().zip(sum.iter_mut()).zip(term) {
                *lower ^= *word;
                *sum ^= *word;
            }
        }
    }
}

impl Drop for WeightedSum {
    fn drop(&mut self) {
        self.low.zeroize();
        self.high.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(terms: &[(u8, [u8; BLOCK_BYTES])]) -> [u8; BLOCK_BYTES] {
        let mut sum = WeightedSum::new();
        terms.iter().for_each(|(weight, block)| sum.add(Point(*weight), block));
        let mut block = [0; BLOCK_BYTES];
        sum.take(&mut block);
        assert!(
            sum.low == [[0; WORDS]; 16] && sum.high == [[0; WORDS]; 16],
            "the next sum starts from nothing"
        );
        block
    }

    /// All 65536 products, each in all 32 places beside other bytes. `Point::times` is proven against the
    /// schoolbook in field.rs.
    #[test]
    fn every_product_in_every_place() {
        for weight in 0..=255 {
            for first in 0..=255u8 {
                let block = std::array::from_fn(|place| first.wrapping_add((place as u8).wrapping_mul(37)));
                let expected = block.map(|byte| Point(weight).times(Point(byte)).0);
                assert_eq!(sum(&[(weight, block)]), expected, "{weight} times {block:?}");
            }
        }
    }

    #[test]
    fn terms_add_up() {
        let terms: Vec<_> = (0..300u32)
            .map(|term| {
                let block = std::array::from_fn(|place| (term * 31 + place as u32 * 7 + (term >> 3)) as u8);
                ((term * 97) as u8, block)
            })
            .collect();
        let expected = std::array::from_fn(|place| {
            terms.iter().fold(0, |sum, (weight, block)| sum ^ Point(*weight).times(Point(block[place])).0)
        });
        assert_eq!(sum(&terms), expected);
        assert_eq!(sum(&[]), [0; BLOCK_BYTES]);
    }
}
