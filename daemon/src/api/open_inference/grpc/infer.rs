//! Inferences: a message in, a message out, by the way of every dialect's predictions.
//!
//! ```text
//! token -> admitted, piece by piece -> outline (which model) -> routed -> decoded and computed where
//!                                                                          the model runs -> row
//! ```

use axum::body::Body;
use bytes::Bytes;
use edgeward_kernels::tensor::{Tensor, TensorSpec};
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use prost::Message;

use super::super::MOST_SHOWN;
use super::super::answer::chosen;
use super::super::datatype::{Datatype, encode};
use super::super::tensors::{Announced, Wanted, gather, unknown_parameter};
use super::contents::Contents;
use super::frames::{Messages, ReadMessageError, frame};
use super::messages::infer_parameter::ParameterChoice;
use super::messages::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::messages::model_infer_response::InferOutputTensor;
use super::messages::{ModelInferRequest, ModelInferResponse, ModelStreamInferResponse};
use super::outline::{Outline, OutlineError, QUICK_FIELDS, measure};
use super::{Terms, is_still_sent, refuse, reply, rows, within};
use crate::api::body::ReadBodyError;
use crate::api::error::{ApiError, ErrorForm};
use crate::api::predict::SERVED_MODEL_NAME;
use crate::api::{Services, auth, predict};
use crate::model::{ScoreError, Scorer};
use crate::serving::{Answered, Call, Choice, Exchange, Noted};

/// What a request's own thread makes text of, for the row of a request that is not routed.
const MOST_SHOWN_HERE: usize = 32 << 10;

/// An inference that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ApiError,
    /// Nobody knows where the next message begins.
    pub(super) lost: bool,
}

impl<E: Into<ApiError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            lost: false,
        }
    }
}

impl Failed {
    /// By what went wrong with the message itself.
    fn reading(error: ReadMessageError) -> Self {
        let whole = matches!(
            error,
            ReadMessageError::Body(ReadBodyError::NotAdmitted(_) | ReadBodyError::Encoding(_))
        );
        Self {
            error: error.into(),
            lost: !whole,
        }
    }
}

/// Answers a call of `ModelInfer`, and says the status that it has over HTTP.
pub(super) async fn unary(
    services: &Services,
    head: &Parts,
    messages: &mut Messages,
) -> (StatusCode, Response<Body>) {
    let mut exchange = predict::open(services, head);
    let terms = Terms::of(&head.headers);
    let encoding = terms.as_ref().ok().and_then(|terms| terms.encoding);
    let outcome = match terms {
        Err(error) => Err(error.into()),
        Ok(terms) => {
            let asked = async {
                let infer = Infer::new(terms, false);
                let message = receive(services, &mut exchange, head, messages, terms).await?;
                let waited = exchange.time_left();
                tokio::time::timeout(waited, messages.end())
                    .await
                    .unwrap_or(Err(ReadBodyError::TimedOut { waited }.into()))
                    .map_err(Failed::reading)
                    .inspect_err(|_| show(&mut exchange, &message))?;
                ask(&mut exchange, message, infer).await
            };
            within(terms.deadline, asked).await
        }
    };
    if let Err(failed) = &outcome
        && is_still_sent(&failed.error)
    {
        messages.discard().await;
    }
    let id = exchange.request_id();
    let mut response = match &outcome {
        Ok(answered) => reply(answered.body.clone(), encoding, id),
        Err(failed) => refuse(&failed.error, id),
    };
    if let Some(entity) = exchange.served_entity()
        && let Ok(name) = entity.name.as_str().parse()
    {
        response.headers_mut().insert(SERVED_MODEL_NAME, name);
    }
    (close(exchange, &outcome), response)
}

/// Ends an exchange with what the client gets; answers the status that it has over HTTP.
pub(super) fn close(exchange: Exchange, outcome: &Result<Answered<Infer>, Failed>) -> StatusCode {
    let (status, row) = match outcome {
        Ok(Answered { body, call }) => {
            let row = call.shown.clone().unwrap_or_else(|| body.clone());
            (StatusCode::OK, row)
        }
        Err(failed) => (
            failed.error.status,
            failed.error.body(ErrorForm::OpenInference),
        ),
    };
    exchange.close(status.as_u16(), &row);
    status
}

