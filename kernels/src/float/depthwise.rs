//! Convolution of each channel with a filter of its own.
//!
//! ```text
//! image   [pixels, channels]      places [columns, taps]      weights [taps, channels]
//! result  [columns, channels] = sum over taps, plus bias, within bounds
//! ```

use super::Bounds;
use super::lanes::{Lanes, Width, with_width};
use crate::product::{OUTSIDE, pixel};

/// Columns whose sums are kept in registers together: they share what is read of the weights.
const COLUMNS: usize = 4;

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

    /// Convolves as many columns as `places` has, where each tap of each begins or
    /// [`OUTSIDE`].
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
    let mut channel = 0;
    while channel + 4 * L::NUMBERS <= filters.channels {
        run_of::<L, 4>(filters, image, (places, channel), bounds, results);
        channel += 4 * L::NUMBERS;
    }
    while channel + 2 * L::NUMBERS <= filters.channels {
        run_of::<L, 2>(filters, image, (places, channel), bounds, results);
        channel += 2 * L::NUMBERS;
    }
    while channel + L::NUMBERS <= filters.channels {
        run_of::<L, 1>(filters, image, (places, channel), bounds, results);
        channel += L::NUMBERS;
    }
    let (taps, channels) = (filters.taps.max(1), filters.channels.max(1));
    let columns = places.chunks_exact(taps).zip(results.chunks_mut(channels));
    for (places, results) in columns {
        rest::<L>(filters, image, (places, channel), bounds, results);
    }
}

/// Every column, of `VECTORS` vectors of channels: what three lines of an image have of those stays in
/// the nearest cache.
#[inline(always)]
fn run_of<L: Lanes, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (places, channel): (&[usize], usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    let (taps, channels) = (filters.taps.max(1), filters.channels.max(1));
    let groups = places.chunks(taps * COLUMNS);
    for (places, results) in groups.zip(results.chunks_mut(channels * COLUMNS)) {
        if places.len() == taps * COLUMNS {
            tile::<L, COLUMNS, VECTORS>(filters, image, (places, channel), bounds, results);
            continue;
        }
        for (places, results) in places.chunks_exact(taps).zip(results.chunks_mut(channels)) {
            tile::<L, 1, VECTORS>(filters, image, (places, channel), bounds, results);
        }
    }
}

/// The sums of `COUNT` columns in `VECTORS` vectors of channels, in registers.
#[inline(always)]
fn tile<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (places, channel): (&[usize], usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    let (taps, channels) = (filters.taps, filters.channels);
    let wide = VECTORS * L::NUMBERS;
    let vectors = |numbers: &[f32]| {
        let mut vectors = [L::splat(0.0); VECTORS];
        for (vector, numbers) in vectors.iter_mut().zip(numbers.chunks_exact(L::NUMBERS)) {
            *vector = L::load(numbers);
        }
        vectors
    };
    let bias = filters.bias.get(channel..channel + wide);
    let mut sums = [vectors(bias.unwrap_or_default()); COUNT];
    for (tap, weights) in filters.weights.chunks_exact(channels).enumerate() {
        let weights = vectors(weights.get(channel..channel + wide).unwrap_or_default());
        let mut pixels = [&[] as &[f32]; COUNT];
        for (pixels, places) in pixels.iter_mut().zip(places.chunks_exact(taps)) {
            let place = places.get(tap).copied().unwrap_or(OUTSIDE);
            *pixels = pixel(image, &filters.zeros, place.saturating_add(channel), wide);
        }
        sums = added(sums, pixels, weights);
    }
    let (least, most) = (L::splat(bounds.least), L::splat(bounds.most));
    for (sums, results) in sums.iter().zip(results.chunks_mut(channels)) {
        let to = results.get_mut(channel..channel + wide).unwrap_or_default();
        for (sum, to) in sums.iter().zip(to.chunks_exact_mut(L::NUMBERS)) {
            sum.within(least, most).store(to);
        }
    }
}

/// The sums with the products of one tap added. They are passed by value so that they stay in registers.
#[inline(always)]
fn added<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    mut sums: [[L; VECTORS]; COUNT],
    pixels: [&[f32]; COUNT],
    weights: [L; VECTORS],
) -> [[L; VECTORS]; COUNT] {
    for (sums, pixel) in sums.iter_mut().zip(pixels) {
        let numbers = pixel.chunks_exact(L::NUMBERS);
        for ((sum, number), weight) in sums.iter_mut().zip(numbers).zip(weights) {
            *sum = L::load(number).mul_add(weight, *sum);
        }
    }
    sums
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
