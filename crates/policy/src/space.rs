//! The argument space that rules allow, so that two sets of rules can be compared exactly: every condition is a union
//! of cubes (some bits fixed, the others free), and cubes can be cut, subtracted and found empty.

use crate::rules::{Comparison, Condition};

/// More cubes than this and the answer is "not decided": the work stays bounded whatever a file says.
const MAX_CUBES: usize = 512;

/// Some bits of the six arguments are fixed, the others are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cube {
    fixed: [u64; 6],
    value: [u64; 6],
}

/// A union of cubes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Space(Vec<Cube>);

impl Cube {
    const ALL: Cube = Cube { fixed: [0; 6], value: [0; 6] };

    fn with(mut self, index: u8, fixed: u64, value: u64) -> Cube {
        let at = usize::from(index);
        self.fixed[at] |= fixed;
        self.value[at] = (self.value[at] & !fixed) | (value & fixed);
        self
    }

    fn cut(&self, other: &Cube) -> Option<Cube> {
        let mut both = *self;
        for at in 0..6 {
            if (self.value[at] ^ other.value[at]) & self.fixed[at] & other.fixed[at] != 0 {
                return None;
            }
            both.fixed[at] |= other.fixed[at];
            both.value[at] |= other.value[at];
        }
        Some(both)
    }

    /// What of `self` lies outside `other`: one cube for each bit that only `other` fixes.
    fn minus(&self, other: &Cube, out: &mut Vec<Cube>) {
        if self.cut(other).is_none() {
            out.push(*self);
            return;
        }
        let mut rest = *self;
        for index in 0..6u8 {
            let at = usize::from(index);
            let mut bits = other.fixed[at] & !self.fixed[at];
            while bits != 0 {
                let bit = bits & bits.wrapping_neg();
                bits &= !bit;
                out.push(rest.with(index, bit, !other.value[at]));
                rest = rest.with(index, bit, other.value[at]);
            }
        }
    }
}

impl Space {
    pub(crate) fn none() -> Space {
        Space(Vec::new())
    }

