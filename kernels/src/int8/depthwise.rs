//! Convolution of each channel with a filter of its own.
//!
//! ```text
//! image   [height, width, channels]      weights [taps, channels], their zero points taken off
//! sums    [columns of one output row, channels]
//! ```

use std::ops::Range;

use crate::cpu::widest;

/// Channels whose sums are kept in registers together.
const BLOCK: usize = 32;

/// One row of output: where each tap of the filter reads.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Unsigned bytes of the image, channels last.
    pub image: &'a [u8],
    /// How many channels.
    pub channels: usize,
    /// The zero point of the image.
    pub zero: i32,
    /// Weights less their zero points, `channels` for each tap.
    pub weights: &'a [i32],
    /// Where the first channel of each tap stands, for each column in turn; [`OUTSIDE`](crate::product::OUTSIDE) where the tap
    /// falls on padding.
    pub places: &'a [usize],
    /// How many taps the filter has.
    pub taps: usize,
}

widest! {
    /// Adds up `(pixel - zero) * weight` for every column of the row, `channels` sums each.
    pub fn convolve(line: Line<'_>, sums: &mut [i32]) {
        let channels = line.channels.max(1);
        let columns = line.places.chunks_exact(line.taps.max(1));
        for (sums, places) in sums.chunks_exact_mut(channels).zip(columns) {
            let whole = channels / BLOCK * BLOCK;
            for first in (0..whole).step_by(BLOCK) {
                block::<BLOCK>(&line, places, first, sums);
            }
            let mut first = whole;
            if channels - first >= 16 {
                block::<16>(&line, places, first, sums);
                first += 16;
            }
            if channels - first >= 8 {
                block::<8>(&line, places, first, sums);
                first += 8;
            }
            rest(&line, places, first..channels, sums);
        }
    }
}

/// The sums of `WIDTH` channels from `first` on.
#[inline(always)]
fn block<const WIDTH: usize>(line: &Line<'_>, places: &[usize], first: usize, sums: &mut [i32]) {
    let mut total = [0_i32; WIDTH];
    for (place, weights) in places.iter().zip(line.weights.chunks_exact(line.channels)) {
        let weights = weights.get(first..first + WIDTH);
        let pixels = line.image.get(*place..);
        let pixels = pixels.and_then(|pixels| pixels.get(first..first + WIDTH));
        let (Some(weights), Some(pixels)) = (weights, pixels) else {
            continue;
        };
        for ((total, pixel), weight) in total.iter_mut().zip(pixels).zip(weights) {
            let pixel = i32::from(*pixel).wrapping_sub(line.zero);
            *total = total.wrapping_add(pixel.wrapping_mul(*weight));
        }
    }
    if let Some(sums) = sums.get_mut(first..first + WIDTH) {
        sums.copy_from_slice(&total);
    }
}

/// The sums of the few channels that fill no block.
#[inline(always)]
fn rest(line: &Line<'_>, places: &[usize], channels: Range<usize>, sums: &mut [i32]) {
    for channel in channels {
        let mut total = 0_i32;
        for (place, weights) in places.iter().zip(line.weights.chunks_exact(line.channels)) {
            let pixels = line.image.get(*place..);
            let pixel = pixels.and_then(|pixels| pixels.get(channel));
            if let (Some(pixel), Some(weight)) = (pixel, weights.get(channel)) {
                let pixel = i32::from(*pixel).wrapping_sub(line.zero);
                total = total.wrapping_add(pixel.wrapping_mul(*weight));
            }
        }
        if let Some(sum) = sums.get_mut(channel) {
            *sum = total;
        }
    }
}
