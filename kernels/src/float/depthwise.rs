//! Convolution of each channel with a filter of its own.
//!
//! ```text
//! image   [pixels, channels]      places [columns, taps]      weights [taps, channels]
//! result  [columns, channels] = sum over taps, plus bias, within bounds
//! ```

use super::Bounds;
use super::lanes::{Lanes, Width, with_width};
use crate::product::{OUTSIDE, are_inside};

/// The filters of all channels.
#[derive(Debug, Clone)]
pub struct Filters {
    width: Width,
    /// `[taps, channels]`.
    weights: Vec<f32>,
    bias: Vec<f32>,
    taps: usize,
    channels: usize,
    zeros: Vec<f32>,
}

impl Filters {
    /// Takes weights in. `weight(tap, channel)` is one of them; no `bias` is all 0.
    #[must_use]
    pub fn new(
        (taps, channels): (usize, usize),
        weight: impl Fn(usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Self {
        Self::new_for(Width::widest(), (taps, channels), weight, bias)
    }

    pub(super) fn new_for(
        width: Width,
        (taps, channels): (usize, usize),
        weight: impl Fn(usize, usize) -> f32,
        bias: Option<&[f32]>,
    ) -> Self {
        let weight = &weight;
        let of_tap = |tap| (0..channels).map(move |channel| weight(tap, channel));
        let mut filled: Vec<f32> = bias
            .unwrap_or_default()
            .iter()
            .copied()
            .take(channels)
            .collect();
        filled.resize(channels, 0.0);
        Self {
            width,
            weights: (0..taps).flat_map(of_tap).collect(),
            bias: filled,
            taps,
            channels,
            zeros: vec![0.0; channels],
        }
    }

    /// How many bytes they hold.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        (size_of_val(&*self.weights) + size_of_val(&*self.bias)) as u64
    }

    /// Convolves as many columns as `places` has: where each tap of each begins, or [`OUTSIDE`]. Writes
    /// nothing when a place is not in the image with all its channels.
    pub fn convolve(&self, image: &[f32], places: &[usize], bounds: Bounds, results: &mut [f32]) {
        run(self.width, self, image, places, bounds, results);
    }
}

with_width! {
    fn run(filters: &Filters, image: &[f32], places: &[usize], bounds: Bounds, results: &mut [f32]) = columns
}

#[inline(always)]
fn columns<L: Lanes>(
    filters: &Filters,
    image: &[f32],
    places: &[usize],
    bounds: Bounds,
    results: &mut [f32],
) {
    let are_inside = are_inside(places, image.len(), filters.channels);
    debug_assert!(are_inside, "a tap is not in the image");
    if !are_inside {
        return;
    }
    let mut channel = 0;
    while channel + 4 * L::NUMBERS <= filters.channels {
        run_of::<L, 4, 4>(filters, image, (places, channel), bounds, results);
        channel += 4 * L::NUMBERS;
    }
    while channel + 2 * L::NUMBERS <= filters.channels {
        run_of::<L, 4, 2>(filters, image, (places, channel), bounds, results);
        channel += 2 * L::NUMBERS;
    }
    while channel + L::NUMBERS <= filters.channels {
        run_of::<L, 8, 1>(filters, image, (places, channel), bounds, results);
        channel += L::NUMBERS;
    }
    let (taps, channels) = (filters.taps.max(1), filters.channels.max(1));
    let columns = places.chunks_exact(taps).zip(results.chunks_mut(channels));
    for (places, results) in columns {
        rest::<L>(filters, image, (places, channel), bounds, results);
    }
}

/// Every column, of `VECTORS` vectors of channels: what three lines of an image have of those stays in
/// the nearest cache. Columns whose sums are kept in registers together share what is read of the
/// weights.
#[inline(always)]
fn run_of<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (places, channel): (&[usize], usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    let (taps, channels) = (filters.taps.max(1), filters.channels.max(1));
    let groups = places.chunks(taps * COUNT);
    for (places, results) in groups.zip(results.chunks_mut(channels * COUNT)) {
        if places.len() == taps * COUNT {
            tile::<L, COUNT, VECTORS>(filters, image, (places, channel), bounds, results);
            continue;
        }
        let pairs = places
            .chunks(taps * 2)
            .zip(results.chunks_mut(channels * 2));
        for (places, results) in pairs {
            if places.len() == taps * 2 {
                tile::<L, 2, VECTORS>(filters, image, (places, channel), bounds, results);
            } else {
                tile::<L, 1, VECTORS>(filters, image, (places, channel), bounds, results);
            }
        }
    }
}

/// `COUNT` columns in `VECTORS` vectors of channels.
#[inline(always)]
fn tile<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (places, channel): (&[usize], usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    let channels = filters.channels;
    let wide = VECTORS * L::NUMBERS;
    let sums = summed::<L, COUNT, VECTORS>(filters, image, (places, channel));
    let (least, most) = (L::splat(bounds.least), L::splat(bounds.most));
    for (sums, results) in sums.iter().zip(results.chunks_mut(channels)) {
        let to = results.get_mut(channel..channel + wide).unwrap_or_default();
        for (sum, to) in sums.iter().zip(to.chunks_exact_mut(L::NUMBERS)) {
            sum.within(least, most).store(to);
        }
    }
}

/// The sums of all taps. They come back by value: written elsewhere one after the other, they would not
/// be held in registers here. Every place has a whole pixel, or is [`OUTSIDE`].
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a check of each pixel costs more than what is computed with it"
)]
fn summed<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (places, channel): (&[usize], usize),
) -> [[L; VECTORS]; COUNT] {
    let (taps, channels) = (filters.taps, filters.channels);
    let wide = VECTORS * L::NUMBERS;
    let bias = filters.bias.get(channel..channel + wide);
    let mut sums = [vectors::<L, VECTORS>(bias.unwrap_or_default()); COUNT];
    if places.len() < taps * COUNT {
        return sums;
    }
    for (tap, weights) in filters.weights.chunks_exact(channels).enumerate() {
        let weights = weights.get(channel..channel + wide);
        let weights = vectors::<L, VECTORS>(weights.unwrap_or_default());
        for (column, sums) in sums.iter_mut().enumerate() {
            // SAFETY: there are `taps` places for each of `COUNT` columns, as was checked.
            let place = unsafe { *places.get_unchecked(column * taps + tap) };
            let (from, place) = if place == OUTSIDE {
                (&*filters.zeros, 0)
            } else {
                (image, place)
            };
            let at = place + channel;
            // SAFETY: `columns` checked that every pixel has all channels, as the zeros have.
            let numbers = unsafe { from.get_unchecked(at..at + wide) };
            let numbers = vectors::<L, VECTORS>(numbers);
            for ((sum, number), weight) in sums.iter_mut().zip(numbers).zip(weights) {
                *sum = number.mul_add(weight, *sum);
            }
        }
    }
    sums
}

