//! `POST .../embeddings`: the vectors of texts, from a model that is a chain of tokenizer, encoder and
//! pooling.
//!
//! The endpoint is named in the body, so the body is read before anybody knows which model it is for. The
//! same form, without `model`, is taken by the endpoint's own `invocations`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use edgeward_kernels::engine::Texts;
use edgeward_kernels::tensor::{Tensor, TensorData};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ROOTS;
use crate::api::error::{ApiError, ErrorForm};
use crate::api::openapi::{OF_PREDICTION, Operation};
use crate::api::{Services, auth, content_type, predict, respond};
use crate::model::{MOST_TEXTS, ScoreError, Scorer};
use crate::serving::{Answered, Call, Choice, Exchange, Noted};

#[cfg(test)]
mod tests;

/// Whether a path is that of embeddings.
pub(crate) fn is_at(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let root = path.strip_suffix("/embeddings");
    root.is_some_and(|root| ROOTS.contains(&root))
}

/// What is asked and given below that root.
pub(super) fn operation(root: &str, under: &str) -> Operation {
    let (path, id) = (
        format!("{root}/embeddings"),
        format!("createEmbeddings-{under}"),
    );
    Operation::post(path, id, "The vectors of texts.")
        .takes("EmbeddingsRequest")
        .gives("Embeddings")
        .says("Served-Model-Name")
        .refuses(OF_PREDICTION)
}

/// Answers a request whose path [is that of embeddings](is_at).
pub(crate) async fn answer(
    services: &Services,
    head: &Parts,
    incoming: &mut Incoming,
) -> Response<Body> {
    let mut exchange = predict::open(services, head);
    let outcome = embed(services, &mut exchange, head, incoming).await;
    let outcome = outcome.map(|Answered { body, .. }| {
        let response = respond::raw_json(StatusCode::OK, body.clone());
        (response, body)
    });
    let errors = ErrorForm::of(head.uri.path());
    predict::finish(services, exchange, (head, incoming), outcome, errors).await
}

async fn embed(
    services: &Services,
    exchange: &mut Exchange,
    head: &Parts,
    incoming: &mut Incoming,
) -> Result<Answered<Embedding>, ApiError> {
    exchange.identify(auth::authenticate(&head.headers, &services.tokens)?);
    if head.method != Method::POST {
        return Err(ApiError::method_not_allowed(
            head.method.as_str(),
            Some("POST"),
        ));
    }
    content_type::expect_json(&head.headers)?;
    let body = predict::read(services, exchange, head, incoming).await?;
    let parsed = body.clone();
    let request = exchange
        .apart(body.len(), move || Request::parse(&parsed))
        .await??;
    let model = request.model.clone();
    let model = model.ok_or_else(|| ApiError::invalid("model is required: a serving endpoint"))?;
    exchange.aim(&model);
    exchange.route(Choice::Split)?;
    Ok(exchange
        .invoke(body, Embedding::new(model, request))
        .await?)
}

/// The body of a request. Fields that are not here are other servers' and mean nothing to a local model.
#[derive(Debug, Default, Deserialize)]
struct Request {
    model: Option<String>,
    input: Option<Input>,
    #[serde(default)]
    encoding_format: Format,
    dimensions: Option<usize>,
    user: Option<String>,
    client_request_id: Option<String>,
    #[serde(default)]
    usage_context: BTreeMap<String, String>,
}

/// What is to be embedded.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Texts(Vec<String>),
    Tokens(Vec<u32>),
    TokenLists(Vec<Vec<u32>>),
}

/// How a vector is written.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// A list of numbers.
    #[default]
    Float,
    /// The bytes of its float32s, little-endian, in base64.
    Base64,
}

impl Request {
    fn parse(body: &Bytes) -> Result<Self, ScoreError> {
        serde_json::from_slice(body).map_err(|error| {
            let problem = error.to_string();
            let input = problem.starts_with("data did not match any variant");
            ScoreError::bad_request(if input {
                "input must be a text, a list of texts, a list of tokens or a list of such lists"
                    .to_owned()
            } else {
                format!("the body is no request for embeddings: {problem}")
            })
        })
    }

    /// The texts that are asked for.
    fn texts(&mut self, model: &dyn Texts) -> Result<Vec<String>, ScoreError> {
        let decode = |tokens: &Vec<u32>| {
            let text = model.decode(tokens);
            text.map_err(|error| ScoreError::invalid(format!("input: {error}")))
        };
        let texts = match self.input.take() {
            None => return Err(ScoreError::bad_request("input is required")),
            Some(Input::Text(text)) => vec![text],
            Some(Input::Texts(texts)) => texts,
            Some(Input::Tokens(tokens)) => vec![decode(&tokens)?],
            Some(Input::TokenLists(lists)) => lists.iter().map(decode).collect::<Result<_, _>>()?,
        };
        if texts.len() > MOST_TEXTS {
            let count = texts.len();
            return Err(ScoreError::bad_request(format!(
                "input has at most {MOST_TEXTS} texts, this one has {count}"
            )));
        }
        if texts.is_empty() {
            return Err(ScoreError::bad_request(
                "input has no texts: send at least one",
            ));
        }
        Ok(texts)
    }
}

