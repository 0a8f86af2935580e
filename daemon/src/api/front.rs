//! Front: which dialect a request to a public listener is for.

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, StatusCode, Uri};
use tower::ServiceExt as _;

use super::databricks::{endpoints, invocations};
use super::error::ApiError;
use super::listen::Handler;
use super::{MANAGEMENT_BODY, MANAGEMENT_BODY_TIME, Services, auth, body, health, respond};
use crate::telemetry::{Counter, Histogram};

/// Answers the requests of the public listeners.
pub(crate) struct Front {
    services: Services,
    router: Router,
}

impl Front {
    pub(crate) fn new(services: Services) -> Self {
        let router = endpoints::routes()
            .fallback(async |uri: Uri| ApiError::no_route(uri.path()))
            .method_not_allowed_fallback(async |method: Method| {
                ApiError::method_not_allowed(method.as_str())
            })
            .with_state(services.clone());
        Self { services, router }
    }

    /// A route behind a token.
    async fn manage(
        &self,
        head: Parts,
        incoming: &mut Incoming,
    ) -> Result<Response<Body>, ApiError> {
        let principal = auth::authenticate(&head.headers, &self.services.tokens)?;
        let declared = body::declared(incoming);
        body::check_length(declared, MANAGEMENT_BODY)?;
        let mut permit = self.services.serving.admission().admit(declared)?;
        let permit = &mut permit;
        let bytes = body::read(
            incoming,
            MANAGEMENT_BODY,
            MANAGEMENT_BODY_TIME,
            Some(permit),
        )
        .await?;
        let mut request = Request::from_parts(head, Body::from(bytes));
        *request.uri_mut() = without_trailing_slash(request.uri());
        request.extensions_mut().insert(principal);
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
        if invocations::target(request.uri().path()).is_none() {
            let answer = self.answer(request).await;
            metrics.add(counter_of(answer.status()), 1);
            return answer;
        }
        let arrived = serving.clock().monotonic();
        let answer = invocations::answer(&self.services, request).await;
        metrics.add(counter_of(answer.status()), 1);
        let took = serving.clock().monotonic().saturating_sub(arrived);
        metrics.observe(Histogram::Invocation, took);
        answer
    }
}

impl Front {
    /// Everything but invocations.
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        let (head, mut incoming) = request.into_parts();
        if let Some(answer) = health::answer(&head.method, head.uri.path()) {
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
        respond::name_request(&mut answer, self.services.serving.request_id());
        answer
    }
}

fn counter_of(status: StatusCode) -> Counter {
    if status.is_server_error() {
        Counter::ResponsesServerError
    } else if status.is_client_error() {
        Counter::ResponsesClientError
    } else {
        Counter::ResponsesGood
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
