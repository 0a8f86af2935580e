//! The daemon: everything that `edgeward serve` runs.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use edgeward_base::names::{BootId, DeviceId, TableName};

use super::drain::{DrainReport, Draining, Groups, drain};
use super::fleet::{ConnectBrokerError, DeviceRooms, connector, start_device};
use super::status::DeviceProcess;
use super::{ADMIN_SOCKET, Means};
use crate::api::{BindServerError, BoundServer, ServerOptions, Services, TlsFiles};
use crate::config::{Config, DeviceIdentity, IdentityError};
use crate::endpoint::{
    AppliedDesired, EndpointOptions, EndpointRecord, Endpoints, OpenEndpointsError,
};
use crate::fleet;
use crate::gateway::{FirstTokenError, FirstTokenRecord, LoadTokensError, TokenRecord, Tokens};
use crate::inference_table::{
    InferenceTableOptions, InferenceTables, OpenInferenceTablesError, Row,
};
use crate::model::{
    ModelRecord, ModelStore, ModelStoreOptions, OpenModelStoreError, VerdictRecord,
};
use crate::profile::{LoadProfileError, Profile};
use crate::serving::{
    InferenceSink, Randomness, Serving, ServingLimits, ServingParts, WorkloadShares,
};
use crate::store::{OpenStoreError, Store, StoreOptions, StoreReport};
use crate::tasks::SpawnThreadError;
use crate::telemetry::{Metrics, ServiceManager};

/// Connections that may be open at once; at this bound the kernel's queue holds newcomers.
const CONNECTIONS: u32 = 1024;

