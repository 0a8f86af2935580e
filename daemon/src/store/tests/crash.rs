//! A store against a model in memory: changes, crashes with and without damage, restarts.
//!
//! A crash is an image of the state directory taken while the store is open (what `kill -9`
//! leaves), with the database optionally damaged as a power cut or a bad card would.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        percent: u8,
        length: usize,
    },
    Delete {
        key: u8,
    },
    /// Changes that are offered at once, each to a key of its own.
    Together {
        percent: u8,
    },
    Progress {
        sent: u64,
    },
    Close,
    Crash(Damage),
}

#[derive(Clone, Debug)]
enum Damage {
    None,
    RemoveDatabase,
    EmptyDatabase,
    RemoveFile(&'static str),
    Truncate {
        permille: u64,
    },
    Flip {
        permille: u64,
    },
    /// The database as it was at the last crash or close: an older one.
    Older,
    NewestExport,
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        2 => Just(Damage::None),
        1 => Just(Damage::RemoveDatabase),
        1 => Just(Damage::EmptyDatabase),
        1 => Just(Damage::RemoveFile("conf")),
        1 => Just(Damage::RemoveFile("db")),
        1 => Just(Damage::RemoveFile("snap")),
        2 => (0..1000_u64).prop_map(|permille| Damage::Truncate { permille }),
        3 => (0..1000_u64).prop_map(|permille| Damage::Flip { permille }),
        1 => Just(Damage::Older),
        1 => Just(Damage::NewestExport),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_u8, 0..=100_u8, 0..9_000_usize)
            .prop_map(|(key, percent, length)| Step::Put { key, percent, length }),
        2 => (0..6_u8).prop_map(|key| Step::Delete { key }),
        1 => (0..=100_u8).prop_map(|percent| Step::Together { percent }),
        1 => any::<u64>().prop_map(|sent| Step::Progress { sent }),
        1 => Just(Step::Close),
        3 => damage().prop_map(Step::Crash),
    ]
}

/// The state directory, the store on it, and what it must hold.
struct World {
    state: TempDir,
    older: Option<TempDir>,
    store: Store,
    model: BTreeMap<String, Route>,
}

impl World {
    fn new() -> Self {
        let state = TempDir::new().unwrap();
        let (store, _) = open(&state);
        Self {
            state,
            older: None,
            store,
            model: BTreeMap::new(),
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Put {
                key,
                percent,
                length,
            } => {
                let record = Route {
                    note: "n".repeat(length),
                    ..route(&key.to_string(), percent)
                };
                self.store.commit(put(&record)).await.unwrap();
                self.model.insert(record.key(), record);
            }
            Step::Delete { key } => {
                let key = key.to_string();
                self.store
                    .commit(Change::new().delete::<Route>(&key))
                    .await
                    .unwrap();
                self.model.remove(&key);
            }
            Step::Together { percent } => {
                let records: Vec<_> = (0..6).map(|key| route(&key.to_string(), percent)).collect();
                let changes = records.iter().map(|record| self.store.commit(put(record)));
                for result in futures_util::future::join_all(changes).await {
                    result.unwrap();
                }
                self.model
                    .extend(records.into_iter().map(|record| (record.key(), record)));
            }
            Step::Progress { sent } => {
                self.store
                    .record_progress(put(&position(sent)))
                    .await
                    .unwrap();
                assert_eq!(
                    self.store.get::<Position>("rows").unwrap(),
                    Some(position(sent))
                );
            }
            Step::Close => {
                self.store.close().await.unwrap();
                self.restart(Damage::None).await;
            }
            Step::Crash(damage) => self.restart(damage).await,
        }
        self.check();
    }

    /// Goes on from an image of the state directory, damaged.
    async fn restart(&mut self, damage: Damage) {
        let image = TempDir::new().unwrap();
        copy(self.state.path(), image.path());
        self.store.close().await.ok();
        self.wreck(image.path(), &damage);
        self.older = Some(TempDir::new().unwrap());
        copy(
            &database(self.state.path()),
            self.older.as_ref().unwrap().path(),
        );
        let (store, report) = open(&image);
        let gone = matches!(damage, Damage::RemoveDatabase | Damage::EmptyDatabase);
        assert!(
            !gone || report.rebuilt.is_some(),
            "{damage:?} went unnoticed"
        );
        (self.state, self.store) = (image, store);
    }

    fn wreck(&self, state: &Path, damage: &Damage) {
        let db = database(state);
        match damage {
            Damage::None => {}
            Damage::RemoveDatabase => fs::remove_dir_all(&db).unwrap(),
            Damage::EmptyDatabase => {
                fs::remove_dir_all(&db).unwrap();
                fs::create_dir(&db).unwrap();
            }
            Damage::RemoveFile(name) => {
                for path in files(&db).iter().filter(|path| named(path, name)) {
                    fs::remove_file(path).unwrap();
                }
            }
            Damage::Truncate { permille } => {
                let file = fs::OpenOptions::new()
                    .write(true)
                    .open(db.join("db"))
                    .unwrap();
                file.set_len(file.metadata().unwrap().len() * permille / 1000)
                    .unwrap();
            }
            Damage::Flip { permille } => flip(&db.join("db"), *permille),
            Damage::Older => {
                if let Some(older) = &self.older {
                    fs::remove_dir_all(&db).unwrap();
                    copy(older.path(), &db);
                }
            }
            Damage::NewestExport => {
                flip(files(&state.join("export")).last().unwrap(), 500);
            }
        }
    }

    fn check(&self) {
        let expected: Vec<_> = self.model.values().cloned().collect();
        assert_eq!(self.store.list::<Route>().unwrap(), expected);
        for key in (0..6_u8).map(|key| key.to_string()) {
            assert_eq!(
                self.store.get::<Route>(&key).unwrap().as_ref(),
                self.model.get(&key)
            );
        }
    }
}

fn flip(path: &Path, permille: u64) {
    let mut bytes = fs::read(path).unwrap();
    let length = u64::try_from(bytes.len()).unwrap();
    let at = usize::try_from(length * permille / 1000).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn named(path: &Path, prefix: &str) -> bool {
    path.file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .starts_with(prefix)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn every_acknowledged_change_survives(steps in proptest::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::new();
            for step in steps {
                world.take(step).await;
            }
        });
    }
}
