use std::fs;
use std::path::PathBuf;

use edgeward_base::clock::{SharedClock, TestClock};
use edgeward_base::durable::RealFs;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::store::{Record, StateLock, check, rollback};
use crate::tasks::Tasks;

fn means() -> Means {
    let clock: SharedClock = TestClock::at(1_700_000_000_000_000);
    Means {
        clock,
        fs: RealFs::shared(),
        tasks: Tasks::new(Handle::current()),
    }
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/state-v0")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

fn keys<R: Record>(store: &Store) -> Vec<String> {
    let records = store.list::<R>().unwrap();
    records.iter().map(Record::key).collect()
}

#[tokio::test]
async fn the_state_of_layout_0_is_read_kept_and_can_be_gone_back_to() {
    let state = TempDir::new().unwrap();
    let path = state.path();
    copy(&fixture(), path);
    let means = means();
    let options = state_options(path, &means);
    let checked = check(&options, &StateLock::acquire(path).unwrap()).unwrap();
    assert!(checked.sound, "{checked:?}");
    assert_eq!(checked.generation, 6);

    let (store, report) = Store::open(options.clone()).unwrap();
    assert_eq!((report.migrated_from, report.generation), (Some(0), 7));
    assert_eq!(report.rebuilt, None);
    let identity = identify(path, &store, &means).await.unwrap();
    assert_eq!(identity.device.as_str(), "box-c9fbd492");
    assert_eq!(keys::<EndpointRecord>(&store), ["tumour-a", "tumour-b"]);
    let tokens = store.list::<TokenRecord>().unwrap();
    let mut principals: Vec<_> = tokens
        .iter()
        .map(|token| token.principal.as_str())
        .collect();
    principals.sort_unstable();
    assert_eq!(principals, ["admin", "line-3", "line-4"]);
    assert_eq!(store.list::<ModelRecord>().unwrap().len(), 1);
    store.close().await.unwrap();
    drop(store);

    let newest = "export/state-00000000000000000006.export";
    let before = fs::read(fixture().join(newest)).unwrap();
    let kept = format!("export/pre-{}.export", env!("CARGO_PKG_VERSION"));
    assert_eq!(fs::read(path.join(&kept)).unwrap(), before, "byte for byte");

    let lock = StateLock::acquire(path).unwrap();
    let rolled = rollback(&options, None, &lock).unwrap();
    drop(lock);
    let exports = means.fs.list(&path.join("export")).unwrap();
    let found = exports
        .iter()
        .filter(|path| path.ends_with(format!("state-{:020}.export", rolled.generation)));
    assert_eq!(found.count(), 1);
    assert!(!path.join("db").try_exists().unwrap());
    let (store, report) = Store::open(options).unwrap();
    assert_eq!(report.migrated_from, Some(0));
    assert_eq!(keys::<EndpointRecord>(&store), ["tumour-a", "tumour-b"]);
    store.close().await.unwrap();
}