/// Admits the next message and reads it, for a caller whom the call's token names.
pub(super) async fn receive(
    services: &Services,
    exchange: &mut Exchange,
    head: &Parts,
    messages: &mut Messages,
    terms: Terms,
) -> Result<Bytes, Failed> {
    exchange.identify(auth::authenticate(&head.headers, &services.tokens)?);
    let limit = services.serving.limits().body;
    let waited = exchange.time_left();
    let permit = exchange.admit(0)?;
    let next = messages.next(terms.encoding, limit, permit);
    let message = tokio::time::timeout(waited, next)
        .await
        .unwrap_or(Err(ReadBodyError::TimedOut { waited }.into()))
        .map_err(Failed::reading)?;
    let message = message.ok_or_else(|| ApiError::bad_request("the call has no message"))?;
    exchange.received(&message);
    Ok(message)
}

/// Asks the model that the message names.
pub(super) async fn ask(
    exchange: &mut Exchange,
    message: Bytes,
    mut infer: Infer,
) -> Result<Answered<Infer>, Failed> {
    let routed = route(exchange, &message).await;
    infer.outline = routed.inspect_err(|_| show(exchange, &message))?;
    Ok(exchange.invoke(message, infer).await?)
}

/// Has the row of a message that no model is asked for show it as text.
fn show(exchange: &mut Exchange, message: &[u8]) {
    if message.len() <= MOST_SHOWN_HERE
        && let Some(text) = rows::opaque(message)
    {
        exchange.received(&text);
    }
}

async fn route(exchange: &mut Exchange, message: &Bytes) -> Result<Outline, Failed> {
    let refused = |error: OutlineError| Failed::from(ScoreError::from(error));
    let outline = match Outline::of(message, QUICK_FIELDS).map_err(refused)? {
        Ok(outline) => outline,
        Err(_) => {
            let long = message.clone();
            let whole = move || Outline::of(&long, usize::MAX);
            let whole = exchange.apart(message.len(), whole).await?;
            let outline = whole.map_err(refused)?.ok();
            outline.ok_or_else(|| ApiError::bad_request("the message has too many fields"))?
        }
    };
    exchange.aim(&outline.model);
    exchange.route(if outline.version.is_empty() {
        Choice::Split
    } else {
        Choice::Version(&outline.version)
    })?;
    Ok(outline)
}

/// One inference.
#[derive(Debug, Default)]
pub(super) struct Infer {
    terms: Terms,
    /// Whether the answer is one of a stream.
    streamed: bool,
    outline: Outline,
    /// The client's own name for the request.
    id: String,
    wanted: Vec<Wanted>,
    /// The answer as its row shows it.
    shown: Option<Bytes>,
}

impl Infer {
    pub(super) fn new(terms: Terms, streamed: bool) -> Self {
        Self {
            terms,
            streamed,
            ..Self::default()
        }
    }
}

impl Call for Infer {
    fn read(
        &mut self,
        message: &Bytes,
        scorer: &Scorer,
        noted: &mut Noted,
    ) -> Result<Vec<Tensor>, ScoreError> {
        let (inputs, outputs) = (scorer.session().inputs(), scorer.session().outputs());
        let decoded = self.outline.check(inputs, outputs).and_then(|()| {
            measure(message)?;
            ModelInferRequest::decode(message.clone()).map_err(|error| {
                ScoreError::bad_request(format!("the message is no ModelInferRequest: {error}"))
            })
        });
        // A longer one is too long for its row, and would make more text yet.
        if message.len() <= MOST_SHOWN {
            noted.request = decoded
                .as_ref()
                .map_or_else(|_| rows::opaque(message), rows::request);
        }
        let request = decoded?;
        self.id.clone_from(&request.id);
        noted.client_request_id = Some(request.id.clone()).filter(|id| !id.is_empty());
        if let Some(name) = request.parameters.keys().next() {
            return Err(unknown_parameter(name, "the request", &[]));
        }
        self.wanted = wanted(&request.outputs, outputs)?;
        tensors(request, inputs)
    }

