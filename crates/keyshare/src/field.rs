//! GF(256) with the polynomial x^8+x^4+x^3+x+1 (0x11b), for PUBLIC elements: the points of shares and the
//! weights that follow from them. Uses tables and branches, so nothing secret may ever become a [`Point`];
//! secret bytes are multiplied by points in weighted.rs. Addition is XOR.

/// Order of the multiplicative group: exponents count modulo this.
const ORDER: u32 = 255;

/// Powers of the generator 3, twice over so that a sum of two logarithms needs no reduction, and their
/// logarithms. The logarithm of 0 stands as 0: see [`Interpolation::new`].
const TABLES: ([u8; 510], [u8; 256]) = {
    let (mut powers, mut logarithms) = ([0; 510], [0; 256]);
    let (mut element, mut exponent) = (1u8, 0);
    while exponent < ORDER as usize {
        powers[exponent] = element;
        powers[exponent + ORDER as usize] = element;
        logarithms[element as usize] = exponent as u8;
        let doubled = (element << 1) ^ if element >> 7 == 1 { 0x1b } else { 0 };
        element ^= doubled;
        exponent += 1;
    }
    (powers, logarithms)
};
static POWERS: [u8; 510] = TABLES.0;
static LOGARITHMS: [u8; 256] = TABLES.1;

/// A public element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point(pub(crate) u8);

impl Point {
    /// Where the key is.
    pub(crate) const ZERO: Self = Self(0);
    pub(crate) const ONE: Self = Self(1);

    fn logarithm(self) -> u32 {
        LOGARITHMS[usize::from(self.0)].into()
    }

    /// The difference, which in this field is also the sum.
    fn minus(self, other: Self) -> Self {
        Self(self.0 ^ other.0)
    }

    /// The product.
    pub(crate) fn times(self, other: Self) -> Self {
        if self == Self::ZERO || other == Self::ZERO {
            return Self::ZERO;
        }
        Self(POWERS[(self.logarithm() + other.logarithm()) as usize])
    }
}

/// Lagrange's formula for values known at some points, all different.
pub(crate) struct Interpolation {
    points: Vec<Point>,
    /// For each point x, the logarithm of the product of x − m over all other points m.
    products: Vec<u32>,
}

impl Interpolation {
    pub(crate) fn new(points: Vec<Point>) -> Self {
        // A point's difference to itself is 0, whose entry in the table adds nothing: no need to leave it out.
        let product = |x: &Point| points.iter().map(|m| x.minus(*m).logarithm()).sum::<u32>() % ORDER;
        let products = points.iter().map(product).collect();
        Self { points, products }
    }

    /// What each value counts, in the order of the points, in the sum that is the value at `at`. `at` is
    /// none of the points.
    pub(crate) fn weights(&self, at: Point) -> impl Iterator<Item = Point> {
        let distance = move |x: Point| at.minus(x).logarithm();
        let all: u32 = self.points.iter().map(|x| distance(*x)).sum();
        self.points.iter().zip(&self.products).map(move |(x, product)| {
            let exponent = (all + 2 * ORDER - distance(*x) - product) % ORDER;
            Point(POWERS[exponent as usize])
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Schoolbook: carry-less product, then long division by 0x11b. Shares nothing with the tables.
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

    fn inverse(a: u8) -> u8 {
        (0..=255).find(|b| reference(a, *b) == 1).unwrap()
    }

    #[test]
    fn every_product_is_the_schoolbook_one() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(Point(a).times(Point(b)).0, reference(a, b), "{a} times {b}");
            }
        }
    }

    #[test]
    fn published_vectors() {
        let times = |a, b| Point(a).times(Point(b)).0;
        assert_eq!(times(170, 255), 235);
        assert_eq!(times(42, 152), 1);
        assert_eq!(times(2, 141), 1);
    }

    /// Every weight of several sets of points, against the formula written out with schoolbook products.
    #[test]
    fn weights_are_those_of_the_formula() {
        let sets: [(Vec<u8>, Vec<u8>); 4] = [
            (vec![1, 2, 3], vec![0, 4, 255]),
            (vec![255, 7, 100, 1], vec![0, 2, 128]),
            ((1..=128).rev().collect(), vec![0, 129, 255]),
            ((1..=255).collect(), vec![0]),
        ];
        for (points, targets) in sets {
            let interpolation = Interpolation::new(points.iter().map(|x| Point(*x)).collect());
            for at in targets {
                let found: Vec<u8> = interpolation.weights(Point(at)).map(|weight| weight.0).collect();
                let expected: Vec<u8> = points
                    .iter()
                    .map(|x| {
                        let others = points.iter().filter(|m| *m != x);
                        others.fold(1, |weight, m| reference(weight, reference(at ^ m, inverse(x ^ m))))
                    })
                    .collect();
                assert_eq!(found, expected, "{} points, at {at}", points.len());
            }
        }
    }
}
