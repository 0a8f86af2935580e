use std::sync::mpsc;

use super::*;

const LONG: Duration = Duration::from_secs(180);

#[tokio::test]
async fn a_task_returns_its_value_and_leaves_the_list() {
    let tasks = Tasks::new(Handle::current());
    let handle = tasks.spawn("sum", async { 1 + 1 });
    assert_eq!(handle.name(), "sum");
    assert_eq!(handle.join().await, Ok(2));
    tasks.join_all(LONG).await.unwrap();
    assert!(tasks.running().is_empty());
    assert!(tasks.failures().is_empty());
}

#[tokio::test]
async fn a_panic_ends_one_task_and_is_seen_by_its_owner() {
    let tasks = Tasks::new(Handle::current());
    let bad = tasks.spawn("bad", async { assert_eq!(1, 2, "no {}", "luck") });
    let good = tasks.spawn("good", async { 7 });
    let failure = tasks.first_failure().await;
    assert_eq!(&*failure.name, "bad");
    assert!(failure.message.contains("no luck"), "{}", failure.message);
    assert_eq!(
        bad.join().await,
        Err(JoinTaskError::Panicked(failure.clone()))
    );
    assert_eq!(good.join().await, Ok(7));
    assert_eq!(tasks.failures(), [failure]);
}

#[tokio::test]
async fn panics_of_threads_and_blocking_work_are_seen_too() {
    let tasks = Tasks::new(Handle::current());
    let thread = tasks
        .spawn_thread("thread", || -> u8 { panic!("in a thread") })
        .unwrap();
    assert!(matches!(
        thread.join().await,
        Err(JoinTaskError::Panicked(_))
    ));
    let blocking = tasks
        .run_blocking("work", || -> u8 { panic!("in blocking work") })
        .await;
    assert!(matches!(blocking, Err(JoinTaskError::Panicked(_))));
    assert_eq!(tasks.run_blocking("work", || 3).await, Ok(3));
    let names: Vec<_> = tasks
        .failures()
        .into_iter()
        .map(|failure| failure.name)
        .collect();
    assert_eq!(names, [Arc::from("thread"), Arc::from("work")]);
    tasks.join_all(LONG).await.unwrap();
}

#[tokio::test]
async fn shutdown_reaches_every_task_and_join_waits_for_them() {
    let tasks = Tasks::new(Handle::current());
    let token = tasks.shutdown_token();
    let waiting = tasks.spawn("waits", async move { token.cancelled().await });
    assert_eq!(tasks.running(), ["waits"]);
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert_eq!(waiting.join().await, Ok(()));
}

#[tokio::test]
async fn the_deadline_names_those_still_running() {
    let tasks = Tasks::new(Handle::current());
    let (stop, stopped) = mpsc::channel::<()>();
    let _thread = tasks
        .spawn_thread("writer", move || stopped.recv().is_err())
        .unwrap();
    let _stuck = tasks.spawn("stuck", std::future::pending::<()>());
    let error = tasks.join_all(Duration::ZERO).await.unwrap_err();
    assert_eq!(error.to_string(), "still running after 0ns: writer, stuck");
    drop(stop);
}

#[tokio::test]
async fn a_group_is_shut_down_alone_and_with_its_parent() {
    let tasks = Tasks::new(Handle::current());
    let fleet = tasks.group("fleet");
    let api = tasks.group("api");
    for group in [&fleet, &api] {
        let token = group.shutdown_token();
        drop(group.spawn("run", async move { token.cancelled().await }));
    }
    assert_eq!(tasks.running(), ["fleet/run", "api/run"]);
    fleet.begin_shutdown();
    fleet.join_all(LONG).await.unwrap();
    assert_eq!(tasks.running(), ["api/run"]);
    tasks.begin_shutdown();
    tasks.join_all(LONG).await.unwrap();
    assert!(api.running().is_empty());
}

#[test]
fn the_end_of_the_runtime_takes_tasks_off_the_list() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let tasks = Tasks::new(runtime.handle().clone());
    let handle = tasks.spawn("cut", std::future::pending::<()>());
    drop(runtime);
    assert!(tasks.running().is_empty());
    let name = Arc::from("cut");
    assert_eq!(
        handle.join().now_or_never(),
        Some(Err(JoinTaskError::Cancelled { name }))
    );
}

#[tokio::test]
async fn a_request_task_stays_on_one_request_thread() {
    let tasks = Tasks::new(Handle::current());
    let api = tasks.request_group("api", 2).unwrap();
    let thread = || std::thread::current().name().unwrap_or_default().to_owned();
    let (release, held) = oneshot::channel::<()>();
    let first = api.spawn_request("first", async move {
        let before = thread();
        held.await.unwrap();
        assert_eq!(thread(), before);
        before
    });
    // The other loop has fewer tasks.
    let second = api.spawn_request("second", async move { thread() });
    let second = second.join().await.unwrap();
    release.send(()).unwrap();
    let first = first.join().await.unwrap();
    let mut names = [first, second];
    names.sort();
    assert_eq!(names, ["api/request-0", "api/request-1"]);
    tasks.join_all(LONG).await.unwrap();
}

#[tokio::test]
async fn a_panic_on_a_request_thread_ends_its_task_alone() {
    let tasks = Tasks::new(Handle::current());
    let api = tasks.request_group("api", 1).unwrap();
    let bad = api.spawn_request("bad", async { assert_eq!(1, 2) });
    assert!(matches!(bad.join().await, Err(JoinTaskError::Panicked(_))));
    assert_eq!(api.spawn_request("good", async { 7 }).join().await, Ok(7));
}

#[tokio::test]
async fn request_threads_end_with_their_group() {
    let tasks = Tasks::new(Handle::current());
    let named = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        threads
            .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok())
            .any(|name| name.trim_end() == "end/request-0")
    };
    let group = tasks.request_group("end", 1).unwrap();
    group.spawn_request("one", async {}).join().await.unwrap();
    assert!(named());
    group.join_all(LONG).await.unwrap();
    drop(group);
    while named() {
        tokio::task::yield_now().await;
    }
}
