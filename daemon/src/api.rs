//! Api: dialects of HTTP and gRPC to the domain and back.
//!
//! Owns the listeners, the routes and every shape of JSON that a client sees. A dialect file turns
//! a request into one domain call and its result into an answer; it decides nothing. Domain errors
//! become HTTP in `error` alone. Each route says what it takes and gives (`routes`), which makes the
//! document of the server (`openapi`).
//!
//! ```text
//! listen -> front -> health             no token
//!                 -> predict            the hot path: one exchange, one row
//!                      databricks::invocations, open_inference, openai::embeddings
//!                 -> open_inference::grpc   the same over gRPC, and what it asks beside
//!                 -> a router           behind a token
//!                      databricks::endpoints, open_inference, openai
//!        -> admin                       the admin socket: the file's mode is the key
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edgeward_base::units::ByteCount;
use tokio_util::sync::CancellationToken;

use crate::endpoint::Endpoints;
use crate::gateway::{Policies, Tokens};
use crate::model::ModelStore;
use crate::serving::Serving;
use crate::tasks::Tasks;
use crate::telemetry::Metrics;

mod access;
pub mod admin;
mod auth;
mod body;
mod content_type;
mod databricks;
mod encoding;
mod error;
mod front;
mod health;
pub mod listen;
mod open_inference;
mod openai;
mod openapi;
mod predict;
mod respond;
mod routes;

pub use error::ApiError;
pub use listen::{BindError, Listen, Listener, TlsFiles};
pub use open_inference::Infer;

#[cfg(test)]
mod tests;

/// The longest body of a request that is no invocation.
const MANAGEMENT_BODY: ByteCount = ByteCount::mib(1);

/// How long such a body may take to arrive.
const MANAGEMENT_BODY_TIME: Duration = Duration::from_secs(30);

/// Connections to the admin socket at once: people and scripts on this machine.
const ADMIN_CONNECTIONS: u32 = 32;

/// The domain, as the dialects call it. A clone is another handle to the same services.
#[derive(Clone, Debug)]
pub struct Services {
    /// Predictions.
    pub serving: Serving,
    /// Endpoints.
    pub endpoints: Endpoints,
    /// Who may ask.
    pub tokens: Tokens,
    /// For what, and how often.
    pub policies: Policies,
    /// Model versions.
    pub models: ModelStore,
    /// What the process knows of itself, for `edgeward status` and the log verbs.
    pub process: Arc<dyn admin::Process>,
    /// Where answers are counted.
    pub metrics: Metrics,
}

/// Where and how to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// TCP; port 0 takes a free one.
    pub tcp: Option<SocketAddr>,
    /// TLS over TCP.
    pub tls: Option<TlsFiles>,
    /// Whether TCP beyond loopback may go without TLS.
    pub insecure: bool,
    /// The Unix socket for applications.
    pub unix: Option<PathBuf>,
    /// The admin socket.
    pub admin: PathBuf,
    /// Connections to each of TCP and the Unix socket at once.
    pub connections: u32,
    /// How long a request under way may go on after shutdown began.
    pub grace_period: Duration,
}

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum BindServerError {
    /// Tokens would cross a network in the clear.
    #[error(
        "{0} is reachable from other machines and has no TLS: set a certificate and key, listen on \
         loopback, or set server.insecure_listen = true"
    )]
    Insecure(SocketAddr),
    /// TLS files are given and no TCP address.
    #[error("TLS is configured and no TCP address to listen on")]
    TlsWithoutTcp,
    /// A listener cannot be bound.
    #[error("cannot bind a listener")]
    Bind(#[source] BindError),
}

/// Listeners that are bound and do not accept yet.
#[derive(Debug)]
pub struct BoundServer {
    public: Vec<Listener>,
    admin: Listener,
    connections: u32,
    grace_period: Duration,
}

impl BoundServer {
    /// Binds every listener, or none.
    ///
    /// # Errors
    /// [`BindServerError`].
    pub async fn bind(options: ServerOptions) -> Result<Self, BindServerError> {
        let mut wanted = Vec::new();
        match (options.tcp, options.tls) {
            (Some(address), Some(files)) => wanted.push(Listen::Tls(address, files)),
            (Some(address), None) if options.insecure || address.ip().is_loopback() => {
                wanted.push(Listen::Tcp(address));
            }
            (Some(address), None) => return Err(BindServerError::Insecure(address)),
            (None, Some(_)) => return Err(BindServerError::TlsWithoutTcp),
            (None, None) => {}
        }
        wanted.extend(options.unix.map(Listen::Unix));
        let mut public = Vec::with_capacity(wanted.len());
        for listen in wanted {
            public.push(
                Listener::bind(listen)
                    .await
                    .map_err(BindServerError::Bind)?,
            );
        }
        let admin = Listener::bind(Listen::Admin(options.admin)).await;
        Ok(Self {
            public,
            admin: admin.map_err(BindServerError::Bind)?,
            connections: options.connections,
            grace_period: options.grace_period,
        })
    }

    /// The TCP address, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.public.iter().find_map(Listener::address)
    }

    /// The TLS configurations, to reload them when the process is told to.
    #[must_use]
    pub fn tls(&self) -> Option<listen::Tls> {
        self.public.iter().find_map(Listener::tls)
    }

    /// Serves until `shutdown`, then until every connection has ended its request or the grace
    /// period is over.
    pub async fn run(self, services: Services, tasks: Tasks, shutdown: CancellationToken) {
        let grace = self.grace_period;
        let front = Arc::new(front::Front::new(services.clone()));
        let mut listeners = Vec::with_capacity(self.public.len());
        for listener in self.public {
            let bounds = (self.connections, grace);
            let run = listener.run(Arc::clone(&front), tasks.clone(), shutdown.clone(), bounds);
            listeners.push(tasks.spawn("api/listener", run));
        }
        let admin = Arc::new(admin::Admin::new(services));
        let bounds = (ADMIN_CONNECTIONS, grace);
        self.admin.run(admin, tasks, shutdown, bounds).await;
        for listener in listeners {
            // A listener that panicked is logged and counted by `tasks`.
            drop(listener.join().await);
        }
    }
}