/// Why the daemon cannot run. Nothing was answered.
#[derive(Debug, thiserror::Error)]
pub enum BuildDeviceError {
    /// The profile is unknown or invalid.
    #[error("cannot use the profile")]
    Profile(#[source] LoadProfileError),
    /// The identity cannot be read or written.
    #[error("cannot read who this device is")]
    Identity(#[source] IdentityError),
    /// A directory cannot be made.
    #[error("cannot prepare {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A broker is configured and nobody said which fleet this device belongs to.
    #[error("[fleet] names a broker, and {path} names no fleet: run `edgeward provision` first")]
    NotProvisioned {
        /// The identity file.
        path: PathBuf,
    },
    /// The state cannot be opened.
    #[error("cannot open the state")]
    Store(#[source] OpenStoreError),
    /// The model store cannot be opened.
    #[error("cannot open the model store")]
    Models(#[source] OpenModelStoreError),
    /// The row log cannot be started.
    #[error("cannot start the row log")]
    Tables(#[source] OpenInferenceTablesError),
    /// The endpoints cannot be read.
    #[error("cannot restore the endpoints")]
    Endpoints(#[source] OpenEndpointsError),
    /// The tokens cannot be read.
    #[error("cannot read the tokens")]
    Tokens(#[source] LoadTokensError),
    /// The first token cannot be made.
    #[error("cannot make the first token")]
    FirstToken(#[source] FirstTokenError),
    /// A thread cannot be started.
    #[error("cannot start the compute threads")]
    Serving(#[source] SpawnThreadError),
    /// A socket cannot be bound.
    #[error("cannot listen")]
    Bind(#[source] BindServerError),
    /// The broker's certificates or password cannot be used.
    #[error("cannot use the configuration of the broker")]
    Broker(#[source] ConnectBrokerError),
}

impl BuildDeviceError {
    /// Whether the configuration or the state's format is at fault: exit code 78.
    #[must_use]
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Profile(_)
            | Self::Identity(_)
            | Self::NotProvisioned { .. }
            | Self::Broker(_) => true,
            Self::Store(error) => error.is_newer_state(),
            Self::Bind(error) => {
                matches!(
                    error,
                    BindServerError::Insecure(_) | BindServerError::TlsWithoutTcp
                )
            }
            Self::Directory { .. }
            | Self::Models(_)
            | Self::Tables(_)
            | Self::Endpoints(_)
            | Self::Tokens(_)
            | Self::FirstToken(_)
            | Self::Serving(_) => false,
        }
    }
}

/// Rows go from serving to the inference tables.
#[derive(Debug)]
struct TableSink(InferenceTables);

impl InferenceSink for TableSink {
    fn offer(&self, table: &TableName, row: Row) {
        self.0.offer(table, &row);
    }
}

/// The daemon, built and bound, not yet answering.
#[derive(Debug)]
pub struct Device {
    server: BoundServer,
    services: Services,
    tables: InferenceTables,
    store: Store,
    groups: Groups,
    manager: ServiceManager,
    config: Config,
}

impl Device {
    /// Opens the state, starts every owner, and binds the sockets.
    ///
    /// # Errors
    /// [`BuildDeviceError`]. What was started ends with the tasks of `means`.
    pub async fn build(
        config: Config,
        manager: ServiceManager,
        means: &Means,
    ) -> Result<Self, BuildDeviceError> {
        let profile = Profile::load(&config.profile).map_err(BuildDeviceError::Profile)?;
        let state = &config.state_dir;
        means
            .fs
            .create_dir_all(state)
            .map_err(|source| BuildDeviceError::Directory {
                path: state.clone(),
                source,
            })?;
        let groups = Groups::of(&means.tasks);
        let metrics = Metrics::new();
        // The lock of the state directory comes first: everything below writes into it.
        let (store, opened) = open_store(state, &groups, &metrics, means)?;
        report(&opened);
        let identity = identify(state, means)?;
        let membership = match (&config.fleet, &identity.fleet) {
            (Some(broker), Some(fleet)) => Some((
                connector(broker).map_err(BuildDeviceError::Broker)?,
                fleet.clone(),
            )),
            (Some(_), None) => {
                return Err(BuildDeviceError::NotProvisioned {
                    path: state.join("device.toml"),
                });
            }
            (None, _) => None,
        };
        let boot = BootId(rand::random());
        let models = open_models(state, &profile, &store, means)?;
        let tables = open_tables(&config, &profile, &identity.device, boot, &groups, means)?;
        let endpoints = open_endpoints(&config, &profile, &store, &models, &groups, means)?;
        let tokens = Tokens::load(store.clone(), Arc::clone(&means.clock))
            .map_err(BuildDeviceError::Tokens)?;
        let first = tokens
            .ensure_first(means.fs.as_ref(), &state.join("secrets"))
            .await;
        if let Some(path) = first.map_err(BuildDeviceError::FirstToken)? {
            tracing::info!(path = %path.display(), "made the first token");
        }
        let serving = Serving::start(ServingParts {
            endpoints: endpoints.clone(),
            sink: Arc::new(TableSink(tables.clone())),
            clock: Arc::clone(&means.clock),
            limits: limits(&config, &profile),
            randomness: Randomness::System,
            tasks: groups.workers.clone(),
        })
        .map_err(BuildDeviceError::Serving)?;
        let server = BoundServer::bind(server_options(&config))
            .await
            .map_err(BuildDeviceError::Bind)?;
        let process = DeviceProcess {
            identity: identity.clone(),
            boot,
            url: url_of(&server),
            tables: tables.clone(),
            endpoints: endpoints.clone(),
            rows: state.join("rows"),
            store: store.clone(),
            opened,
            fs: Arc::clone(&means.fs),
            tasks: means.tasks.clone(),
        };
        if let Some((connector, fleet)) = membership {
            let rooms = DeviceRooms {
                store: store.clone(),
                models: models.clone(),
                endpoints: endpoints.clone(),
                tables: tables.clone(),
                clock: Arc::clone(&means.clock),
            };
            start_device(
                identity.device,
                boot,
                &fleet,
                connector,
                rooms,
                &groups.fleet,
            );
        }
        let services = Services {
            serving,
            endpoints,
            tokens,
            models,
            process: Arc::new(process),
        };
        Ok(Self {
            server,
            services,
            tables,
            store,
            groups,
            manager,
            config,
        })
    }

    /// The TCP address of the REST API, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.server.address()
    }

    /// The services, for who composes the daemon with others.
    #[must_use]
    pub fn services(&self) -> &Services {
        &self.services
    }

    /// Answers requests until `stop` ends, then drains.
    pub async fn run(self, stop: impl Future<Output = ()>) -> DrainReport {
        let Self {
            server,
            services,
            tables,
            store,
            groups,
            manager,
            config,
        } = self;
        let serving = services.serving.clone();
        let endpoints = services.endpoints.clone();
        let url = url_of(&server);
        let shutdown = groups.api.shutdown_token();
        drop(
            groups
                .api
                .spawn("server", server.run(services, groups.api.clone(), shutdown)),
        );
        drop(
            groups.workers.spawn(
                "watchdog",
                manager
                    .clone()
                    .feed_watchdog(groups.workers.shutdown_token()),
            ),
        );
        let ready = async {
            // A stored endpoint that serves again by now saves its first client a refusal.
            endpoints.restored().await;
            tracing::info!(%url, "serving");
            manager.status(&format!("serving on {url}"));
            manager.ready();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ready => {}
            () = stop => {}
        }
        let grace_period = config.server.grace_period;
        drain(Draining {
            groups,
            serving,
            tables,
            store,
            manager,
            grace_period,
        })
        .await
    }
}

fn url_of(server: &BoundServer) -> String {
    let scheme = if server.tls().is_some() {
        "https"
    } else {
        "http"
    };
    server
        .address()
        .map(|address| format!("{scheme}://{address}"))
        .unwrap_or_default()
}

fn open_store(
    state: &Path,
    groups: &Groups,
    metrics: &Metrics,
    means: &Means,
) -> Result<(Store, StoreReport), BuildDeviceError> {
    let options = StoreOptions::new(
        state.to_owned(),
        groups.store.clone(),
        Arc::clone(&means.clock),
        Arc::clone(&means.fs),
    )
    .with_metrics(metrics.clone())
    .with_table::<ModelRecord>()
    .with_table::<VerdictRecord>()
    .with_table::<EndpointRecord>()
    .with_table::<AppliedDesired>()
    .with_table::<TokenRecord>()
    .with_table::<FirstTokenRecord>();
    Store::open(fleet::tables(options)).map_err(BuildDeviceError::Store)
}

/// Says what opening the state found, where that is not what one hopes for.
fn report(opened: &StoreReport) {
    if let Some(rebuilt) = &opened.rebuilt {
        let reason = &rebuilt.reason;
        tracing::error!(reason, moved_to = ?rebuilt.moved_to, "state was rebuilt from its export");
    }
    for path in &opened.damaged_exports {
        tracing::warn!(path = %path.display(), "an export of the state is damaged");
    }
}

/// Who this device is; a device that nobody provisioned draws a name and keeps it.
fn identify(state: &Path, means: &Means) -> Result<DeviceIdentity, BuildDeviceError> {
    let known = DeviceIdentity::read(state).map_err(BuildDeviceError::Identity)?;
    if let Some(identity) = known {
        return Ok(identity);
    }
    let name = format!("box-{:08x}", rand::random::<u32>());
    let device = name.parse::<DeviceId>().map_err(|error| {
        BuildDeviceError::Identity(IdentityError::Invalid {
            path: state.join("device.toml"),
            problem: error.to_string(),
        })
    })?;
    let identity = DeviceIdentity {
        device,
        fleet: None,
    };
    identity
        .write(means.fs.as_ref(), state)
        .map_err(BuildDeviceError::Identity)?;
    Ok(identity)
}

fn open_models(
    state: &Path,
    profile: &Profile,
    store: &Store,
    means: &Means,
) -> Result<ModelStore, BuildDeviceError> {
    let engines = profile
        .choose_engines(&edgeward_kernels::engines())
        .map_err(BuildDeviceError::Profile)?;
    ModelStore::open(ModelStoreOptions {
        directory: state.join("models"),
        store: store.clone(),
        tasks: means.tasks.clone(),
        fs: Arc::clone(&means.fs),
        clock: Arc::clone(&means.clock),
        engines,
    })
    .map_err(BuildDeviceError::Models)
}

fn open_tables(
    config: &Config,
    profile: &Profile,
    device: &DeviceId,
    boot: BootId,
    groups: &Groups,
    means: &Means,
) -> Result<InferenceTables, BuildDeviceError> {
    let wanted = &config.inference_table;
    let options = InferenceTableOptions {
        channel_bytes: wanted.channel_size,
        payload_cap: wanted.payload_cap,
        commit_bytes: wanted.commit_size,
        commit_interval: wanted.commit_interval.unwrap_or(profile.commit_interval),
        seal_after: wanted.seal_after,
        seal_size: wanted.seal_size,
        ..InferenceTableOptions::new(
            config.state_dir.join("rows"),
            device.clone(),
            boot,
            Arc::clone(&means.clock),
            Arc::clone(&means.fs),
        )
    };
    InferenceTables::open(options, &groups.rows).map_err(BuildDeviceError::Tables)
}

fn open_endpoints(
    config: &Config,
    profile: &Profile,
    store: &Store,
    models: &ModelStore,
    groups: &Groups,
    means: &Means,
) -> Result<Endpoints, BuildDeviceError> {
    let options = EndpointOptions {
        local_edits: config.endpoint.local_edits,
        memory_ceiling: Some(profile.model_bytes()),
        grace_period: config.server.grace_period,
        ..EndpointOptions::default()
    };
    Endpoints::open(
        options,
        store.clone(),
        Arc::new(models.clone()),
        &groups.workers,
        Arc::clone(&means.clock),
    )
    .map_err(BuildDeviceError::Endpoints)
}

fn limits(config: &Config, profile: &Profile) -> ServingLimits {
    let sizes = profile.workload_sizes;
    ServingLimits {
        bytes: config
            .server
            .in_flight_bytes
            .unwrap_or_else(|| profile.in_flight_bytes()),
        body: config.server.body_limit,
        request_timeout: config.server.request_timeout,
        shares: WorkloadShares {
            small: sizes.small,
            medium: sizes.medium,
            large: sizes.large,
        },
        ..ServingLimits::default()
    }
}

fn server_options(config: &Config) -> ServerOptions {
    let server = &config.server;
    ServerOptions {
        tcp: Some(server.listen),
        tls: server.tls.as_ref().map(|tls| TlsFiles {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
        }),
        insecure: server.insecure_listen,
        unix: server.unix_socket.clone(),
        admin: config.state_dir.join(ADMIN_SOCKET),
        connections: CONNECTIONS,
        grace_period: server.grace_period,
    }
}
