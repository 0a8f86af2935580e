//! Attended: what a connection has under way, from the head of a request to the last byte of its answer.
//!
//! An answer waits for its client once it is computed, and over HTTP/2 a client may leave many unread.
//! They are counted here for all connections of a listener ([`Streams`]), and for one of them by how long
//! nothing was taken ([`Activity`]). Knows nothing of what is asked and answered.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::{Response, Version};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// So much of an answer is given to HTTP/2 at once. It asks for more when the client has taken that.
const PIECE_BYTES: usize = 64 << 10;

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
    pub(super) fn enter(&self, version: Version) -> Result<Option<OwnedSemaphorePermit>, usize> {
        if version < Version::HTTP_2 {
            return Ok(None);
        }
        let room = Arc::clone(&self.room).try_acquire_owned();
        room.map(Some).map_err(|_| self.most)
    }
}

/// Why a connection of HTTP/2 is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing is asked.
    Idle,
    /// An answer is not read.
    Unread,
}

/// What a connection is doing.
#[derive(Debug)]
pub(super) struct Activity {
    /// Requests that are not answered whole.
    running: AtomicUsize,
    /// Beginnings and ends of requests so far.
    changes: AtomicUsize,
    /// HTTP/1.1 is spoken, and hyper's own time for a head holds.
    one: AtomicBool,
    /// Which of the times runs that a client has, from 1.
    round: AtomicUsize,
    /// Answers that wait for the client since each of the last three rounds.
    owed: [AtomicUsize; 3],
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            running: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            one: AtomicBool::new(false),
            round: AtomicUsize::new(1),
            owed: [const { AtomicUsize::new(0) }; 3],
        }
    }

    /// Waits until a client of HTTP/2, or one that has not begun to speak, has asked for nothing, or
    /// taken nothing of an answer, for as long as it may: at least `timeout`, at most twice that.
    pub(super) async fn over(&self, timeout: Duration) -> Over {
        loop {
            let changes = self.changes.load(Ordering::Relaxed);
            tokio::time::sleep(timeout).await;
            if self.one.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let round = self.round.fetch_add(1, Ordering::Relaxed);
            let before = self.owed_since(round.wrapping_sub(1));
            if before.is_some_and(|owed| owed.load(Ordering::Relaxed) > 0) {
                return Over::Unread;
            }
            if self.running.load(Ordering::Relaxed) == 0
                && self.changes.load(Ordering::Relaxed) == changes
            {
                return Over::Idle;
            }
        }
    }

    fn owed_since(&self, round: usize) -> Option<&AtomicUsize> {
        self.owed.get(round % self.owed.len())
    }
}

/// A request under way, until the last byte of its answer has left.
#[derive(Debug)]
pub(super) struct Busy {
    activity: Arc<Activity>,
    /// The round since which the answer waits for the client; 0 while it does not.
    since: AtomicUsize,
    _room: Option<OwnedSemaphorePermit>,
}

impl Busy {
    pub(super) fn new(
        activity: &Arc<Activity>,
        version: Version,
        room: Option<OwnedSemaphorePermit>,
    ) -> Self {
        activity.running.fetch_add(1, Ordering::Relaxed);
        activity.changes.fetch_add(1, Ordering::Relaxed);
        let one = version < Version::HTTP_2;
        activity.one.store(one, Ordering::Relaxed);
        Self {
            activity: Arc::clone(activity),
            since: AtomicUsize::new(0),
            _room: room,
        }
    }

    /// Takes note of whose turn it is: from now on the client's, or ours.
    fn wait_for_client(&self, waits: bool) {
        let now = if waits {
            self.activity.round.load(Ordering::Relaxed)
        } else {
            0
        };
        let before = self.since.swap(now, Ordering::Relaxed);
        if now != 0
            && let Some(owed) = self.activity.owed_since(now)
        {
            owed.fetch_add(1, Ordering::Relaxed);
        }
        if before != 0
            && let Some(owed) = self.activity.owed_since(before)
        {
            owed.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The answer to it.
    pub(super) fn attend(self, answer: Response<Body>) -> Response<Attended> {
        let whole = self.activity.one.load(Ordering::Relaxed);
        self.wait_for_client(!whole);
        answer.map(|body| Attended {
            body,
            whole,
            rest: Bytes::new(),
            busy: Arc::new(self),
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.wait_for_client(false);
        self.activity.changes.fetch_add(1, Ordering::Relaxed);
        self.activity.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer.
pub(super) struct Attended {
    body: Body,
    /// Its bytes are given on as they come: one answer at a time, and the socket says how fast.
    whole: bool,
    /// What the body gave and the client was not given.
    rest: Bytes,
    busy: Arc<Busy>,
}

/// Bytes of an answer. Its request is under way for as long as they are to be sent.
struct Piece {
    bytes: Bytes,
    _busy: Arc<Busy>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl HttpBody for Attended {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            let frame = match Pin::new(&mut this.body).poll_frame(context) {
                Poll::Pending => {
                    this.busy.wait_for_client(false);
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(frame))) if !this.whole => frame,
                given @ Poll::Ready(_) => return given,
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        this.busy.wait_for_client(true);
        let bytes = this.rest.split_to(PIECE_BYTES.min(this.rest.len()));
        let piece = Bytes::from_owner(Piece {
            bytes,
            _busy: Arc::clone(&this.busy),
        });
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let (of_body, mut hint) = (self.body.size_hint(), SizeHint::new());
        hint.set_lower(of_body.lower().saturating_add(rest));
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint
    }
}
