//! Costs: what it takes to answer so many requests of a model at once, and how many to take.
//!
//! Owns what was measured while the model served, and the choice that follows from it. It counts
//! requests, because that is what a thread knows before it has read their bodies, and times whole turns:
//! reading, every run, writing. So whatever keeps requests from sharing a run counts against taking them
//! together: bodies of many rows, sequences of different lengths, runs that fail.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many requests are taken at once. Few sizes, because a model may need a plan of its own for each.
const SIZES: [usize; 4] = [1, 4, 16, 64];

/// A larger size has to answer a request in at most so many hundredths of the time that a smaller one
/// takes: at the same speed a request only waits longer among more others.
const PAYS_PERCENT: u64 = 90;

/// One choice in so many tries a size, whatever is known of it, because a box changes.
const CHOICES_PER_TRIAL: u64 = 1024;

/// The first turn of each size is not counted: it may have built a plan.
const NOT_COUNTED: u64 = 1;

/// What turns of a model took. Lock-free; turns that end at once may count as one.
#[derive(Debug, Default)]
pub struct Costs {
    turns: [Turns; SIZES.len()],
    choices: AtomicU64,
}

#[derive(Debug, Default)]
struct Turns {
    count: AtomicU64,
    /// Nanoseconds of one, smoothed; 0 before the first that counts.
    nanos: AtomicU64,
}

/// The number of requests of a size, where a batch may have `most`; `None` where a smaller size is that
/// already.
fn size(at: usize, most: usize) -> Option<usize> {
    let smaller = at.checked_sub(1).and_then(|at| SIZES.get(at));
    let size = *SIZES.get(at)?;
    smaller
        .is_none_or(|smaller| *smaller < most)
        .then(|| size.min(most.max(1)))
}

impl Costs {
    /// Takes note of a turn that took `requests` at once, of at most `most`.
    pub fn record(&self, requests: usize, most: usize, took: Duration) {
        let sizes = (0..SIZES.len()).map(|at| size(at, most));
        let known = sizes
            .zip(&self.turns)
            .find(|(size, _)| *size == Some(requests));
        let Some((_, turns)) = known else { return };
        if turns.count.fetch_add(1, Ordering::Relaxed) < NOT_COUNTED {
            return;
        }
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let before = turns.nanos.load(Ordering::Relaxed);
        // Whatever else runs on the box only ever makes a turn longer: shorter ones count more.
        let after = match before {
            0 => took,
            before if took < before => before / 2 + took / 2,
            before => before.saturating_add((took - before) / 8),
        };
        turns.nanos.store(after.max(1), Ordering::Relaxed);
    }

    /// How many of `waiting` requests to take at once, at most `most`; at least 1.
    #[must_use]
    pub fn choose(&self, waiting: usize, most: usize) -> usize {
        if waiting < 2 || most < 2 {
            return 1;
        }
        let trial = self.trial();
        self.best(waiting, most, trial)
    }

    /// How many requests are worth waiting for: 1 where nothing is gained by more.
    #[must_use]
    pub fn target(&self, most: usize) -> usize {
        self.best(most, most, None)
    }

    /// What one request takes alone.
    #[must_use]
    pub fn alone(&self) -> Duration {
        Duration::from_nanos(self.nanos(0))
    }

    fn best(&self, waiting: usize, most: usize, trial: Option<usize>) -> usize {
        let mut best = (1, self.nanos(0));
        if best.1 == 0 || trial == Some(0) {
            return 1;
        }
        for at in 1..SIZES.len() {
            let Some(size) = size(at, most).filter(|_| waiting > best.0) else {
                break;
            };
            let (taken, nanos) = (waiting.min(size), self.nanos(at));
            // A size is tried with as many requests as it has.
            if taken == size && (nanos == 0 || trial == Some(at)) {
                return size;
            }
            if nanos != 0 && pays((taken, nanos), best) {
                best = (taken, nanos);
            }
        }
        best.0
    }

    /// The size to be tried this time: each in its turn.
    fn trial(&self) -> Option<usize> {
        let choice = self.choices.fetch_add(1, Ordering::Relaxed) + 1;
        let turn = usize::try_from(choice / CHOICES_PER_TRIAL).unwrap_or(0);
        let due = choice.is_multiple_of(CHOICES_PER_TRIAL);
        due.then_some(turn % SIZES.len())
    }

