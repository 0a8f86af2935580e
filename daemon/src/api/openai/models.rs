//! `GET .../models` and `.../models/{id}`: the endpoints that serve, as models.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use hyper::Response;
use serde_json::{Value, json};

use super::{ROOTS, embeddings};
use crate::api::databricks::unknown;
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access, respond};
use crate::endpoint::{EndpointView, Ready};
use crate::gateway::{Caller, PermissionLevel};

/// The routes behind a token.
pub(crate) fn routes() -> Routes {
    ROOTS.iter().fold(Routes::new("OpenAI"), |routes, root| {
        let under = root.trim_start_matches('/');
        let all = "The endpoints that serve, as models.";
        let all = Operation::get(format!("{root}/models"), format!("listModels-{under}"), all);
        let (path, id) = (
            format!("{root}/models/{{model}}"),
            format!("getModel-{under}"),
        );
        let single = Operation::get(path, id, "An endpoint that serves, as a model.");
        routes
            .on(all.gives("ModelList"), list)
            .on(single.gives("Model"), one)
            .beside(embeddings::operation(root, under))
    })
}

async fn list(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
) -> Response<Body> {
    let views = services.endpoints.list();
    let seen = |view: &&Arc<EndpointView>| {
        view.state.ready == Ready::Ready && access::may_view(&services, &caller, view)
    };
    let models: Vec<Value> = views.iter().filter(seen).map(|view| model(view)).collect();
    respond::ok(&json!({"object": "list", "data": models}))
}

async fn one(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::View)?;
    if view.state.ready != Ready::Ready {
        return Err(unknown(&name));
    }
    Ok(respond::ok(&model(&view)))
}

fn model(view: &EndpointView) -> Value {
    json!({
        "id": view.name,
        "object": "model",
        "created": view.creation_timestamp / 1_000,
        "owned_by": view.creator.to_string(),
    })
}
