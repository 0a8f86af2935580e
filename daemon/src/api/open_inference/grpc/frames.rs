//! Messages on the wire: five bytes, of which four say how long what follows is, and what follows.
//!
//! ```text
//! 0 or 1 (compressed) | length, big-endian, 4 bytes | message
//! ```
//!
//! Written here and not left to tonic, whose reader reserves what the length claims, calls wrong framing
//! an internal error, and decodes where it reads. A message is admitted piece by piece as it arrives;
//! nothing is allocated by what it claims.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Buf as _, BufMut as _, Bytes};
use edgeward_base::units::ByteCount;
use http_body_util::BodyExt as _;
use hyper::HeaderMap;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use prost::Message;

use crate::api::body::{Gathered, ReadBodyError, discard_call, expand};
use crate::api::encoding::{Decoder, Encoding};
use crate::serving::Permit;

/// The bytes before a message.
pub(super) const PREFIX: usize = 5;

/// Why there is no message.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadMessageError {
    /// Its bytes could not be had.
    #[error(transparent)]
    Body(#[from] ReadBodyError),
    /// The bytes are no message.
    #[error("the message is framed wrongly: {0}")]
    Framing(String),
}

/// The messages of a request.
pub(super) struct Messages {
    incoming: Incoming,
    /// What has arrived and was not looked at.
    piece: Bytes,
    /// What of the message under way was not looked at; `None` between two messages.
    left: Option<usize>,
}

impl Messages {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            piece: Bytes::new(),
            left: None,
        }
    }

    /// Waits until another message begins; false when the client has sent the last.
    pub(super) async fn begins(&mut self) -> Result<bool, ReadBodyError> {
        while self.piece.is_empty() {
            let Some(frame) = self.incoming.frame().await else {
                return Ok(false);
            };
            // Trailers mean nothing here.
            self.piece = frame
                .map_err(ReadBodyError::Broken)?
                .into_data()
                .unwrap_or_default();
        }
        Ok(true)
    }

    /// Reads a whole message of at most `limit` bytes; `None` when there is none.
    ///
    /// # Errors
    /// [`ReadMessageError`].
    pub(super) async fn next(
        &mut self,
        encoding: Option<Encoding>,
        limit: ByteCount,
        permit: &mut Permit,
    ) -> Result<Option<Bytes>, ReadMessageError> {
        if !self.begins().await? {
            return Ok(None);
        }
        let compressed = self.prefix(limit).await?;
        let mut decoder = match (compressed, encoding) {
            (false, _) => None,
            (true, Some(encoding)) => Some(Decoder::new(encoding)),
            (true, None) => {
                let problem = "it is marked as compressed, and no grpc-encoding says how";
                return Err(ReadMessageError::Framing(problem.to_owned()));
            }
        };
        let mut gathered = Gathered::new(0, limit, Some(permit));
        while let Some(piece) = self.part().await? {
            match &mut decoder {
                None => gathered.push(piece)?,
                Some(decoder) => expand(decoder, &piece, &mut gathered).await?,
            }
        }
        if let Some(decoder) = decoder {
            let rest = decoder.finish().map_err(ReadBodyError::Encoding)?;
            gathered.push(rest.into())?;
        }
        self.left = None;
        Ok(Some(gathered.whole()))
    }

    /// Throws away what is left of the message under way, or else the next, so that the one behind it
    /// can be read.
    pub(super) async fn pass(&mut self, limit: ByteCount) -> Result<(), ReadMessageError> {
        if self.left.is_none() {
            self.prefix(limit).await?;
        }
        while self.part().await?.is_some() {}
        self.left = None;
        Ok(())
    }

    /// Throws away what still arrives, before the call is refused.
    pub(super) async fn discard(&mut self) {
        discard_call(&mut self.incoming).await;
    }

    /// Makes sure that no message follows.
    pub(super) async fn end(&mut self) -> Result<(), ReadMessageError> {
        if self.begins().await? {
            let problem = "bytes follow it, and the call takes one message";
            return Err(ReadMessageError::Framing(problem.to_owned()));
        }
        Ok(())
    }

    /// Reads the five bytes, and says whether what follows is compressed.
    async fn prefix(&mut self, limit: ByteCount) -> Result<bool, ReadMessageError> {
        let mut prefix = [0; PREFIX];
        for (place, byte) in prefix.iter_mut().enumerate() {
            if !self.begins().await? {
                return Err(ReadMessageError::Framing(format!(
                    "it ends after {place} of the {PREFIX} bytes that come first"
                )));
            }
            *byte = self.piece.get_u8();
        }
        let [flag, length @ ..] = prefix;
        let length = u32::from_be_bytes(length);
        if u64::from(length) > limit.0 {
            return Err(ReadBodyError::TooLarge { limit: limit.0 }.into());
        }
        self.left = Some(usize::try_from(length).unwrap_or(usize::MAX));
        match flag {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(ReadMessageError::Framing(format!(
                "its first byte is {flag}: 0 and 1 are known"
            ))),
        }
    }

    /// A part of the message under way; `None` when there is no more of it.
    async fn part(&mut self) -> Result<Option<Bytes>, ReadMessageError> {
        let left = self.left.unwrap_or(0);
        if left == 0 {
            return Ok(None);
        }
        if !self.begins().await? {
            let problem = format!("it claims {left} bytes more than there are");
            return Err(ReadMessageError::Framing(problem));
        }
        let part = self.piece.split_to(left.min(self.piece.len()));
        self.left = Some(left - part.len());
        Ok(Some(part))
    }
}

/// A message as it is sent, compressed where that is wanted and worth it.
pub(super) fn frame(message: &impl Message, encoding: Option<Encoding>) -> Bytes {
    let mut framed = Vec::with_capacity(PREFIX + message.encoded_len());
    framed.put_bytes(0, PREFIX);
    message.encode_raw(&mut framed);
    let compressed = encoding.and_then(|encoding| {
        let message = framed.get(PREFIX..).unwrap_or_default();
        encoding.compress(message)
    });
    let flag = u8::from(compressed.is_some());
    if let Some(compressed) = compressed {
        framed.truncate(PREFIX);
        framed.extend_from_slice(&compressed);
    }
    // Answers are as long as their model makes them; what no client takes is not sent as something else.
    let length = u32::try_from(framed.len() - PREFIX).unwrap_or(u32::MAX);
    if let Some((prefix, _)) = framed.split_first_chunk_mut::<PREFIX>() {
        let [a, b, c, d] = length.to_be_bytes();
        *prefix = [flag, a, b, c, d];
    }
    framed.into()
}

/// One message and the trailers behind it.
pub(super) struct Whole {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Whole {
    pub(super) fn body(message: Bytes, trailers: HeaderMap) -> Body {
        Body::new(Self {
            message: Some(message),
            trailers: Some(trailers),
        })
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = self.message.take().map(Frame::data);
        let frame = data.or_else(|| self.trailers.take().map(Frame::trailers));
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}
