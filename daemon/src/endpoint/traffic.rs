//! The traffic split: which served entity answers a request.
//!
//! Immutable: a new configuration makes a new split. Picking is one table look-up on a random
//! number that the caller draws, so that tests fix the seed and the request path takes no lock.
//! It never looks at what is picked, and it never draws numbers itself.

use edgeward_base::units::Percent;

#[cfg(test)]
mod tests;

/// Hundredths in a whole.
const WHOLE: usize = 100;

/// A split over the entities `0..n`, exact to the percent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSplit {
    /// For each hundredth of the traffic the index of the entity that gets it.
    hundredths: Box<[u8; WHOLE]>,
}

/// The percentages of a split do not sum to 100, or there are more than 256 entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shares of a traffic split sum to {sum}, must be 100")]
pub struct BuildSplitError {
    /// What they sum to.
    pub sum: usize,
}

impl TrafficSplit {
    /// Takes the share of each entity, in the order of the entities.
    ///
    /// # Errors
    /// [`BuildSplitError`] when the shares do not sum to 100.
    pub fn new(shares: &[Percent]) -> Result<Self, BuildSplitError> {
        let sum = shares.iter().map(|share| usize::from(share.get())).sum();
        let owners: Vec<u8> = (0..=u8::MAX)
            .zip(shares)
            .flat_map(|(index, share)| std::iter::repeat_n(index, usize::from(share.get())))
            .collect();
        let hundredths = owners.try_into().map_err(|_| BuildSplitError { sum })?;
        Ok(Self { hundredths })
    }

    /// The index of the entity for `random`, a number drawn evenly from all of `u64`.
    ///
    /// Each entity gets its share of the 2^64 numbers to within one part in 2^57; an entity with
    /// 0 % gets none.
    #[must_use]
    pub fn pick(&self, random: u64) -> usize {
        // The high half of the product scales evenly to 0..100, with no division.
        let hundredth = (u128::from(random) * WHOLE as u128) >> 64;
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "random < 2^64, so the product's high half is below 100"
        )]
        usize::from(self.hundredths[hundredth as usize])
    }

    /// The share of an entity.
    #[must_use]
    pub fn share(&self, index: usize) -> usize {
        self.hundredths
            .iter()
            .filter(|owner| usize::from(**owner) == index)
            .count()
    }
}
