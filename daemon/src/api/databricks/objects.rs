//! An endpoint as JSON: `ServingEndpointDetailed` and the shorter `ServingEndpoint` of a list.
//!
//! Every served entity is shown twice, as `served_entities` and in the deprecated view
//! `served_models`, and every route with both names: old and new clients read different ones.
//! Times are milliseconds since 1970. What no client of that workspace knows stands under the one
//! key `edgeward`.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::limits;
use crate::endpoint::{
    About, AutoCapture, Capacity, ConfigView, EndpointView, ManagedBy, Route, RoutedEndpoint,
    RoutedEntity, ServedEntityView,
};
use crate::gateway::{PermissionLevel, Policy};

/// What a served entity says whose model was let go: it is ready, and its next request waits a little.
const SCALED_TO_ZERO: &str = "Scaled to zero";

/// `ServingEndpointDetailed`. `routed` is what serves of the endpoint now, if anything does.
pub(super) fn detailed(
    view: &EndpointView,
    routed: Option<&RoutedEndpoint>,
    policy: &Policy,
    level: Option<PermissionLevel>,
) -> Value {
    let mut endpoint = head(view, routed, policy);
    if let Some(level) = level {
        endpoint.insert("permission_level".to_owned(), json!(level.as_str()));
    }
    endpoint.insert("route_optimized".to_owned(), json!(false));
    if let Some(config) = &view.config {
        let config = config_output(config, routed);
        endpoint.insert("config".to_owned(), Value::Object(config));
    }
    if let Some(pending) = &view.pending_config {
        let mut config = config_output(&pending.config, None);
        config.insert("start_time".to_owned(), json!(pending.start_time));
        endpoint.insert("pending_config".to_owned(), Value::Object(config));
    }
    endpoint.insert("edgeward".to_owned(), own(view));
    Value::Object(endpoint)
}

/// `ServingEndpoint`: an element of a list.
pub(super) fn listed(
    view: &EndpointView,
    routed: Option<&RoutedEndpoint>,
    policy: &Policy,
) -> Value {
    let mut endpoint = head(view, routed, policy);
    if let Some(config) = &view.config {
        let entities = config.served_entities.iter();
        let config = json!({
            "served_entities": entities.clone().map(|entity| json!({
                "name": entity.config.name,
                "entity_name": entity.config.model.name,
                "entity_version": entity.config.model.version,
            })).collect::<Vec<_>>(),
            "served_models": entities.map(|entity| json!({
                "name": entity.config.name,
                "model_name": entity.config.model.name,
                "model_version": entity.config.model.version,
            })).collect::<Vec<_>>(),
        });
        endpoint.insert("config".to_owned(), config);
    }
    Value::Object(endpoint)
}

/// What both shapes begin with.
fn head(
    view: &EndpointView,
    routed: Option<&RoutedEndpoint>,
    policy: &Policy,
) -> Map<String, Value> {
    let mut head = object(json!({
        "name": view.name,
        "id": view.id,
        "creator": view.creator.to_string(),
        "creation_timestamp": view.creation_timestamp,
        "last_updated_timestamp": view.last_updated_timestamp,
        "state": {
            "ready": view.state.ready.as_str(),
            "config_update": view.state.config_update.as_str(),
        },
    }));
    let embeds = |entity: &Arc<RoutedEntity>| entity.scorer.session().texts().is_some();
    if routed.is_some_and(|routed| routed.entities().iter().all(embeds)) {
        head.insert("task".to_owned(), json!("llm/v1/embeddings"));
    }
    if let Some(description) = &view.about.description {
        head.insert("description".to_owned(), json!(description));
    }
    head.insert("tags".to_owned(), Value::Array(tags(&view.about)));
    let limits = limits::write(policy.limits.iter());
    if !limits.is_empty() {
        head.insert("ai_gateway".to_owned(), json!({ "rate_limits": limits }));
    }
    head
}

/// `[{"key": ..., "value": ...}]`.
pub(super) fn tags(about: &About) -> Vec<Value> {
    let tag = |(key, value): (&String, &Option<String>)| match value {
        Some(value) => json!({"key": key, "value": value}),
        None => json!({ "key": key }),
    };
    about.tags.iter().map(tag).collect()
}

/// What only this server knows of an endpoint.
fn own(view: &EndpointView) -> Value {
    let managed_by = match view.managed_by {
        ManagedBy::Local => json!({"by": "local"}),
        ManagedBy::Registry(generation) => json!({
            "by": "registry",
            "epoch": generation.epoch,
            "generation": generation.generation,
        }),
    };
    json!({
        "managed": managed_by,
        "drift": view.drift,
        "effective_hash": view.effective_hash,
        "failure": view.failure,
    })
}

