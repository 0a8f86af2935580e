//! A whole sequence, one row of the batch after the other.

use std::ops::{Add, Div, Mul, Sub};

use tract_onnx::tract_hir::internal::{Tensor, TractErrorContext as _, TractResult, ensure};

use super::cell::{Cell, State};

/// What sequences are computed in: `f32`, or `f64` for the reference.
pub(super) trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    fn of(number: f32) -> Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
    fn tanh(self) -> Self;
    /// No less than one bound and no more than the other; NaN stays.
    fn within(self, least: Self, most: Self) -> Self {
        if self < least {
            least
        } else if self > most {
            most
        } else {
            self
        }
    }
    fn narrow(numbers: &[Self]) -> Vec<f32>;
}

impl Real for f32 {
    fn of(number: f32) -> Self {
        number
    }

    fn exp(self) -> Self {
        self.exp()
    }

    fn ln(self) -> Self {
        self.ln()
    }

    fn tanh(self) -> Self {
        self.tanh()
    }

    fn narrow(numbers: &[Self]) -> Vec<f32> {
        numbers.to_vec()
    }
}

impl Real for f64 {
    fn of(number: f32) -> Self {
        number.into()
    }

    fn exp(self) -> Self {
        self.exp()
    }

    fn ln(self) -> Self {
        self.ln()
    }

    fn tanh(self) -> Self {
        self.tanh()
    }

    fn narrow(numbers: &[Self]) -> Vec<f32> {
        numbers
            .iter()
            .map(|number| super::super::operator::rounded(*number))
            .collect()
    }
}

/// How many steps each row has.
#[derive(Debug)]
pub(super) struct Lengths(Vec<usize>);

impl Lengths {
    pub(super) fn read(
        inputs: &[&Tensor],
        at: usize,
        batch: usize,
        steps: usize,
    ) -> TractResult<Self> {
        let input = inputs.get(at).context("sequence_lens is missing")?;
        let lengths = input.cast_to::<i64>()?;
        let lengths = lengths.try_as_plain_ram()?;
        let lengths = lengths.as_slice::<i64>()?.iter();
        let lengths = lengths.map(|length| usize::try_from(*length).ok());
        let lengths = lengths.map(|length| length.filter(|length| *length <= steps));
        let lengths: Option<Vec<usize>> = lengths.collect();
        let lengths =
            lengths.with_context(|| format!("sequence_lens has one beyond {steps} steps"))?;
        ensure!(
            lengths.len() == batch,
            "sequence_lens has {} lengths for {batch} rows",
            lengths.len()
        );
        Ok(Self(lengths))
    }
}

/// What one direction is given.
pub(super) struct Given<'a, T> {
    pub(super) x: &'a [T],
    pub(super) features: usize,
    pub(super) w: &'a [T],
    pub(super) r: &'a [T],
    pub(super) bias: Option<&'a [T]>,
    pub(super) peepholes: Option<&'a [T]>,
    pub(super) first_state: Option<&'a [T]>,
    pub(super) first_cell: Option<&'a [T]>,
    pub(super) lengths: Option<&'a Lengths>,
    pub(super) clip: Option<T>,
}

/// The weights that a step needs beside its input.
pub(super) struct Weights<'a, T> {
    r: &'a [T],
    bias: &'a [T],
    peepholes: &'a [T],
    units: usize,
    clip: Option<T>,
}

impl<T: Real> Weights<'_, T> {
    /// The state's sum for each unit of a gate, its bias included.
    pub(super) fn of_state(&self, gate: usize, state: &[T]) -> Vec<T> {
        let rows = self.r.chunks_exact(self.units.max(1));
        let rows = rows.skip(gate * self.units).take(self.units);
        let mut biases = self.bias.iter().skip(gate * self.units);
        rows.map(|row| plus(dot(row, state), biases.next()))
            .collect()
    }

    /// The weights with which a gate sees the cell: 0 input, 1 output, 2 forget. Empty without any.
    pub(super) fn peephole(&self, gate: usize) -> &[T] {
        let mut gates = self.peepholes.chunks_exact(self.units.max(1));
        gates.nth(gate).unwrap_or_default()
    }

    /// A sum within the node's clip.
    pub(super) fn clipped(&self, sum: T) -> T {
        match self.clip {
            Some(clip) => sum.within(T::of(0.0) - clip, clip),
            None => sum,
        }
    }
}

fn plus<T: Real>(sum: T, bias: Option<&T>) -> T {
    bias.map_or(sum, |bias| sum + *bias)
}

