use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::time::Duration;

use edgeward_base::clock::SystemClock;
use edgeward_kernels::team::{each, threads};

use super::*;

/// How long threads may take to end that have nothing to do.
const LONG: Duration = Duration::from_secs(180);

/// A pool by the clock of this machine.
fn started(tasks: &Tasks, threads: usize, ceiling: usize) -> Compute {
    let clock = SystemClock::shared();
    Compute::start(tasks, clock, "compute", threads, ceiling).unwrap()
}

fn lane(id: &str, threads: usize) -> Lane {
    Lane {
        id: id.into(),
        threads,
    }
}

/// A job that says when it runs and then waits for the word to end.
fn gated() -> (
    impl FnOnce() + Send + 'static,
    mpsc::Receiver<()>,
    mpsc::Sender<()>,
) {
    let (started, starts) = mpsc::channel();
    let (go, wait) = mpsc::channel();
    let job = move || {
        started.send(()).unwrap();
        wait.recv().unwrap();
    };
    (job, starts, go)
}

#[tokio::test]
async fn answers_come_back_and_a_panic_is_its_jobs_own() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 2, 8);
    let lane = lane("a", 2);
    assert_eq!(compute.submit(&lane, || 7).unwrap().await, Ok(7));
    let panicked = compute.submit(&lane, || panic!("boom {}", 1)).unwrap();
    assert_eq!(
        panicked.await,
        Err::<(), _>(ComputeError::Panicked {
            message: "boom 1".to_owned()
        })
    );
    assert_eq!(compute.submit(&lane, || 8).unwrap().await, Ok(8));
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert_eq!(tasks.failures(), vec![]);
    assert!(matches!(
        compute.submit(&lane, || 9),
        Err(ComputeError::Closed)
    ));
}

#[tokio::test]
async fn a_full_queue_refuses_and_a_caller_who_left_costs_no_run() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 1, 2);
    let lane = lane("a", 1);
    let (job, starts, go) = gated();
    let first = compute.submit(&lane, job).unwrap();
    starts.recv().unwrap();
    let ran = Arc::new(AtomicUsize::new(0));
    let count = |by: usize| {
        let ran = Arc::clone(&ran);
        move || ran.fetch_add(by, Ordering::SeqCst)
    };
    drop(compute.submit(&lane, count(1)).unwrap());
    let third = compute.submit(&lane, count(10)).unwrap();
    assert!(matches!(
        compute.submit(&lane, count(100)),
        Err(ComputeError::QueueFull { ceiling: 2 })
    ));
    assert_eq!(compute.waiting(), 2);
    go.send(()).unwrap();
    first.await.unwrap();
    third.await.unwrap();
    assert_eq!(ran.load(Ordering::SeqCst), 10);
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
}

#[tokio::test]
async fn a_lane_at_its_share_leaves_threads_to_its_neighbours() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 2, 8);
    let (slow, starts, go) = gated();
    let first = compute.submit(&lane("slow", 1), slow).unwrap();
    starts.recv().unwrap();
    let (second, starts, go_second) = gated();
    let second = compute.submit(&lane("slow", 1), second).unwrap();
    // The second thread is free, yet not for the slow lane's second job.
    assert_eq!(compute.submit(&lane("fast", 1), || 1).unwrap().await, Ok(1));
    assert!(starts.try_recv().is_err());
    go.send(()).unwrap();
    first.await.unwrap();
    starts.recv().unwrap();
    go_second.send(()).unwrap();
    second.await.unwrap();
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert!(compute.0.lock().lanes.is_empty());
}

/// A job that is done when `threads` threads are at a loop of it at once.
fn shared(threads: usize, rounds: usize) -> impl FnOnce() -> usize + Send + 'static {
    move || {
        let met = Barrier::new(threads);
        for _ in 0..rounds {
            each(threads, |_| {
                met.wait();
            });
        }
        rounds
    }
}

#[tokio::test]
async fn idle_threads_help_a_call_whose_lane_has_room() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 3, 8);
    for _ in 0..50 {
        let three = compute.submit(&lane("a", 3), shared(3, 20)).unwrap();
        assert_eq!(three.await, Ok(20));
        let two = compute.submit(&lane("b", 2), shared(2, 20)).unwrap();
        assert_eq!(two.await, Ok(20));
    }
    // A lane of one thread never shares.
    let alone = compute.submit(&lane("c", 1), threads).unwrap();
    assert_eq!(alone.await, Ok(1));
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert!(compute.0.lock().lanes.is_empty());
}

