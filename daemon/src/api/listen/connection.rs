//! Connection: what is spoken over an accepted socket, and for how long.
//!
//! HTTP/1.1 or HTTP/2, as the client begins (over TLS as ALPN settled it). Both stay on the request
//! thread that the connection was given to; of HTTP/2 each request is a task there. What a client may
//! make the server hold is bounded: streams, unread bytes, headers, resets. A client that asks for
//! nothing is sent away, and one that is gone is found out.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

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
        let activity = Arc::new(Activity::default());
        let service = service_fn(|request| {
            let handler = Arc::clone(&self.handler);
            let busy = Busy::new(&activity, request.version());
            let room = self.streams.enter(request.version());
            async move {
                let (response, room) = match room {
                    Ok(room) => (handler.handle(request).await, room),
                    Err(ceiling) => (handler.refuse(&request.into_parts().0, ceiling), None),
                };
                let busy = (busy, room);
                Ok::<_, Infallible>(response.map(|body| Attended { body, _busy: busy }))
            }
        });
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async {
                tokio::select! {
                    () = self.shutdown.cancelled() => {}
                    () = activity.idle(self.head_timeout) => {}
                }
            } => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = self.abort.cancelled() => return,
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

/// Room for the requests of HTTP/2, of which each connection may have many.
#[derive(Clone)]
pub(super) struct Streams {
    most: usize,
    room: Arc<Semaphore>,
}

impl Streams {
    pub(super) fn new(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(Semaphore::MAX_PERMITS);
        let room = Arc::new(Semaphore::new(most));
        Self { most, room }
    }

    /// Room for a request until its answer is sent; of HTTP/1.1 its connection is it. How much there is
    /// in all when none is left.
    fn enter(&self, version: Version) -> Result<Option<OwnedSemaphorePermit>, usize> {
        if version < Version::HTTP_2 {
            return Ok(None);
        }
        let room = Arc::clone(&self.room).try_acquire_owned();
        room.map(Some).map_err(|_| self.most)
    }
}

/// What a connection is doing.
#[derive(Debug, Default)]
struct Activity {
    /// Requests that are not answered whole.
    running: AtomicUsize,
    /// Beginnings and ends of requests so far.
    changes: AtomicUsize,
    /// HTTP/1.1 is spoken, and hyper's own time for a head holds.
    one: AtomicBool,
}

impl Activity {
    /// Waits until a client of HTTP/2, or one that has not begun to speak, has asked for nothing for
    /// as long as it may: at least `timeout`, at most twice that.
    async fn idle(&self, timeout: Duration) {
        loop {
            let changes = self.changes.load(Ordering::Relaxed);
            tokio::time::sleep(timeout).await;
            if self.one.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            if self.running.load(Ordering::Relaxed) == 0
                && self.changes.load(Ordering::Relaxed) == changes
            {
                return;
            }
        }
    }
}

/// A request under way.
#[derive(Debug)]
struct Busy(Arc<Activity>);

impl Busy {
    fn new(activity: &Arc<Activity>, version: Version) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        activity.changes.fetch_add(1, Ordering::Relaxed);
        let one = version < Version::HTTP_2;
        activity.one.store(one, Ordering::Relaxed);
        Self(Arc::clone(activity))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer; its request is under way for as long as it is sent.
struct Attended {
    body: Body,
    _busy: (Busy, Option<OwnedSemaphorePermit>),
}

impl HttpBody for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
