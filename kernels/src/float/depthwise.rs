//! Convolution of each channel with a filter of its own.
//!
//! ```text
//! image   [pixels, channels]      places [columns, taps]      weights [taps, channels]
//! result  [columns, channels] = sum over taps, plus bias, within bounds
//! ```

use std::ops::Range;

use super::Bounds;
use super::lanes::{Lanes, Width, with_width};
use crate::product::{OUTSIDE, are_inside};

/// Columns that are summed together where a column has one vector of channels: as many sums as hide how
/// long each takes.
const NARROW: usize = 8;
/// The same where it has more vectors.
const WIDE: usize = 4;

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

    /// Whether an image is sooner laid out with its padding, so that all `columns` of a row are even, than
    /// convolved with its `inner` ones even: where only all of them are enough to be summed together.
    #[must_use]
    pub fn is_quicker_even(&self, inner: usize, columns: usize) -> bool {
        let together = if self.channels < 2 * self.width.numbers() {
            NARROW
        } else {
            WIDE
        };
        (inner + 1..=columns).contains(&together)
    }

    /// Convolves as many columns as `places` has: where each tap of each begins, or [`OUTSIDE`]. Of the
    /// columns `even`, each reads as far behind the one before. Writes nothing when a place is not in the
    /// image with all its channels.
    pub fn convolve(
        &self,
        image: &[f32],
        (places, even): (&[usize], Range<usize>),
        bounds: Bounds,
        results: &mut [f32],
    ) {
        let even = Even::of(places, self.taps, even);
        run(self.width, self, image, (places, even), bounds, results);
    }
}

/// Columns that each read as far behind the one before.
#[derive(Debug, Clone, Copy)]
struct Even<'a> {
    /// The first one.
    from: usize,
    /// How many.
    count: usize,
    /// Where the taps of the first one begin.
    firsts: &'a [usize],
    /// How far behind.
    step: usize,
}

impl<'a> Even<'a> {
    /// `None` where they are too few. The last of them must lie where its place says: so all of them are
    /// in the image where that one is.
    fn of(places: &'a [usize], taps: usize, columns: Range<usize>) -> Option<Self> {
        let column = |at: usize| places.get(at * taps..(at + 1) * taps);
        let (from, count) = (columns.start, columns.len());
        if count < 2 {
            return None;
        }
        let firsts = column(from)?;
        let mut pairs = firsts.iter().zip(column(from + 1)?);
        let step = pairs.find_map(|(first, second)| {
            let known = *first != OUTSIDE && *second != OUTSIDE;
            known.then(|| second.checked_sub(*first))
        })??;
        let far = step.checked_mul(count - 1)?;
        let mut ends = firsts.iter().zip(column(from + count - 1)?);
        let is_even = |(first, last): (&usize, &usize)| match *first {
            OUTSIDE => *last == OUTSIDE,
            first => *last != OUTSIDE && first.checked_add(far) == Some(*last),
        };
        ends.all(is_even).then_some(Self {
            from,
            count,
            firsts,
            step,
        })
    }
}

