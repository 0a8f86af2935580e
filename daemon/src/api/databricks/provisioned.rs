//! `/api/2.0/serving-endpoints/pt`: endpoints with provisioned throughput.
//!
//! On a box they are endpoints like others: model units and bursts are hints of capacity, as `workload_size` is, and
//! stand in the endpoint's objects. What differs is the form: each served entity says its model units, and an update
//! wraps its configuration in `config`.

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use bytes::Bytes;
use hyper::{HeaderMap, Response};

use super::endpoints::{self, Asked, CREATION, MAKE, ROOT, json_body};
use super::fields::{self, Fields};
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access};
use crate::endpoint::EndpointConfigInput;
use crate::gateway::{Caller, PermissionLevel};

/// `POST .../pt` makes such endpoints; every other method means an endpoint that is called `pt`.
pub(super) fn routes() -> Routes {
    let root = format!("{ROOT}/pt");
    let called_pt = || Path("pt".to_owned());
    let make = "Makes an endpoint with provisioned throughput.";
    let make = Operation::post(&root, "createProvisionedThroughputEndpoint", make);
    let show = Operation::get(&root, "getEndpointCalledPt", "An endpoint called `pt`.");
    let remove = "Deletes an endpoint called `pt`.";
    let remove = Operation::delete(&root, "deleteEndpointCalledPt", remove);
    let change = "Gives an endpoint with provisioned throughput another configuration.";
    let change = Operation::put(
        format!("{root}/{{name}}/config"),
        "updateProvisionedThroughputConfig",
        change,
    );
    Routes::new("serving endpoints")
        .on(
            make.takes("NewProvisionedEndpoint")
                .gives("Endpoint")
                .refuses(CREATION),
            create,
        )
        .on(
            show.gives("Endpoint").refuses(&[404]),
            move |services, caller| endpoints::get_endpoint(services, caller, called_pt()),
        )
        .on(
            remove.gives("Nothing").refuses(&[404, 409]),
            move |services, caller| endpoints::delete(services, caller, called_pt()),
        )
        .on(
            change
                .takes("ProvisionedConfigUpdate")
                .gives("Endpoint")
                .refuses(&[409]),
            update_config,
        )
}

async fn create(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    access::require_admin(&caller, MAKE)?;
    let asked = Asked::read(json_body(&headers, &body)?)?;
    asked.config.require_model_units()?;
    asked.make(&services, &caller).await
}

async fn update_config(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::Manage)?;
    let mut fields = Fields::of(json_body(&headers, &body)?)?;
    let config = fields.value("config");
    fields.finish()?;
    let config = config.ok_or_else(|| fields::error("config", "is required"))?;
    let config = EndpointConfigInput::from_json(&config)?;
    config.require_model_units()?;
    endpoints::update(&services, &caller, &view, config).await
}
