//! The registry: everything that `edgeward registry serve` runs.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::IntoResponse as _;
use edgeward_sync::registry::{RegistryOptions, RegistryPorts, RegistryTiming, registry_tasks};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use serde_json::Value;

use super::drain::DrainReport;
use super::fleet::{ConnectBrokerError, connector};
use super::{ADMIN_SOCKET, Means};
use crate::api::admin::client::{AdminClient, CallAdminError};
use crate::api::listen::Handler;
use crate::api::{ApiError, BindError, Listen, Listener};
use crate::config::RegistryConfig;
use crate::model::{
    ModelRecord, ModelStore, ModelStoreOptions, OpenModelStoreError, VerdictRecord,
};
use crate::registry::{
    AdminRequest, Landing, OpenKeyError, OpenLandingError, Publisher, PublisherParts,
    RegistryArtifacts, RegistryReports, answer, open_key, tables,
};
use crate::serving::AdmitError;
use crate::store::{OpenStoreError, Store, StoreOptions};
use crate::tasks::Tasks;
use crate::telemetry::ServiceManager;

/// Where the registry's verbs go on its admin socket, below the root of the admin API.
const ROUTE: &str = "/registry";
/// Connections of the command line that may be open at once.
const CONNECTIONS: u32 = 32;
/// How long a phase of the shutdown may take.
const PHASE: Duration = Duration::from_secs(60);

/// Why the registry cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BuildRegistryError {
    /// The directory cannot be made.
    #[error("cannot prepare {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The records cannot be opened.
    #[error("cannot open the registry's records")]
    Store(#[source] OpenStoreError),
    /// The signing key cannot be read or made.
    #[error("cannot open the signing key")]
    Key(#[source] OpenKeyError),
    /// The model store cannot be opened.
    #[error("cannot open the model store")]
    Models(#[source] OpenModelStoreError),
    /// The landing folder cannot be opened.
    #[error("cannot open the landing folder")]
    Landing(#[source] OpenLandingError),
    /// The admin socket cannot be bound.
    #[error("cannot listen")]
    Bind(#[source] BindError),
    /// The broker's certificates or password cannot be used.
    #[error("cannot use the configuration of the broker")]
    Broker(#[source] ConnectBrokerError),
}

/// The registry, built and bound, not yet connected.
#[derive(Debug)]
pub struct Registry {
    publisher: Publisher,
    admin: Listener,
    store: Store,
    tasks: Tasks,
}

impl Registry {
    /// Opens the records, binds the admin socket and starts the agent.
    ///
    /// # Errors
    /// [`BuildRegistryError`].
    pub async fn build(config: &RegistryConfig, means: &Means) -> Result<Self, BuildRegistryError> {
        let dir = &config.dir;
        means
            .fs
            .create_dir_all(dir)
            .map_err(|source| BuildRegistryError::Directory {
                path: dir.clone(),
                source,
            })?;
        let tasks = means.tasks.group("registry");
        let store = open_store(dir, &tasks, means)?;
        let key = open_key(dir, means.fs.as_ref()).map_err(BuildRegistryError::Key)?;
        let models = ModelStore::open(ModelStoreOptions {
            directory: dir.join("models"),
            store: store.clone(),
            tasks: tasks.clone(),
            fs: Arc::clone(&means.fs),
            clock: Arc::clone(&means.clock),
            engines: edgeward_kernels::engines(),
        })
        .map_err(BuildRegistryError::Models)?;
        let landing = Landing::open(dir, &config.landing, Arc::clone(&means.fs), tasks.clone())
            .map_err(BuildRegistryError::Landing)?;
        let admin = Listener::bind(Listen::Admin(dir.join(ADMIN_SOCKET)))
            .await
            .map_err(BuildRegistryError::Bind)?;
        let connector = connector(&config.broker).map_err(BuildRegistryError::Broker)?;
        let publisher = Publisher::start(PublisherParts {
            store: store.clone(),
            models: models.clone(),
            key: key.clone(),
            fleet: config.fleet.clone(),
            clock: Arc::clone(&means.clock),
            tasks: tasks.clone(),
        });
        let options = RegistryOptions {
            fleet: config.fleet.clone(),
            client_id: format!("{}-registry", config.fleet),
            key,
            timing: RegistryTiming::default(),
        };
        let ports = RegistryPorts {
            documents: Arc::new(publisher.documents()),
            artifacts: Arc::new(RegistryArtifacts::new(
                models.artifacts().clone(),
                tasks.clone(),
            )),
            landing: Arc::new(landing),
            reports: Arc::new(RegistryReports::new(
                store.clone(),
                Arc::clone(&means.clock),
            )),
            clock: Arc::clone(&means.clock),
        };
        for task in registry_tasks(options, ports, connector, tasks.shutdown_token()) {
            drop(tasks.spawn(task.name, task.future));
        }
        Ok(Self {
            publisher,
            admin,
            store,
            tasks,
        })
    }

    /// The owner of what is published, for who composes the registry with others.
    #[must_use]
    pub fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// Answers the command line until `stop` ends, then shuts down.
    pub async fn run(self, manager: ServiceManager, stop: impl Future<Output = ()>) -> DrainReport {
        let Self {
            publisher,
            admin,
            store,
            tasks,
        } = self;
        let shutdown = tasks.shutdown_token();
        let handler = RegistryAdmin { publisher };
        let server = admin.run(
            Arc::new(handler),
            tasks.clone(),
            shutdown.clone(),
            (CONNECTIONS, PHASE),
        );
        drop(tasks.spawn("admin", server));
        drop(tasks.spawn("watchdog", manager.clone().feed_watchdog(shutdown)));
        tracing::info!("registry serves");
        manager.ready();
        stop.await;
        manager.stopping();
        tasks.begin_shutdown();
        let mut report = DrainReport::default();
        // The store's writer is one of the tasks: it ends by being closed.
        if let Err(error) = store.close().await {
            report
                .problems
                .push(format!("the store did not close: {error}"));
        }
        if let Err(error) = tasks.join_all(PHASE).await {
            report.problems.push(format!("tasks did not end: {error}"));
        }
        report
    }
}

fn open_store(dir: &Path, tasks: &Tasks, means: &Means) -> Result<Store, BuildRegistryError> {
    let options = StoreOptions::new(
        dir.to_owned(),
        tasks.clone(),
        Arc::clone(&means.clock),
        Arc::clone(&means.fs),
    );
    let options = tables(options)
        .with_table::<ModelRecord>()
        .with_table::<VerdictRecord>();
    let (store, _) = Store::open(options).map_err(BuildRegistryError::Store)?;
    Ok(store)
}

/// Carries one [`AdminRequest`] in and its answer out.
#[derive(Debug, Clone)]
struct RegistryAdmin {
    publisher: Publisher,
}

impl Handler for RegistryAdmin {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let answered = crate::api::admin::answer(request, ROUTE, async |request: AdminRequest| {
            answer(&self.publisher, request)
                .await
                .map_err(|error| ApiError::coded(error.error_code(), &error))
        });
        answered.await
    }

    fn refuse(&self, _: &Parts, ceiling: usize) -> Response<Body> {
        ApiError::from(AdmitError::TooManyRequests { ceiling }).into_response()
    }
}

/// Why a running registry did not carry out a verb.
pub type CallRegistryError = CallAdminError;

/// Asks the registry in `dir` to carry out a verb.
///
/// # Errors
/// [`CallRegistryError`].
pub async fn call(dir: &Path, request: &AdminRequest) -> Result<Value, CallRegistryError> {
    AdminClient::new(&dir.join(ADMIN_SOCKET))
        .post(ROUTE, request)
        .await
}
