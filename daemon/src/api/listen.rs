//! Listeners: from a socket to HTTP requests.
//!
//! Owns the bound sockets (TCP, TLS over it, a Unix socket for applications, the admin socket) and
//! every connection (`connection`), which speaks HTTP/1.1 or HTTP/2. It knows no route: each request
//! goes to a [`Handler`]. Connections are bounded; at the bound the kernel's queue holds newcomers.
//! Header and body of an answer leave in one write and TCP does not wait for more (contract rule 24).
//!
//! ```text
//! bound --run--> accepting --shutdown--> closing (each connection ends its request, then closes)
//!                                            --grace over--> aborted
//! ```

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Request, Response};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::tasks::Tasks;

mod attended;
mod connection;
mod tls;
mod unix;

use attended::Streams;
use connection::{Accepted, Connections, HEAD_TIMEOUT, MOST_STREAMS};

pub use tls::{LoadTlsError, Tls, TlsFiles};

#[cfg(test)]
mod tests;

/// Who may connect to the Unix socket for applications: owner and group.
const APPLICATION_SOCKET_MODE: u32 = 0o660;

/// Who may connect to the admin socket: the owner.
const ADMIN_SOCKET_MODE: u32 = 0o600;

/// Pause after a failed accept: what fails is a limit (open files), and it does not pass at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; errors are answers too.
    fn handle(&self, request: Request<Incoming>) -> impl Future<Output = Response<Body>> + Send;

    /// Answers one for which there is no room: `ceiling` are under way.
    fn refuse(&self, head: &Parts, ceiling: usize) -> Response<Body>;
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// TCP, without TLS.
    Tcp(SocketAddr),
    /// TCP with TLS.
    Tls(SocketAddr, TlsFiles),
    /// A Unix socket for applications, mode 0660.
    Unix(PathBuf),
    /// The admin socket, mode 0600.
    Admin(PathBuf),
}

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The socket file cannot be made.
    #[error("cannot listen on {path}")]
    Unix {
        /// The socket file.
        path: PathBuf,
        /// What the operating system answered.
        #[source]
        source: io::Error,
    },
    /// The TLS files cannot be used.
    #[error("cannot use TLS")]
    Tls(#[source] LoadTlsError),
}

/// A bound socket that does not accept yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    tls: Option<Tls>,
    address: Option<SocketAddr>,
    path: Option<PathBuf>,
}

#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Binds; port 0 takes a free one.
    ///
    /// # Errors
    /// [`BindError`] names the address or the file.
    pub async fn bind(listen: Listen) -> Result<Self, BindError> {
        match listen {
            Listen::Tcp(address) => Self::tcp(address, None).await,
            Listen::Tls(address, files) => {
                let tls = Tls::load(files).map_err(BindError::Tls)?;
                Self::tcp(address, Some(tls)).await
            }
            Listen::Unix(path) => Self::unix(path, APPLICATION_SOCKET_MODE),
            Listen::Admin(path) => Self::unix(path, ADMIN_SOCKET_MODE),
        }
    }

    async fn tcp(address: SocketAddr, tls: Option<Tls>) -> Result<Self, BindError> {
        let failed = |source| BindError::Tcp { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let bound = socket.local_addr().map_err(failed)?;
        Ok(Self {
            socket: Socket::Tcp(socket),
            tls,
            address: Some(bound),
            path: None,
        })
    }

    fn unix(path: PathBuf, mode: u32) -> Result<Self, BindError> {
        match unix::bind(&path, mode) {
            Ok(socket) => Ok(Self {
                socket: Socket::Unix(socket),
                tls: None,
                address: None,
                path: Some(path),
            }),
            Err(source) => Err(BindError::Unix { path, source }),
        }
    }

    /// The TCP address that was bound, with the port that port 0 became.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The TLS configuration, to reload it.
    #[must_use]
    pub fn tls(&self) -> Option<Tls> {
        self.tls.clone()
    }

    /// Accepts until `shutdown`, then closes each connection after the request it is in; those
    /// that are not done after `grace` are cut off. Returns when no connection is left. At most
    /// `most_connections` are open at once.
    pub async fn run<H: Handler>(
        self,
        handler: Arc<H>,
        tasks: Tasks,
        shutdown: CancellationToken,
        (most_connections, grace): (u32, Duration),
    ) {
        if let Some(tls) = &self.tls {
            drop(tasks.spawn("api/tls", tls.clone().watch(shutdown.clone())));
        }
        let slots = Arc::new(Semaphore::new(
            usize::try_from(most_connections).unwrap_or(Semaphore::MAX_PERMITS),
        ));
        let abort = CancellationToken::new();
        let connections = Connections {
            handler,
            tasks,
            shutdown,
            abort: abort.clone(),
            streams: Streams::new(most_connections.max(MOST_STREAMS).saturating_mul(2)),
            head_timeout: HEAD_TIMEOUT,
        };
        self.accept(&connections, &slots).await;
        if let Some(path) = &self.path {
            // The next start replaces a socket that could not be removed.
            drop(std::fs::remove_file(path));
        }
        drop(self.socket);
        let closed = slots.acquire_many(most_connections);
        if tokio::time::timeout(grace, closed).await.is_err() {
            abort.cancel();
            drop(slots.acquire_many(most_connections).await);
        }
    }

    async fn accept<H: Handler>(&self, connections: &Connections<H>, slots: &Arc<Semaphore>) {
        loop {
            let next = async {
                let slot = Arc::clone(slots).acquire_owned().await;
                (slot, self.socket.accept().await)
            };
            let (slot, accepted) = tokio::select! {
                next = next => next,
                () = connections.shutdown.cancelled() => return,
            };
            let Ok(slot) = slot else {
                return; // cannot happen: nobody closes the semaphore
            };
            match accepted {
                Ok(accepted) => connections.open(accepted, self.tls.as_ref(), slot),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "accept failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tcp(stream.into_std()?))
            }
            Self::Unix(socket) => Ok(Accepted::Unix(socket.accept().await?.0.into_std()?)),
        }
    }
}
