//! A running server and a client of it.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use edgeward_base::clock::{SharedClock, SystemClock};
use edgeward_base::durable::RealFs;
use edgeward_base::names::{ModelRef, TableName};
use edgeward_base::units::ByteCount;
use edgeward_wire::ack::{RejectCode, Rejection};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::client::conn::http2;
use hyper::{HeaderMap, Method, Request};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::api::admin::client::AdminClient;
use crate::api::admin::{Process, ProcessError};
use crate::api::{BoundServer, ServerOptions, Services};
use crate::endpoint::{
    AppliedDesired, CatalogueEntry, EndpointOptions, EndpointRecord, Endpoints, ModelSource,
    Placement,
};
use crate::gateway::{
    ADMINS, FirstTokenRecord, Policies, PolicyRecord, PrincipalKind, TokenOwner, TokenRecord,
    Tokens,
};
use crate::inference_table::Row;
use crate::model::samples::samples;
use crate::model::{ModelRecord, ModelStore, ModelStoreOptions, Scorer, VerdictRecord};
use crate::serving::{InferenceSink, Randomness, Serving, ServingLimits, ServingParts};
use crate::store::{ReadStoreError, Store, StoreOptions};
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

pub(super) const PATIENCE: Duration = Duration::from_secs(180);

/// Keeps every row.
#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<Vec<(TableName, Row)>>);

impl InferenceSink for Kept {
    fn offer(&self, table: &TableName, row: Row) {
        self.0.lock().unwrap().push((table.clone(), row));
    }
}

/// The model store as endpoints see it, with models of the test's own put before it.
#[derive(Debug)]
pub(super) struct Source {
    store: ModelStore,
    own: Vec<Arc<Scorer>>,
    slow: Arc<SlowLoads>,
}

/// Loads of `main.default.slow`, which wait for leave; version 1 then loads as fraud 3, any other
/// fails.
#[derive(Debug)]
pub(super) struct SlowLoads {
    leave: Sender<()>,
    gate: Mutex<Receiver<()>>,
}

impl SlowLoads {
    fn new() -> Arc<Self> {
        let (leave, gate) = channel();
        let gate = Mutex::new(gate);
        Arc::new(Self { leave, gate })
    }

    /// Lets one load go on.
    pub(super) fn let_go(&self) {
        self.leave.send(()).unwrap();
    }
}

const SLOW: &str = "main.default.slow";

impl Source {
    fn own(&self, model: &ModelRef) -> Option<&Arc<Scorer>> {
        self.own.iter().find(|scorer| scorer.model() == model)
    }
}

impl ModelSource for Source {
    fn find(&self, model: &ModelRef) -> Result<Option<CatalogueEntry>, ReadStoreError> {
        if self.own(model).is_none() && model.name.as_str() != SLOW {
            return self.store.find(model);
        }
        Ok(Some(CatalogueEntry {
            manifest: edgeward_base::digest::Digest::of(b"own"),
            size: ByteCount(1),
        }))
    }

    fn has_device(&self) -> bool {
        ModelSource::has_device(&self.store)
    }

    fn load(&self, placement: &Placement) -> Result<Arc<Scorer>, Rejection> {
        let model = &placement.model;
        if let Some(scorer) = self.own(model) {
            return Ok(Arc::clone(scorer));
        }
        if model.name.as_str() != SLOW {
            return ModelSource::load(&self.store, placement);
        }
        self.slow.gate.lock().unwrap().recv().unwrap();
        if model.version.get() == 1 {
            let fraud = Placement {
                model: "main.default.fraud/3".parse().unwrap(),
                compute: placement.compute,
            };
            ModelSource::load(&self.store, &fraud)
        } else {
            Err(Rejection::new(
                RejectCode::VerificationFailed,
                "it is wrong",
            ))
        }
    }
}

#[derive(Debug)]
struct TestProcess;

impl Process for TestProcess {
    fn status(&self) -> Value {
        json!({"boot_id": "00000000000000ff"})
    }

    fn metrics(&self) -> String {
        "# none\n".to_owned()
    }

    fn seal_logs(&self) -> BoxFuture<'_, Result<Value, ProcessError>> {
        Box::pin(async { Ok(json!({"rows": 7})) })
    }

    fn verify_logs(&self) -> BoxFuture<'_, Result<Value, ProcessError>> {
        Box::pin(async { Err(ProcessError("a row file is damaged".to_owned())) })
    }

    fn verify_state(&self) -> BoxFuture<'_, Result<Value, ProcessError>> {
        Box::pin(async { Ok(json!({"sound": true})) })
    }
}

