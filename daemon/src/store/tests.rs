use edgeward_base::clock::TestClock;
use edgeward_base::durable::{DurableFs as _, RealFs};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;

mod crash;
mod faults;
mod migration;
mod opening;
mod renewal;
mod replacing;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Route {
    name: String,
    percent: u8,
    note: String,
}

impl Record for Route {
    const TABLE: &'static str = "route";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        self.name.clone()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    stream: String,
    sent: u64,
}

impl Record for Position {
    const TABLE: &'static str = "position";
    const SCHEMA: u16 = 1;
    const DURABILITY: Durability = Durability::Progress;

    fn key(&self) -> String {
        self.stream.clone()
    }
}

fn route(name: &str, percent: u8) -> Route {
    Route {
        name: name.into(),
        percent,
        note: String::new(),
    }
}

fn position(sent: u64) -> Position {
    Position {
        stream: "rows".into(),
        sent,
    }
}

fn put(record: &impl Record) -> Change {
    Change::new().put(record).unwrap()
}

fn options(state: &TempDir) -> StoreOptions {
    let tasks = Tasks::new(Handle::current());
    let clock = TestClock::at(1_700_000_000_000_000);
    let mut options = StoreOptions::new(state.path().to_path_buf(), tasks, clock, RealFs::shared())
        .with_table::<Route>()
        .with_table::<Position>();
    options.ballast = ByteCount::kib(64);
    // No database here takes long to open; a disk that stalls is not what is tested.
    options.open_limit = Duration::from_secs(300);
    options
}

/// The database in use: the one with the highest number.
fn database(state: &std::path::Path) -> PathBuf {
    let directory = state.join("db");
    let found = RealFs.list(&directory).unwrap();
    found
        .last()
        .cloned()
        .unwrap_or_else(|| directory.join("00000001"))
}

/// What was moved aside under names that begin so.
fn aside(state: &TempDir, prefix: &str) -> Vec<PathBuf> {
    let mut paths = RealFs.list(state.path()).unwrap();
    paths.retain(|path| database::has_prefix(path, prefix));
    paths
}

fn open(state: &TempDir) -> (Store, StoreReport) {
    Store::open(options(state)).unwrap()
}

async fn shut(store: Store) {
    store.close().await.unwrap();
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart() {
    let state = TempDir::new().unwrap();
    let (store, report) = open(&state);
    assert!(report.created);
    assert_eq!(report.generation, 0);
    let change = put(&route("a", 80)).put(&route("b", 20)).unwrap();
    assert_eq!(store.commit(change).await.unwrap(), 1);
    assert_eq!(
        store
            .commit(Change::new().delete::<Route>("a"))
            .await
            .unwrap(),
        2
    );
    assert_eq!(store.get::<Route>("a").unwrap(), None);
    shut(store).await;

    let (store, report) = open(&state);
    let expected = StoreReport {
        generation: 2,
        ..StoreReport::default()
    };
    assert_eq!(report, expected);
    assert_eq!(store.list::<Route>().unwrap(), [route("b", 20)]);
    shut(store).await;
}

#[tokio::test]
async fn long_values_grow_and_shrink_and_stay_out_of_blob_files() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    for length in [0, 4_096, 300_000, 10] {
        for name in ["a", "aa", "b"] {
            let note = name.repeat(length);
            let record = Route {
                name: name.into(),
                percent: 1,
                note,
            };
            store.commit(put(&record)).await.unwrap();
            assert_eq!(store.get::<Route>(name).unwrap(), Some(record));
        }
        assert_eq!(store.list::<Route>().unwrap().len(), 3);
    }
    let blobs = std::fs::read_dir(database(state.path()).join("blobs"))
        .unwrap()
        .count();
    assert_eq!(blobs, 0);
    let huge = Route {
        name: "c".into(),
        percent: 1,
        note: "x".repeat(2 << 20),
    };
    assert!(matches!(
        Change::new().put(&huge),
        Err(ChangeError::TooLarge { .. })
    ));
    shut(store).await;
}