/// `EndpointCoreConfigOutput`; `routed` is what serves of it.
fn config_output(config: &ConfigView, routed: Option<&RoutedEndpoint>) -> Map<String, Value> {
    let entities = config.served_entities.iter();
    let mut output = object(json!({
        "config_version": config.config_version,
        "served_entities": entities
            .clone()
            .map(|entity| served(entity, routed, ["entity_name", "entity_version"]))
            .collect::<Vec<_>>(),
        "served_models": entities
            .map(|entity| served(entity, routed, ["model_name", "model_version"]))
            .collect::<Vec<_>>(),
        "traffic_config": {
            "routes": config.routes.iter().map(route).collect::<Vec<_>>(),
        },
    }));
    if let Some(capture) = &config.auto_capture {
        output.insert("auto_capture_config".to_owned(), auto_capture(capture));
    }
    output
}

fn served(
    entity: &ServedEntityView,
    routed: Option<&RoutedEndpoint>,
    [name, version]: [&str; 2],
) -> Value {
    let serving = routed.and_then(|routed| routed.entity(entity.config.name.as_str()));
    let at_zero = serving.is_some_and(|serving| serving.scorer.is_at_zero());
    let message = if at_zero {
        SCALED_TO_ZERO
    } else {
        &entity.message
    };
    let mut output = object(json!({
        "id": entity.id,
        "name": entity.config.name,
        name: entity.config.model.name,
        version: entity.config.model.version,
        "state": state(entity.deployment.as_str(), message, serving.map(|serving| &**serving)),
        "creator": entity.creator.to_string(),
        "creation_timestamp": entity.creation_timestamp,
    }));
    for (field, hint) in capacity(&entity.config.capacity) {
        if !hint.is_null() {
            output.insert(field.to_owned(), hint);
        }
    }
    Value::Object(output)
}

/// How an entity stands: the platform's own fields, and of what serves the engine and, where that computes on a
/// device, how many nodes of the graph the CPU computes beside it.
fn state(deployment: &str, message: &str, serving: Option<&RoutedEntity>) -> Value {
    let mut state = object(json!({
        "deployment": deployment,
        "deployment_state_message": message,
    }));
    if let Some(RoutedEntity { scorer, .. }) = serving {
        let takeover = scorer.session().takeover();
        let engine = takeover.map_or_else(|| scorer.engine(), |takeover| takeover.engine);
        let mut ours = object(json!({"engine": engine}));
        if engine == edgeward_kernels::adapter::ENGINE {
            let host = scorer.session().host_nodes().len();
            ours.insert("host_nodes".to_owned(), json!(host));
        }
        state.insert("edgeward".to_owned(), Value::Object(ours));
    }
    Value::Object(state)
}

/// The capacity hints as they were given; null where none was.
fn capacity(capacity: &Capacity) -> [(&'static str, Value); 9] {
    [
        (
            "workload_size",
            json!(capacity.workload_size.map(|size| size.as_str())),
        ),
        (
            "workload_type",
            json!(capacity.workload_type.map(|kind| kind.as_str())),
        ),
        (
            "scale_to_zero_enabled",
            json!(capacity.scale_to_zero_enabled),
        ),
        (
            "min_provisioned_throughput",
            json!(capacity.min_provisioned_throughput),
        ),
        (
            "max_provisioned_throughput",
            json!(capacity.max_provisioned_throughput),
        ),
        (
            "min_provisioned_concurrency",
            json!(capacity.min_provisioned_concurrency),
        ),
        (
            "max_provisioned_concurrency",
            json!(capacity.max_provisioned_concurrency),
        ),
        (
            "provisioned_model_units",
            json!(capacity.provisioned_model_units),
        ),
        (
            "burst_scaling_enabled",
            json!(capacity.burst_scaling_enabled),
        ),
    ]
}

fn route(route: &Route) -> Value {
    json!({
        "served_model_name": route.served_entity_name,
        "served_entity_name": route.served_entity_name,
        "traffic_percentage": route.traffic_percentage,
    })
}

/// `AutoCaptureConfigOutput`.
fn auto_capture(capture: &AutoCapture) -> Value {
    let (catalog, schema, prefix) = capture.table.parts();
    json!({
        "enabled": capture.enabled,
        "catalog_name": catalog,
        "schema_name": schema,
        "table_name_prefix": prefix,
        "state": {
            "payload_table": {
                "name": format!("{prefix}_payload"),
                "status": if capture.enabled { "ACTIVE" } else { "INACTIVE" },
                "status_message": "",
            },
        },
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(), // every caller passes an object
    }
}
