//! `GET /openapi.json`: what this server takes and gives, as a document of `OpenAPI` 3.1.
//!
//! Each route brings its [`Operation`] ([`Routes`](super::routes::Routes)); what several of them share stands in
//! `openapi/components.json`. The document tells nothing of what a box serves: an endpoint has a document
//! of its own, with its columns (`databricks::openapi`), in the same envelope.

use std::collections::BTreeMap;

use axum::routing::MethodFilter;
use serde_json::{Map, Value, json};

use super::error::ErrorForm;

#[cfg(test)]
mod tests;

const COMPONENTS: &str = include_str!("openapi/components.json");

/// What the document says first.
const ABOUT: &str = "Model serving on a box: the serving endpoints, permissions and invocations of a \
                     Databricks workspace, the Open Inference Protocol (`/v2`), and OpenAI's models and \
                     embeddings (`/v1`, `/serving-endpoints`). A path may end with a slash.";

/// The errors that any route behind a token may answer with: of the token, of the body, of the box.
const BEHIND_TOKEN: [u16; 9] = [400, 401, 403, 408, 413, 415, 429, 500, 503];

/// The errors of a prediction besides.
pub(crate) const OF_PREDICTION: &[u16] = &[404, 504];

/// What a route takes and gives.
#[derive(Debug)]
pub(crate) struct Operation {
    method: &'static str,
    filter: MethodFilter,
    path: String,
    id: String,
    summary: &'static str,
    tag: &'static str,
    parameters: Vec<&'static str>,
    body: Option<Value>,
    content: Map<String, Value>,
    headers: Vec<&'static str>,
    errors: Vec<u16>,
    open: bool,
}

macro_rules! methods {
    ($($name:ident $filter:ident;)*) => {
        $(
            #[doc = concat!("A `", stringify!($filter), "` with its name and what it is for.")]
            pub(crate) fn $name(path: impl Into<String>, id: impl Into<String>, summary: &'static str) -> Self {
                Self::new((stringify!($name), MethodFilter::$filter), path.into(), id.into(), summary)
            }
        )*
    };
}

impl Operation {
    methods! {
        get GET;
        post POST;
        put PUT;
        patch PATCH;
        delete DELETE;
    }

