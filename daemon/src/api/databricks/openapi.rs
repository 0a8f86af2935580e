//! `GET .../{name}/openapi`: what an endpoint takes and gives, as a document of `OpenAPI` 3.1.
//!
//! Written from the signatures of the versions that serve now, an entity at a time: two versions
//! behind one endpoint may take different columns. A request to the endpoint itself fits any of
//! them, because the traffic split decides.

use axum::body::Body;
use axum::extract::{Extension, Path, State};
use edgeward_kernels::tensor::DataType;
use hyper::Response;
use serde_json::{Map, Value, json};

use crate::api::error::ApiError;
use crate::api::{Services, access, openapi, respond};
use crate::endpoint::{RoutedEndpoint, RoutedEntity};
use crate::gateway::{Caller, PermissionLevel};
use crate::model::{Column, ColumnType, Schema, TensorField};

/// The document of one endpoint.
pub(crate) async fn get_openapi(
    State(services): State<Services>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<Response<Body>, ApiError> {
    access::require(&services, &caller, &name, PermissionLevel::View)?;
    let snapshot = services.endpoints.snapshot();
    let endpoint = snapshot.endpoint(&name);
    let endpoint = endpoint.ok_or_else(|| {
        ApiError::bad_request(format!(
            "serving endpoint {name:?} serves no model now, so that nothing says what it takes"
        ))
    })?;
    Ok(respond::ok(&document(endpoint)))
}

fn document(endpoint: &RoutedEndpoint) -> Value {
    let root = format!("/serving-endpoints/{}", endpoint.name);
    let entities = endpoint.entities();
    let mut paths = Map::new();
    let mut schemas = Map::new();
    let names: Vec<&str> = entities.iter().map(|entity| entity.name.as_str()).collect();
    paths.insert(
        format!("{root}/invocations"),
        operation(
            "query",
            "Asks the version that the traffic split picks.",
            &names,
        ),
    );
    for entity in entities {
        let name = entity.name.as_str();
        let about = format!(
            "Asks {} version {}.",
            entity.model.name, entity.model.version
        );
        paths.insert(
            format!("{root}/served-models/{name}/invocations"),
            operation(&format!("query-{name}"), &about, &[name]),
        );
        let signature = entity.scorer.signature();
        schemas.insert(
            format!("{name}.request"),
            request(&signature.inputs, range(entity)),
        );
        schemas.insert(format!("{name}.answer"), answer(entity));
    }
    schemas.insert("Error".to_owned(), openapi::schema("Error"));
    let about = json!({
        "title": endpoint.name,
        "version": endpoint.config_version.to_string(),
        "description": "Rows in, predictions out.",
    });
    let mut components = Map::new();
    components.insert("schemas".to_owned(), Value::Object(schemas));
    openapi::envelope(&about, &json!(paths), components)
}

/// A `POST` that any of these entities may answer.
fn operation(id: &str, about: &str, entities: &[&str]) -> Value {
    let any = |part: &str| {
        let schema = |name: &&str| json!({"$ref": format!("#/components/schemas/{name}.{part}")});
        match entities {
            [one] => schema(one),
            several => json!({"anyOf": several.iter().map(schema).collect::<Vec<_>>()}),
        }
    };
    let refused = |about: &str| {
        let error = json!({"$ref": "#/components/schemas/Error"});
        json!({"description": about, "content": {"application/json": {"schema": error}}})
    };
    json!({"post": {
        "operationId": id,
        "summary": about,
        "requestBody": {
            "required": true,
            "content": {
                "application/json": {"schema": any("request")},
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        "responses": {
            "200": {
                "description": "The predictions.",
                "headers": {
                    "Served-Model-Name": {
                        "description": "The served entity that answered.",
                        "schema": {"type": "string", "enum": entities},
                    },
                    "x-request-id": {
                        "description": "databricks_request_id of the request's row.",
                        "schema": {"type": "string", "format": "uuid"},
                    },
                },
                "content": {"application/json": {"schema": any("answer")}},
            },
            "default": refused("The request was refused, or the box cannot answer now."),
        },
    }})
}

/// How large a number of 64 bits may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Range {
    /// As large as it is.
    Wide,
    /// As large as one of 32 bits, because the model takes no others.
    Narrow,
}

/// The largest number that is rounded to one of 32 bits, and not to infinity.
const LARGEST: f64 = 3.402_823_567_797_336_2e38;

fn range(entity: &RoutedEntity) -> Range {
    let mut inputs = entity.scorer.session().inputs().iter();
    if inputs.any(|input| input.data_type == DataType::F64) {
        Range::Wide
    } else {
        Range::Narrow
    }
}

/// A body with exactly one of the input forms.
fn request(inputs: &Schema, range: Range) -> Value {
    let beside = json!({
        // As MLflow does for a model without a schema of them: whatever it is, it is ignored.
        "params": {},
        "client_request_id": {"type": ["string", "null"]},
        "usage_context": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "string"},
        },
    });
    let forms = match inputs {
        Schema::Columns(columns) => forms_of_columns(columns, range),
        Schema::Tensors(tensors) => forms_of_tensors(tensors),
    };
    let form = |(name, schema): (&str, Value)| {
        let mut properties = beside.as_object().cloned().unwrap_or_default();
        properties.insert(name.to_owned(), schema);
        json!({
            "type": "object",
            "properties": properties,
            "required": [name],
            "additionalProperties": false,
        })
    };
    json!({"oneOf": forms.into_iter().map(form).collect::<Vec<_>>()})
}

