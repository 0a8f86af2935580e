//! State, models, endpoints and serving of one box, opened as the daemon opens them, without
//! sockets and without a row log.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use edgeward::endpoint::{
    AppliedDesired, Creator, EndpointConfigInput, EndpointOptions, EndpointRecord, Endpoints,
    NewEndpoint,
};
use edgeward::gateway::{Caller, Policies, PolicyRecord, PrincipalKind};
use edgeward::inference_table::Row;
use edgeward::model::samples::samples;
use edgeward::model::{
    ModelRecord, ModelStore, ModelStoreOptions, ScoreError, Scorer, VerdictRecord,
    parse_scoring_body,
};
use edgeward::serving::{
    Call, Choice, InferenceSink, Noted, Randomness, ServeError, Serving, ServingLimits,
    ServingParts,
};
use edgeward::store::{Store, StoreOptions};
use edgeward::tasks::Tasks;
use edgeward_base::clock::{SharedClock, SystemClock};
use edgeward_base::durable::{RealFs, SharedFs};
use edgeward_base::names::{EndpointName, Principal, TableName};
use edgeward_kernels::tensor::Tensor;
use serde_json::Value;
use tempfile::TempDir;

/// How long tasks may take to end.
const ENDING: Duration = Duration::from_secs(180);

/// Counts rows instead of keeping them.
#[derive(Debug, Default)]
pub(crate) struct RowCount(AtomicU64);

impl InferenceSink for RowCount {
    fn offer(&self, _table: &TableName, _row: Row) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl RowCount {
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The rooms of one box.
pub(crate) struct Rooms {
    pub(crate) endpoints: Endpoints,
    pub(crate) serving: Serving,
    pub(crate) rows: Arc<RowCount>,
    pub(crate) tasks: Tasks,
    models: Arc<ModelStore>,
    _folder: TempDir,
}

impl Rooms {
    /// Opens an empty box and imports the sample models. Traffic draws start at `seed`.
    pub(crate) async fn open(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (clock, fs) = (SystemClock::shared(), RealFs::shared());
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let options = StoreOptions::new(
            folder.path().to_owned(),
            tasks.clone(),
            Arc::clone(&clock),
            Arc::clone(&fs),
        )
        .with_table::<ModelRecord>()
        .with_table::<VerdictRecord>()
        .with_table::<EndpointRecord>()
        .with_table::<AppliedDesired>()
        .with_table::<PolicyRecord>();
        let (store, _) = Store::open(options).unwrap();
        let models = Arc::new(open_models(folder.path(), &store, &tasks, &clock, fs).await);
        let policies = Policies::load(store.clone(), &tasks).unwrap();
        let endpoints = Endpoints::open(
            EndpointOptions {
                answer_within: ENDING,
                ..EndpointOptions::default()
            },
            store,
            Arc::<ModelStore>::clone(&models),
            &tasks,
            Arc::clone(&clock),
        )
        .unwrap();
        let rows = Arc::new(RowCount::default());
        let serving = Serving::start(ServingParts {
            endpoints: endpoints.clone(),
            policies,
            sink: Arc::<RowCount>::clone(&rows),
            clock,
            limits: ServingLimits::default(),
            randomness: Randomness::seeded(seed),
            tasks: tasks.clone(),
        })
        .unwrap();
        Self {
            endpoints,
            serving,
            rows,
            tasks,
            models,
            _folder: folder,
        }
    }

    /// Imports a model version, named `catalog.schema.model/version`.
    pub(crate) async fn import(&self, folder: &Path, model: &str) {
        let model = model.parse().unwrap();
        self.models.import(folder, &model).await.unwrap();
    }

    /// Makes an endpoint, or replaces its configuration.
    pub(crate) async fn configure(&self, name: &str, config: &Value) {
        let endpoint: EndpointName = name.parse().unwrap();
        let input = EndpointConfigInput::from_json(config).unwrap();
        let author: Principal = "suite".parse().unwrap();
        let view = if self.endpoints.get(name).is_none() {
            let creator = Creator::Principal(author);
            let new = NewEndpoint::new(endpoint, input, creator);
            self.endpoints.create(new).await
        } else {
            self.endpoints.update_config(endpoint, input, author).await
        };
        assert_eq!(view.unwrap().failure, None);
    }

    /// Ends every task.
    pub(crate) async fn close(self) {
        self.tasks.begin_shutdown();
        drop((self.serving, self.endpoints, self.models));
        self.tasks.join_all(ENDING).await.unwrap();
        assert!(
            self.tasks.failures().is_empty(),
            "{:?}",
            self.tasks.failures()
        );
    }
}

async fn open_models(
    state: &Path,
    store: &Store,
    tasks: &Tasks,
    clock: &SharedClock,
    fs: SharedFs,
) -> ModelStore {
    let models = ModelStore::open(ModelStoreOptions {
        directory: state.join("models"),
        store: store.clone(),
        tasks: tasks.clone(),
        fs,
        clock: Arc::clone(clock),
        engines: edgeward_kernels::engines(),
    })
    .unwrap();
    for sample in samples() {
        let model = sample.model().unwrap();
        let folder = state.join("sample").join(model.version.to_string());
        sample.write_to(&folder).unwrap();
        models.import(&folder, &model).await.unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
    models
}

/// An invocation as MLflow's clients send it.
struct Scoring;

impl Call for Scoring {
    fn read(
        &mut self,
        body: &Bytes,
        scorer: &Scorer,
        _: &mut Noted,
    ) -> Result<Vec<Tensor>, ScoreError> {
        scorer.prepare(&parse_scoring_body(body)?.input)
    }

    fn write(&mut self, scorer: &Scorer, outputs: &[Tensor]) -> Result<Bytes, ScoreError> {
        Ok(scorer.render(outputs)?.into_body().into())
    }
}

/// Sends one invocation the whole way; answers which served entity took it, and its reply.
pub(crate) async fn invoke(
    serving: &Serving,
    endpoint: &str,
    body: &Bytes,
) -> Result<(String, Bytes), ServeError> {
    let mut exchange = serving.open(None);
    exchange.identify(Caller {
        principal: "suite".parse().unwrap(),
        kind: PrincipalKind::User,
        groups: Arc::from([]),
    });
    exchange.aim(endpoint);
    exchange.route(Choice::Split)?;
    let length = u64::try_from(body.len()).unwrap_or(u64::MAX);
    exchange.admit(length)?;
    exchange.received(body);
    let reply = exchange.invoke(body.clone(), Scoring).await?.body;
    let entity = exchange
        .served_entity()
        .map(|entity| entity.name.to_string());
    exchange.close(200, &reply);
    Ok((entity.unwrap_or_default(), reply))
}
