//! State of an older version: kept, then rewritten.

use std::fs;

use edgeward_base::durable::FaultFs;

use super::export::{self, Export, Parsed};
use super::*;

/// A route as a later version knows it: with a weight in tenths of a percent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FinerRoute {
    name: String,
    pub(super) permille: u16,
}

impl Record for FinerRoute {
    const TABLE: &'static str = "route";
    const SCHEMA: u16 = 2;

    fn key(&self) -> String {
        self.name.clone()
    }

    fn decode(schema: u16, payload: &[u8]) -> Result<Self, DecodeRecordError> {
        if schema == 1 {
            let older = Route::decode(schema, payload)?;
            return Ok(Self {
                name: older.name,
                permille: u16::from(older.percent) * 10,
            });
        }
        postcard::from_bytes(payload).map_err(DecodeRecordError::Payload)
    }
}

pub(super) fn finer(name: &str, permille: u16) -> FinerRoute {
    let name = name.to_owned();
    FinerRoute { name, permille }
}

pub(super) fn finer_options(state: &TempDir) -> StoreOptions {
    let mut options = options(state);
    options.tables.retain(|table| table.name != "route");
    options.with_table::<FinerRoute>()
}

fn kept(state: &TempDir) -> PathBuf {
    let name = format!("export/pre-{}.export", env!("CARGO_PKG_VERSION"));
    state.path().join(name)
}

fn kept_export(state: &TempDir) -> (Export, u16) {
    match export::parse(&fs::read(kept(state)).unwrap()) {
        Parsed::Sound(export, layout) => (export, layout),
        other => panic!("{other:?}"),
    }
}

pub(super) async fn older_state() -> TempDir {
    let state = TempDir::new().unwrap();
    let (store, _) = open(&state);
    store.commit(put(&route("a", 80))).await.unwrap();
    store.commit(put(&route("b", 20))).await.unwrap();
    store.record_progress(put(&position(7))).await.unwrap();
    shut(store).await;
    state
}

#[tokio::test]
async fn records_of_an_older_layout_are_kept_and_rewritten_once() {
    let state = older_state().await;
    let (store, report) = Store::open(finer_options(&state)).unwrap();
    assert_eq!(report.migrated_from, Some(1));
    assert_eq!((report.generation, report.rebuilt), (3, None));
    let expected = [finer("a", 800), finer("b", 200)];
    assert_eq!(store.list::<FinerRoute>().unwrap(), expected);
    assert_eq!(store.get::<Position>("rows").unwrap(), Some(position(7)));
    shut(store).await;
    let (export, _) = kept_export(&state);
    assert_eq!((export.generation, export.records.len()), (2, 2));
    let error = Store::open(options(&state)).unwrap_err();
    assert!(
        error.to_string().contains("`edgeward state rollback`"),
        "{error}"
    );

    let (store, report) = Store::open(finer_options(&state)).unwrap();
    assert_eq!((report.migrated_from, report.generation), (None, 3));
    assert_eq!(store.list::<FinerRoute>().unwrap(), expected);
    shut(store).await;
}

#[tokio::test]
async fn a_rebuilt_database_is_migrated_as_well() {
    let state = older_state().await;
    fs::write(database(state.path()).join("db"), "damaged").unwrap();
    let (store, report) = Store::open(finer_options(&state)).unwrap();
    assert!(report.rebuilt.is_some());
    assert_eq!(report.migrated_from, Some(1));
    assert_eq!(
        store.list::<FinerRoute>().unwrap(),
        [finer("a", 800), finer("b", 200)]
    );
    assert_eq!(kept_export(&state).0.generation, 2);
    shut(store).await;
}

#[tokio::test]
async fn a_migration_that_is_cut_short_anywhere_can_be_repeated() {
    for failing in 1.. {
        let state = older_state().await;
        let fs = FaultFs::dying(RealFs::shared(), failing);
        let mut faulty = finer_options(&state);
        faulty.fs = Arc::new(fs.clone());
        let opened = Store::open(faulty);
        let done = opened.is_ok();
        if let Ok((store, _)) = opened {
            shut(store).await;
        }
        let (store, _) = Store::open(finer_options(&state)).unwrap();
        let expected = [finer("a", 800), finer("b", 200)];
        assert_eq!(
            store.list::<FinerRoute>().unwrap(),
            expected,
            "operation {failing}"
        );
        // What was kept is the older state, never a half of the newer one.
        let (export, _) = kept_export(&state);
        assert_eq!(export.generation, 2, "operation {failing}");
        shut(store).await;
        if done {
            assert!(failing > 12, "{failing}");
            return;
        }
    }
}

#[tokio::test]
async fn a_database_of_layout_0_is_given_a_number_and_its_state_is_kept() {
    let state = older_state().await;
    let numbered = database(state.path());
    let flat = state.path().join("flat");
    fs::rename(numbered, &flat).unwrap();
    fs::remove_dir(state.path().join("db")).unwrap();
    fs::rename(flat, state.path().join("db")).unwrap();
    let exports = state.path().join("export");
    let found = export::find(&RealFs, &exports).unwrap();
    let older = export::serialise(0, &found.newest.unwrap()).unwrap();
    fs::write(found.newest_path.unwrap(), older).unwrap();
    // As layout 0 wrote it.
    let shelves = Shelves::open(&state.path().join("db")).unwrap();
    shelves.set_layout(0, 2);
    drop(shelves);

    let (store, report) = open(&state);
    assert_eq!((report.migrated_from, report.rebuilt), (Some(0), None));
    assert_eq!(
        store.list::<Route>().unwrap(),
        [route("a", 80), route("b", 20)]
    );
    assert_eq!(store.get::<Position>("rows").unwrap(), Some(position(7)));
    let (export, layout) = kept_export(&state);
    assert_eq!((export.generation, layout), (2, 0));
    shut(store).await;
    let (store, report) = open(&state);
    assert_eq!((report.migrated_from, report.rebuilt), (None, None));
    shut(store).await;
}
