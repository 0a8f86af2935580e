use super::*;

fn record(pace: &Pace, runs: u32, micros: u64) {
    for _ in 0..runs {
        pace.record(micros);
    }
}

#[test]
fn fast_runs_move_in_line_and_slow_ones_move_back() {
    let pace = Pace::default();
    record(&pace, FIRST - 1, 50);
    assert!(!pace.inline(), "no verdict before the first runs are over");
    pace.record(50);
    assert!(pace.inline());
    record(&pace, WINDOW - FIRST - 2, 50);
    record(&pace, 2, INLINE_MICROS + 1);
    assert!(
        !pace.inline(),
        "two slow runs in a hundred are a p99 over the limit"
    );
    record(&pace, WINDOW - 1, 50);
    record(&pace, 1, INLINE_MICROS + 1);
    assert!(pace.inline(), "one slow run in a hundred is not");
}

#[test]
fn one_slow_run_among_the_first_keeps_the_pool_for_the_whole_window() {
    let pace = Pace::default();
    pace.record(INLINE_MICROS + 1);
    record(&pace, WINDOW - 2, 50);
    assert!(!pace.inline());
    pace.record(50);
    assert!(pace.inline());
}
