//! Sets of categories that a feature can be a member of.
//!
//! Small whole numbers, which is what categories are, become bits; any other values a sorted list.

/// How a number that is not whole is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fractions {
    /// It is in no set: ONNX asks for equality.
    Outside,
    /// The next whole number towards minus infinity counts: `XGBoost`, for which -0.5 is no category.
    Down,
    /// The next whole number towards zero counts: `LightGBM`, for which -0.5 is category 0.
    TowardsZero,
}

/// Whole numbers from here on are kept in a list: a bit for each below would be too many.
const MOST_BITS: u32 = 1 << 16;

/// A set of numbers. NaN is never a member.
#[derive(Debug, Clone, PartialEq)]
pub struct Members {
    fractions: Fractions,
    /// A bit for each small whole number.
    bits: Vec<u64>,
    /// Everything else, in order.
    others: Vec<f64>,
}

impl Members {
    /// The set of these numbers; NaN among them is left out.
    #[must_use]
    pub fn new(fractions: Fractions, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut bits, mut others) = (Vec::new(), Vec::new());
        for value in values {
            if let Some(number) = small(value) {
                let word = number as usize / 64;
                bits.resize(bits.len().max(word + 1), 0_u64);
                if let Some(word) = bits.get_mut(word) {
                    *word |= 1 << (number % 64);
                }
            } else if !value.is_nan() {
                others.push(value);
            }
        }
        others.sort_by(f64::total_cmp);
        Self {
            fractions,
            bits,
            others,
        }
    }

    /// Whether `x` is a member.
    #[must_use]
    #[inline]
    pub fn contains(&self, x: f64) -> bool {
        let x = match self.fractions {
            Fractions::Outside => x,
            Fractions::Down => x.floor(),
            Fractions::TowardsZero => x.trunc(),
        };
        match small(x) {
            Some(number) => {
                let word = self.bits.get(number as usize / 64).copied();
                word.unwrap_or(0) >> (number % 64) & 1 == 1
            }
            None => self
                .others
                .binary_search_by(|other| {
                    // Zeros of either sign are small, so that only numbers are compared here.
                    other.partial_cmp(&x).unwrap_or(std::cmp::Ordering::Greater)
                })
                .is_ok(),
        }
    }

    /// How many bytes the set takes.
    pub(super) fn resident(&self) -> usize {
        size_of::<Self>() + (self.bits.len() + self.others.len()) * 8
    }
}

/// A whole number that has a bit; -0 is 0.
#[inline]
fn small(x: f64) -> Option<u32> {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "what does not survive the way there and back is no small whole number"
    )]
    let number = x as u32;
    (number < MOST_BITS && f64::from(number) == x).then_some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_format_reads_fractions_in_its_way() {
        let values = [0.0, 3.0, 200.0, 70_000.0];
        let set = |fractions| Members::new(fractions, values);
        for (fractions, inside, outside) in [
            (
                Fractions::Outside,
                vec![0.0, -0.0, 3.0, 200.0, 70_000.0],
                vec![3.5, -0.5, 0.5],
            ),
            (
                Fractions::Down,
                vec![0.5, 3.999, 200.1, 70_000.5],
                vec![-0.5, -1.0, 4.0],
            ),
            (
                Fractions::TowardsZero,
                vec![0.5, -0.5, 3.999, 70_000.5],
                vec![-1.0, 4.0, -3.0],
            ),
        ] {
            let set = set(fractions);
            for x in inside {
                assert!(set.contains(x), "{x} under {fractions:?}");
            }
            for x in outside {
                assert!(!set.contains(x), "{x} under {fractions:?}");
            }
            for x in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300] {
                assert!(!set.contains(x), "{x} under {fractions:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_set_has_what_was_put_into_it_and_nothing_else(
            values in prop::collection::vec(prop_oneof![
                (-5_i32..400).prop_map(f64::from),
                (0_i32..200_000).prop_map(f64::from),
                any::<f64>(),
            ], 0..40),
            asked in prop::collection::vec(prop_oneof![
                (-5_i32..400).prop_map(f64::from),
                any::<f64>(),
            ], 0..40),
        ) {
            let set = Members::new(Fractions::Outside, values.iter().copied());
            for x in values.iter().chain(&asked) {
                prop_assert_eq!(set.contains(*x), values.iter().any(|value| value == x), "{}", x);
            }
        }
    }
}
