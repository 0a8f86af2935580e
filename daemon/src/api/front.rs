//! Front: which dialect a request to a public listener is for.

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri};
use tower::ServiceExt as _;

use super::databricks::invocations::{self, Invocations};
use super::databricks::{endpoints, permissions};
use super::encoding::Encoding;
use super::error::{ApiError, ErrorForm};
use super::listen::Handler;
use super::open_inference::{self, OpenInference, grpc};
use super::openai::{self, embeddings};
use super::{
    MANAGEMENT_BODY, MANAGEMENT_BODY_TIME, Services, auth, body, health, predict, respond,
};
use crate::serving::AdmitError;
use crate::telemetry::Histogram;

/// Answers the requests of the public listeners.
pub(crate) struct Front {
    services: Services,
    router: Router,
    /// What the routes are, for everybody.
    document: Bytes,
}

impl Front {
    pub(crate) fn new(services: Services) -> Self {
        let (router, document) = endpoints::routes()
            .merge(permissions::routes())
            .merge(invocations::routes())
            .merge(open_inference::routes())
            .merge(openai::routes())
            .merge(health::routes())
            .finish();
        let router = router
            .fallback(async |uri: Uri| ApiError::no_route(uri.path()))
            .method_not_allowed_fallback(async |method: Method| {
                ApiError::method_not_allowed(method.as_str(), None)
            })
            .with_state(services.clone());
        Self {
            services,
            router,
            document,
        }
    }

    /// A route behind a token.
    async fn manage(
        &self,
        head: Parts,
        incoming: &mut Incoming,
    ) -> Result<Response<Body>, ApiError> {
        let caller = auth::authenticate(&head.headers, &self.services.tokens)?;
        if let Some(refused) = grpc::refusal(head.uri.path()) {
            return Err(refused);
        }
        let declared = body::declared(incoming);
        body::check_length(declared, MANAGEMENT_BODY)?;
        let mut permit = self.services.serving.admission().admit(declared)?;
        let permit = &mut permit;
        let encoding = Encoding::of_request(&head.headers)?;
        let (limit, within) = (MANAGEMENT_BODY, MANAGEMENT_BODY_TIME);
        let bytes = body::read(incoming, encoding, limit, within, Some(permit)).await?;
        let mut request = Request::from_parts(head, Body::from(bytes));
        *request.uri_mut() = without_trailing_slash(request.uri());
        request.extensions_mut().insert(caller);
        match self.router.clone().oneshot(request).await {
            Ok(answer) => Ok(answer),
            Err(never) => match never {},
        }
    }
}

impl Handler for Front {
    async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let Services {
            serving, metrics, ..
        } = &self.services;
        let arrived = serving.clock().monotonic();
        let (head, mut incoming) = request.into_parts();
        if grpc::is_at(&head) {
            // Boxed, as below.
            return Box::pin(grpc::answer(&self.services, head, incoming)).await;
        }
        let Some(answer) = self.predict(&head, &mut incoming).await else {
            let answer = self.answer(head, incoming).await;
            metrics.add(respond::counter_of(answer.status()), 1);
            return answer;
        };
        metrics.add(respond::counter_of(answer.status()), 1);
        let took = serving.clock().monotonic().saturating_sub(arrived);
        metrics.observe(Histogram::Invocation, took);
        answer
    }

    fn refuse(&self, head: &Parts, ceiling: usize) -> Response<Body> {
        let error = ApiError::from(AdmitError::TooManyRequests { ceiling });
        let counter = respond::counter_of(error.status);
        self.services.metrics.add(counter, 1);
        let id = self.services.serving.request_id();
        if grpc::is_at(head) {
            return grpc::refuse(&error, id);
        }
        let body = error.body(ErrorForm::of(head.uri.path()));
        let mut answer = respond::error(&error, body);
        respond::name_request(&mut answer, id);
        answer
    }
}

impl Front {
    /// The answer of a prediction; `None` when the request is for anything else.
    async fn predict(&self, head: &Parts, incoming: &mut Incoming) -> Option<Response<Body>> {
        let (services, path) = (&self.services, head.uri.path());
        if let Some(target) = invocations::target(path) {
            let dialect = &Invocations;
            return Some(predict::answer(services, head, incoming, &target, dialect).await);
        }
        if let Some(target) = open_inference::target(path) {
            // Boxed, as below.
            let dialect = &OpenInference;
            let answer = predict::answer(services, head, incoming, &target, dialect);
            return Some(Box::pin(answer).await);
        }
        if embeddings::is_at(path) {
            return Some(Box::pin(embeddings::answer(services, head, incoming)).await);
        }
        None
    }

    /// Everything but predictions.
    async fn answer(&self, head: Parts, mut incoming: Incoming) -> Response<Body> {
        let (method, path) = (&head.method, head.uri.path());
        let form = ErrorForm::of(path);
        let probed = health::answer(method, path, &self.document);
        let probed = probed.or_else(|| open_inference::probe(&self.services, method, path));
        if let Some(mut answer) = probed {
            respond::dress(&mut answer, form);
            return answer;
        }
        let expects = head.headers.contains_key(EXPECT);
        // Boxed: a connection's task should be as big as an invocation, not as a creation.
        let answer = Box::pin(self.manage(head, &mut incoming)).await;
        let mut answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if !expects {
                    body::discard(&mut incoming).await;
                }
                error.into_response()
            }
        };
        respond::dress(&mut answer, form);
        respond::name_request(&mut answer, self.services.serving.request_id());
        answer
    }
}

/// mlflow ends paths with a slash. A redirect would turn its POST into a GET, so the slash goes.
fn without_trailing_slash(uri: &Uri) -> Uri {
    let Some(path) = uri.path().strip_suffix('/').filter(|path| !path.is_empty()) else {
        return uri.clone();
    };
    let rest = match uri.query() {
        None => path.to_owned(),
        Some(query) => format!("{path}?{query}"),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = PathAndQuery::try_from(rest).ok();
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_trailing_slash_goes() {
        for (with, without) in [
            ("/api/2.0/serving-endpoints/", "/api/2.0/serving-endpoints"),
            ("/a/?x=/", "/a?x=/"),
            ("/a", "/a"),
            ("/", "/"),
            ("http://host:1/a/", "http://host:1/a"),
        ] {
            let uri: Uri = with.parse().unwrap();
            assert_eq!(without_trailing_slash(&uri).to_string(), without);
        }
    }
}
