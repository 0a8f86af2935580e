//! Starts on a disk that is full, and with a database that fails in every way it can.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::mpsc;

use super::database::OpenDatabase;
use super::*;

type Fault = Box<dyn FnMut(&Path) -> Result<(), sled::Error> + Send>;

/// Does something before it opens a database.
struct Faulty(Mutex<Fault>);

impl std::fmt::Debug for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

impl OpenDatabase for Faulty {
    fn open(&self, directory: &Path) -> Result<Shelves, sled::Error> {
        (*self.0.lock().unwrap_or_else(PoisonError::into_inner))(directory)?;
        Shelves::open(directory)
    }
}

fn opening_with(
    state: &TempDir,
    fault: impl FnMut(&Path) -> Result<(), sled::Error> + Send + 'static,
) -> StoreOptions {
    let mut options = options(state);
    options.opener = Arc::new(Faulty(Mutex::new(Box::new(fault))));
    options
}

fn full() -> sled::Error {
    sled::Error::Io(io::Error::from(ErrorKind::StorageFull))
}

async fn with_one_route() -> TempDir {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.commit(put(&route("a", 1))).await.unwrap();
    shut(store).await;
    state
}

#[tokio::test]
async fn a_full_disk_takes_ballast_and_opens_the_same_database() {
    let state = with_one_route().await;
    let ballast = state.path().join("ballast-0");
    assert!(ballast.is_file());
    let room = ballast.clone();
    let fault = move |_: &Path| match room.try_exists().unwrap() {
        true => Err(full()),
        false => Ok(()),
    };
    let (store, report) = Store::open(opening_with(&state, fault)).unwrap();
    assert_eq!(report.rebuilt, None);
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    assert_eq!(aside(&state, "db.corrupt-"), Vec::<PathBuf>::new());
    assert!(ballast.is_file(), "taken again for the next start");
    assert!(store.ballast() >= ByteCount::kib(128));
    shut(store).await;
}

#[tokio::test]
async fn a_disk_that_stays_full_leaves_the_state_alone() {
    let state = with_one_route().await;
    let error = Store::open(opening_with(&state, |_| Err(full()))).unwrap_err();
    assert!(matches!(error, OpenStoreError::Full(_)), "{error:?}");
    assert_eq!(aside(&state, "db.corrupt-"), Vec::<PathBuf>::new());
    let (store, report) = open(&state);
    assert_eq!(report.rebuilt, None);
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    shut(store).await;
}

#[tokio::test]
async fn a_database_that_cannot_be_rebuilt_on_a_full_disk_stays_where_it_is() {
    let state = with_one_route().await;
    fs::write(database(state.path()).join("db"), "damaged").unwrap();
    let broken = database(state.path());
    let fault = {
        let broken = broken.clone();
        move |at: &Path| if at == broken { Ok(()) } else { Err(full()) }
    };
    let error = Store::open(opening_with(&state, fault)).unwrap_err();
    assert!(matches!(error, OpenStoreError::Build { .. }), "{error:?}");
    assert!(broken.is_dir());
    let (store, report) = open(&state);
    assert!(report.rebuilt.unwrap().moved_to.is_some());
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    shut(store).await;
}

#[tokio::test]
async fn a_database_that_hangs_is_left_to_its_thread() {
    let state = with_one_route().await;
    let (release, hang) = mpsc::channel::<()>();
    let (ended, end) = mpsc::channel();
    let fault = move |_: &Path| {
        hang.recv().unwrap();
        ended.send(()).unwrap();
        Ok(())
    };
    let mut options = options(&state);
    options.open_limit = Duration::from_millis(20);
    // The thread that hangs holds nothing that the building of another database needs.
    options.opener = Arc::new(Hanging {
        first: state.path().join("db/00000001"),
        fault: Mutex::new(Box::new(fault)),
    });
    let metrics = options.metrics.clone();
    let (store, report) = Store::open(options).unwrap();
    let reason = report.rebuilt.unwrap().reason;
    assert!(reason.starts_with("does not open within"), "{reason}");
    assert!(metrics.render().contains("edgeward_state_rebuilds_total 1"));
    store.commit(put(&route("b", 2))).await.unwrap();
    release.send(()).unwrap();
    end.recv().unwrap();
    let names = RealFs.list(&state.path().join("db")).unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    shut(store).await;
    let (store, report) = open(&state);
    assert_eq!(report.rebuilt, None);
    assert_eq!(store.list::<Route>().unwrap().len(), 2);
    shut(store).await;
}