    fn nanos(&self, at: usize) -> u64 {
        let turns = self.turns.get(at);
        turns.map_or(0, |turns| turns.nanos.load(Ordering::Relaxed))
    }
}

/// Whether requests are answered faster by the one than by the other; each has a number of requests and
/// what their turn takes.
fn pays((taken, turn): (usize, u64), (before, before_turn): (usize, u64)) -> bool {
    let of = |taken: usize| u64::try_from(taken).unwrap_or(u64::MAX);
    let each = turn.saturating_mul(of(before)).saturating_mul(100);
    each <= before_turn
        .saturating_mul(of(taken))
        .saturating_mul(PAYS_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    /// Takes note of a turn that counts.
    fn record(costs: &Costs, requests: usize, most: usize, took: Duration) {
        (0..2).for_each(|_| costs.record(requests, most, took));
    }

    #[test]
    fn a_size_is_taken_where_it_answers_more_in_a_second() {
        let costs = Costs::default();
        // Nothing is known, so nothing is put together.
        assert_eq!(costs.choose(64, 64), 1);
        record(&costs, 1, 64, MILLI);
        // Four were never tried: they are, when there are four.
        assert_eq!(costs.choose(3, 64), 1);
        assert_eq!(costs.choose(64, 64), 4);
        assert_eq!(costs.target(64), 4);
        // Reading the weights is most of it.
        record(&costs, 4, 64, MILLI);
        assert_eq!(costs.choose(64, 64), 16);
        record(&costs, 16, 64, MILLI * 2);
        record(&costs, 64, 64, MILLI * 8);
        assert_eq!(costs.choose(64, 64), 16);
        assert_eq!(costs.choose(64, 4), 4);
        // Padding twelve to sixteen is better than three turns of four, padding five is not.
        assert_eq!(costs.choose(12, 64), 12);
        assert_eq!(costs.choose(5, 64), 4);
        assert_eq!(costs.choose(3, 64), 3);
        assert_eq!(costs.choose(1, 64), 1);
        assert_eq!(costs.alone(), MILLI);
    }

    #[test]
    fn the_most_is_a_size_of_its_own() {
        for most in [2, 3, 8, 20] {
            let costs = Costs::default();
            record(&costs, 1, most, MILLI);
            let sizes: Vec<usize> = SIZES
                .into_iter()
                .filter(|size| *size < most)
                .skip(1)
                .collect();
            for size in sizes.into_iter().chain([most]) {
                assert_eq!(costs.choose(64, most), size, "it is tried");
                record(&costs, size, most, MILLI);
            }
            assert_eq!(costs.choose(64, most), most);
            assert_eq!(costs.target(most), most);
        }
    }

    #[test]
    fn the_first_turn_of_a_size_is_not_counted_and_long_ones_count_little() {
        let costs = Costs::default();
        record(&costs, 1, 4, MILLI);
        costs.record(4, 4, MILLI * 100);
        assert_eq!(
            costs.choose(4, 4),
            4,
            "it built its plan, and is tried again"
        );
        costs.record(4, 4, MILLI);
        assert_eq!(costs.choose(4, 4), 4);
        costs.record(4, 4, MILLI * 10);
        assert_eq!(costs.choose(4, 4), 4, "the box did something else");
    }

    #[test]
    fn a_size_that_does_not_pay_is_left_and_tried_again() {
        let costs = Costs::default();
        for (requests, factor) in [(1, 1), (4, 4), (16, 15), (64, 60)] {
            record(&costs, requests, 64, MILLI * factor);
        }
        assert_eq!(costs.target(64), 1);
        let chosen: Vec<usize> = (0..CHOICES_PER_TRIAL * 4)
            .map(|_| costs.choose(64, 64))
            .collect();
        let tried: Vec<&usize> = chosen.iter().filter(|taken| **taken != 1).collect();
        assert_eq!(tried, [&4, &16, &64]);
        // It pays by now.
        (0..3).for_each(|_| costs.record(4, 64, MILLI));
        assert_eq!(costs.choose(8, 4), 4);
    }
}
