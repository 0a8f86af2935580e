//! Routes: a router that is told of each route what it takes and gives.
//!
//! The only way to a route is through an [`Operation`], so the document of this server
//! ([`document`](super::openapi::document)) cannot lack one. What is answered before the router, probes and
//! predictions, is added with [`Routes::beside`] by the file that answers it.

use axum::Router;
use axum::handler::Handler;
use axum::routing::on;
use bytes::Bytes;

use super::Services;
use super::openapi::{self, Operation};

/// A router and what its routes are.
pub(crate) struct Routes {
    router: Router<Services>,
    operations: Vec<Operation>,
    tag: &'static str,
}

impl Routes {
    /// No routes yet. `tag` is the heading that the document has them under.
    pub(crate) fn new(tag: &'static str) -> Self {
        Self {
            router: Router::new(),
            operations: Vec::new(),
            tag,
        }
    }

    /// One more route.
    pub(crate) fn on<H, T>(mut self, operation: Operation, handler: H) -> Self
    where
        H: Handler<T, Services>,
        T: 'static,
    {
        let route = on(operation.filter(), handler);
        self.router = self.router.route(operation.path(), route);
        self.beside(operation)
    }

    /// One that is answered before the router is asked.
    pub(crate) fn beside(mut self, operation: Operation) -> Self {
        self.operations.push(operation.under(self.tag));
        self
    }

    /// The routes of both.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self
    }

    /// The router, and the document of all routes.
    pub(crate) fn finish(self) -> (Router<Services>, Bytes) {
        let document = openapi::document(self.operations);
        (self.router, document.to_string().into())
    }
}
