//! Reads a configuration from its JSON: the body of a REST call or an entry of a fleet document.
//!
//! Every field is read or refused by name: a field that is accepted has an effect. Only `null`,
//! `false`, an empty list, text or object may stand under a name that is not known here, because
//! they ask for nothing.

use serde_json::{Map, Value};

use super::{
    AutoCaptureInput, EndpointConfigInput, ProvisionedInput, RouteInput, ServedEntityInput,
    ValidateConfigError,
};

/// Fields that other workspaces know and this box does not offer, with what to do instead.
const NOT_OFFERED: [(&str, &str); 4] = [
    (
        "external_model",
        "serve a model version with entity_name and entity_version",
    ),
    (
        "environment_vars",
        "a model gets nothing but its input; leave it out",
    ),
    (
        "instance_profile_arn",
        "models are read from this box's own store; leave it out",
    ),
    (
        "foundation_model",
        "serve a model version with entity_name and entity_version",
    ),
];

impl EndpointConfigInput {
    /// Reads the object with `served_entities`, `traffic_config` and `auto_capture_config`.
    /// A `name` beside them is the endpoint's own and is left to the caller.
    ///
    /// # Errors
    /// [`ValidateConfigError`] naming a field of the wrong type or one that this box does not
    /// offer.
    pub fn from_json(config: &Value) -> Result<Self, ValidateConfigError> {
        let mut fields = Fields::of(config, "")?;
        fields.ignore("name");
        let entities = fields.list("served_entities")?;
        let models = fields.list("served_models")?;
        if !entities.is_empty() && !models.is_empty() {
            return Err(fields.wrong(
                "served_models",
                "given beside served_entities",
                "use served_entities alone",
            ));
        }
        let served_entities = entities
            .iter()
            .map(|(path, value)| served_entity(value, path))
            .chain(models.iter().map(|(path, value)| served_model(value, path)))
            .collect::<Result<_, _>>()?;
        let routes = match fields.object("traffic_config")? {
            None => Vec::new(),
            Some(traffic) => routes(traffic)?,
        };
        let auto_capture = fields
            .object("auto_capture_config")?
            .map(auto_capture)
            .transpose()?;
        fields.refuse_rest()?;
        Ok(Self {
            served_entities,
            routes,
            auto_capture,
        })
    }
}

fn served_entity(value: &Value, path: &str) -> Result<ServedEntityInput, ValidateConfigError> {
    let mut fields = Fields::of(value, path)?;
    named_entity(&mut fields, "entity_name", "entity_version")
}

fn served_model(value: &Value, path: &str) -> Result<ServedEntityInput, ValidateConfigError> {
    let mut fields = Fields::of(value, path)?;
    named_entity(&mut fields, "model_name", "model_version")
}

fn named_entity(
    fields: &mut Fields<'_>,
    name: &str,
    version: &str,
) -> Result<ServedEntityInput, ValidateConfigError> {
    // Said first: an external model has no entity name, and that is not what is wrong with it.
    fields.refuse_not_offered()?;
    let input = ServedEntityInput {
        name: fields.text("name")?,
        entity_name: fields.required(name, "use catalog.schema.model")?,
        entity_version: fields.required(version, "use a whole number from 1, such as \"3\"")?,
        manifest: fields
            .text("manifest")?
            .map(|text| {
                text.parse().map_err(|_| {
                    fields.wrong("manifest", &text, "use 64 lowercase hexadecimal digits")
                })
            })
            .transpose()?,
        workload_size: fields.text("workload_size")?,
        workload_type: fields.text("workload_type")?,
        scale_to_zero_enabled: fields.boolean("scale_to_zero_enabled")?,
        provisioned: ProvisionedInput {
            min_provisioned_throughput: fields.number("min_provisioned_throughput")?,
            max_provisioned_throughput: fields.number("max_provisioned_throughput")?,
            min_provisioned_concurrency: fields.number("min_provisioned_concurrency")?,
            max_provisioned_concurrency: fields.number("max_provisioned_concurrency")?,
            provisioned_model_units: fields.number("provisioned_model_units")?,
            burst_scaling_enabled: fields.boolean("burst_scaling_enabled")?,
        },
    };
    fields.refuse_rest()?;
    Ok(input)
}

fn routes(mut traffic: Fields<'_>) -> Result<Vec<RouteInput>, ValidateConfigError> {
    let routes = traffic
        .list("routes")?
        .iter()
        .map(|(path, value)| route(value, path))
        .collect::<Result<_, _>>()?;
    traffic.refuse_rest()?;
    Ok(routes)
}