fn forms_of_columns(columns: &[Column], range: Range) -> Vec<(&'static str, Value)> {
    let names = columns.iter().map(|column| &column.name);
    let named = |is_asked: fn(&Column) -> bool| -> Vec<&String> {
        let asked = columns.iter().filter(|column| is_asked(column));
        asked.map(|column| &column.name).collect()
    };
    let of_all = |schema: &dyn Fn(&Column) -> Value| -> Map<String, Value> {
        let all = columns.iter();
        all.map(|column| (column.name.clone(), schema(column)))
            .collect()
    };
    // Columns that the model does not know are ignored; one that a row lacks is null in it.
    let row = json!({
        "type": "object",
        "properties": of_all(&|column| cell(column, range)),
        "required": named(|column| !takes_null(column)),
    });
    // A required column stands in one row at least.
    let somewhere = named(|column| column.required && takes_null(column));
    let somewhere = somewhere.into_iter();
    let somewhere = somewhere.map(|name| json!({"contains": {"required": [name]}}));
    let mut rows = json!({"type": "array", "items": row, "minItems": 1});
    if let (Some(rows), false) = (rows.as_object_mut(), somewhere.len() == 0) {
        rows.insert("allOf".to_owned(), somewhere.collect());
    }
    let by_column = json!({
        "type": "object",
        "properties": of_all(&|column| json!({"type": "array", "items": cell(column, range)})),
        "required": named(|column| column.required),
    });
    let split = split(&json!({"examples": names.collect::<Vec<_>>()}));
    vec![
        ("dataframe_split", split),
        ("dataframe_records", rows.clone()),
        ("inputs", json!({"anyOf": [by_column, rows]})),
        ("instances", rows),
    ]
}

fn forms_of_tensors(tensors: &[TensorField]) -> Vec<(&'static str, Value)> {
    let whole = by_name(tensors, |tensor| nested(tensor, &tensor.shape));
    let rows = match tensors {
        [one] => nested(one, &one.shape),
        several => {
            let row = |tensor: &TensorField| {
                nested(
                    tensor,
                    tensor.shape.split_first().map_or(&[], |(_, rest)| rest),
                )
            };
            json!({"type": "array", "items": by_name(several, row)})
        }
    };
    let inputs = match tensors {
        [one] => json!({"anyOf": [nested(one, &one.shape), whole]}),
        _ => whole,
    };
    vec![
        ("dataframe_split", split(&json!({}))),
        (
            "dataframe_records",
            json!({"type": "array", "items": {"type": "object"}, "minItems": 1}),
        ),
        ("inputs", inputs),
        ("instances", rows),
    ]
}

/// Column names once, then rows of values.
fn split(column: &Value) -> Value {
    let mut name = column.as_object().cloned().unwrap_or_default();
    name.insert("type".to_owned(), json!(["string", "integer"]));
    json!({
        "type": "object",
        "properties": {
            "columns": {"type": "array", "items": name},
            "data": {"type": "array", "items": {"type": "array"}, "minItems": 1},
            "index": {"type": "array"},
        },
        "required": ["columns", "data"],
    })
}