/// Eight running sums, which the compiler keeps in vectors.
fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let mut sums = [T::of(0.0); 8];
    let (left, right) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest = left.remainder().iter().zip(right.remainder());
    for (left, right) in left.zip(right) {
        for ((sum, left), right) in sums.iter_mut().zip(left).zip(right) {
            *sum = *sum + *left * *right;
        }
    }
    let rest = rest.map(|(left, right)| *left * *right);
    sums.into_iter()
        .chain(rest)
        .fold(T::of(0.0), |sum, term| sum + term)
}

/// Where the numbers of a step and a row are, in the inputs and outputs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    pub(super) steps: usize,
    pub(super) batch: usize,
    pub(super) units: usize,
    pub(super) directions: usize,
    pub(super) batch_first: bool,
}

impl Places {
    /// Which of the rows of X.
    pub(super) fn input(&self, step: usize, row: usize) -> usize {
        if self.batch_first {
            row * self.steps + step
        } else {
            step * self.batch + row
        }
    }

    /// Where a state begins in `Y_h`, `Y_c` and the first states.
    pub(super) fn state(&self, direction: usize, row: usize) -> usize {
        let place = if self.batch_first {
            row * self.directions + direction
        } else {
            direction * self.batch + row
        };
        place * self.units
    }

    /// Where a state begins in Y.
    pub(super) fn every(&self, step: usize, direction: usize, row: usize) -> usize {
        let place = if self.batch_first {
            (row * self.steps + step) * self.directions + direction
        } else {
            (step * self.directions + direction) * self.batch + row
        };
        place * self.units
    }
}

/// The outputs, filled one direction after the other.
pub(super) struct Sequence<T> {
    places: Places,
    /// Of each step; zeros behind the end of a row.
    pub(super) every: Vec<T>,
    pub(super) last: Vec<T>,
    pub(super) last_cell: Vec<T>,
}

impl<T: Real> Sequence<T> {
    pub(super) fn new(places: Places) -> Self {
        let Places {
            steps,
            batch,
            units,
            directions,
            ..
        } = places;
        let last = vec![T::of(0.0); directions * batch * units];
        Self {
            places,
            every: vec![T::of(0.0); steps * directions * batch * units],
            last_cell: last.clone(),
            last,
        }
    }

    /// Computes one direction.
    pub(super) fn run(
        &mut self,
        number: usize,
        cell: &Cell,
        backwards: bool,
        given: &Given<'_, T>,
    ) {
        let units = self.places.units;
        let wide = cell.gates() * units;
        let bias = given.bias.unwrap_or_default();
        let (of_input, of_state) = bias.split_at_checked(wide).unwrap_or_default();
        let weights = Weights {
            r: given.r,
            bias: of_state,
            peepholes: given.peepholes.unwrap_or_default(),
            units,
            clip: given.clip,
        };
        for row in 0..self.places.batch {
            let place = self.places.state(number, row);
            let first = |given: Option<&[T]>| {
                let first = given.and_then(|given| given.get(place..place + units));
                first.map_or_else(|| vec![T::of(0.0); units], <[T]>::to_vec)
            };
            let mut state = State {
                hidden: first(given.first_state),
                cell: first(given.first_cell),
            };
            let length = given.lengths.and_then(|lengths| lengths.0.get(row));
            let length = length.copied().unwrap_or(self.places.steps);
            for step in 0..length {
                let step = if backwards { length - 1 - step } else { step };
                let input = self.input(given, of_input, step, row);
                cell.step(&input, &weights, &mut state);
                let place = self.places.every(step, number, row);
                copy(&mut self.every, place, &state.hidden);
            }
            copy(&mut self.last, place, &state.hidden);
            copy(&mut self.last_cell, place, &state.cell);
        }
    }

    /// The input's sum at a step, for each unit of each gate.
    fn input(&self, given: &Given<'_, T>, bias: &[T], step: usize, row: usize) -> Vec<T> {
        let at = self.places.input(step, row);
        let x = given.x.get(at * given.features..(at + 1) * given.features);
        let x = x.unwrap_or_default();
        let mut biases = bias.iter();
        let rows = given.w.chunks_exact(given.features.max(1));
        rows.map(|row| plus(dot(row, x), biases.next())).collect()
    }
}

fn copy<T: Copy>(to: &mut [T], place: usize, from: &[T]) {
    for (to, from) in to.iter_mut().skip(place).zip(from) {
        *to = *from;
    }
}
