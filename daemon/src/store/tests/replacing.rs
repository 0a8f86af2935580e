//! Checks, exports, restores and rollbacks of a state.

use std::fs;

use super::migration::{FinerRoute, finer, finer_options, older_state};
use super::*;

fn lock(state: &TempDir) -> StateLock {
    StateLock::acquire(state.path()).unwrap()
}

fn checked(state: &TempDir) -> StateCheck {
    check(&options(state), &lock(state)).unwrap()
}

fn image(state: &std::path::Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    for path in RealFs.list(state).unwrap() {
        if path.is_dir() {
            files.extend(image(&path));
        } else {
            files.push((path.clone(), fs::read(path).unwrap()));
        }
    }
    files
}

#[tokio::test]
async fn a_sound_state_is_called_sound_and_left_as_it_is() {
    let state = older_state().await;
    let before = image(&state.path().join("db"));
    let found = checked(&state);
    assert!(found.sound, "{found:?}");
    assert_eq!(found.generation, 2);
    assert_eq!(found.exports.len(), 2);
    assert_eq!(found.database.generation, Some(2));
    assert!(found.ballast_bytes >= 128 << 10);
    assert_eq!(image(&state.path().join("db")), before);
    let error =
        check(&options(&state).with_table::<Route>(), &lock(&state)).map(|found| found.sound);
    assert!(error.unwrap());
}

#[tokio::test]
async fn a_running_store_checks_itself_and_tells_of_its_poison() {
    let state = TempDir::new().unwrap();
    let files = edgeward_base::durable::FaultFs::failing_once(
        RealFs::shared(),
        0,
        std::io::ErrorKind::Other,
    );
    let mut faulty = options(&state);
    faulty.fs = Arc::new(files.clone());
    let (store, _) = Store::open(faulty).unwrap();
    store.commit(put(&route("a", 1))).await.unwrap();
    let found = store.check().await.unwrap();
    assert!(found.sound, "{found:?}");
    assert_eq!(found.generation, 1);
    files.fail_in(1);
    store.commit(put(&route("a", 2))).await.unwrap_err();
    let found = store.check().await.unwrap();
    assert!(!found.sound);
    assert!(
        found
            .problems
            .iter()
            .any(|problem| problem.contains("poisoned")),
        "{found:?}"
    );
    shut(store).await;
}

#[tokio::test]
async fn every_damage_to_the_exports_and_the_database_is_named() {
    let state = older_state().await;
    let sound = image(state.path());
    let exported = |path: &std::path::Path| path.extension().is_some_and(|kind| kind == "export");
    for (path, bytes) in sound.iter().filter(|(path, _)| exported(path)) {
        for at in (0..bytes.len()).step_by(1 + bytes.len() / 16) {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            fs::write(path, flipped).unwrap();
            let found = checked(&state);
            assert!(!found.sound, "{} at {at}", path.display());
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(checked(&state).sound);
    fs::write(database(state.path()).join("db"), "damaged").unwrap();
    let found = checked(&state);
    assert!(!found.database.sound);
    assert!(found.problems[0].starts_with("the database"), "{found:?}");
}

#[tokio::test]
async fn an_export_never_passes_an_older_state_for_the_newest() {
    let state = older_state().await;
    let newest = state.path().join("export").join(export::file_name(2));
    fs::write(&newest, "damaged").unwrap();
    let copy = state.path().join("copy");
    let refused = export_to(&options(&state), &copy).unwrap_err().to_string();
    assert!(
        refused.starts_with(&newest.display().to_string()),
        "{refused}"
    );
    assert!(!copy.try_exists().unwrap());
    let (store, _) = open(&state);
    shut(store).await;
    assert_eq!(export_to(&options(&state), &copy).unwrap(), 2);
}

#[tokio::test]
async fn an_exported_state_is_restored_above_every_generation() {
    let state = older_state().await;
    let copy = state.path().join("copy");
    assert_eq!(export_to(&options(&state), &copy).unwrap(), 2);
    let (store, _) = open(&state);
    store.commit(put(&route("c", 5))).await.unwrap();
    shut(store).await;
    let restored = restore(&options(&state), &copy, &lock(&state)).unwrap();
    assert_eq!((restored.generation, restored.records), (4, 2));
    assert_eq!(restored.kept.len(), 2);
    let (store, report) = open(&state);
    assert_eq!(report.generation, 4);
    assert_eq!(
        store.list::<Route>().unwrap(),
        [route("a", 80), route("b", 20)]
    );
    shut(store).await;
    // The state that was replaced is a file that can be restored as well.
    let former = restored.kept.iter().find(|path| path.is_file()).unwrap();
    let restored = restore(&options(&state), former, &lock(&state)).unwrap();
    assert_eq!((restored.generation, restored.records), (5, 3));

    let mut damaged = fs::read(&copy).unwrap();
    damaged[20] ^= 1;
    fs::write(&copy, damaged).unwrap();
    let before = image(state.path());
    let error = restore(&options(&state), &copy, &lock(&state)).unwrap_err();
    assert!(
        matches!(error, RestoreStateError::Damaged { .. }),
        "{error}"
    );
    assert_eq!(image(state.path()), before, "left as it was");
}

#[tokio::test]
async fn a_rollback_gives_the_older_version_its_state_and_keeps_the_newer() {
    let state = older_state().await;
    let (store, _) = Store::open(finer_options(&state)).unwrap();
    store.commit(put(&finer("a", 555))).await.unwrap();
    shut(store).await;
    Store::open(options(&state)).unwrap_err();

    let other = rollback(&options(&state), Some("9.9.9"), &lock(&state)).unwrap_err();
    assert!(
        other.to_string().ends_with("before version 9.9.9"),
        "{other}"
    );
    let rolled = rollback(&options(&state), None, &lock(&state)).unwrap();
    assert_eq!((rolled.generation, rolled.records), (5, 2));
    assert_eq!(rolled.kept.len(), 2);
    let (store, report) = open(&state);
    assert_eq!(report.generation, 5);
    assert_eq!(
        store.list::<Route>().unwrap(),
        [route("a", 80), route("b", 20)]
    );
    store.commit(put(&route("a", 70))).await.unwrap();
    shut(store).await;

    // Forward again, with what the older version changed meanwhile.
    let (store, report) = Store::open(finer_options(&state)).unwrap();
    assert_eq!(report.migrated_from, Some(1));
    let expected = [finer("a", 700), finer("b", 200)];
    assert_eq!(store.list::<FinerRoute>().unwrap(), expected);
    shut(store).await;
}

#[tokio::test]
async fn a_rollback_that_is_cut_short_anywhere_leaves_a_state_that_starts() {
    for failing in 1.. {
        let state = older_state().await;
        let (store, _) = Store::open(finer_options(&state)).unwrap();
        store.commit(put(&finer("a", 555))).await.unwrap();
        shut(store).await;
        let mut faulty = options(&state);
        faulty.fs = Arc::new(edgeward_base::durable::FaultFs::dying(
            RealFs::shared(),
            failing,
        ));
        let done = rollback(&faulty, None, &lock(&state)).is_ok();
        let (store, _) = Store::open(finer_options(&state)).unwrap();
        let first = store.get::<FinerRoute>("a").unwrap().unwrap().permille;
        assert!([555, 800].contains(&first), "operation {failing}: {first}");
        shut(store).await;
        rollback(&options(&state), None, &lock(&state)).unwrap();
        let (store, _) = open(&state);
        assert_eq!(store.get::<Route>("b").unwrap(), Some(route("b", 20)));
        shut(store).await;
        if done {
            assert!(failing > 8, "{failing}");
            return;
        }
    }
}
