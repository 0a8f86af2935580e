//! What fails on the way to an acknowledgement, one operation after the other.

use std::fs;
use std::io::ErrorKind;

use edgeward_base::durable::FaultFs;

use super::*;

fn newest_export(state: &TempDir) -> u64 {
    let directory = state.path().join("export");
    export::find(&RealFs, &directory)
        .unwrap()
        .newest
        .unwrap()
        .generation
}

/// The operations of one commit, in their order: sync `db`; then for the export open the spare file,
/// write, set its length, sync, rename; move the superfluous export, and sync the directory.
const OPERATIONS: u64 = 8;
const RENAME: u64 = 6;
/// The one that may fail and harms nothing.
const MOVE_SUPERFLUOUS: u64 = 7;

fn exports(state: &TempDir) -> usize {
    let paths = RealFs.list(&state.path().join("export")).unwrap();
    let exports = paths.iter().filter(|path| {
        path.extension()
            .is_some_and(|extension| extension == "export")
    });
    exports.count()
}

#[tokio::test]
async fn no_failed_step_is_acknowledged_and_nothing_acknowledged_is_lost() {
    for failing in (1..=OPERATIONS).filter(|operation| *operation != MOVE_SUPERFLUOUS) {
        let state = TempDir::new().unwrap();
        let fs = FaultFs::failing_once(RealFs::shared(), 0, ErrorKind::StorageFull);
        let mut faulty = options(&state);
        faulty.fs = Arc::new(fs.clone());
        let (store, _) = Store::open(faulty).unwrap();
        for percent in 1..=3 {
            store.commit(put(&route("a", percent))).await.unwrap();
        }
        fs.fail_in(failing);
        let refused = store.commit(put(&route("a", 99))).await;
        assert!(
            matches!(refused, Err(CommitStoreError::Poisoned(_))),
            "{failing}: {refused:?}"
        );
        if failing <= RENAME {
            // The sync of the database comes before the export takes its name.
            assert_eq!(newest_export(&state), 3, "operation {failing}");
        }
        let refused = store.commit(put(&route("b", 1))).await;
        assert!(
            matches!(refused, Err(CommitStoreError::Poisoned(_))),
            "{failing}: {refused:?}"
        );
        assert!(store.poisoned().is_some());
        assert!(store.get::<Route>("a").unwrap().is_some());
        assert!(store.close().await.is_ok(), "no progress waits");
        assert_eq!(fs.trusted_after_failure(), None, "operation {failing}");
        drop(store);

        let (store, report) = open(&state);
        assert_eq!(report.rebuilt, None);
        let percent = store.get::<Route>("a").unwrap().unwrap().percent;
        assert!([3, 99].contains(&percent), "operation {failing}: {percent}");
        assert_eq!(store.get::<Route>("b").unwrap(), None);
        assert_eq!(newest_export(&state), report.generation);
        shut(store).await;
    }
}

#[tokio::test]
async fn a_superfluous_export_that_stays_harms_nothing() {
    let state = TempDir::new().unwrap();
    let fs = FaultFs::failing_once(RealFs::shared(), 0, ErrorKind::Other);
    let mut faulty = options(&state);
    faulty.fs = Arc::new(fs.clone());
    let (store, _) = Store::open(faulty).unwrap();
    for percent in 1..=3 {
        store.commit(put(&route("a", percent))).await.unwrap();
    }
    assert_eq!(exports(&state), 2);
    fs.fail_in(MOVE_SUPERFLUOUS);
    store.commit(put(&route("a", 4))).await.unwrap();
    assert_eq!(exports(&state), 3);
    store.commit(put(&route("a", 5))).await.unwrap();
    assert_eq!(exports(&state), 2);
    assert_eq!(newest_export(&state), 5);
    shut(store).await;
}

#[tokio::test]
async fn a_spare_file_is_written_over_whatever_its_length() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    for length in [9_000, 9_000, 9_000, 10, 0, 5_000, 10, 10] {
        let record = Route {
            note: "n".repeat(length),
            ..route("a", 1)
        };
        let generation = store.commit(put(&record)).await.unwrap();
        let found = export::find(&RealFs, &state.path().join("export")).unwrap();
        assert_eq!(found.newest.unwrap().generation, generation);
        assert_eq!(found.damaged, Vec::<PathBuf>::new());
        assert_eq!(exports(&state), 2);
    }
    shut(store).await;
}

#[tokio::test]
async fn a_half_written_spare_file_is_no_export() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    for percent in 1..=3 {
        store.commit(put(&route("a", percent))).await.unwrap();
    }
    shut(store).await;
    let spare = state.path().join("export/spare.tmp");
    assert!(spare.is_file(), "the export before the two newest");
    fs::write(&spare, "half").unwrap();
    fs::write(database(state.path()).join("db"), "damaged").unwrap();
    let (store, report) = open(&state);
    assert_eq!(report.damaged_exports, Vec::<PathBuf>::new());
    assert!(report.rebuilt.is_some());
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 3)]);
    shut(store).await;
}

