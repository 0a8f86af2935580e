//! What pools do with pixels: the largest number of each channel, or their mean.
//!
//! ```text
//! image   [pixels, channels]      places [windows, taps]: where each tap reads, or `OUTSIDE`
//! result  [windows, channels]
//! ```

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

widest! {
    /// Writes the largest number of each channel; NaN stays NaN.
    pub fn most(windows: Windows<'_>, largest: &mut [f32]) {
        let places = windows.places.chunks_exact(windows.taps.max(1));
        for (places, largest) in places.zip(largest.chunks_exact_mut(windows.channels.max(1))) {
            largest.fill(f32::NEG_INFINITY);
            for pixel in places.iter().filter_map(|place| windows.pixel(*place)) {
                for (largest, number) in largest.iter_mut().zip(pixel) {
                    *largest = if *number > *largest || number.is_nan() { *number } else { *largest };
                }
            }
        }
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