/// What a test changes of the usual server.
pub(super) struct Wanted {
    pub(super) limits: ServingLimits,
    pub(super) scorers: Vec<Arc<Scorer>>,
    pub(super) slow: Arc<SlowLoads>,
    /// How long a change waits for its models before it is answered.
    pub(super) answer_within: Duration,
    /// Sample models to import, such as `main.default.fraud/3`.
    pub(super) samples: &'static [&'static str],
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            limits: ServingLimits {
                requests: 64,
                request_timeout: PATIENCE,
                threads: 2,
                queue: 16,
                ..ServingLimits::default()
            },
            scorers: Vec::new(),
            slow: SlowLoads::new(),
            answer_within: PATIENCE,
            samples: &["main.default.fraud/3", "main.default.fraud/4"],
        }
    }
}

/// A running server.
pub(super) struct Stack {
    pub(super) folder: tempfile::TempDir,
    pub(super) services: Services,
    pub(super) token: String,
    pub(super) server: Arc<Kept>,
    address: std::net::SocketAddr,
    tasks: Tasks,
    shutdown: CancellationToken,
    store: Store,
}

impl Stack {
    pub(super) async fn start() -> Self {
        Self::with(Wanted::default()).await
    }

    pub(super) async fn with(wanted: Wanted) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tasks = Tasks::new(tokio::runtime::Handle::current());
        let clock: SharedClock = SystemClock::shared();
        let state = folder.path().join("state");
        std::fs::create_dir(&state).unwrap();
        let store = open_store(&state, &tasks, &clock);
        let models = open_models(&state, &store, &tasks, &clock);
        import(&models, folder.path(), wanted.samples).await;
        let source = Arc::new(Source {
            store: models.clone(),
            own: wanted.scorers,
            slow: Arc::clone(&wanted.slow),
        });
        let endpoints = Endpoints::open(
            EndpointOptions {
                answer_within: wanted.answer_within,
                ..EndpointOptions::default()
            },
            store.clone(),
            source,
            &tasks,
            Arc::clone(&clock),
        )
        .unwrap();
        let policies = Policies::load(store.clone(), &tasks).unwrap();
        let kept = Arc::new(Kept::default());
        let serving = Serving::start(ServingParts {
            endpoints: endpoints.clone(),
            policies: policies.clone(),
            sink: Arc::clone(&kept) as Arc<dyn InferenceSink>,
            clock: Arc::clone(&clock),
            limits: wanted.limits,
            randomness: Randomness::seeded(1),
            tasks: tasks.clone(),
        })
        .unwrap();
        let tokens = Tokens::load(store.clone(), clock).unwrap();
        let token = tokens.create(alice(), None).await.unwrap();
        let services = Services {
            serving,
            endpoints,
            tokens,
            policies,
            models,
            process: Arc::new(TestProcess),
            metrics: Metrics::new(),
        };
        let bound = bind(&state).await;
        let address = bound.address().unwrap();
        let shutdown = CancellationToken::new();
        let run = bound.run(services.clone(), tasks.clone(), shutdown.clone());
        drop(tasks.spawn("api", run));
        Self {
            folder,
            services,
            token: token.token,
            server: kept,
            address,
            tasks,
            shutdown,
            store,
        }
    }

    /// A stack that serves `fraud` with version 3 and captures its rows.
    pub(super) async fn serving_fraud() -> Self {
        let stack = Self::start().await;
        let answer = stack.send(Method::POST, ENDPOINTS, &fraud()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        stack
    }

    /// Endpoint `fraud`: version 3 as champion with all traffic, version 4 beside it.
    pub(super) async fn two_versions() -> Self {
        let stack = Self::start().await;
        let entity = |name: &str, version: &str| json!({"name": name, "entity_name": "main.default.fraud", "entity_version": version});
        let body = json!({"name": "fraud", "config": {
            "served_entities": [entity("champion", "3"), entity("challenger", "4")],
            "traffic_config": {"routes": [
                {"served_entity_name": "champion", "traffic_percentage": 100},
                {"served_entity_name": "challenger", "traffic_percentage": 0},
            ]},
            "auto_capture_config": {
                "catalog_name": "main", "schema_name": "default", "table_name_prefix": "fraud",
            },
        }});
        let answer = stack.send(Method::POST, ENDPOINTS, &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        stack
    }

    /// One request with the token and a JSON body.
    pub(super) async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("authorization", format!("Bearer {}", self.token))];
        self.raw(method, path, &headers, body.to_string()).await
    }

    /// One request with the token and no body.
    pub(super) async fn get(&self, path: &str) -> Answer {
        let headers = [("authorization", format!("Bearer {}", self.token))];
        self.raw(Method::GET, path, &headers, Bytes::new()).await
    }

    /// One request as it is given, over a connection of its own.
    pub(super) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, String)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request.header("host", "test").body(Body::from(body.into()));
        let mut connection = self.connect().await;
        answer(&mut connection, request.unwrap()).await
    }

    /// A connection to the TCP listener.
    pub(super) async fn connect(&self) -> SendRequest<Body> {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        drop(self.tasks.spawn("client", connection));
        sender
    }

    /// A connection of HTTP/2 to the TCP listener.
    pub(super) async fn connect_two(&self) -> http2::SendRequest<Body> {
        let stream = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        drop(self.tasks.spawn("client", connection));
        sender
    }

    /// A connection without HTTP.
    pub(super) async fn dial(&self) -> tokio::net::TcpStream {
        tokio::net::TcpStream::connect(self.address).await.unwrap()
    }

    pub(super) fn admin_socket(&self) -> PathBuf {
        self.folder.path().join("state/admin.sock")
    }

    pub(super) fn admin(&self) -> AdminClient {
        AdminClient::new(&self.admin_socket())
    }

    /// The rows offered since the last call.
    pub(super) fn rows(&self) -> Vec<(TableName, Row)> {
        std::mem::take(&mut *self.server.0.lock().unwrap())
    }

    /// The one row offered since the last call.
    pub(super) fn row(&self) -> (TableName, Row) {
        let mut rows = self.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.pop().unwrap()
    }

    pub(super) async fn stop(self) {
        self.services.serving.begin_drain();
        self.services.serving.drained().await;
        self.shutdown.cancel();
        self.tasks.begin_shutdown();
        drop(self.services);
        self.store.close().await.unwrap();
        self.tasks.join_all(PATIENCE).await.unwrap();
        assert_eq!(self.tasks.failures(), vec![]);
    }
}

