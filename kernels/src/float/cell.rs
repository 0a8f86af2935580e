//! One step of the cells that most networks have: LSTM and GRU with their usual functions.
//!
//! ```text
//! input, state   sums over the input and over the state before, biases included: one run of units for
//!                each gate (LSTM: input, output, forget, cell; GRU: update, reset, hidden)
//! ```

use super::function::{hyperbolic, logistic};
use crate::cpu::widest;

widest! {
    /// A step of an LSTM: `cell` and `hidden` are the state before, and after.
    pub fn lstm(input: &[f32], state: &[f32], cell: &mut [f32], hidden: &mut [f32]) {
        let units = cell.len();
        let ([taken, shown, kept, added], [of_taken, of_shown, of_kept, of_added]) =
            (gates(input, units), gates(state, units));
        let input = taken.iter().zip(shown).zip(kept).zip(added);
        let state = of_taken.iter().zip(of_shown).zip(of_kept).zip(of_added);
        for (((x, h), cell), hidden) in input.zip(state).zip(cell).zip(hidden) {
            let (((taken, shown), kept), added) = x;
            let (((of_taken, of_shown), of_kept), of_added) = h;
            let added = logistic(taken + of_taken) * hyperbolic(added + of_added);
            *cell = logistic(kept + of_kept) * *cell + added;
            *hidden = logistic(shown + of_shown) * hyperbolic(*cell);
        }
    }
}

widest! {
    /// A step of a GRU whose state is multiplied with the weights before it is reset.
    pub fn gru(input: &[f32], state: &[f32], hidden: &mut [f32]) {
        let units = hidden.len();
        let ([update, reset, candidate], [of_update, of_reset, of_candidate]) =
            (gates(input, units), gates(state, units));
        let input = update.iter().zip(reset).zip(candidate);
        let state = of_update.iter().zip(of_reset).zip(of_candidate);
        for ((x, h), hidden) in input.zip(state).zip(hidden) {
            let ((update, reset), candidate) = x;
            let ((of_update, of_reset), of_candidate) = h;
            let update = logistic(update + of_update);
            let reset = logistic(reset + of_reset);
            let candidate = hyperbolic(candidate + reset * of_candidate);
            *hidden = (1.0 - update) * candidate + update * *hidden;
        }
    }
}

/// The sums of each gate.
#[inline(always)]
fn gates<const COUNT: usize>(sums: &[f32], units: usize) -> [&[f32]; COUNT] {
    std::array::from_fn(|gate| {
        sums.get(gate * units..(gate + 1) * units)
            .unwrap_or_default()
    })
}
