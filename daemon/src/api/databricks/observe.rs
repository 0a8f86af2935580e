//! What an endpoint has done: its metrics, and the logs of its served entities.

use std::fmt::Write as _;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::response::IntoResponse as _;
use hyper::Response;
use hyper::header::CONTENT_TYPE;
use serde_json::json;

use super::endpoints::ROOT;
use crate::api::error::ApiError;
use crate::api::openapi::Operation;
use crate::api::routes::Routes;
use crate::api::{Services, access, respond};
use crate::endpoint::{EndpointView, RoutedEndpoint, ServedEntityView};
use crate::gateway::{Caller, PermissionLevel};
use crate::serving::{BOUNDS_MS, Durations};
use crate::telemetry::recent_events;

pub(super) fn routes() -> Routes {
    let entity = format!("{ROOT}/{{name}}/served-models/{{entity}}");
    let measured = "The endpoint's metrics of the last minute, as Prometheus reads them.";
    let measured = Operation::get(format!("{ROOT}/{{name}}/metrics"), "getMetrics", measured);
    let said = "The last events of the endpoint.";
    let said = Operation::get(format!("{entity}/logs"), "getLogs", said);
    let built = "How the model version came to serve.";
    let built = Operation::get(format!("{entity}/build-logs"), "getBuildLogs", built);
    let text = json!({"schema": {"type": "string"}});
    Routes::new("serving endpoints")
        .on(measured.gives_content("text/plain", text), metrics)
        .on(said.gives("Logs"), logs)
        .on(built.gives("Logs"), build_logs)
}

/// Prometheus text, version 0.0.4, in the names that the workspace has. The gauges are of the last minute
/// and have no labels, because there are readers that take them without any only.
async fn metrics(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    let view = access::require(&services, &caller, &name, PermissionLevel::View)?;
    let snapshot = services.endpoints.snapshot();
    let routed = snapshot.endpoint(view.name.as_str()).map(Arc::as_ref);
    let kind = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((kind, page(&services, &view, routed)).into_response())
}

fn page(services: &Services, view: &EndpointView, routed: Option<&RoutedEndpoint>) -> String {
    let traffic = routed.map(|routed| services.serving.traffic(routed));
    let traffic = traffic.unwrap_or_default();
    let limits = services.serving.limits();
    let entities = routed.map(RoutedEndpoint::entities).unwrap_or_default();
    let concurrent = entities
        .iter()
        .map(|entity| limits.threads_for(entity.workload_size))
        .max()
        .unwrap_or(0);
    let usage = services.metrics.usage();
    let mut page = Page {
        text: String::new(),
        endpoint: view.name.as_str(),
        now: services.serving.clock().wall_millis(),
    };
    page.gauge("cpu_usage_percentage", usage.processor_percent);
    page.gauge("mem_usage_percentage", usage.memory_percent);
    page.gauge("provisioned_concurrent_requests_total", concurrent);
    page.gauge("request_count_total", traffic.requests);
    page.gauge("request_4xx_count_total", traffic.client_errors);
    page.gauge("request_5xx_count_total", traffic.server_errors);
    page.histogram("request_latency_ms", &traffic.latency);
    page.histogram("model_prediction_latency_ms", &traffic.model);
    page.histogram("model_queue_time_ms", &traffic.queue);
    page.text
}

struct Page<'e> {
    text: String,
    endpoint: &'e str,
    /// Milliseconds since 1970, which each sample carries.
    now: i64,
}

