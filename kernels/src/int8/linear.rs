//! Between real numbers and 8 bits: `byte = round(real / scale) + zero`, `real = (byte - zero) * scale`.

use std::sync::{Mutex, PoisonError};

use super::{Encoding, rounded};
use crate::cpu::widest;
use crate::team;

/// The scale and the zero point of a run of numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Linear {
    /// What one step is worth.
    pub scale: f32,
    /// The number that stands for 0, as the encoding reads it.
    pub zero: i32,
    /// How bytes are read.
    pub encoding: Encoding,
}

impl Linear {
    /// The byte of one number.
    #[must_use]
    pub fn byte(&self, real: f32) -> u8 {
        let mut byte = [0];
        quantise(&[real], *self, &mut byte);
        let [byte] = byte;
        byte
    }

    /// The number of one byte.
    #[must_use]
    pub fn real(&self, byte: u8) -> f32 {
        let mut real = [0.0];
        dequantise(&[byte], *self, &mut real);
        let [real] = real;
        real
    }
}

/// Numbers that are brought to or from bytes in about a nanosecond.
const MADE: usize = 4;

/// Writes the byte of each of `reals`, on all threads of the call. NaN becomes the smallest number.
pub fn quantise_all(reals: &[f32], linear: Linear, bytes: &mut [u8]) {
    team::fill(bytes, BLOCK, reals.len() / MADE, |first, bytes| {
        let reals = reals.get(first..).unwrap_or_default();
        quantise(reals, linear, bytes);
    });
}

/// Widens `range` as [`widen`] does, on all threads of the call.
pub fn widen_all(reals: &[f32], range: &mut (f32, f32)) {
    if !team::is_worth(reals.len() / MADE) {
        widen(reals, range);
        return;
    }
    let blocks = reals.len().div_ceil(BLOCK);
    let size = team::part(blocks, 1, 1) * BLOCK;
    let parts: Vec<&[f32]> = reals.chunks(size).collect();
    let all = Mutex::new(*range);
    team::each_of(parts, |reals| {
        let mut range = (f32::INFINITY, f32::NEG_INFINITY);
        widen(reals, &mut range);
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        *all = (all.0.min(range.0), all.1.max(range.1));
    });
    *range = all.into_inner().unwrap_or_else(PoisonError::into_inner);
}

/// Numbers that one thread takes at once, at least.
const BLOCK: usize = 1 << 10;

widest! {
    /// Writes the byte of each of `reals`. NaN becomes the smallest number.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "zero points and results are of 8 bits"
    )]
    pub fn quantise(reals: &[f32], linear: Linear, bytes: &mut [u8]) {
        let least = (linear.encoding.least() - linear.zero) as f32;
        let most = least + 255.0;
        for (byte, real) in bytes.iter_mut().zip(reals) {
            let steps = (real / linear.scale).max(least).min(most);
            *byte = rounded(steps).wrapping_add(linear.zero) as u8;
        }
    }
}

widest! {
    /// Writes the number of each of `bytes`.
    #[expect(clippy::cast_precision_loss, reason = "a difference of two bytes is exact in f32")]
    pub fn dequantise(bytes: &[u8], linear: Linear, reals: &mut [f32]) {
        let flip = linear.encoding.flip();
        let zero = linear.zero - 128 - linear.encoding.least();
        for (real, byte) in reals.iter_mut().zip(bytes) {
            let number = i32::from((byte ^ flip).cast_signed());
            *real = number.wrapping_sub(zero) as f32 * linear.scale;
        }
    }
}

widest! {
    /// Widens `range` so that it takes in the smallest and largest of `reals`; NaN counts as neither.
    pub fn widen(reals: &[f32], range: &mut (f32, f32)) {
        const LANES: usize = 16;
        let (mut least, mut most) = ([range.0; LANES], [range.1; LANES]);
        let blocks = reals.chunks_exact(LANES);
        for (lane, real) in blocks.remainder().iter().enumerate() {
            if let (Some(least), Some(most)) = (least.get_mut(lane), most.get_mut(lane)) {
                *least = if *real < *least { *real } else { *least };
                *most = if *real > *most { *real } else { *most };
            }
        }
        for block in blocks {
            for ((least, most), real) in least.iter_mut().zip(&mut most).zip(block) {
                *least = if *real < *least { *real } else { *least };
                *most = if *real > *most { *real } else { *most };
            }
        }
        range.0 = least.into_iter().fold(range.0, f32::min);
        range.1 = most.into_iter().fold(range.1, f32::max);
    }
}