    fn write(&mut self, scorer: &Scorer, outputs: &[Tensor]) -> Result<Bytes, ScoreError> {
        let mut response = ModelInferResponse {
            model_name: std::mem::take(&mut self.outline.model),
            model_version: scorer.model().version.to_string(),
            id: std::mem::take(&mut self.id),
            ..ModelInferResponse::default()
        };
        for wanted in &self.wanted {
            let (name, tensor) = chosen(*wanted, scorer, outputs)?;
            let extent = |extent: &usize| i64::try_from(*extent).unwrap_or(i64::MAX);
            response.outputs.push(InferOutputTensor {
                name: name.to_owned(),
                datatype: Datatype::name(tensor.data_type()).to_owned(),
                shape: tensor.shape().iter().map(extent).collect(),
            });
            let mut raw = Vec::new();
            encode(&mut raw, tensor.data());
            response.raw_output_contents.push(raw.into());
        }
        self.shown = rows::response(&response);
        Ok(if self.streamed {
            let answer = ModelStreamInferResponse {
                infer_response: Some(response),
                ..ModelStreamInferResponse::default()
            };
            self.framed(&answer)
        } else {
            self.framed(&response)
        })
    }
}

impl Infer {
    /// An answer as it is sent. Compressed it is no measure of what its row does not show.
    fn framed(&mut self, answer: &impl Message) -> Bytes {
        let framed = frame(answer, self.terms.encoding);
        if self.shown.is_none() && framed.first() == Some(&1) {
            self.shown = Some(answer.encode_to_vec().into());
        }
        framed
    }
}

/// The outputs that are wanted: all of `specs` when the request names none.
fn wanted(
    outputs: &[InferRequestedOutputTensor],
    specs: &[TensorSpec],
) -> Result<Vec<Wanted>, ScoreError> {
    if outputs.is_empty() {
        return Ok(Wanted::all(specs, true));
    }
    let named = outputs.iter().map(|output| (output.name.as_str(), output));
    Wanted::named(specs, named, |output| {
        let mut classes = 0;
        for (name, value) in &output.parameters {
            if name != "classification" {
                return Err(unknown_parameter(name, &output.name, &["classification"]));
            }
            let number = match value.parameter_choice {
                Some(ParameterChoice::Int64Param(number)) => usize::try_from(number).ok(),
                Some(ParameterChoice::Uint64Param(number)) => usize::try_from(number).ok(),
                _ => None,
            };
            classes = number.ok_or_else(|| {
                ScoreError::bad_request(format!("parameter {name:?} must be a whole number"))
            })?;
        }
        Ok((true, classes))
    })
}

/// One tensor for each of `specs`, in their order, from the raw contents or from the inputs' own.
fn tensors(
    mut request: ModelInferRequest,
    specs: &[TensorSpec],
) -> Result<Vec<Tensor>, ScoreError> {
    let raw = std::mem::take(&mut request.raw_input_contents);
    if !raw.is_empty() && raw.len() != request.inputs.len() {
        return Err(ScoreError::bad_request(format!(
            "raw_input_contents has {} parts, and there are {} inputs: send one for each, or none",
            raw.len(),
            request.inputs.len()
        )));
    }
    let contents = request.inputs.iter_mut().map(|input| input.contents.take());
    let contents: Vec<Option<Contents>> = contents.collect();
    let mut raw = raw.into_iter();
    let inputs = request
        .inputs
        .iter()
        .zip(contents)
        .map(|(input, contents)| {
            let given = (input, contents.unwrap_or_default(), raw.next());
            (input.name.as_str(), given)
        });
    gather(specs, inputs, |(input, contents, raw), spec| {
        tensor(input, contents, raw.as_deref(), spec)
    })
}

fn tensor(
    input: &InferInputTensor,
    contents: Contents,
    raw: Option<&[u8]>,
    spec: &TensorSpec,
) -> Result<Tensor, ScoreError> {
    if let Some(name) = input.parameters.keys().next() {
        return Err(unknown_parameter(name, &input.name, &[]));
    }
    let announced = Announced {
        name: &input.name,
        datatype: &input.datatype,
        shape: &input.shape,
    };
    let fit = announced.fit(spec)?;
    let data = match raw {
        Some(_) if !contents.is_empty() => {
            return Err(announced.refuse("has contents, and the request raw_input_contents"));
        }
        Some(raw) => {
            announced.sized(&fit, "raw_input_contents of length", raw.len())?;
            fit.datatype.decode(raw)
        }
        None => contents.data(fit.datatype),
    };
    announced.tensor(fit, data.map_err(|problem| announced.refuse(problem))?)
}
