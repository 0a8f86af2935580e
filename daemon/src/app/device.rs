//! The daemon: everything that `edgeward serve` runs.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use edgeward_base::names::TableName;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::drain::{DrainReport, Draining, Groups, drain};
use super::fleet::{ConnectBrokerError, start_agent};
use super::rooms::Rooms;
use super::status::DeviceProcess;
use super::{ADMIN_SOCKET, Means};
use super::{idle, retention};
use crate::api::listen::Tls;
use crate::api::{BindServerError, BoundServer, ServerOptions, Services, TlsFiles};
use crate::config::{Config, IdentityError};
use crate::endpoint::OpenEndpointsError;
use crate::gateway::{
    ChangePolicyError, FirstTokenError, LoadPoliciesError, LoadTokensError, Policies, Tokens,
};
use crate::inference_table::{InferenceTables, OpenInferenceTablesError, Row};
use crate::model::OpenModelStoreError;
use crate::profile::{LoadProfileError, Profile};
use crate::serving::{InferenceSink, Randomness, Serving, ServingLimits, ServingParts};
use crate::store::OpenStoreError;
use crate::tasks::{SpawnThreadError, Tasks};
use crate::telemetry::ServiceManager;

#[cfg(test)]
mod tests;

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
    /// The policies of endpoints cannot be read.
    #[error("cannot read the policies of the endpoints")]
    Policies(#[source] LoadPoliciesError),
    /// The policies of endpoints that are gone cannot be taken away.
    #[error("cannot take away policies of endpoints that are gone")]
    ForgetPolicies(#[source] ChangePolicyError),
    /// The first token cannot be made.
    #[error("cannot make the first token")]
    FirstToken(#[source] FirstTokenError),
    /// A thread cannot be started.
    #[error("cannot start the compute threads")]
    Serving(#[source] SpawnThreadError),
    /// There are no threads for requests.
    #[error("cannot start the request threads")]
    RequestThreads(#[source] SpawnThreadError),
    /// A socket cannot be bound.
    #[error("cannot listen as server.listen and server.unix_socket say")]
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
            | Self::Policies(_)
            | Self::ForgetPolicies(_)
            | Self::FirstToken(_)
            | Self::RequestThreads(_)
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
    rooms: Rooms,
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
        let groups = Groups::of(&means.tasks).map_err(BuildDeviceError::RequestThreads)?;
        let rooms = Rooms::open(&config, &profile, &groups, means).await?;
        let broker = rooms.broker(&config)?;
        let tokens = Tokens::load(rooms.store.clone(), Arc::clone(&means.clock))
            .map_err(BuildDeviceError::Tokens)?;
        let policies = policies(&rooms, &groups.workers).await?;
        let secrets = config.state_dir.join("secrets");
        let first = tokens.ensure_first(means.fs.as_ref(), &secrets).await;
        let made = first.map_err(BuildDeviceError::FirstToken)?;
        if let Some(path) = made {
            tracing::info!(path = %path.display(), "made the first token");
        }
        let serving = Serving::start(ServingParts {
            endpoints: rooms.endpoints.clone(),
            policies: policies.clone(),
            sink: Arc::new(TableSink(rooms.tables.clone())),
            clock: Arc::clone(&means.clock),
            limits: ServingLimits::of(&config.server, &config.endpoint, &profile),
            randomness: Randomness::System,
            tasks: groups.workers.clone(),
        })
        .map_err(BuildDeviceError::Serving)?;
        let server = BoundServer::bind(server_options(&config))
            .await
            .map_err(BuildDeviceError::Bind)?;
        if let Some((connector, fleet)) = broker {
            start_agent(&rooms, &fleet, connector, &groups.fleet, means);
        }
        let follow = retention::follow(
            config.inference_table.retention.clone(),
            rooms.endpoints.clone(),
            rooms.tables.clone(),
            groups.workers.shutdown_token(),
        );
        drop(groups.workers.spawn("retention", follow));
        let process = DeviceProcess::new(url_of(&server), &serving, &rooms, &config, means);
        let services = Services {
            serving,
            endpoints: rooms.endpoints.clone(),
            tokens,
            policies,
            models: rooms.models.clone(),
            process: Arc::new(process),
            metrics: rooms.metrics.clone(),
        };
        Ok(Self {
            server,
            services,
            rooms,
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

    /// Answers requests until `stop` ends, then drains. A panic of what keeps state or rows ends it,
    /// too, and is a problem of the report: a new start is the way on.
    pub async fn run(self, stop: impl Future<Output = ()>) -> DrainReport {
        let Self {
            server,
            services,
            rooms,
            groups,
            manager,
            config,
        } = self;
        let Rooms { store, tables, .. } = rooms;
        let metrics = services.metrics.clone();
        let serving = services.serving.clone();
        let endpoints = services.endpoints.clone();
        let url = url_of(&server);
        let shutdown = groups.api.shutdown_token();
        drop(
            groups
                .api
                .spawn("reload", reload_on_hangup(server.tls(), shutdown.clone())),
        );
        drop(
            groups
                .api
                .spawn("server", server.run(services, groups.api.clone(), shutdown)),
        );
        let fed = manager
            .clone()
            .feed_watchdog(groups.workers.shutdown_token());
        drop(groups.workers.spawn("watchdog", fed));
        let give_back = idle::give_back(groups.workers.clone(), metrics);
        drop(groups.workers.spawn("idle", give_back));
        let ready = async {
            // A stored endpoint that serves again by now saves its first client a refusal.
            endpoints.restored().await;
            tracing::info!(%url, "serving");
            manager.status(&format!("serving on {url}"));
            manager.ready();
            std::future::pending::<()>().await;
        };
        let failed = tokio::select! {
            () = ready => None,
            () = stop => None,
            failure = groups.failure() => Some(failure),
        };
        let grace_period = config.server.grace_period;
        let mut report = drain(Draining {
            groups,
            serving,
            tables,
            store,
            manager,
            grace_period,
        })
        .await;
        report
            .problems
            .extend(failed.map(|failure| failure.to_string()));
        report
    }
}

/// Looks at the certificates when the process gets SIGHUP, until `shutdown`. Without certificates
/// the signal is taken and means nothing: the configuration is read once.
async fn reload_on_hangup(tls: Option<Tls>, shutdown: CancellationToken) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::warn!(%error, "SIGHUP cannot be taken");
            return;
        }
    };
    while let Some(Some(())) = shutdown.run_until_cancelled(hangups.recv()).await {
        match &tls {
            Some(tls) => tls.reload(),
            None => tracing::info!("SIGHUP: there are no certificates to reload"),
        }
    }
}

/// The policies of the endpoints that there are. One that was written just before a power cut may have no
/// endpoint.
async fn policies(rooms: &Rooms, tasks: &Tasks) -> Result<Policies, BuildDeviceError> {
    let policies =
        Policies::load(rooms.store.clone(), tasks).map_err(BuildDeviceError::Policies)?;
    let views = rooms.endpoints.list();
    let gone = policies.retain(move |id| views.iter().any(|view| view.id.as_str() == id));
    gone.await.map_err(BuildDeviceError::ForgetPolicies)?;
    Ok(policies)
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
