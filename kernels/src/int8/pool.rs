//! The largest byte of each channel under a window.
//!
//! ```text
//! image   [pixels, channels]      places [windows, taps]: where each tap reads, or `OUTSIDE`
//! result  [windows, channels]
//! ```

use super::Encoding;
use crate::cpu::widest;

/// Pixels under windows.
#[derive(Debug, Clone, Copy)]
pub struct Windows<'a> {
    /// The image, channels last.
    pub image: &'a [u8],
    /// How its bytes are read.
    pub encoding: Encoding,
    /// How many channels.
    pub channels: usize,
    /// Where the first channel of each tap stands, for each window in turn;
    /// [`OUTSIDE`](crate::product::OUTSIDE) where it falls on padding.
    pub places: &'a [usize],
    /// How many taps a window has.
    pub taps: usize,
}

widest! {
    /// Writes the largest number of each channel, the least there is where a window sees no pixel.
    pub fn most(windows: Windows<'_>, largest: &mut [u8]) {
        let (channels, flip) = (windows.channels.max(1), windows.encoding.flip());
        let places = windows.places.chunks_exact(windows.taps.max(1));
        for (places, largest) in places.zip(largest.chunks_exact_mut(channels)) {
            largest.fill(i8::MIN.cast_unsigned() ^ flip);
            for place in places {
                let pixel = windows.image.get(*place..).and_then(|rest| rest.get(..channels));
                for (largest, byte) in largest.iter_mut().zip(pixel.unwrap_or_default()) {
                    let larger = (byte ^ flip).cast_signed() > (*largest ^ flip).cast_signed();
                    *largest = if larger { *byte } else { *largest };
                }
            }
        }
    }
}