fn route(value: &Value, path: &str) -> Result<RouteInput, ValidateConfigError> {
    const NAME: &str = "name one of the served entities";
    let mut fields = Fields::of(value, path)?;
    let older = fields.text("served_model_name")?;
    let newer = fields.text("served_entity_name")?;
    let served_entity_name = match (newer, older) {
        (Some(newer), Some(older)) if newer != older => {
            return Err(fields.wrong(
                "served_model_name",
                &older,
                "differs from served_entity_name",
            ));
        }
        (Some(name), _) | (None, Some(name)) => name,
        (None, None) => return Err(fields.missing("served_entity_name", NAME)),
    };
    let traffic_percentage = fields
        .number("traffic_percentage")?
        .ok_or_else(|| fields.missing("traffic_percentage", "use a whole number from 0 to 100"))?;
    fields.refuse_rest()?;
    Ok(RouteInput {
        served_entity_name,
        traffic_percentage,
    })
}

fn auto_capture(mut fields: Fields<'_>) -> Result<AutoCaptureInput, ValidateConfigError> {
    let input = AutoCaptureInput {
        enabled: fields.boolean("enabled")?,
        catalog_name: fields.text("catalog_name")?,
        schema_name: fields.text("schema_name")?,
        table_name_prefix: fields.text("table_name_prefix")?,
    };
    fields.refuse_rest()?;
    Ok(input)
}

/// The fields of one object that were not read yet.
struct Fields<'a> {
    path: String,
    unread: Vec<(&'a str, &'a Value)>,
}

impl<'a> Fields<'a> {
    fn of(value: &'a Value, path: &str) -> Result<Self, ValidateConfigError> {
        let object: &Map<String, Value> = value.as_object().ok_or_else(|| {
            let field = if path.is_empty() { "config" } else { path };
            ValidateConfigError::value(field, value.to_string(), "use a JSON object")
        })?;
        Ok(Self {
            path: path.to_owned(),
            unread: object
                .iter()
                .map(|(key, value)| (key.as_str(), value))
                .collect(),
        })
    }

    fn path_of(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    fn wrong(&self, field: &str, value: &str, allowed: &str) -> ValidateConfigError {
        ValidateConfigError::value(self.path_of(field), value, allowed)
    }

    fn missing(&self, field: &str, allowed: &'static str) -> ValidateConfigError {
        ValidateConfigError::Required {
            field: self.path_of(field),
            allowed,
        }
    }

    /// Takes a field out; `null` is as good as absent.
    fn take(&mut self, field: &str) -> Option<&'a Value> {
        let at = self.unread.iter().position(|(key, _)| *key == field)?;
        let (_, value) = self.unread.swap_remove(at);
        (!value.is_null()).then_some(value)
    }

    fn ignore(&mut self, field: &str) {
        self.take(field);
    }

    fn text(&mut self, field: &str) -> Result<Option<String>, ValidateConfigError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.wrong(field, &other.to_string(), "use text")),
        }
    }

    /// Text, or a number written as one: versions come both ways.
    fn required(
        &mut self,
        field: &str,
        allowed: &'static str,
    ) -> Result<String, ValidateConfigError> {
        match self.take(field) {
            None => Err(self.missing(field, allowed)),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(other) => Err(self.wrong(field, &other.to_string(), allowed)),
        }
    }

    fn boolean(&mut self, field: &str) -> Result<Option<bool>, ValidateConfigError> {
        match self.take(field) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(*value)),
            Some(other) => Err(self.wrong(field, &other.to_string(), "use true or false")),
        }
    }

    /// A whole number, also as text: clients may write 64-bit numbers so.
    fn number(&mut self, field: &str) -> Result<Option<i64>, ValidateConfigError> {
        let Some(value) = self.take(field) else {
            return Ok(None);
        };
        let number = match value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number
            .map(Some)
            .ok_or_else(|| self.wrong(field, &value.to_string(), "use a whole number"))
    }

    fn list(&mut self, field: &str) -> Result<Vec<(String, &'a Value)>, ValidateConfigError> {
        match self.take(field) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values
                .iter()
                .enumerate()
                .map(|(index, value)| (format!("{}[{index}]", self.path_of(field)), value))
                .collect()),
            Some(other) => Err(self.wrong(field, &other.to_string(), "use a list")),
        }
    }

    fn object(&mut self, field: &str) -> Result<Option<Self>, ValidateConfigError> {
        self.take(field)
            .map(|value| Self::of(value, &self.path_of(field)))
            .transpose()
    }

    fn refuse_not_offered(&self) -> Result<(), ValidateConfigError> {
        let asked = |field: &str| {
            self.unread
                .iter()
                .any(|(key, value)| *key == field && asks_for_something(value))
        };
        match NOT_OFFERED.iter().find(|(field, _)| asked(field)) {
            None => Ok(()),
            Some((field, instead)) => Err(ValidateConfigError::Unsupported {
                field: self.path_of(field),
                instead: (*instead).to_owned(),
            }),
        }
    }

    fn refuse_rest(&self) -> Result<(), ValidateConfigError> {
        match self
            .unread
            .iter()
            .find(|(_, value)| asks_for_something(value))
        {
            None => Ok(()),
            Some((field, _)) => Err(ValidateConfigError::Unsupported {
                field: self.path_of(&field.chars().take(80).collect::<String>()),
                instead: "it has no such field; leave it out".to_owned(),
            }),
        }
    }
}

fn asks_for_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
    }
}
