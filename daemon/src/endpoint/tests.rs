//! A box with a real store and models that load as a test says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use edgeward_base::clock::TestClock;
use edgeward_base::digest::Digest;
use edgeward_base::durable::RealFs;
use edgeward_base::names::{EndpointName, ModelRef, Principal};
use edgeward_base::units::ByteCount;
use edgeward_kernels::engine::{Rows, RunModelError, Session};
use edgeward_kernels::tensor::{DataType, Tensor, TensorSpec};
use edgeward_kernels::verify::{Verdict, Verified};
use edgeward_wire::ack::{RejectCode, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::model::{Scorer, Signature};
use crate::store::{Change, ReadStoreError, Record, StoreOptions};

mod desired;
mod local;
mod restore;
mod samples;

/// Longer than any load here takes on a busy machine: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(180);

/// A session that only says how big it is.
#[derive(Debug)]
struct FakeSession {
    specs: Vec<TensorSpec>,
    resident: u64,
}

impl Session for FakeSession {
    fn inputs(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn outputs(&self) -> &[TensorSpec] {
        &self.specs
    }

    fn run(&self, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunModelError> {
        Ok(inputs.to_vec())
    }

    fn permit_rows(&self, _: Rows) {}

    fn rows(&self) -> Rows {
        Rows::Together
    }

    fn resident(&self) -> ByteCount {
        ByteCount(self.resident)
    }
}

fn scorer(model: &ModelRef, resident: u64) -> Arc<Scorer> {
    let specs = vec![TensorSpec {
        name: "x".to_owned(),
        data_type: DataType::F32,
        shape: vec![None, Some(1)],
    }];
    let signature = Signature::derive(&specs, &specs);
    let session = Arc::new(FakeSession { specs, resident });
    let verdict = Verdict {
        verified: Verified::Framework,
        rows: Rows::Together,
    };
    Arc::new(Scorer::bind(model.clone(), "fake", verdict, signature, session).unwrap())
}

/// Holds loads back until it is opened.
#[derive(Debug, Clone, Default)]
struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    fn pass(&self) {
        let open = self.0.0.lock().unwrap();
        // Not for ever: a test that fails before it opens the gate shall end.
        let waited = self.0.1.wait_timeout_while(open, PATIENCE, |open| !*open);
        drop(waited.unwrap());
    }
}

/// How a version loads.
#[derive(Debug, Clone)]
enum Load {
    /// Into so many bytes; its files have as many.
    Works(u64),
    /// Small files, many bytes.
    Swells(u64),
    Fails(&'static str),
    Panics,
    Waits(Gate),
}

/// A catalogue of versions that load as they are told.
#[derive(Debug, Default)]
struct FakeModels {
    versions: Mutex<BTreeMap<ModelRef, Load>>,
    loads: AtomicUsize,
}

impl FakeModels {
    fn set(&self, version: &str, load: Load) {
        let model = model(version);
        self.versions.lock().unwrap().insert(model, load);
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::SeqCst)
    }
}

fn refusal(why: &str) -> Rejection {
    Rejection::new(RejectCode::VerificationFailed, why)
}

fn manifest(model: &ModelRef) -> Digest {
    Digest::of(model.to_string().as_bytes())
}

impl ModelSource for FakeModels {
    fn find(&self, model: &ModelRef) -> Result<Option<CatalogueEntry>, ReadStoreError> {
        let versions = self.versions.lock().unwrap();
        Ok(versions.get(model).map(|load| CatalogueEntry {
            manifest: manifest(model),
            size: ByteCount(match load {
                Load::Works(bytes) => *bytes,
                _ => 1,
            }),
        }))
    }

    fn has_device(&self) -> bool {
        false
    }

    fn load(&self, Placement { model, .. }: &Placement) -> Result<Arc<Scorer>, Rejection> {
        self.loads.fetch_add(1, Ordering::SeqCst);
        let load = self.versions.lock().unwrap().get(model).cloned();
        match load {
            None => Err(refusal("not there")),
            Some(Load::Works(bytes) | Load::Swells(bytes)) => Ok(scorer(model, bytes)),
            Some(Load::Fails(why)) => Err(refusal(why)),
            Some(Load::Panics) => panic!("the load panics"),
            Some(Load::Waits(gate)) => {
                gate.pass();
                Ok(scorer(model, 1))
            }
        }
    }
}

/// What somebody else wants to be durable with a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Beside(u64);

impl Record for Beside {
    const TABLE: &'static str = "beside";
    const SCHEMA: u16 = 1;

    fn key(&self) -> String {
        String::new()
    }
}

/// One start of a box: versions 1 to 9 of one model load at once unless told otherwise.
struct Appliance {
    tasks: Tasks,
    store: Store,
    endpoints: Endpoints,
    models: Arc<FakeModels>,
    clock: Arc<TestClock>,
    state: TempDir,
}

fn options() -> EndpointOptions {
    EndpointOptions {
        // A test never waits for it in vain: what shall be slow is held back by a gate.
        answer_within: PATIENCE,
        ..EndpointOptions::default()
    }
}

/// Answers changes at once, so that a held load is seen as `IN_PROGRESS`.
fn hasty() -> EndpointOptions {
    EndpointOptions {
        answer_within: Duration::ZERO,
        ..options()
    }
}

fn allowing() -> EndpointOptions {
    EndpointOptions {
        local_edits: LocalEdits::Allow,
        ..options()
    }
}

impl Appliance {
    fn new(options: EndpointOptions) -> Self {
        let models = Arc::new(FakeModels::default());
        for version in 1..10 {
            models.set(&version.to_string(), Load::Works(1));
        }
        Self::open(TempDir::new().unwrap(), options, models)
    }

    fn open(state: TempDir, options: EndpointOptions, models: Arc<FakeModels>) -> Self {
        let tasks = Tasks::new(Handle::current());
        let clock = TestClock::at(1_700_000_000_000_000);
        let store_options = StoreOptions::new(
            state.path().to_path_buf(),
            tasks.clone(),
            clock.clone(),
            RealFs::shared(),
        )
        .with_table::<EndpointRecord>()
        .with_table::<AppliedDesired>()
        .with_table::<Beside>();
        let (store, _) = Store::open(store_options).unwrap();
        let source: Arc<dyn ModelSource> = models.clone();
        let endpoints =
            Endpoints::open(options, store.clone(), source, &tasks, clock.clone()).unwrap();
        Self {
            tasks,
            store,
            endpoints,
            models,
            clock,
            state,
        }
    }

    /// Stops everything where it stands and starts again on the same state.
    async fn restart(self, options: EndpointOptions) -> Self {
        let models = Arc::clone(&self.models);
        let state = self.stop().await;
        Self::open(state, options, models)
    }

    async fn stop(self) -> TempDir {
        let Self {
            tasks,
            store,
            endpoints,
            state,
            ..
        } = self;
        tasks.begin_shutdown();
        drop(endpoints);
        store.close().await.unwrap();
        drop(store);
        tasks.join_all(PATIENCE).await.unwrap();
        state
    }

    /// What the disk holds at this moment, as after a power cut, started on another box.
    fn power_cut(&self, options: EndpointOptions) -> Self {
        let copy = TempDir::new().unwrap();
        copy_tree(self.state.path(), copy.path());
        Self::open(copy, options, Arc::clone(&self.models))
    }

    async fn create(&self, name: &str, config: Value) -> Result<Arc<EndpointView>, EndpointError> {
        self.endpoints
            .create(NewEndpoint::new(
                endpoint(name),
                input(&config),
                Creator::Principal(somebody()),
            ))
            .await
    }

    async fn update(&self, name: &str, config: Value) -> Result<Arc<EndpointView>, EndpointError> {
        self.endpoints
            .update_config(endpoint(name), input(&config), somebody())
            .await
    }

    async fn delete(&self, name: &str) -> Result<(), EndpointError> {
        self.endpoints.delete(endpoint(name)).await
    }

    async fn desire(
        &self,
        generation: u64,
        set: impl IntoIterator<Item = (&str, Value)>,
    ) -> Result<(), EndpointError> {
        let set = set
            .into_iter()
            .map(|(name, config)| (endpoint(name), input(&config)))
            .collect();
        let beside = Change::new().put(&Beside(generation)).unwrap();
        let applied = self.endpoints.apply_desired(set, at(generation), beside);
        applied.await
    }

    /// The generation of what is stored beside the endpoints.
    fn beside(&self) -> Option<u64> {
        self.store.get::<Beside>("").unwrap().map(|beside| beside.0)
    }

    /// Waits until an endpoint's view is as wanted.
    async fn wait_for(
        &self,
        name: &str,
        wanted: impl Fn(&EndpointView) -> bool,
    ) -> Arc<EndpointView> {
        let mut views = self.endpoints.watch();
        let found = views.wait_for(|views| views.get(name).is_some_and(|view| wanted(view)));
        let views = tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("{:?}", self.endpoints.get(name)))
            .unwrap();
        Arc::clone(views.get(name).unwrap())
    }

    /// The model versions that an endpoint routes to, in the order of its entities.
    fn routed(&self, name: &str) -> Vec<u64> {
        let snapshot = self.endpoints.snapshot();
        let Some(endpoint) = snapshot.endpoint(name) else {
            return Vec::new();
        };
        endpoint
            .entities()
            .iter()
            .map(|entity| entity.model.version.get())
            .collect()
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn endpoint(name: &str) -> EndpointName {
    name.parse().unwrap()
}

fn model(version: &str) -> ModelRef {
    format!("main.default.fraud/{version}").parse().unwrap()
}

fn somebody() -> Principal {
    "somebody".parse().unwrap()
}

fn at(generation: u64) -> Generation {
    Generation {
        epoch: 1,
        generation,
    }
}

fn input(config: &Value) -> EndpointConfigInput {
    EndpointConfigInput::from_json(config).unwrap()
}

/// One entity called `champion`.
fn champion(version: &str) -> Value {
    json!({"served_entities": [
        {"name": "champion", "entity_name": "main.default.fraud", "entity_version": version},
    ]})
}

/// Two entities that share the traffic.
fn split(champion: &str, challenger: &str, percent: i64) -> Value {
    json!({
        "served_entities": [
            {"name": "champion", "entity_name": "main.default.fraud", "entity_version": champion},
            {"name": "challenger", "entity_name": "main.default.fraud", "entity_version": challenger},
        ],
        "traffic_config": {"routes": [
            {"served_entity_name": "champion", "traffic_percentage": percent},
            {"served_entity_name": "challenger", "traffic_percentage": 100 - percent},
        ]},
    })
}

/// `ready` and `config_update` of a view.
fn standing(view: &EndpointView) -> (&'static str, &'static str) {
    (view.state.ready.as_str(), view.state.config_update.as_str())
}

const SERVES: (&str, &str) = ("READY", "NOT_UPDATING");
const UPDATING: (&str, &str) = ("READY", "IN_PROGRESS");
const LOADING: (&str, &str) = ("NOT_READY", "IN_PROGRESS");
const SERVES_OLD: (&str, &str) = ("READY", "UPDATE_FAILED");
const FAILED: (&str, &str) = ("NOT_READY", "UPDATE_FAILED");
const NOT_READY: (&str, &str) = ("NOT_READY", "NOT_UPDATING");