/// An object of tensors; one without a name has none here either.
fn by_name(tensors: &[TensorField], schema: impl Fn(&TensorField) -> Value) -> Value {
    let named = tensors.iter().filter_map(|tensor| {
        let name = tensor.name.clone()?;
        Some((name, schema(tensor)))
    });
    let properties: Map<String, Value> = named.collect();
    let required: Vec<&String> = properties.keys().collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// Nested lists of a tensor's shape.
fn nested(tensor: &TensorField, shape: &[Option<usize>]) -> Value {
    let data_type = tensor.data_type;
    let column_type = ColumnType::of(data_type);
    let mut element = taken(column_type, data_type.is_float(), Range::Wide);
    if matches!(column_type, ColumnType::Integer | ColumnType::Long) {
        // Truth values count as 1 and 0 in the tensors of whole numbers too; columns keep them apart.
        let kinds = json!(["integer", "boolean"]);
        element.insert("type".to_owned(), kinds);
    }
    let element = Value::Object(element);
    shape.iter().rev().fold(element, |items, extent| {
        let mut list = json!({"type": "array", "items": items});
        if let (Some(extent), Some(list)) = (extent, list.as_object_mut()) {
            list.insert("minItems".to_owned(), json!(extent));
            list.insert("maxItems".to_owned(), json!(extent));
        }
        list
    })
}

/// A cell of a column.
fn cell(column: &Column, range: Range) -> Value {
    Value::Object(taken(column.column_type, takes_null(column), range))
}

/// What is read as a value of that type: a float may be a truth value, and no number may be outside of its type.
fn taken(column_type: ColumnType, null: bool, range: Range) -> Map<String, Value> {
    let mut schema = of_type(column_type, null);
    let (least, most) = match column_type {
        ColumnType::Integer => (json!(i32::MIN), json!(i32::MAX)),
        ColumnType::Long => (json!(i64::MIN), json!(i64::MAX)),
        ColumnType::Float => (json!(-LARGEST), json!(LARGEST)),
        ColumnType::Double if range == Range::Narrow => (json!(-LARGEST), json!(LARGEST)),
        _ => (Value::Null, Value::Null),
    };
    if !least.is_null() {
        schema.insert("minimum".to_owned(), least);
        schema.insert("maximum".to_owned(), most);
    }
    if matches!(column_type, ColumnType::Float | ColumnType::Double) {
        let kinds = ["number", "boolean", "null"];
        let kinds = kinds.iter().filter(|kind| null || **kind != "null");
        schema.insert("type".to_owned(), json!(kinds.collect::<Vec<_>>()));
    }
    schema
}

fn takes_null(column: &Column) -> bool {
    use ColumnType::{Double, Float};
    !column.required || matches!(column.column_type, Float | Double)
}

fn of_type(column_type: ColumnType, null: bool) -> Map<String, Value> {
    let (kind, format) = match column_type {
        ColumnType::Boolean => ("boolean", None),
        ColumnType::Integer => ("integer", Some("int32")),
        ColumnType::Long => ("integer", Some("int64")),
        ColumnType::Float => ("number", Some("float")),
        ColumnType::Double => ("number", Some("double")),
        ColumnType::String => ("string", None),
        ColumnType::Binary => ("string", Some("byte")),
        ColumnType::Datetime => ("string", Some("date-time")),
        ColumnType::Map => ("object", None),
    };
    let mut schema = Map::new();
    let kinds = if null {
        json!([kind, "null"])
    } else {
        json!(kind)
    };
    schema.insert("type".to_owned(), kinds);
    if let Some(format) = format {
        schema.insert("format".to_owned(), json!(format));
    }
    schema
}

/// `{"predictions": ...}`.
fn answer(entity: &RoutedEntity) -> Value {
    let predictions = match &entity.scorer.signature().outputs {
        // The model's file does not say.
        None => json!({}),
        Some(Schema::Columns(columns)) => match columns.as_slice() {
            [one] => json!({"type": "array", "items": output(one)}),
            several => {
                let fields = several.iter();
                let fields = fields.map(|column| (column.name.clone(), output(column)));
                let row: Map<String, Value> = fields.collect();
                json!({"type": "array", "items": {"type": "object", "properties": row}})
            }
        },
        Some(Schema::Tensors(_)) => json!({"type": ["object", "array"]}),
    };
    json!({
        "type": "object",
        "properties": {"predictions": predictions},
        "required": ["predictions"],
    })
}

/// A value of an output column: a list where the model gives several numbers a row.
fn output(column: &Column) -> Value {
    let one = Value::Object(of_type(column.column_type, true));
    json!({"anyOf": [one, {"type": "array"}]})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the rounding is what is looked at"
    )]
    fn the_largest_number_is_the_last_that_is_finite() {
        assert!((LARGEST as f32).is_finite());
        assert!((LARGEST.next_up() as f32).is_infinite());
    }
}