    pub(crate) fn everything() -> Space {
        Space(vec![Cube::ALL])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What all conditions together allow; `None` when that takes too many cubes.
    pub(crate) fn of(conditions: &[Condition]) -> Option<Space> {
        conditions.iter().try_fold(Space(vec![Cube::ALL]), |space, one| space.cut(&Space(cubes(one))))
    }

    /// What does not fit any more is left out: the union is then smaller than it should be, never larger.
    pub(crate) fn join(&mut self, other: Space) {
        if self.0.len() + other.0.len() <= MAX_CUBES {
            self.0.extend(other.0);
        }
    }

    pub(crate) fn cut(&self, other: &Space) -> Option<Space> {
        let mut cubes = Vec::new();
        for left in &self.0 {
            cubes.extend(other.0.iter().filter_map(|right| left.cut(right)));
            if cubes.len() > MAX_CUBES {
                return None;
            }
        }
        Some(Space(cubes))
    }

    /// What of `self` is not in `other`; `None` when not decided.
    pub(crate) fn minus(&self, other: &Space) -> Option<Space> {
        let mut rest = self.0.clone();
        for cube in &other.0 {
            let mut next = Vec::new();
            for one in &rest {
                one.minus(cube, &mut next);
            }
            if next.len() > MAX_CUBES {
                return None;
            }
            rest = next;
        }
        Some(Space(rest))
    }

    /// Undecided counts as not covered: a comparison may then say too much, never too little.
    pub(crate) fn is_covered_by(&self, other: &Space) -> bool {
        self.minus(other).is_some_and(|rest| rest.is_empty())
    }
}

fn cubes(condition: &Condition) -> Vec<Cube> {
    let width = if condition.wide { 64 } else { 32 };
    let all = if condition.wide { u64::MAX } else { u64::from(u32::MAX) };
    let cube = |fixed: u64, value: u64| Cube::ALL.with(condition.index, fixed, value);
    let value = condition.value & all;
    // Numbers below `value`: for each of its one bits, the same bits above it, zero there, anything below.
    let below = |value: u64| -> Vec<Cube> {
        let ones = (0..width).map(|bit| 1u64 << bit).filter(|bit| value & bit != 0);
        ones.map(|bit| cube(all & !(bit - 1), value & !bit & !(bit - 1))).collect()
    };
    let above = |value: u64| -> Vec<Cube> {
        let zeros = (0..width).map(|bit| 1u64 << bit).filter(|bit| value & bit == 0);
        zeros.map(|bit| cube(all & !(bit - 1), (value | bit) & !(bit - 1))).collect()
    };
    let equal = cube(all, value);
    match condition.comparison {
        Comparison::Eq => vec![equal],
        Comparison::MaskedEq(mask) => vec![cube(mask & all, value)],
        Comparison::Lt => below(value),
        Comparison::Le => [below(value), vec![equal]].concat(),
        Comparison::Gt => above(value),
        Comparison::Ge => [above(value), vec![equal]].concat(),
        Comparison::Ne => [below(value), above(value)].concat(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(comparison: Comparison, value: u64) -> Condition {
        Condition { index: 0, wide: false, comparison, value }
    }

    fn any_condition() -> impl Strategy<Value = Condition> {
        (0..7usize, 0..16u64, 0..16u64, 0..2u8, any::<bool>()).prop_map(|(kind, value, mask, index, wide)| {
            use Comparison::{Eq, Ge, Gt, Le, Lt, MaskedEq, Ne};
            let comparison = [Eq, Ne, Lt, Le, Gt, Ge, MaskedEq(mask)][kind];
            let value = if kind == 6 { value & mask } else { value };
            Condition { index, wide, comparison, value }
        })
    }

    proptest! {
        /// The cubes say what the conditions say, for every argument in reach of the values used.
        #[test]
        fn cubes_say_what_conditions_say(
            list in prop::collection::vec(any_condition(), 0..4),
            a in 0..20u64, b in 0..20u64, high in any::<bool>(),
        ) {
            let a = if high { a | 1 << 40 } else { a };
            let args = [a, b, 0, 0, 0, 0];
            let point = Space(vec![Cube { fixed: [u64::MAX; 6], value: args }]);
            let Some(space) = Space::of(&list) else { return Ok(()) };
            let inside = point.is_covered_by(&space);
            prop_assert_eq!(inside, list.iter().all(|condition| condition.holds(&args)));
        }

        /// A difference is what it is called.
        #[test]
        fn minus_is_what_is_left(
            left in prop::collection::vec(any_condition(), 0..3),
            right in prop::collection::vec(any_condition(), 0..3),
            a in 0..20u64, b in 0..20u64,
        ) {
            let args = [a, b, 0, 0, 0, 0];
            let point = Space(vec![Cube { fixed: [u64::MAX; 6], value: args }]);
            let (Some(left_space), Some(right_space)) = (Space::of(&left), Space::of(&right)) else { return Ok(()) };
            if let Some(rest) = left_space.minus(&right_space) {
                let holds = |list: &[Condition]| list.iter().all(|condition| condition.holds(&args));
                prop_assert_eq!(point.is_covered_by(&rest), holds(&left) && !holds(&right));
            }
        }
    }

    #[test]
    fn two_halves_are_the_whole() {
        let mut halves = Space::of(&[one(Comparison::MaskedEq(4), 0)]).expect("few");
        assert!(!Space::of(&[]).expect("few").is_covered_by(&halves));
        halves.join(Space::of(&[one(Comparison::MaskedEq(4), 4)]).expect("few"));
        assert!(Space::of(&[]).expect("few").is_covered_by(&halves));
    }

    #[test]
    fn contradictions_are_empty() {
        let space = Space::of(&[one(Comparison::Eq, 1), one(Comparison::Eq, 2)]).expect("few");
        assert!(space.is_empty());
        assert!(Space::of(&[one(Comparison::Lt, 0)]).expect("few").is_empty());
    }
}