/// An administrator.
fn alice() -> TokenOwner {
    TokenOwner {
        principal: "alice".parse().unwrap(),
        kind: PrincipalKind::User,
        groups: vec![ADMINS.parse().unwrap()],
    }
}

/// Imports the sample models of these names.
async fn import(models: &ModelStore, folder: &Path, wanted: &[&str]) {
    for sample in samples() {
        if wanted.contains(&sample.reference) {
            let directory = folder.join(sample.reference.replace('/', "-"));
            sample.write_to(&directory).unwrap();
            let model = sample.model().unwrap();
            models.import(&directory, &model).await.unwrap();
        }
    }
}

fn open_models(state: &Path, store: &Store, tasks: &Tasks, clock: &SharedClock) -> ModelStore {
    ModelStore::open(ModelStoreOptions {
        directory: state.join("models"),
        store: store.clone(),
        tasks: tasks.clone(),
        fs: Arc::new(RealFs),
        clock: Arc::clone(clock),
        engines: edgeward_kernels::engines(),
    })
    .unwrap()
}

async fn bind(state: &Path) -> BoundServer {
    BoundServer::bind(ServerOptions {
        tcp: Some(([127, 0, 0, 1], 0).into()),
        tls: None,
        insecure: false,
        unix: None,
        admin: state.join("admin.sock"),
        connections: 64,
        grace_period: PATIENCE,
    })
    .await
    .unwrap()
}

fn open_store(state: &Path, tasks: &Tasks, clock: &SharedClock) -> Store {
    let options = StoreOptions::new(
        state.to_owned(),
        tasks.clone(),
        Arc::clone(clock),
        Arc::new(RealFs),
    )
    .with_table::<TokenRecord>()
    .with_table::<FirstTokenRecord>()
    .with_table::<PolicyRecord>()
    .with_table::<EndpointRecord>()
    .with_table::<AppliedDesired>()
    .with_table::<ModelRecord>()
    .with_table::<VerdictRecord>();
    Store::open(options).unwrap().0
}

pub(super) const ENDPOINTS: &str = "/api/2.0/serving-endpoints";

/// The creation of `fraud`: version 3, captured in `main.default.fraud`.
pub(super) fn fraud() -> Value {
    json!({
        "name": "fraud",
        "config": {
            "served_entities": [{
                "name": "champion",
                "entity_name": "main.default.fraud",
                "entity_version": "3",
                "workload_size": "Small",
                "scale_to_zero_enabled": false,
            }],
            "auto_capture_config": {
                "catalog_name": "main",
                "schema_name": "default",
                "table_name_prefix": "fraud",
            },
        },
    })
}

/// One row of input that the fraud models take.
pub(super) fn transaction() -> Value {
    json!({"dataframe_records": [
        {"amount": 1250.0, "merchant_category": "online", "hour": 3, "is_foreign": true},
    ]})
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Checks status and error body; answers the message.
    #[track_caller]
    pub(super) fn error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let body = self.json();
        assert_eq!(body["error_code"], code, "{self:?}");
        assert_eq!(body.as_object().unwrap().len(), 2, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert!(self.header("x-request-id").is_some(), "{self:?}");
        let retry = self.header("retry-after");
        assert_eq!(retry.is_some(), matches!(status, 429 | 503), "{self:?}");
        body["message"].as_str().unwrap().to_owned()
    }
}

pub(super) async fn answer(connection: &mut SendRequest<Body>, request: Request<Body>) -> Answer {
    connection.ready().await.unwrap();
    let response = connection.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    }
}