/// The first database does something that may take for ever, however late its thread has its turn;
/// no other waits for it.
struct Hanging {
    first: PathBuf,
    fault: Mutex<Fault>,
}

impl std::fmt::Debug for Hanging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hanging")
    }
}

impl OpenDatabase for Hanging {
    fn open(&self, directory: &Path) -> Result<Shelves, sled::Error> {
        if directory == self.first {
            (*self.fault.lock().unwrap_or_else(PoisonError::into_inner))(directory)?;
            return Err(sled::Error::ReportableBug("it hung".to_owned()));
        }
        Shelves::open(directory)
    }
}

#[tokio::test]
async fn a_database_that_panics_is_rebuilt() {
    let state = with_one_route().await;
    let mut calls = 0;
    let fault = move |_: &Path| {
        calls += 1;
        assert!(calls > 1, "damaged page");
        Ok(())
    };
    let (store, report) = Store::open(opening_with(&state, fault)).unwrap();
    let reason = report.rebuilt.unwrap().reason;
    assert_eq!(reason, "panicked: damaged page");
    assert_eq!(store.list::<Route>().unwrap(), [route("a", 1)]);
    shut(store).await;
}

#[tokio::test]
async fn a_device_that_lost_everything_starts_empty_above_every_generation_seen() {
    let state = with_one_route().await;
    for path in RealFs.list(&state.path().join("export")).unwrap() {
        fs::write(path, "damaged").unwrap();
    }
    fs::write(database(state.path()).join("db"), "damaged").unwrap();
    let (store, report) = Store::open(options(&state).starting_empty_when_lost()).unwrap();
    assert!(report.lost);
    assert_eq!(report.generation, 2);
    assert_eq!(store.list::<Route>().unwrap(), []);
    assert_eq!(store.commit(put(&route("b", 1))).await.unwrap(), 3);
    assert_eq!(aside(&state, "export.corrupt-").len(), 1);
    assert_eq!(aside(&state, "db.corrupt-").len(), 1);
    shut(store).await;
    let (store, report) = open(&state);
    assert!(!report.lost);
    assert_eq!(store.list::<Route>().unwrap(), [route("b", 1)]);
    shut(store).await;
}

#[tokio::test]
async fn an_export_under_another_name_is_damaged() {
    let state = with_one_route().await;
    let exports = state.path().join("export");
    let older = exports.join("state-00000000000000000001.export");
    fs::copy(older, exports.join("state-00000000000000000009.export")).unwrap();
    let (store, report) = open(&state);
    assert_eq!(report.generation, 1);
    assert_eq!(report.damaged_exports.len(), 1);
    shut(store).await;
}

#[tokio::test]
async fn ballast_is_made_again_and_is_as_large_as_fits() {
    let state = TempDir::new().unwrap();
    let ballast = ballast::Ballast::new(RealFs::shared(), state.path(), ByteCount::kib(256));
    ballast.restore(ByteCount(0));
    assert!(ballast.bytes() >= ByteCount::kib(512));
    assert!(ballast.release());
    assert!(ballast.release());
    assert!(!ballast.release());
    let fault =
        edgeward_base::durable::FaultFs::failing_once(RealFs::shared(), 0, ErrorKind::Other);
    fault.set_space(Some(edgeward_base::durable::Space {
        total: ByteCount::mib(1),
        free: ByteCount::kib(100),
        free_files: 10,
    }));
    let ballast = ballast::Ballast::new(Arc::new(fault), state.path(), ByteCount::kib(256));
    ballast.restore(ByteCount::mib(1));
    assert_eq!(ballast.bytes(), ByteCount(0), "under the floor");
    ballast.restore(ByteCount(0));
    assert!((ByteCount::kib(128)..ByteCount::kib(256)).contains(&ballast.bytes()));
}
