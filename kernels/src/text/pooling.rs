//! From the vectors of a text's tokens to one vector.
//!
//! Sums are formed in `f64` in the order of the tokens and rounded once.

use crate::chain::Pooling;

impl Pooling {
    /// Pools the first `count` vectors of `hidden`, `[tokens, width]`; what follows is padding.
    #[must_use]
    pub(super) fn pool(self, hidden: &[f32], width: usize, count: usize) -> Vec<f32> {
        let vectors = || hidden.chunks_exact(width.max(1)).take(count);
        let whole =
            |vector: Option<&[f32]>| vector.map_or_else(|| vec![0.0; width], <[f32]>::to_vec);
        match self {
            Self::Cls => whole(vectors().next()),
            Self::LastToken => whole(vectors().next_back()),
            Self::Mean => mean(vectors(), width, count),
            Self::Max => {
                let mut largest = whole(vectors().next());
                for vector in vectors() {
                    for (most, element) in largest.iter_mut().zip(vector) {
                        *most = most.max(*element);
                    }
                }
                largest
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a text has fewer than 2^52 tokens"
)]
fn mean<'a>(vectors: impl Iterator<Item = &'a [f32]>, width: usize, count: usize) -> Vec<f32> {
    let mut sums = vec![0.0_f64; width];
    for vector in vectors {
        for (sum, element) in sums.iter_mut().zip(vector) {
            *sum += f64::from(*element);
        }
    }
    let count = count.max(1) as f64;
    sums.into_iter().map(|sum| narrow(sum / count)).collect()
}

/// Divides `vector` by its length; a vector of zeros stays.
pub(super) fn normalise(vector: &mut [f32]) {
    let square: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    // What sentence-transformers takes for no length.
    let length = square.sqrt().max(1e-12);
    for element in vector {
        *element = narrow(f64::from(*element) / length);
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a vector's components are f32"
)]
fn narrow(wide: f64) -> f32 {
    wide as f32
}