#[tokio::test]
async fn a_helper_leaves_for_a_job_of_its_own_lane_and_of_another() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 2, 8);
    for other in ["slow", "fast"] {
        let (held, starts, go) = gated();
        let helped = compute
            .submit(&lane("slow", 2), move || {
                // The other thread attends, then there is nothing for it to do.
                shared(2, 1)();
                held();
            })
            .unwrap();
        starts.recv().unwrap();
        let job = compute.submit(&lane(other, 2), || 1).unwrap();
        let answer = tokio::time::timeout(LONG, job).await;
        assert_eq!(answer.expect("the helper leaves"), Ok(1));
        go.send(()).unwrap();
        helped.await.unwrap();
    }
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert!(compute.0.lock().lanes.is_empty());
}

#[tokio::test]
async fn a_lane_with_jobs_enough_gets_no_helpers() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 3, 8);
    let (job, starts, go) = gated();
    let first = compute.submit(&lane("a", 2), job).unwrap();
    starts.recv().unwrap();
    let main = std::thread::current().id();
    let second = compute.submit(&lane("a", 2), move || {
        let this = std::thread::current().id();
        assert_ne!(this, main);
        // Its share is two threads, and both have a job: the third stays away.
        each(64, |_| assert_eq!(std::thread::current().id(), this));
    });
    second.unwrap().await.unwrap();
    go.send(()).unwrap();
    first.await.unwrap();
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert!(compute.0.lock().lanes.is_empty());
}

#[tokio::test]
async fn a_helper_leaves_when_jobs_fill_the_share_of_its_lane() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 3, 8);
    let (held, starts, go) = gated();
    let helped = compute
        .submit(&lane("a", 2), move || {
            shared(2, 1)();
            held();
        })
        .unwrap();
    starts.recv().unwrap();
    // The third thread is free for it, so nothing presses; yet the share is two threads.
    let (second, starts, go_second) = gated();
    let second = compute.submit(&lane("a", 2), second).unwrap();
    starts.recv().unwrap();
    let left = async {
        while !format!("{:?}", compute.0.lock().lanes).contains("0 helpers") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, left)
        .await
        .expect("the helper leaves");
    for go in [go, go_second] {
        go.send(()).unwrap();
    }
    helped.await.unwrap();
    second.await.unwrap();
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
}

#[tokio::test]
async fn a_part_that_panics_is_its_jobs_own() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 2, 8);
    for panicking in 0..8 {
        let job = move || each(8, |part| assert_ne!(part, panicking, "a part"));
        let panicked = compute.submit(&lane("a", 2), job).unwrap();
        let Err(ComputeError::Panicked { message }) = panicked.await else {
            panic!("a part that panics");
        };
        assert!(message.contains("a part"), "{message}");
        assert_eq!(
            compute.submit(&lane("a", 2), shared(2, 3)).unwrap().await,
            Ok(3)
        );
    }
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert_eq!(tasks.failures(), vec![]);
}

#[tokio::test]
async fn the_longest_lane_gives_way_when_the_queue_is_full() {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    let compute = started(&tasks, 1, 4);
    let (job, starts, go) = gated();
    let first = compute.submit(&lane("greedy", 1), job).unwrap();
    starts.recv().unwrap();
    let mut waiting: Vec<_> = (0..4)
        .map(|number| Box::pin(compute.submit(&lane("greedy", 1), move || number).unwrap()))
        .collect();
    // Its own next job finds the queue full, another lane's first one takes the last place.
    let full = compute.submit(&lane("greedy", 1), || 4);
    assert!(matches!(full, Err(ComputeError::QueueFull { ceiling: 4 })));
    let other = compute.submit(&lane("modest", 1), || 10).unwrap();
    let displaced = waiting.pop().unwrap().await;
    assert_eq!(displaced, Err(ComputeError::Displaced));
    assert_eq!(compute.waiting(), 4);
    let second = compute.submit(&lane("modest", 1), || 11).unwrap();
    assert_eq!(waiting.pop().unwrap().await, Err(ComputeError::Displaced));
    // Two and two: nobody is longer than another.
    let full = compute.submit(&lane("modest", 1), || 12);
    assert!(matches!(full, Err(ComputeError::QueueFull { ceiling: 4 })));
    go.send(()).unwrap();
    first.await.unwrap();
    for (number, answer) in waiting.into_iter().enumerate() {
        assert_eq!(answer.await, Ok(number));
    }
    assert_eq!((other.await, second.await), (Ok(10), Ok(11)));
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert!(compute.0.lock().lanes.is_empty());
}
