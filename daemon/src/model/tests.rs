//! The model store as a whole: importing, loading, removing.

mod boosted;
mod external_data;
pub(super) mod fake;
mod importing;
mod loading;
mod maps;
mod sample_models;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use edgeward_base::clock::{SharedClock, TestClock};
use edgeward_base::durable::{RealFs, SharedFs};
use edgeward_base::names::ModelRef;
use edgeward_kernels::engine::Engine;
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{
    Fingerprint, ModelRecord, ModelStore, ModelStoreOptions, ScoringInput, VerdictRecord,
    parse_scoring_body,
};
use crate::store::{Store, StoreOptions};
use crate::tasks::Tasks;
use fake::FakeEngine;

/// How long a test waits for what must happen.
const LONG: Duration = Duration::from_secs(180);

/// A box: a state directory, and what it is opened with.
struct TestBox {
    state: TempDir,
    fs: SharedFs,
    engines: Vec<Arc<dyn Engine>>,
    fingerprint: &'static str,
    clock: SharedClock,
}

/// One start of the box.
struct Boot {
    models: ModelStore,
    store: Store,
    tasks: Tasks,
}

impl TestBox {
    fn with(engines: Vec<Arc<dyn Engine>>) -> Self {
        Self {
            state: tempfile::tempdir().unwrap(),
            fs: RealFs::shared(),
            engines,
            fingerprint: "build",
            clock: TestClock::at(1_700_000_000_000_000),
        }
    }

    fn models(&self) -> PathBuf {
        self.state.path().join("models")
    }

    fn boot(&self) -> Boot {
        let tasks = Tasks::new(Handle::current());
        let directory = self.state.path().to_path_buf();
        let clock = Arc::clone(&self.clock);
        let options = StoreOptions::new(directory, tasks.clone(), clock, RealFs::shared())
            .with_table::<ModelRecord>()
            .with_table::<VerdictRecord>();
        let (store, _) = Store::open(options).unwrap();
        let options = ModelStoreOptions {
            directory: self.models(),
            store: store.clone(),
            tasks: tasks.clone(),
            fs: Arc::clone(&self.fs),
            clock: Arc::clone(&self.clock),
            engines: self.engines.clone(),
        };
        let models = ModelStore::open_as(options, Fingerprint::for_test(self.fingerprint)).unwrap();
        Boot {
            models,
            store,
            tasks,
        }
    }
}

impl Boot {
    /// Ends the boot; what was to be remembered is remembered.
    async fn shut(self) {
        drop(self.models);
        while self
            .tasks
            .running()
            .iter()
            .any(|name| name.ends_with("model/verdict"))
        {
            tokio::task::yield_now().await;
        }
        self.store.close().await.unwrap();
        drop(self.store);
        self.tasks.join_all(LONG).await.unwrap();
    }
}

fn model(text: &str) -> ModelRef {
    text.parse().unwrap()
}

const GOLDEN: &str = r#"{"inputs":{"X":[[1,2],[3,4]]},"outputs":{"y":[3,7]}}"#;

/// An MLflow directory of flavour onnx whose graph only a [`FakeEngine`] understands.
fn write_mlflow(directory: &Path, golden: &str) {
    std::fs::create_dir_all(directory).unwrap();
    let files = [
        ("MLmodel", "flavors: {onnx: {data: model.onnx}}\n"),
        ("model.onnx", "\u{8}\u{7}"),
        ("golden.json", golden),
        ("conda.yaml", "name: env\n"),
    ];
    for (name, text) in files {
        std::fs::write(directory.join(name), text).unwrap();
    }
}

fn input(body: &str) -> ScoringInput {
    parse_scoring_body(&bytes::Bytes::copy_from_slice(body.as_bytes()))
        .unwrap()
        .input
}