/// One request for embeddings.
#[derive(Debug)]
pub(crate) struct Embedding {
    /// What the client calls the model.
    model: String,
    request: Request,
    tokens: u64,
}

impl Embedding {
    fn new(model: String, request: Request) -> Self {
        Self {
            model,
            request,
            tokens: 0,
        }
    }

    /// The request of a body that asks a model of texts in this form; `None` when it has another.
    ///
    /// # Errors
    /// [`ScoreError::Refused`] when it has this form and another, or cannot be read.
    pub(crate) fn of_invocation(body: &Bytes, scorer: &Scorer) -> Result<Option<Self>, ScoreError> {
        if scorer.session().texts().is_none() {
            return Ok(None);
        }
        let Ok(keys) = serde_json::from_slice::<BTreeMap<Cow<'_, str>, IgnoredAny>>(body) else {
            return Ok(None);
        };
        if !keys.contains_key("input") {
            return Ok(None);
        }
        let known = [
            "input",
            "encoding_format",
            "dimensions",
            "user",
            "client_request_id",
            "usage_context",
        ];
        if let Some(stray) = keys.keys().find(|key| !known.contains(&key.as_ref())) {
            let stray: String = stray.chars().take(80).collect();
            return Err(ScoreError::bad_request(format!(
                "{stray:?} cannot stand beside input: {} can",
                known.join(", ")
            )));
        }
        let request = Request::parse(body)?;
        Ok(Some(Self::new(scorer.model().name.to_string(), request)))
    }
}

impl Call for Embedding {
    fn read(
        &mut self,
        _body: &Bytes,
        scorer: &Scorer,
        noted: &mut Noted,
    ) -> Result<Vec<Tensor>, ScoreError> {
        noted.client_request_id = self.request.client_request_id.take();
        let context = std::mem::take(&mut self.request.usage_context);
        let user = self.request.user.take();
        let user = user.map(|user| ("user".to_owned(), user));
        noted.usage_context = context.into_iter().chain(user).collect();
        let session = scorer.session();
        let texts = session.texts().ok_or_else(|| {
            ScoreError::invalid(format!(
                "{:?} is no model of texts: it embeds nothing",
                self.model
            ))
        })?;
        let width = session
            .outputs()
            .first()
            .and_then(|spec| *spec.shape.get(1)?);
        if let (Some(asked), Some(width)) = (self.request.dimensions, width)
            && asked != width
        {
            return Err(ScoreError::invalid(format!(
                "dimensions must be {width}, which is what the model gives, not {asked}"
            )));
        }
        let inputs = self.request.texts(texts)?;
        for text in &inputs {
            let count = texts.count(text).map_err(ScoreError::Model)?;
            self.tokens += u64::try_from(count).unwrap_or(0);
        }
        noted.input_tokens = Some(self.tokens);
        let tensor = Tensor::new(vec![inputs.len()], TensorData::String(inputs));
        Ok(vec![tensor.map_err(|error| {
            ScoreError::bad_request(error.to_string())
        })?])
    }

    fn write(&mut self, _scorer: &Scorer, outputs: &[Tensor]) -> Result<Bytes, ScoreError> {
        let unusable = || ScoreError::Output {
            name: "embedding".to_owned(),
        };
        let Some((TensorData::F32(values), &[rows, width])) = outputs
            .first()
            .map(|tensor| (tensor.data(), tensor.shape()))
        else {
            return Err(unusable());
        };
        let each = match self.request.encoding_format {
            Format::Float => 14,
            Format::Base64 => 6,
        };
        let mut body = Vec::with_capacity(128 + values.len() * each);
        body.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
        for (index, vector) in values.chunks(width.max(1)).take(rows).enumerate() {
            if index > 0 {
                body.push(b',');
            }
            body.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
            body.extend_from_slice(index.to_string().as_bytes());
            body.extend_from_slice(b",\"embedding\":");
            write_vector(&mut body, vector, self.request.encoding_format);
            body.push(b'}');
        }
        body.extend_from_slice(b"],\"model\":");
        body.extend_from_slice(serde_json::json!(self.model).to_string().as_bytes());
        let usage = format!(
            ",\"usage\":{{\"prompt_tokens\":{0},\"total_tokens\":{0}}}}}",
            self.tokens
        );
        body.extend_from_slice(usage.as_bytes());
        Ok(body.into())
    }
}

fn write_vector(body: &mut Vec<u8>, vector: &[f32], format: Format) {
    match format {
        // Writing to memory cannot fail.
        Format::Float => drop(serde_json::to_writer(body, vector)),
        Format::Base64 => {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            body.push(b'"');
            body.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            body.push(b'"');
        }
    }
}