    fn new(
        (method, filter): (&'static str, MethodFilter),
        path: String,
        id: String,
        summary: &'static str,
    ) -> Self {
        Self {
            method,
            filter,
            path,
            id,
            summary,
            tag: "",
            parameters: Vec::new(),
            body: None,
            content: Map::new(),
            headers: Vec::new(),
            errors: Vec::new(),
            open: false,
        }
    }

    /// A body of JSON, with the schema of that name.
    pub(crate) fn takes(self, schema: &str) -> Self {
        self.takes_content(&json!({"application/json": {"schema": reference("schemas", schema)}}))
    }

    /// A body that may be left out.
    pub(crate) fn may_take(mut self, schema: &str) -> Self {
        self = self.takes(schema);
        if let Some(body) = self.body.as_mut().and_then(Value::as_object_mut) {
            body.insert("required".to_owned(), json!(false));
        }
        self
    }

    /// A body of any of these types.
    pub(crate) fn takes_content(mut self, content: &Value) -> Self {
        self.body = Some(json!({"required": true, "content": content}));
        self
    }

    /// A parameter that is not in the path.
    pub(crate) fn with(mut self, parameter: &'static str) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// 200 with JSON, with the schema of that name.
    pub(crate) fn gives(self, schema: &str) -> Self {
        self.gives_content(
            "application/json",
            json!({"schema": reference("schemas", schema)}),
        )
    }

    /// 200 with a body of that type.
    pub(crate) fn gives_content(mut self, media_type: &str, about: Value) -> Self {
        self.content.insert(media_type.to_owned(), about);
        self
    }

    /// A header of the answer.
    pub(crate) fn says(mut self, header: &'static str) -> Self {
        self.headers.push(header);
        self
    }

    /// What it may refuse with, besides what every route behind a token does.
    pub(crate) fn refuses(mut self, statuses: &[u16]) -> Self {
        self.errors.extend(statuses);
        self
    }

    /// It is for everybody.
    pub(crate) fn open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Under that heading of the document.
    pub(crate) fn under(mut self, tag: &'static str) -> Self {
        self.tag = tag;
        self
    }

    /// The path, with its parameters in braces.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The method.
    pub(crate) fn filter(&self) -> MethodFilter {
        self.filter
    }

    fn to_json(&self) -> Value {
        let named = self.path.split(['{', '}']).skip(1).step_by(2);
        let named = named.chain(self.parameters.iter().copied());
        let parameters: Vec<Value> = named.map(|name| reference("parameters", name)).collect();
        let mut answers = Map::new();
        answers.insert("200".to_owned(), self.good());
        let form = ErrorForm::of(&self.path);
        for status in self.statuses() {
            let answer = reference("responses", &error_name(form, status));
            answers.insert(status.to_string(), answer);
        }
        let mut operation = Map::new();
        let mut say = |field: &str, value: Value| operation.insert(field.to_owned(), value);
        say("operationId", json!(self.id));
        say("summary", json!(self.summary));
        say("tags", json!([self.tag]));
        if !parameters.is_empty() {
            say("parameters", Value::Array(parameters));
        }
        if let Some(body) = &self.body {
            say("requestBody", body.clone());
        }
        if self.open {
            say("security", json!([]));
        }
        say("responses", Value::Object(answers));
        Value::Object(operation)
    }

    fn good(&self) -> Value {
        let mut headers = Map::new();
        for name in &self.headers {
            headers.insert((*name).to_owned(), reference("headers", name));
        }
        if !self.open {
            let name = "x-request-id";
            headers.insert(name.to_owned(), reference("headers", name));
        }
        json!({"description": "Done.", "headers": headers, "content": self.content})
    }

    /// The errors, in their order.
    fn statuses(&self) -> Vec<u16> {
        let mut statuses = self.errors.clone();
        if !self.open {
            statuses.extend(BEHIND_TOKEN);
            if self.path.contains('{') {
                statuses.push(404);
            }
        }
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

/// The document of these routes.
pub(crate) fn document(operations: Vec<Operation>) -> Value {
    let mut responses = Map::new();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for operation in operations {
        let form = ErrorForm::of(&operation.path);
        for status in operation.statuses() {
            let answer = responses.entry(error_name(form, status));
            answer.or_insert_with(|| error(form, status));
        }
        let json = operation.to_json();
        let path = paths.entry(operation.path).or_default();
        path.insert(operation.method.to_owned(), json);
    }
    let mut components = components();
    components.insert("responses".to_owned(), Value::Object(responses));
    let about = json!({
        "title": "Edgeward",
        "version": env!("CARGO_PKG_VERSION"),
        "description": ABOUT,
    });
    envelope(&about, &json!(paths), components)
}

/// A document whose routes want a token.
pub(crate) fn envelope(about: &Value, paths: &Value, mut components: Map<String, Value>) -> Value {
    let schemes = json!({"token": {"type": "http", "scheme": "bearer"}});
    components.insert("securitySchemes".to_owned(), schemes);
    json!({
        "openapi": "3.1.0",
        "info": about,
        "security": [{"token": []}],
        "paths": paths,
        "components": components,
    })
}

/// The file, which a test reads too.
fn components() -> Map<String, Value> {
    serde_json::from_str(COMPONENTS).unwrap_or_default()
}

/// A schema of the file.
pub(crate) fn schema(name: &str) -> Value {
    let schemas = components().remove("schemas").unwrap_or_default();
    schemas.get(name).cloned().unwrap_or_default()
}

fn reference(kind: &str, name: &str) -> Value {
    json!({"$ref": format!("#/components/{kind}/{name}")})
}

fn error_name(form: ErrorForm, status: u16) -> String {
    let schema = error_schema(form);
    format!("{schema}.{status}")
}

fn error_schema(form: ErrorForm) -> &'static str {
    match form {
        ErrorForm::Databricks => "Error",
        ErrorForm::OpenInference => "OpenInferenceError",
        ErrorForm::OpenAi => "OpenAiError",
    }
}

/// An answer that is an error.
fn error(form: ErrorForm, status: u16) -> Value {
    let about = match status {
        400 => "The request cannot be read, or a value of it is not allowed.",
        401 => "No token was sent.",
        403 => "The token is none of this server, or may not do this.",
        404 => "What the request names does not exist.",
        408 => "The body did not arrive in time.",
        409 => "What stands now does not allow it.",
        413 => "The body is too long.",
        415 => "The body has a type or an encoding that is not read here.",
        429 => "Too much at once, or a rate limit was reached.",
        503 => "The server cannot answer now.",
        504 => "The answer took too long.",
        _ => "A fault of the server or of its disk.",
    };
    let own = match status {
        401 => Some("WWW-Authenticate"),
        429 | 503 => Some("Retry-After"),
        _ => None,
    };
    let headers = own.into_iter().chain(["x-request-id"]);
    let headers: Map<String, Value> = headers
        .map(|name| (name.to_owned(), reference("headers", name)))
        .collect();
    let schema = reference("schemas", error_schema(form));
    let content = json!({"application/json": {"schema": schema}});
    json!({"description": about, "headers": headers, "content": content})
}
