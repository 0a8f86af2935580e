//! `ModelStreamInfer`: inferences over one call, answered in their order.
//!
//! One message is under way at a time; the next waits on the wire, within the window of its stream. Each
//! is an exchange of its own, with a row of its own. What is wrong with one stands in its answer's
//! `error_message`, and the stream goes on; it ends with a status when the client ends it, when nobody
//! knows where the next message begins, when its time is over, or when the process shuts down.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::unfold;
use http_body_util::StreamBody;
use hyper::Response;
use hyper::body::Frame;
use hyper::http::request::Parts;
use tokio::time::{Sleep, sleep};

use super::frames::{Messages, frame};
use super::infer::{Failed, Infer, ask, close, receive};
use super::messages::ModelStreamInferResponse;
use super::{Terms, count, failed, good, headed, overdue};
use crate::api::error::ApiError;
use crate::api::{Services, auth, predict};
use crate::serving::{AdmitError, Answered, Exchange};

/// What a stream is opened on, for a caller with a good token.
pub(super) fn terms(services: &Services, head: &Parts) -> Result<Terms, ApiError> {
    auth::authenticate(&head.headers, &services.tokens)?;
    Terms::of(&head.headers)
}

/// Opens a stream.
pub(super) fn open(
    services: &Services,
    head: Parts,
    messages: Messages,
    terms: Terms,
) -> Response<Body> {
    let stream = Stream {
        services: services.clone(),
        head,
        messages,
        terms,
        deadline: terms.deadline.map(|deadline| Box::pin(sleep(deadline))),
        over: false,
    };
    let frames = unfold(stream, |mut stream| async {
        let frame = stream.frame().await?;
        Some((Ok::<_, Infallible>(frame), stream))
    });
    let body = Body::new(StreamBody::new(frames));
    headed(body, terms.encoding, services.serving.request_id())
}

struct Stream {
    services: Services,
    head: Parts,
    messages: Messages,
    terms: Terms,
    deadline: Option<Pin<Box<Sleep>>>,
    over: bool,
}

impl Stream {
    /// What is sent next; the trailers are the last.
    async fn frame(&mut self) -> Option<Frame<Bytes>> {
        if self.over {
            return None;
        }
        let trailers = match self.answer().await {
            Ok(Some(answer)) => return Some(Frame::data(answer)),
            Ok(None) => good(),
            Err(error) => failed(&error),
        };
        self.over = true;
        Some(Frame::trailers(trailers))
    }

    /// The answer to the next message; `None` when there is none.
    async fn answer(&mut self) -> Result<Option<Bytes>, ApiError> {
        // Where messages have arrived and their model is fast, nothing below waits; the other streams of
        // this thread have their turn here.
        tokio::task::yield_now().await;
        let waited = self.terms.deadline.unwrap_or_default();
        let begins = tokio::select! {
            begins = self.messages.begins() => begins?,
            () = self.services.serving.admission().drained() => {
                return Err(AdmitError::Draining.into());
            }
            () = expired(&mut self.deadline) => return Err(overdue(waited)),
        };
        if !begins {
            return Ok(None);
        }
        let arrived = self.services.serving.clock().monotonic();
        let mut exchange = predict::open(&self.services, &self.head);
        let mut deadline = self.deadline.take();
        let outcome = tokio::select! {
            outcome = self.infer(&mut exchange) => outcome,
            () = expired(&mut deadline) => Err(Failed { error: overdue(waited), lost: true }),
        };
        self.deadline = deadline;
        let status = close(exchange, &outcome);
        count(&self.services, status, Some(arrived));
        match outcome {
            Ok(answered) => Ok(Some(answered.body)),
            Err(Failed { error, lost: true }) => Err(error),
            Err(Failed { error, lost: false }) => {
                let answer = ModelStreamInferResponse {
                    error_message: error.grpc().message().to_owned(),
                    infer_response: None,
                };
                Ok(Some(frame(&answer, self.terms.encoding)))
            }
        }
    }

    async fn infer(&mut self, exchange: &mut Exchange) -> Result<Answered<Infer>, Failed> {
        let (services, messages) = (&self.services, &mut self.messages);
        let received = receive(services, exchange, &self.head, messages, self.terms).await;
        let message = match received {
            Ok(message) => message,
            Err(failed) if failed.lost => return Err(failed),
            Err(failed) => {
                // Refused before it was read: the next one begins behind it.
                let pass = messages.pass(services.serving.limits().body);
                let rest = tokio::time::timeout(exchange.time_left(), pass).await;
                let lost = !matches!(rest, Ok(Ok(())));
                return Err(Failed { lost, ..failed });
            }
        };
        ask(exchange, message, Infer::new(self.terms, true)).await
    }
}

/// Waits until a time is over; for ever when there is none.
async fn expired(deadline: &mut Option<Pin<Box<Sleep>>>) {
    match deadline {
        Some(deadline) => deadline.as_mut().await,
        None => pending().await,
    }
}
