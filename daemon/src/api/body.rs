//! Reads request bodies: never more than allowed, never before room for them is reserved.
//!
//! Also discards the body of a request that is refused early. A client that is still sending when
//! the connection closes sees a broken pipe instead of the answer, and client libraries retry that
//! for minutes; so the rest is read and thrown away, within bounds.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use edgeward_base::units::ByteCount;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Incoming};

use super::encoding::{Decoder, Encoding, STEP};
use crate::serving::{AdmitError, Permit};

/// Bodies up to this size leave the read buffer.
const COPIED_BYTES: usize = 16 * 1024;

/// How much of a compressed body is expanded before others have their turn.
const EXPANDED_BYTES: usize = 64 * 1024;

/// How much of a refused body is read and thrown away.
const MOST_DISCARDED_BYTES: u64 = 64 << 20;

/// How long a refused body may take.
const MOST_DISCARDED_TIME: Duration = Duration::from_secs(5);

/// After so long without a byte the client of a refused call waits for its answer.
const DISCARDED_PAUSE: Duration = Duration::from_millis(250);

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadBodyError {
    /// It is longer than allowed.
    #[error("the request body is over the limit of {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// There is no memory for it now.
    #[error("the request body was not admitted")]
    NotAdmitted(#[source] AdmitError),
    /// The client stopped sending.
    #[error("the request body did not arrive within {waited:?}")]
    TimedOut {
        /// How long was waited.
        waited: Duration,
    },
    /// It is not compressed as it claims to be.
    #[error("the request body cannot be expanded")]
    Encoding(#[source] io::Error),
    /// The connection broke or the framing is wrong.
    #[error("the request body cannot be read")]
    Broken(#[source] hyper::Error),
}

/// The length that a body declares; 0 when it declares none.
#[must_use]
pub(crate) fn declared(body: &Incoming) -> u64 {
    body.size_hint().exact().unwrap_or(0)
}

/// Reads a whole body of at most `limit` bytes.
///
/// The permit already holds what the body [declared]; a body that declared nothing grows it piece
/// by piece, and so does one that is compressed. A long body that came in one piece is not copied; a short one is, because it would keep
/// the connection's whole read buffer from being used again for as long as its row waits.
///
/// # Errors
/// [`ReadBodyError`].
pub(crate) async fn read(
    body: &mut Incoming,
    encoding: Option<Encoding>,
    limit: ByteCount,
    within: Duration,
    permit: Option<&mut Permit>,
) -> Result<Bytes, ReadBodyError> {
    let reserved = declared(body);
    check_length(reserved, limit)?;
    let gathered = Gathered::new(reserved, limit, permit);
    let pieces = collect(body, encoding.map(Decoder::new), gathered);
    tokio::time::timeout(within, pieces)
        .await
        .unwrap_or(Err(ReadBodyError::TimedOut { waited: within }))
}

/// Refuses a body by the length that it declares.
///
/// # Errors
/// [`ReadBodyError::TooLarge`].
pub(crate) fn check_length(declared: u64, limit: ByteCount) -> Result<(), ReadBodyError> {
    if declared > limit.0 {
        Err(ReadBodyError::TooLarge { limit: limit.0 })
    } else {
        Ok(())
    }
}

async fn collect(
    body: &mut Incoming,
    mut decoder: Option<Decoder>,
    mut gathered: Gathered<'_>,
) -> Result<Bytes, ReadBodyError> {
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(ReadBodyError::Broken)?.into_data() else {
            continue; // trailers mean nothing here
        };
        match &mut decoder {
            None => gathered.push(piece)?,
            Some(decoder) => expand(decoder, &piece, &mut gathered).await?,
        }
    }
    if let Some(decoder) = decoder {
        let rest = decoder.finish().map_err(ReadBodyError::Encoding)?;
        gathered.push(rest.into())?;
    }
    Ok(gathered.whole())
}

/// Expands a piece without holding the thread: every so many bytes others have their turn, however
/// short the pieces are.
pub(crate) async fn expand(
    decoder: &mut Decoder,
    piece: &Bytes,
    gathered: &mut Gathered<'_>,
) -> Result<(), ReadBodyError> {
    for step in piece.chunks(STEP) {
        let bytes = decoder.step(step).map_err(ReadBodyError::Encoding)?;
        gathered.expanded += bytes.len();
        gathered.push(bytes.into())?;
        if gathered.expanded >= EXPANDED_BYTES {
            gathered.expanded = 0;
            tokio::task::yield_now().await;
        }
    }
    Ok(())
}

/// The pieces of a body, within what it may take.
pub(crate) struct Gathered<'p> {
    first: Bytes,
    rest: BytesMut,
    total: u64,
    reserved: u64,
    limit: ByteCount,
    permit: Option<&'p mut Permit>,
    /// What was expanded since others had their turn.
    expanded: usize,
}

impl<'p> Gathered<'p> {
    pub(crate) fn new(reserved: u64, limit: ByteCount, permit: Option<&'p mut Permit>) -> Self {
        Self {
            first: Bytes::new(),
            rest: BytesMut::new(),
            total: 0,
            reserved,
            limit,
            permit,
            expanded: 0,
        }
    }

    pub(crate) fn push(&mut self, piece: Bytes) -> Result<(), ReadBodyError> {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        self.total = self.total.saturating_add(length);
        if self.total > self.limit.0 {
            return Err(ReadBodyError::TooLarge {
                limit: self.limit.0,
            });
        }
        if let Some(permit) = self.permit.as_deref_mut() {
            let more = self.total.saturating_sub(self.reserved).min(length);
            permit.grow(more).map_err(ReadBodyError::NotAdmitted)?;
        }
        if self.first.is_empty() {
            self.first = piece;
            return Ok(());
        }
        if self.rest.is_empty() {
            let whole = usize::try_from(self.reserved.max(self.total)).unwrap_or(0);
            self.rest.reserve(whole);
            self.rest.extend_from_slice(&self.first);
        }
        self.rest.extend_from_slice(&piece);
        Ok(())
    }

    pub(crate) fn whole(self) -> Bytes {
        if !self.rest.is_empty() {
            self.rest.freeze()
        } else if self.first.len() <= COPIED_BYTES {
            Bytes::copy_from_slice(&self.first)
        } else {
            self.first
        }
    }
}

/// Reads what is left of a body and throws it away, up to a size and a time.
///
/// A client that waits for leave to send (`Expect: 100-continue`) has sent nothing, and polling
/// the body would give it that leave: the caller asks nothing of its body.
pub(crate) async fn discard(body: &mut Incoming) {
    discard_arriving(body, MOST_DISCARDED_TIME).await;
}

/// Reads on as [`discard`] does, for a client that may not end its body before it has its answer: it is
/// enough that nothing more arrives.
///
/// What arrives for a stream that is gone is answered by a reset, and too many of those end the whole
/// connection.
pub(crate) async fn discard_call(body: &mut Incoming) {
    discard_arriving(body, DISCARDED_PAUSE).await;
}

async fn discard_arriving(body: &mut Incoming, pause: Duration) {
    if body.is_end_stream() {
        return;
    }
    let pieces = async {
        let mut total: u64 = 0;
        while let Ok(Some(Ok(frame))) = tokio::time::timeout(pause, body.frame()).await {
            total += frame
                .data_ref()
                .map_or(0, |piece| u64::try_from(piece.len()).unwrap_or(u64::MAX));
            if total > MOST_DISCARDED_BYTES {
                return;
            }
        }
    };
    // Either way there is nothing more to do for this client.
    drop(tokio::time::timeout(MOST_DISCARDED_TIME, pieces).await);
}