#[tokio::test]
async fn an_open_that_fails_anywhere_can_be_repeated() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.commit(put(&route("a", 1))).await.unwrap();
    shut(store).await;
    let count = {
        let fs = FaultFs::failing_once(RealFs::shared(), 0, ErrorKind::Other);
        let mut counted = options(&state);
        counted.fs = Arc::new(fs.clone());
        let (store, _) = Store::open(counted).unwrap();
        shut(store).await;
        fs.operations()
    };
    for failing in 1..=count {
        let mut faulty = options(&state);
        faulty.fs = Arc::new(FaultFs::dying(RealFs::shared(), failing));
        assert!(
            Store::open(faulty).is_err(),
            "operation {failing} failed unnoticed"
        );
    }
    let (store, report) = open(&state);
    assert_eq!(report.rebuilt, None);
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    shut(store).await;
}

#[tokio::test]
async fn a_start_that_was_cut_short_before_the_first_export_starts_anew() {
    let state = TempDir::new().unwrap();
    fs::create_dir_all(state.path().join("db/blobs")).unwrap();
    fs::write(state.path().join("db/conf"), "half").unwrap();
    let (store, report) = open(&state);
    assert_eq!(report.generation, 0);
    assert!(report.rebuilt.unwrap().moved_to.is_some());
    store.commit(put(&route("a", 1))).await.unwrap();
    shut(store).await;
}

#[tokio::test]
async fn a_broken_database_without_a_sound_export_is_not_replaced_by_nothing() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.commit(put(&route("a", 1))).await.unwrap();
    shut(store).await;
    for entry in fs::read_dir(state.path().join("export")).unwrap() {
        fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    // The database alone is enough, and the damage is told.
    let (store, report) = open(&state);
    assert_eq!(report.damaged_exports.len(), 2);
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    shut(store).await;
    for entry in fs::read_dir(state.path().join("export")).unwrap() {
        fs::write(entry.unwrap().path(), "damaged").unwrap();
    }
    fs::write(database(state.path()).join("db"), "damaged").unwrap();
    let error = Store::open(options(&state)).unwrap_err();
    assert!(matches!(error, OpenStoreError::Lost { .. }), "{error}");
    assert!(database(state.path()).is_dir(), "left where it was");
}

#[tokio::test]
async fn a_database_full_of_garbage_is_rebuilt_with_its_progress() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.commit(put(&route("a", 1))).await.unwrap();
    store.record_progress(put(&position(7))).await.unwrap();
    shut(store).await;
    // An old value that sled put into a file of its own and never gave back.
    let garbage = fs::File::create(database(state.path()).join("blobs/1")).unwrap();
    garbage.set_len(17 << 20).unwrap();
    let (store, report) = open(&state);
    assert_eq!(report.rebuilt, None, "nothing was wrong with it");
    assert_eq!(aside(&state, "db.corrupt-"), Vec::<PathBuf>::new());
    assert!(store.size_on_disk() < ByteCount::mib(2));
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    assert_eq!(store.get::<Position>("rows").unwrap(), Some(position(7)));
    shut(store).await;
}

#[tokio::test]
async fn a_loss_is_told_however_often_the_start_is_tried() {
    let mut survived = 0;
    for operation in 1.. {
        let state = TempDir::new().unwrap();
        let (store, _) = open(&state);
        store.commit(put(&route("a", 1))).await.unwrap();
        shut(store).await;
        for entry in fs::read_dir(state.path().join("export")).unwrap() {
            fs::write(entry.unwrap().path(), "damaged").unwrap();
        }
        fs::write(database(state.path()).join("db"), "damaged").unwrap();
        let fault = FaultFs::failing_once(RealFs::shared(), operation, ErrorKind::StorageFull);
        let mut options = options(&state);
        options.fs = Arc::new(fault.clone());
        options.when_lost = WhenLost::StartEmpty;
        if let Ok((store, report)) = Store::open(options) {
            survived += 1;
            assert!(report.lost, "operation {operation}");
            shut(store).await;
        }
        if fault.operations() < operation {
            break;
        }
    }
    assert!(survived > 3, "{survived}");
}

#[tokio::test]
async fn what_a_write_left_that_was_cut_short_goes_at_the_next_start() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    shut(store).await;
    let stray = state.path().join("export/pre-0.0.1.export.tmp");
    fs::write(&stray, "half").unwrap();
    let (store, _) = open(&state);
    assert!(!stray.try_exists().unwrap());
    shut(store).await;
}

#[test]
fn a_torn_read_is_repeated_and_damage_is_told() {
    let reads = std::cell::Cell::new(0);
    let damaged = || ReadStoreError::Decode {
        table: "route",
        key: "a".to_owned(),
        source: DecodeRecordError::Damaged,
    };
    let read = |torn: u32| {
        reads.set(0);
        untorn(|| {
            reads.set(reads.get() + 1);
            if reads.get() > torn {
                Ok(())
            } else {
                Err(damaged())
            }
        })
    };
    assert!(read(2).is_ok());
    assert!(read(u32::MAX).is_err());
}

#[tokio::test]
async fn few_databases_moved_aside_are_kept() {
    let state = TempDir::new().unwrap();
    for _ in 0..5 {
        let (store, _) = open(&state);
        shut(store).await;
        fs::write(database(state.path()).join("db"), "damaged").unwrap();
    }
    assert_eq!(aside(&state, "db.corrupt-").len(), 2);
}