with_width! {
    fn run(filters: &Filters, image: &[f32], places: (&[usize], Option<Even<'_>>), bounds: Bounds, results: &mut [f32]) = columns
}

#[inline(always)]
fn columns<L: Lanes>(
    filters: &Filters,
    image: &[f32],
    (places, even): (&[usize], Option<Even<'_>>),
    bounds: Bounds,
    results: &mut [f32],
) {
    let are_inside = are_inside(places, image.len(), filters.channels);
    debug_assert!(are_inside, "a tap is not in the image");
    if !are_inside {
        return;
    }
    let places = (places, even);
    let mut channel = 0;
    while channel + 4 * L::NUMBERS <= filters.channels {
        run_of::<L, WIDE, 4>(filters, image, (places, channel), bounds, results);
        channel += 4 * L::NUMBERS;
    }
    while channel + 2 * L::NUMBERS <= filters.channels {
        run_of::<L, WIDE, 2>(filters, image, (places, channel), bounds, results);
        channel += 2 * L::NUMBERS;
    }
    while channel + L::NUMBERS <= filters.channels {
        run_of::<L, NARROW, 1>(filters, image, (places, channel), bounds, results);
        channel += L::NUMBERS;
    }
    let (taps, channels) = (filters.taps.max(1), filters.channels.max(1));
    let columns = places
        .0
        .chunks_exact(taps)
        .zip(results.chunks_mut(channels));
    for (places, results) in columns {
        rest::<L>(filters, image, (places, channel), bounds, results);
    }
}

/// Every column, of `VECTORS` vectors of channels: what three lines of an image have of those stays in
/// the nearest cache. Columns whose sums are kept in registers together share what is read of the
/// weights, and even ones where their taps are.
#[inline(always)]
fn run_of<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    ((places, even), channel): ((&[usize], Option<Even<'_>>), usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    let (taps, channels) = (filters.taps.max(1), filters.channels.max(1));
    // Fewer are sooner done one by one.
    let Some(even) = even.filter(|even| even.count >= COUNT) else {
        return one_by_one::<L, COUNT, VECTORS>(filters, image, (places, channel), bounds, results);
    };
    let (before, rest) = places.split_at(even.from * taps);
    let after = rest.get(even.count * taps..).unwrap_or_default();
    let (first, rest) = results.split_at_mut(even.from * channels);
    let (middle, last) = rest.split_at_mut(even.count * channels);
    let mut column = 0;
    column = evenly::<L, COUNT, VECTORS>(filters, image, (even, column, channel), bounds, middle);
    column = evenly::<L, 4, VECTORS>(filters, image, (even, column, channel), bounds, middle);
    column = evenly::<L, 2, VECTORS>(filters, image, (even, column, channel), bounds, middle);
    evenly::<L, 1, VECTORS>(filters, image, (even, column, channel), bounds, middle);
    one_by_one::<L, COUNT, VECTORS>(filters, image, (before, channel), bounds, first);
    one_by_one::<L, COUNT, VECTORS>(filters, image, (after, channel), bounds, last);
}

/// Even columns from `column` on, `COUNT` at a time; returns the first that is left. `results` are those
/// of all even columns.
#[inline(always)]
fn evenly<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (even, column, channel): (Even<'_>, usize, usize),
    bounds: Bounds,
    results: &mut [f32],
) -> usize {
    let (mut column, channels) = (column, filters.channels.max(1));
    let rest = results.get_mut(column * channels..).unwrap_or_default();
    for results in rest.chunks_exact_mut(COUNT * channels) {
        let sums = summed_evenly::<L, COUNT, VECTORS>(filters, image, (even, column, channel));
        write::<L, COUNT, VECTORS>(sums, (channels, channel), bounds, results);
        column += COUNT;
    }
    column
}

/// Columns of which each reads where its own places say.
#[inline(always)]
fn one_by_one<L: Lanes, const COUNT: usize, const VECTORS: usize>(
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
            let sums = summed::<L, COUNT, VECTORS>(filters, image, (places, channel));
            write::<L, COUNT, VECTORS>(sums, (channels, channel), bounds, results);
            continue;
        }
        for (places, results) in places.chunks(taps).zip(results.chunks_mut(channels)) {
            let sums = summed::<L, 1, VECTORS>(filters, image, (places, channel));
            write::<L, 1, VECTORS>(sums, (channels, channel), bounds, results);
        }
    }
}

/// Writes the sums of `COUNT` columns, of `VECTORS` vectors of channels from `channel` on.
#[inline(always)]
fn write<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    sums: [[L; VECTORS]; COUNT],
    (channels, channel): (usize, usize),
    bounds: Bounds,
    results: &mut [f32],
) {
    let wide = VECTORS * L::NUMBERS;
    let (least, most) = (L::splat(bounds.least), L::splat(bounds.most));
    for (column, sums) in sums.into_iter().enumerate() {
        let first = column * channels + channel;
        let to = results.get_mut(first..first + wide).unwrap_or_default();
        for (sum, to) in sums.into_iter().zip(to.chunks_exact_mut(L::NUMBERS)) {
            sum.within(least, most).store(to);
        }
    }
}

/// [`summed`] of even columns, from `column` of them on.
#[inline(always)]
#[expect(
    unsafe_code,
    reason = "a check of each pixel costs more than what is computed with it"
)]
fn summed_evenly<L: Lanes, const COUNT: usize, const VECTORS: usize>(
    filters: &Filters,
    image: &[f32],
    (even, column, channel): (Even<'_>, usize, usize),
) -> [[L; VECTORS]; COUNT] {
    let wide = VECTORS * L::NUMBERS;
    let bias = filters.bias.get(channel..channel + wide);
    let mut sums = [vectors::<L, VECTORS>(bias.unwrap_or_default()); COUNT];
    if column + COUNT > even.count {
        return sums;
    }
    let taps = filters.weights.chunks_exact(filters.channels);
    for (place, weights) in even.firsts.iter().zip(taps) {
        let weights = weights.get(channel..channel + wide);
        let weights = vectors::<L, VECTORS>(weights.unwrap_or_default());
        let (from, place, step) = if *place == OUTSIDE {
            (&*filters.zeros, 0, 0)
        } else {
            (image, *place, even.step)
        };
        let mut at = place + column * step + channel;
        for sums in &mut sums {
            // SAFETY: this place is no further than that of the last even column, which has all channels
            // in the image, as `columns` checked; the zeros have all channels, too.
            let numbers = unsafe { from.get_unchecked(at..at + wide) };
            let numbers = vectors::<L, VECTORS>(numbers);
            for ((sum, number), weight) in sums.iter_mut().zip(numbers).zip(weights) {
                *sum = number.mul_add(weight, *sum);
            }
            at += step;
        }
    }
    sums
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
