//! Connection: what is spoken over an accepted socket, and for how long.
//!
//! HTTP/1.1 or HTTP/2, as the client begins (over TLS as ALPN settled it). Both stay on the request
//! thread that the connection was given to; of HTTP/2 each request is a task there. What a client may
//! make the server hold is bounded: streams, unread bytes, headers, resets. A client that asks for
//! nothing is sent away, one that does not read is cut off, and one that is gone is found out.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::attended::{Activity, Busy, Over, Streams};
use super::{Handler, Tls};
use crate::tasks::Tasks;

/// A client that sends no complete request head for so long is cut off. Idle connections count,
/// so this is above the 60 s for which client libraries keep theirs.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(75);

/// A TLS handshake takes no longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests at once over one HTTP/2 connection.
pub(super) const MOST_STREAMS: u32 = 128;

/// Bytes that a client may send of one body before somebody reads them; those of all bodies of a
/// connection. They stand in memory before admission has counted them.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// A long body arrives in pieces of this size; the read buffer of a connection is no larger.
const FRAME_BYTES: u32 = 64 << 10;

/// All headers of a request, expanded.
const MOST_HEADER_BYTES: u32 = 16 << 10;

/// Streams that the client reset before they were looked at: a client beyond that is doing nothing
/// else, and is cut off. Those that we had to reset are counted for as long as the connection lives,
/// and a good client has some (frames that were under way when its call was refused): of them hyper
/// allows 1,024.
const MOST_RESETS: usize = 32;

/// How often a client of HTTP/2 is asked whether it is there, and how long it may take to say so:
/// a connection whose streams wait has no other sign of it. Idle connections are asked too, and some
/// clients read nothing while they are idle: so this is no shorter than a connection may be idle.
const PING_INTERVAL: Duration = HEAD_TIMEOUT;
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// An accepted connection that no event loop has yet.
pub(super) enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What every connection of a listener needs.
pub(super) struct Connections<H> {
    pub(super) handler: Arc<H>,
    pub(super) tasks: Tasks,
    pub(super) shutdown: CancellationToken,
    pub(super) abort: CancellationToken,
    /// Requests over HTTP/2, all connections together.
    pub(super) streams: Streams,
    /// [`HEAD_TIMEOUT`], but for tests.
    pub(super) head_timeout: Duration,
}

impl<H> Clone for Connections<H> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            tasks: self.tasks.clone(),
            shutdown: self.shutdown.clone(),
            abort: self.abort.clone(),
            streams: self.streams.clone(),
            head_timeout: self.head_timeout,
        }
    }
}

impl<H: Handler> Connections<H> {
    /// Gives a connection to a request thread, which it stays on.
    pub(super) fn open(&self, accepted: Accepted, tls: Option<&Tls>, slot: OwnedSemaphorePermit) {
        let this = self.clone();
        let acceptor = tls.map(|tls| TlsAcceptor::from(tls.current()));
        drop(self.tasks.spawn_request("api/connection", async move {
            if let Err(error) = this.begin(accepted, acceptor).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "connection has no event loop");
            }
            drop(slot);
        }));
    }

    /// Registers the socket with the event loop of this thread, and serves it.
    async fn begin(&self, accepted: Accepted, acceptor: Option<TlsAcceptor>) -> io::Result<()> {
        match (accepted, acceptor) {
            (Accepted::Tcp(stream), None) => self.serve(TcpStream::from_std(stream)?).await,
            (Accepted::Tcp(stream), Some(acceptor)) => {
                self.serve_tls(TcpStream::from_std(stream)?, &acceptor)
                    .await;
            }
            (Accepted::Unix(stream), _) => self.serve(UnixStream::from_std(stream)?).await,
        }
        Ok(())
    }

    async fn serve_tls(&self, stream: TcpStream, acceptor: &TlsAcceptor) {
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream));
        tokio::select! {
            outcome = handshake => match outcome {
                Ok(Ok(stream)) => self.serve(stream).await,
                Ok(Err(error)) => tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "TLS handshake failed"
                ),
                Err(_) => tracing::debug!("TLS handshake took too long"),
            },
            () = self.shutdown.cancelled() => {}
        }
    }

    /// One connection's life.
    pub(super) async fn serve<I>(&self, stream: I)
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = self.builder();
        let activity = Arc::new(Activity::new());
        let service = service_fn(|request| {
            let handler = Arc::clone(&self.handler);
            let version = request.version();
            let (room, ceiling) = match self.streams.enter(version) {
                Ok(room) => (room, None),
                Err(ceiling) => (None, Some(ceiling)),
            };
            let busy = Busy::new(&activity, version, room);
            async move {
                let answer = match ceiling {
                    None => handler.handle(request).await,
                    Some(ceiling) => handler.refuse(&request.into_parts().0, ceiling),
                };
                Ok::<_, Infallible>(busy.attend(answer))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            over = async {
                tokio::select! {
                    () = self.shutdown.cancelled() => Over::Idle,
                    over = activity.over(self.head_timeout) => over,
                }
            } => {
                if over == Over::Unread {
                    tracing::debug!("connection cut off: an answer was not read");
                    return;
                }
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.abort.cancelled() => return,
                    _ = activity.over(self.head_timeout) => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = error.as_ref(), "connection ended early");
        }
    }

    fn builder(&self) -> auto::Builder<Here> {
        let mut builder = auto::Builder::new(Here(self.tasks.clone()));
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.head_timeout);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MOST_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .max_header_list_size(MOST_HEADER_BYTES)
            .max_pending_accept_reset_streams(MOST_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        builder
    }
}

/// Runs the streams of an HTTP/2 connection on the thread of the connection.
#[derive(Clone)]
struct Here(Tasks);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Here {
    fn execute(&self, stream: F) {
        drop(self.0.spawn_here("api/stream", stream));
    }
}