impl Page<'_> {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a text cannot fail.
        if writeln!(self.text, "{line}").is_err() {
            debug_assert!(false, "a text takes everything");
        }
    }

    fn gauge(&mut self, name: &str, value: impl std::fmt::Display) {
        let now = self.now;
        self.line(format_args!("# TYPE {name} gauge\n{name} {value} {now}"));
    }

    fn histogram(&mut self, name: &str, durations: &Durations) {
        let (now, endpoint) = (self.now, self.endpoint);
        self.line(format_args!("# TYPE {name} histogram"));
        let mut total = 0;
        for (number, count) in durations.counts.iter().enumerate() {
            total += count;
            let bound = BOUNDS_MS.get(number);
            let bound = bound.map_or_else(|| "+Inf".to_owned(), ToString::to_string);
            self.line(format_args!(
                "{name}_bucket{{endpoint_name=\"{endpoint}\",le=\"{bound}\"}} {total} {now}"
            ));
        }
        let (whole, rest) = (durations.micros / 1_000, durations.micros % 1_000);
        self.line(format_args!(
            "{name}_sum{{endpoint_name=\"{endpoint}\"}} {whole}.{rest:03} {now}"
        ));
        self.line(format_args!(
            "{name}_count{{endpoint_name=\"{endpoint}\"}} {total} {now}"
        ));
    }
}

/// The endpoint, and the served entity of that name as it is shown.
fn find(
    services: &Services,
    caller: &Caller,
    (name, entity): (&str, &str),
) -> Result<(Arc<EndpointView>, ServedEntityView), ApiError> {
    let view = access::require(services, caller, name, PermissionLevel::View)?;
    let pending = view.pending_config.as_ref().map(|pending| &pending.config);
    let mut entities = view
        .config
        .iter()
        .chain(pending)
        .flat_map(|config| &config.served_entities);
    let found = entities.find(|found| found.config.name.as_str() == entity);
    let found = found.cloned().ok_or_else(|| {
        let entity: String = entity.chars().take(80).collect();
        ApiError::does_not_exist(format!(
            "serving endpoint {name} has no served entity {entity:?}"
        ))
    })?;
    Ok((view, found))
}

/// The last events of the endpoint.
async fn logs(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path((name, entity)): Path<(String, String)>,
) -> Result<Response<Body>, ApiError> {
    let (view, _) = find(&services, &caller, (&name, &entity))?;
    let logs = recent_events(view.name.as_str());
    Ok(respond::ok(&json!({ "logs": logs })))
}

/// How the model version came to serve: what was brought, what it was held against, what came of it.
async fn build_logs(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path((name, entity)): Path<(String, String)>,
) -> Result<Response<Body>, ApiError> {
    let (view, entity) = find(&services, &caller, (&name, &entity))?;
    let model = &entity.config.model;
    let mut lines = vec![format!("model version {model}")];
    match services.models.get(model)? {
        None => lines.push("it is not in the catalogue of this box any more".to_owned()),
        Some(record) => {
            lines.push(format!(
                "manifest {}, {} bytes",
                record.manifest, record.size
            ));
        }
    }
    let snapshot = services.endpoints.snapshot();
    let routed = snapshot.endpoint(view.name.as_str());
    let loaded = routed.and_then(|routed| routed.entity(entity.config.name.as_str()));
    if let Some(loaded) = loaded {
        let (scorer, verdict) = (&loaded.scorer, loaded.scorer.verdict());
        lines.push(format!(
            "engine {}, verified: {:?}, rows: {:?}, {} bytes resident",
            scorer.engine(),
            verdict.verified,
            verdict.rows,
            scorer.resident().0
        ));
        if let Some(bytes) = scorer.session().on_device() {
            lines.push(format!("{} bytes of weights on the device", bytes.0));
        }
        if let Some(takeover) = scorer.session().takeover() {
            let (engine, reason) = (takeover.engine, takeover.reason);
            lines.push(format!("engine {engine} took over: {reason}"));
        }
        let host = scorer.session().host_nodes();
        if !host.is_empty() {
            lines.push(format!("on the CPU beside the device: {}", host.join(", ")));
        }
    }
    lines.push(format!("{} {}", entity.deployment.as_str(), entity.message));
    let logs = lines.iter().map(|line| line.trim_end().to_owned() + "\n");
    Ok(respond::ok(&json!({ "logs": logs.collect::<String>() })))
}
