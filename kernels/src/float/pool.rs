//! What pools do with pixels: the largest number of each channel, or their mean.
//!
//! ```text
//! image   [pixels, channels]      places [windows, taps]: where each tap reads, or `OUTSIDE`
//! result  [windows, channels]
//! ```

use super::lanes::{Lanes, Width, with_width};
use crate::cpu::widest;

/// Pixels under windows.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// The image, channels last.
    pub image: &'a [f32],
    /// How many channels.
    pub channels: usize,
    /// Where the first channel of each tap stands, for each window in turn;
    /// [`OUTSIDE`](crate::product::OUTSIDE) where it falls on padding.
    pub places: &'a [usize],
    /// How many taps a window has.
    pub taps: usize,
}

impl<'a> Windows<'a> {
    /// The pixel of a tap; nothing on padding.
    #[inline(always)]
    fn pixel(&self, place: usize) -> Option<&'a [f32]> {
        self.image.get(place..)?.get(..self.channels)
    }
}

/// Writes the largest number of each channel; NaN stays NaN.
pub fn most(windows: Windows<'_>, largest: &mut [f32]) {
    most_by(Width::widest(), windows, largest);
}

with_width! {
    pub(super) fn most_by(windows: Windows<'_>, largest: &mut [f32]) = most_of_all
}

#[inline(always)]
fn most_of_all<L: Lanes>(windows: Windows<'_>, largest: &mut [f32]) {
    let places = windows.places.chunks_exact(windows.taps.max(1));
    for (places, largest) in places.zip(largest.chunks_exact_mut(windows.channels.max(1))) {
        let mut channel = 0;
        while channel + 2 * L::NUMBERS <= windows.channels {
            most_of::<L, 2>(windows, (places, channel), largest);
            channel += 2 * L::NUMBERS;
        }
        while channel + L::NUMBERS <= windows.channels {
            most_of::<L, 1>(windows, (places, channel), largest);
            channel += L::NUMBERS;
        }
        for (channel, largest) in largest.iter_mut().enumerate().skip(channel) {
            let numbers = places.iter().filter_map(|place| windows.pixel(*place));
            let numbers = numbers.filter_map(|pixel| pixel.get(channel));
            *largest = numbers.fold(f32::NEG_INFINITY, |kept, number| {
                if *number > kept || number.is_nan() {
                    *number
                } else {
                    kept
                }
            });
        }
    }
}

/// The largest of `VECTORS` vectors of channels from `channel` on, which stay in registers.
#[inline(always)]
fn most_of<L: Lanes, const VECTORS: usize>(
    windows: Windows<'_>,
    (places, channel): (&[usize], usize),
    largest: &mut [f32],
) {
    let mut kept = [L::splat(f32::NEG_INFINITY); VECTORS];
    for pixel in places.iter().filter_map(|place| windows.pixel(*place)) {
        let numbers = pixel.get(channel..).unwrap_or_default();
        for (kept, numbers) in kept.iter_mut().zip(numbers.chunks_exact(L::NUMBERS)) {
            *kept = kept.larger(L::load(numbers));
        }
    }
    let largest = largest.get_mut(channel..).unwrap_or_default();
    for (kept, largest) in kept.iter().zip(largest.chunks_exact_mut(L::NUMBERS)) {
        kept.store(largest);
    }
}

widest! {
    /// Writes the mean of each channel; padding counts as 0 where it is `padded`.
    #[expect(clippy::cast_precision_loss, reason = "windows are far below 2^24 pixels")]
    pub fn mean(windows: Windows<'_>, padded: bool, means: &mut [f32]) {
        let places = windows.places.chunks_exact(windows.taps.max(1));
        for (places, means) in places.zip(means.chunks_exact_mut(windows.channels.max(1))) {
            means.fill(0.0);
            let mut count = 0_usize;
            for pixel in places.iter().filter_map(|place| windows.pixel(*place)) {
                for (mean, number) in means.iter_mut().zip(pixel) {
                    *mean += *number;
                }
                count += 1;
            }
            let count = if padded { windows.taps } else { count.max(1) } as f32;
            for mean in means {
                *mean /= count;
            }
        }
    }
}