/// The first vectors of `numbers`.
#[inline(always)]
fn vectors<L: Lanes, const VECTORS: usize>(numbers: &[f32]) -> [L; VECTORS] {
    let mut vectors = [L::splat(0.0); VECTORS];
    for (vector, numbers) in vectors.iter_mut().zip(numbers.chunks_exact(L::NUMBERS)) {
        *vector = L::load(numbers);
    }
    vectors
}

/// The channels of one column that fill no vector, each in the first place of one: as the others are
/// computed.
#[inline(always)]
fn rest<L: Lanes>(
    filters: &Filters,
    image: &[f32],
    (places, first): (&[usize], usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    for channel in first..filters.channels {
        let one =
            |numbers: &[f32], at: usize| L::splat(numbers.get(at).copied().unwrap_or_default());
        let mut sum = one(&filters.bias, channel);
        for (place, weights) in places
            .iter()
            .zip(filters.weights.chunks_exact(filters.channels))
        {
            let number = one(image, place.saturating_add(channel));
            sum = number.mul_add(one(weights, channel), sum);
        }
        let mut whole = [0.0; 16];
        sum.within(L::splat(bounds.least), L::splat(bounds.most))
            .store(&mut whole);
        if let (Some(result), Some(number)) = (results.get_mut(channel), whole.first()) {
            *result = *number;
        }
    }
}
