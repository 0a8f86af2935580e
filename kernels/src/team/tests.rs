//! Loops that many threads share against the same on one.

use edgeward_harness::floors;

use super::*;

#[test]
fn every_part_is_computed_once_in_every_loop() {
    const LOOPS: u32 = 20_000;
    with_helpers(3, || {
        for round in 0..LOOPS {
            let round = usize::try_from(round).unwrap();
            let parts = round % 9;
            let done: Vec<AtomicUsize> = (0..parts).map(|_| AtomicUsize::new(0)).collect();
            each(parts, |part| {
                done[part].fetch_add(1, Ordering::Relaxed);
            });
            let done: Vec<usize> = done.into_iter().map(AtomicUsize::into_inner).collect();
            assert_eq!(done, vec![1; parts], "round {round}");
        }
    });
    floors::reached("kernels.team.loops", u64::from(LOOPS));
}

#[test]
fn pieces_of_a_slice_are_each_written_once() {
    let mut numbers = vec![0_u64; 10_007];
    with_helpers(2, || {
        for round in 1..200 {
            each_of(
                numbers.chunks_mut(97).enumerate().collect(),
                |(at, chunk)| {
                    for number in chunk {
                        *number += at as u64 + round;
                    }
                },
            );
        }
    });
    for (at, number) in numbers.iter().enumerate() {
        let piece = at as u64 / 97;
        assert_eq!(*number, piece * 199 + 199 * 200 / 2, "{at}");
    }
}

#[test]
fn helpers_that_slept_are_woken_by_the_next_loop() {
    let team = Arc::new(Team::new(2, Team::WORTH, |_| {}));
    std::thread::scope(|scope| {
        scope.spawn(|| team.attend(|| false));
        for _ in 0..20 {
            while team.asleep.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let met = std::sync::Barrier::new(2);
            // Returns only when two threads are at it.
            team.lead(|| {
                each(2, |_| {
                    met.wait();
                });
            });
        }
        team.close();
    });
}

#[test]
fn a_helper_that_is_wanted_elsewhere_leaves_a_call_that_goes_on() {
    let team = Arc::new(Team::new(2, Team::WORTH, |_| {}));
    let wanted = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let helper = scope.spawn(|| team.attend(|| wanted.load(Ordering::SeqCst)));
        while team.asleep.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        wanted.store(true, Ordering::SeqCst);
        team.wake();
        helper.join().unwrap();
        let sum = AtomicU64::new(0);
        team.lead(|| {
            each(5, |part| {
                sum.fetch_add(part as u64, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 10);
    });
}

#[test]
fn help_is_asked_for_once_and_only_when_there_is_something_to_share() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let team = Arc::new(Team::new(2, Team::WORTH, move |_| {
        counted.fetch_add(1, Ordering::SeqCst);
    }));
    team.lead(|| each(1, |_| {}));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    team.lead(|| {
        each(2, |_| {});
        each(2, |_| {});
    });
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

#[test]
fn parts_share_nothing_of_their_own_and_alone_there_is_no_team() {
    assert_eq!(threads(), 1);
    with_helpers(1, || {
        assert_eq!(threads(), 2);
        each(4, |_| {
            assert_eq!(threads(), 1);
            each(3, |_| {});
        });
        assert_eq!(threads(), 2);
    });
    assert_eq!(threads(), 1);
}

#[test]
fn a_part_that_panics_ends_its_loop_and_the_next_one_runs() {
    for panicking in 0..8 {
        with_helpers(1, || {
            let loop_of = || {
                each(8, |part| assert_ne!(part, panicking, "part {part} fails"));
            };
            let payload = catch_unwind(AssertUnwindSafe(loop_of)).unwrap_err();
            let message = payload.downcast_ref::<String>().unwrap();
            assert!(message.contains("fails"), "{message}");
            assert_eq!(threads(), 2);
            let sum = AtomicU64::new(0);
            each(8, |part| {
                sum.fetch_add(part as u64, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 28);
        });
    }
}

#[test]
fn parts_are_several_where_they_stay_large() {
    assert_eq!(part(1_000, 12, 0), 1_000);
    with_helpers(1, || {
        assert_eq!(part(1_200, 12, 48), 204);
        assert_eq!(part(196, 4, 48), 100);
        assert_eq!(part(16, 1, 2), 3);
        assert_eq!(part(0, 4, 48), 4);
    });
}

#[test]
fn a_slice_is_divided_as_far_as_it_goes() {
    let mut numbers = [1, 2, 3, 4, 5];
    let pieces = pieces(numbers.as_mut_slice(), [2, 2, 2, 2].into_iter());
    assert_eq!(pieces, [&mut [1, 2][..], &mut [3, 4], &mut [5], &mut []]);
}

#[test]
fn a_helper_that_is_wanted_elsewhere_takes_no_further_part() {
    let team = Arc::new(Team::new(2, Team::WORTH, |_| {}));
    let (wanted, helped) = (AtomicBool::new(false), AtomicUsize::new(0));
    let leader = std::thread::current().id();
    std::thread::scope(|scope| {
        let helper = scope.spawn(|| team.attend(|| wanted.load(Ordering::SeqCst)));
        team.lead(|| {
            each(8, |part| {
                if std::thread::current().id() == leader {
                    // The first part lasts until the helper has had one, and is gone.
                    while part == 0 && !helper.is_finished() {
                        std::thread::yield_now();
                    }
                } else {
                    helped.fetch_add(1, Ordering::SeqCst);
                    wanted.store(true, Ordering::SeqCst);
                }
            });
        });
    });
    assert_eq!(helped.into_inner(), 1);
}
