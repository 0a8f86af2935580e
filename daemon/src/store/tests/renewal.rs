//! A store that failed goes on with a new database, without a restart.

use std::fs;
use std::io::ErrorKind;

use edgeward_base::durable::FaultFs;

use super::*;

/// The operations of one commit that make it fail; see `faults`.
const OPERATIONS: [u64; 7] = [1, 2, 3, 4, 5, 6, 8];

struct World {
    state: TempDir,
    fs: FaultFs,
    clock: Arc<TestClock>,
    metrics: Metrics,
    store: Store,
}

/// A store at generation 3, on files that can be made to fail.
async fn world() -> World {
    let state = TempDir::new().unwrap();
    let fs = FaultFs::failing_once(RealFs::shared(), 0, ErrorKind::StorageFull);
    let clock = TestClock::at(1_700_000_000_000_000);
    let mut options = options(&state);
    options.fs = Arc::new(fs.clone());
    options.clock = Arc::clone(&clock) as SharedClock;
    let metrics = options.metrics.clone();
    let (store, _) = Store::open(options).unwrap();
    for percent in 1..=3 {
        store.commit(put(&route("a", percent))).await.unwrap();
    }
    World {
        state,
        fs,
        clock,
        metrics,
        store,
    }
}

impl World {
    async fn fail(&self, operation: u64) {
        self.fs.fail_in(operation);
        let refused = self.store.commit(put(&route("a", 99))).await;
        assert!(matches!(refused, Err(CommitStoreError::Poisoned(_))));
    }

    async fn reopen(self) -> (TempDir, Store, StoreReport) {
        shut(self.store).await;
        let (store, report) = open(&self.state);
        (self.state, store, report)
    }
}

#[tokio::test]
async fn a_poisoned_store_goes_on_with_what_was_acknowledged() {
    for failing in OPERATIONS {
        let world = world().await;
        world.fail(failing).await;
        let early = world.store.commit(put(&route("b", 1))).await;
        assert!(matches!(early, Err(CommitStoreError::Poisoned(_))));
        world.clock.advance(Duration::from_secs(1));
        let generation = world.store.commit(put(&route("b", 2))).await.unwrap();
        assert!(generation > 4, "operation {failing}");
        assert_eq!(world.store.poisoned(), None);
        assert_eq!(world.store.reopens(), 1);
        let metrics = world.metrics.render();
        assert!(
            metrics.contains("edgeward_state_failures_total 1\n"),
            "{metrics}"
        );
        assert_eq!(world.store.generation(), generation);
        let expected = [route("a", 3), route("b", 2)];
        assert_eq!(world.store.list::<Route>().unwrap(), expected);
        assert_eq!(aside(&world.state, "db.corrupt-").len(), 1);
        let (_state, store, report) = world.reopen().await;
        assert_eq!((report.generation, report.rebuilt), (generation, None));
        assert_eq!(store.list::<Route>().unwrap(), expected);
        shut(store).await;
    }
}

#[tokio::test]
async fn an_export_that_has_rotted_does_not_take_a_change_back() {
    for grows in [false, true] {
        let world = world().await;
        let newest = world.state.path().join("export").join(export::file_name(3));
        let mut bytes = fs::read(&newest).unwrap();
        bytes[40] ^= 1;
        fs::write(&newest, bytes).unwrap();
        if grows {
            grow(&world.state);
            // The next change makes a sound export; the newest must not be what it is built on.
            world.store.commit(put(&route("c", 1))).await.unwrap();
            fs::remove_file(newest.with_file_name(export::file_name(4))).unwrap();
        } else {
            world.fail(1).await;
        }
        world.clock.advance(Duration::from_secs(1));
        world.store.commit(put(&route("b", 2))).await.unwrap();
        assert_eq!(world.store.reopens(), 1);
        let (_state, store, report) = world.reopen().await;
        assert_eq!(report.rebuilt, None);
        assert_eq!(store.get::<Route>("a").unwrap(), Some(route("a", 3)));
        assert_eq!(store.get::<Route>("b").unwrap(), Some(route("b", 2)));
        assert_eq!(store.get::<Route>("c").unwrap().is_some(), grows);
        shut(store).await;
    }
}

/// Makes the database as large as one that is mostly garbage.
fn grow(state: &TempDir) {
    let garbage = database(state.path()).join("blobs/1");
    let file = fs::File::create(garbage).unwrap();
    file.set_len(17 << 20).unwrap();
}

#[tokio::test]
async fn a_renewal_that_fails_anywhere_is_repeated_and_loses_nothing() {
    let count = {
        let world = world().await;
        world.fail(1).await;
        let before = world.fs.operations();
        world.clock.advance(Duration::from_secs(1));
        // The renewal, and the sync of progress.
        world
            .store
            .record_progress(put(&position(1)))
            .await
            .unwrap();
        world.fs.operations() - before
    };
    assert!(count > 10, "{count}");
    for (failed, renewal) in [1, 8]
        .into_iter()
        .flat_map(|at| (1..=count).map(move |k| (at, k)))
    {
        let world = world().await;
        world.fail(failed).await;
        world.fs.fail_in(renewal);
        world.clock.advance(Duration::from_secs(1));
        let first = world.store.commit(put(&route("b", 1))).await;
        world.clock.advance(Duration::from_secs(60));
        let second = world.store.commit(put(&route("c", 2))).await;
        assert!(second.is_ok(), "{failed}, {renewal}: {second:?}");
        let mut expected = vec![route("a", 3), route("c", 2)];
        if first.is_ok() {
            expected.insert(1, route("b", 1));
        }
        let (_state, store, report) = world.reopen().await;
        assert_eq!(report.rebuilt, None, "{failed}, {renewal}");
        assert_eq!(
            store.list::<Route>().unwrap(),
            expected,
            "{failed}, {renewal}"
        );
        shut(store).await;
    }
}

#[tokio::test]
async fn a_database_that_grows_is_replaced_while_it_is_used() {
    let world = world().await;
    world
        .store
        .record_progress(put(&position(7)))
        .await
        .unwrap();
    grow(&world.state);
    world.store.commit(put(&route("b", 1))).await.unwrap();
    world.store.commit(put(&route("c", 1))).await.unwrap();
    assert_eq!(world.store.reopens(), 1);
    assert!(world.store.size_on_disk() < ByteCount::mib(2));
    assert_eq!(
        world.store.get::<Position>("rows").unwrap(),
        Some(position(7))
    );
    assert_eq!(
        RealFs.list(&world.state.path().join("db")).unwrap().len(),
        1
    );
    let (_state, store, report) = world.reopen().await;
    assert_eq!(report.rebuilt, None);
    assert_eq!(store.list::<Route>().unwrap().len(), 3);
    shut(store).await;
}