#[tokio::test]
async fn waiting_changes_share_commits_and_each_gets_its_generation() {
    let state = TempDir::new().unwrap();
    let metrics = Metrics::new();
    let (store, _) = Store::open(options(&state).with_metrics(metrics.clone())).unwrap();
    let changes = (0..50).map(|number| store.commit(put(&route(&format!("r{number}"), number))));
    let mut generations: Vec<u64> = futures_util::future::join_all(changes)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    generations.sort_unstable();
    assert_eq!(generations, (1..=50).collect::<Vec<_>>());
    assert_eq!(store.list::<Route>().unwrap().len(), 50);
    let numbers = metrics.render();
    assert!(
        numbers.contains("edgeward_state_changes_total 50\n"),
        "{numbers}"
    );
    assert!(
        numbers.contains("edgeward_state_generation 50\n"),
        "{numbers}"
    );
    let commits = numbers
        .lines()
        .find(|line| line.starts_with("edgeward_state_commit_seconds_count"));
    let commits: u64 = commits
        .unwrap()
        .split(' ')
        .next_back()
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        commits < 50,
        "{commits} commits for 50 changes that waited together"
    );
    shut(store).await;
}

#[tokio::test]
async fn progress_is_read_at_once_and_survives_a_close() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.record_progress(put(&position(7))).await.unwrap();
    assert_eq!(store.get::<Position>("rows").unwrap(), Some(position(7)));
    let refused = store.record_progress(put(&route("a", 1))).await;
    assert!(matches!(
        refused,
        Err(CommitStoreError::NotProgress("route"))
    ));
    shut(store).await;
    let (store, report) = open(&state);
    assert_eq!(report.generation, 0);
    assert_eq!(store.get::<Position>("rows").unwrap(), Some(position(7)));
    shut(store).await;
}

#[tokio::test]
async fn one_process_owns_the_state() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    let error = Store::open(options(&state)).unwrap_err();
    let OpenStoreError::Lock(LockStateError::Held { owner, .. }) = error else {
        panic!("{error:?}")
    };
    assert_eq!(owner, std::process::id().to_string());
    shut(store).await;
}

#[tokio::test]
async fn a_closed_store_refuses_changes_and_goes_on_reading() {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.commit(put(&route("a", 1))).await.unwrap();
    store.close().await.unwrap();
    assert!(matches!(
        store.commit(put(&route("a", 2))).await,
        Err(CommitStoreError::Closed)
    ));
    assert_eq!(store.get::<Route>("a").unwrap(), Some(route("a", 1)));
}

#[derive(Debug, Serialize, Deserialize)]
struct NewerRoute {
    name: String,
}

impl Record for NewerRoute {
    const TABLE: &'static str = "route";
    const SCHEMA: u16 = 2;

    fn key(&self) -> String {
        self.name.clone()
    }
}

#[tokio::test]
async fn state_of_a_newer_binary_is_refused_and_left_alone() {
    let state = TempDir::new().unwrap();
    let mut newer = options(&state);
    newer.tables.clear();
    let (store, _) = Store::open(newer.with_table::<NewerRoute>()).unwrap();
    store
        .commit(put(&NewerRoute { name: "n".into() }))
        .await
        .unwrap();
    let unknown = store.commit(put(&position(1))).await;
    assert!(matches!(
        unknown,
        Err(CommitStoreError::UnknownTable("position"))
    ));
    shut(store).await;

    let error = Store::open(options(&state)).unwrap_err();
    assert!(
        matches!(
            error,
            OpenStoreError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
    // Also where only the export can tell.
    std::fs::remove_dir_all(state.path().join("db")).unwrap();
    let error = Store::open(options(&state)).unwrap_err();
    assert!(
        matches!(
            error,
            OpenStoreError::Newer {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn an_envelope_is_bound_to_its_name() {
    let envelope = record::Envelope {
        schema: 1,
        generation: 9,
        payload: b"payload",
    };
    let sealed = record::seal_envelope(b"t\0a", &envelope).unwrap();
    assert_eq!(
        record::open_envelope(b"t\0a", &sealed).unwrap().generation,
        9
    );
    assert!(record::open_envelope(b"t\0b", &sealed).is_err());
    for index in 0..sealed.len() {
        let mut damaged = sealed.clone();
        damaged[index] ^= 1;
        assert!(
            record::open_envelope(b"t\0a", &damaged).is_err(),
            "byte {index}"
        );
    }
}
