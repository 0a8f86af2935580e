//! `POST /serving-endpoints/{name}/invocations`, and the same for one served entity.
//!
//! A path is found by its last segments: endpoints called `chat` or `served-models` are legal. A model of
//! texts also takes `input`, and then answers as it does to clients of OpenAI.

use axum::body::Body;
use bytes::Bytes;
use edgeward_kernels::tensor::Tensor;
use hyper::http::request::Parts;
use hyper::{Response, StatusCode};
use serde_json::json;

use crate::api::content_type::ScoringFormat;
use crate::api::error::{ApiError, ErrorForm};
use crate::api::openai::embeddings::Embedding;
use crate::api::openapi::{OF_PREDICTION, Operation};
use crate::api::predict::{Dialect, Target, Wanted, decoded};
use crate::api::routes::Routes;
use crate::api::{content_type, respond};
use crate::model::{ScoreError, Scorer, parse_csv_body, parse_scoring_body};
use crate::serving::{Answered, Call, Noted};

#[cfg(test)]
mod tests;

/// Reads a path; `None` when it is no invocation's.
pub(crate) fn target(path: &str) -> Option<Target<'_>> {
    let names = path.strip_prefix("/serving-endpoints/")?;
    let names = names.strip_suffix('/').unwrap_or(names);
    let names = names.strip_suffix("/invocations")?;
    let (endpoint, wanted) = match names.split_once('/') {
        None => (names, Wanted::Split),
        Some((endpoint, rest)) => {
            let served_entity = rest.strip_prefix("served-models/")?;
            if served_entity.is_empty() || served_entity.contains('/') {
                return None;
            }
            (endpoint, Wanted::Named(decoded(served_entity)))
        }
    };
    (!endpoint.is_empty()).then(|| Target {
        endpoint: decoded(endpoint),
        wanted,
    })
}

/// What is asked and given.
pub(crate) fn routes() -> Routes {
    let one = "/serving-endpoints/{name}";
    let split = "Asks the version that the traffic split picks.";
    let split = Operation::post(format!("{one}/invocations"), "query", split);
    let named = "Asks one served entity.";
    let path = format!("{one}/served-models/{{entity}}/invocations");
    let named = Operation::post(path, "queryServedEntity", named);
    let body = json!({
        "application/json": {"schema": {"$ref": "#/components/schemas/Invocation"}},
        "text/csv": {"schema": {"type": "string"}},
    });
    let filled = |operation: Operation| {
        operation
            .takes_content(&body)
            .gives("Predictions")
            .says("Served-Model-Name")
            .refuses(OF_PREDICTION)
    };
    Routes::new("invocations")
        .beside(filled(split))
        .beside(filled(named))
}

/// Invocations as MLflow's scoring server takes them.
#[derive(Debug)]
pub(crate) struct Invocations;

impl Dialect for Invocations {
    type Call = Scoring;
    const ERRORS: ErrorForm = ErrorForm::Databricks;

    fn call(&self, head: &Parts) -> Result<Scoring, ApiError> {
        let format = content_type::of_scoring(&head.headers)?;
        Ok(Scoring {
            format,
            embedding: None,
        })
    }

    fn answer(&self, answered: Answered<Scoring>) -> (Response<Body>, Bytes) {
        let body = answered.body;
        (respond::raw_json(StatusCode::OK, body.clone()), body)
    }
}

/// One invocation.
#[derive(Debug)]
pub(crate) struct Scoring {
    format: ScoringFormat,
    /// The request, where it asks a model of texts as clients of OpenAI do.
    embedding: Option<Embedding>,
}

impl Call for Scoring {
    fn read(
        &mut self,
        body: &Bytes,
        scorer: &Scorer,
        noted: &mut Noted,
    ) -> Result<Vec<Tensor>, ScoreError> {
        if self.format == ScoringFormat::Json
            && let Some(embedding) = Embedding::of_invocation(body, scorer)?
        {
            return self.embedding.insert(embedding).read(body, scorer, noted);
        }
        let request = match self.format {
            ScoringFormat::Json => parse_scoring_body(body)?,
            ScoringFormat::Csv => parse_csv_body(body)?,
        };
        noted.client_request_id = request.client_request_id;
        noted.usage_context = request.usage_context.into_iter().collect();
        scorer.prepare(&request.input)
    }

    fn write(&mut self, scorer: &Scorer, outputs: &[Tensor]) -> Result<Bytes, ScoreError> {
        if let Some(embedding) = &mut self.embedding {
            return embedding.write(scorer, outputs);
        }
        Ok(scorer.render(outputs)?.into_body().into())
    }
}
