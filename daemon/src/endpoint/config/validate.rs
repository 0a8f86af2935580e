//! From what was asked for to what may run: every rule of an endpoint's configuration, once.
//!
//! Each refusal names the field as it stands in the JSON and what would be allowed.

use std::collections::BTreeMap;

use edgeward_base::names::{EndpointName, ModelRef, ParseNameError, ServedEntityName, TableName};
use edgeward_base::units::Percent;

use super::{
    AutoCapture, AutoCaptureInput, Capacity, EndpointConfig, EndpointConfigInput,
    MAX_SERVED_ENTITIES, ProvisionedInput, Route, RouteInput, ServedEntityConfig,
    ServedEntityInput, WorkloadSize, WorkloadType,
};

/// Why a configuration may not run. Nothing has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValidateConfigError {
    /// A field that must be there is not.
    #[error("`{field}` is required: {allowed}")]
    Required {
        /// Path of the field.
        field: String,
        /// What to write there.
        allowed: &'static str,
    },
    /// A field has a value that is not allowed.
    #[error("`{field}` is {value}: {allowed}")]
    Value {
        /// Path of the field.
        field: String,
        /// What was given, cut to a length that is safe to print.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// Two served entities, or two routes, have one name.
    #[error("`{field}` is {value:?} a second time: each must be unique within the endpoint")]
    Duplicate {
        /// Path of the second one.
        field: String,
        /// The name.
        value: String,
    },
    /// The percentages do not make a whole.
    #[error(
        "`traffic_config.routes`: the values of `traffic_percentage` sum to {sum}, must be 100"
    )]
    Sum {
        /// What they sum to.
        sum: i64,
    },
    /// A field that would have no effect here.
    #[error("`{field}` is not supported on this box: {instead}")]
    Unsupported {
        /// Path of the field.
        field: String,
        /// What to do instead.
        instead: String,
    },
}

impl ValidateConfigError {
    /// A value that is not allowed.
    pub(in crate::endpoint) fn value(
        field: impl Into<String>,
        value: impl Into<String>,
        allowed: impl Into<String>,
    ) -> Self {
        Self::Value {
            field: field.into(),
            value: value.into().chars().take(80).collect(),
            allowed: allowed.into(),
        }
    }
}

impl EndpointConfigInput {
    /// Checks the whole of it and fills in the defaults.
    ///
    /// `previous` is what a missing `auto_capture_config` keeps: the endpoint's own for an edit,
    /// nothing for a new endpoint and for a desired document, which is whole.
    ///
    /// # Errors
    /// [`ValidateConfigError`] for the first rule that is broken, in the order of the document.
    pub fn validate(
        &self,
        endpoint: &EndpointName,
        previous: Option<&AutoCapture>,
    ) -> Result<EndpointConfig, ValidateConfigError> {
        let served_entities = served_entities(&self.served_entities)?;
        let routes = routes(&self.routes, &served_entities)?;
        let auto_capture = match &self.auto_capture {
            None => previous.cloned(),
            Some(input) => Some(auto_capture(input, endpoint, previous)?),
        };
        Ok(EndpointConfig {
            served_entities,
            routes,
            auto_capture,
        })
    }
}

impl EndpointConfigInput {
    /// Checks what provisioned throughput asks for besides: the model units of every served entity.
    ///
    /// # Errors
    /// [`ValidateConfigError`] for the first entity without any.
    pub fn require_model_units(&self) -> Result<(), ValidateConfigError> {
        for (index, entity) in self.served_entities.iter().enumerate() {
            let field = format!("served_entities[{index}].provisioned_model_units");
            let allowed = "use a whole number from 1";
            match entity.provisioned.provisioned_model_units {
                Some(1..) => {}
                Some(units) => {
                    return Err(ValidateConfigError::value(
                        field,
                        units.to_string(),
                        allowed,
                    ));
                }
                None => return Err(ValidateConfigError::Required { field, allowed }),
            }
        }
        Ok(())
    }
}

fn served_entities(
    inputs: &[ServedEntityInput],
) -> Result<Vec<ServedEntityConfig>, ValidateConfigError> {
    if inputs.is_empty() {
        return Err(ValidateConfigError::Required {
            field: "served_entities".to_owned(),
            allowed: "name 1 to 10 model versions",
        });
    }
    if inputs.len() > MAX_SERVED_ENTITIES {
        return Err(ValidateConfigError::value(
            "served_entities",
            format!("a list of {}", inputs.len()),
            format!("at most {MAX_SERVED_ENTITIES} served entities in one endpoint"),
        ));
    }
    let mut entities: Vec<ServedEntityConfig> = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let entity = served_entity(input, &format!("served_entities[{index}]"))?;
        if entities.iter().any(|other| other.name == entity.name) {
            return Err(ValidateConfigError::Duplicate {
                field: format!("served_entities[{index}].name"),
                value: entity.name.to_string(),
            });
        }
        entities.push(entity);
    }
    Ok(entities)
}

fn served_entity(
    input: &ServedEntityInput,
    path: &str,
) -> Result<ServedEntityConfig, ValidateConfigError> {
    let model = ModelRef {
        name: parsed(&input.entity_name, path, "entity_name")?,
        version: parsed(&input.entity_version, path, "entity_version")?,
    };
    let name = match &input.name {
        Some(name) => parsed(name, path, "name")?,
        // A model name may fill all 63 characters of an entity name: then a name must be given.
        None => parsed(
            &format!("{}-{}", model.name.short(), model.version),
            path,
            "name",
        )?,
    };
    Ok(ServedEntityConfig {
        name,
        model,
        capacity: capacity(input, path)?,
    })
}

fn parsed<T>(text: &str, path: &str, field: &str) -> Result<T, ValidateConfigError>
where
    T: std::str::FromStr<Err = ParseNameError>,
{
    text.parse().map_err(|error: ParseNameError| {
        ValidateConfigError::value(
            format!("{path}.{field}"),
            format!("{:?}", error.text),
            error.allowed,
        )
    })
}

fn capacity(input: &ServedEntityInput, path: &str) -> Result<Capacity, ValidateConfigError> {
    let ProvisionedInput {
        min_provisioned_throughput,
        max_provisioned_throughput,
        min_provisioned_concurrency,
        max_provisioned_concurrency,
        provisioned_model_units,
        burst_scaling_enabled,
    } = input.provisioned;
    let count = |field: &str, value: Option<i64>| match value.map(u64::try_from) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value)),
        Some(Err(_)) => Err(ValidateConfigError::value(
            format!("{path}.{field}"),
            value.unwrap_or_default().to_string(),
            "use a whole number from 0",
        )),
    };
    let capacity = Capacity {
        workload_size: workload_size(input.workload_size.as_deref(), path)?,
        workload_type: workload_type(input.workload_type.as_deref(), path)?,
        scale_to_zero_enabled: input.scale_to_zero_enabled,
        min_provisioned_throughput: count(
            "min_provisioned_throughput",
            min_provisioned_throughput,
        )?,
        max_provisioned_throughput: count(
            "max_provisioned_throughput",
            max_provisioned_throughput,
        )?,
        min_provisioned_concurrency: count(
            "min_provisioned_concurrency",
            min_provisioned_concurrency,
        )?,
        max_provisioned_concurrency: count(
            "max_provisioned_concurrency",
            max_provisioned_concurrency,
        )?,
        provisioned_model_units: count("provisioned_model_units", provisioned_model_units)?,
        burst_scaling_enabled,
    };
    ordered(
        path,
        "throughput",
        capacity.min_provisioned_throughput,
        capacity.max_provisioned_throughput,
    )?;
    ordered(
        path,
        "concurrency",
        capacity.min_provisioned_concurrency,
        capacity.max_provisioned_concurrency,
    )?;
    Ok(capacity)
}

/// Refuses a least that is more than the most.
fn ordered(
    path: &str,
    what: &str,
    least: Option<u64>,
    most: Option<u64>,
) -> Result<(), ValidateConfigError> {
    match (least, most) {
        (Some(least), Some(most)) if least > most => Err(ValidateConfigError::value(
            format!("{path}.max_provisioned_{what}"),
            most.to_string(),
            format!("at least min_provisioned_{what}, {least}"),
        )),
        _ => Ok(()),
    }
}

fn workload_size(
    text: Option<&str>,
    path: &str,
) -> Result<Option<WorkloadSize>, ValidateConfigError> {
    let Some(text) = text else { return Ok(None) };
    let known = WorkloadSize::ALL
        .into_iter()
        .find(|size| size.as_str() == text);
    known.map(Some).ok_or_else(|| {
        ValidateConfigError::value(
            format!("{path}.workload_size"),
            format!("{text:?}"),
            "use Small, Medium or Large",
        )
    })
}

fn workload_type(
    text: Option<&str>,
    path: &str,
) -> Result<Option<WorkloadType>, ValidateConfigError> {
    let Some(text) = text else { return Ok(None) };
    let known = WorkloadType::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text);
    known.map(Some).ok_or_else(|| {
        ValidateConfigError::value(
            format!("{path}.workload_type"),
            format!("{text:?}"),
            "use CPU, CPU_MEDIUM, CPU_LARGE, GPU_SMALL, GPU_MEDIUM or GPU_LARGE",
        )
    })
}

fn routes(
    inputs: &[RouteInput],
    entities: &[ServedEntityConfig],
) -> Result<Vec<Route>, ValidateConfigError> {
    if inputs.is_empty() {
        return match entities {
            [only] => Ok(vec![Route {
                served_entity_name: only.name.clone(),
                traffic_percentage: Percent::ALL,
            }]),
            _ => Err(ValidateConfigError::Required {
                field: "traffic_config.routes".to_owned(),
                allowed: "with more than one served entity, give each its traffic_percentage",
            }),
        };
    }
    let mut shares: BTreeMap<&ServedEntityName, Percent> = BTreeMap::new();
    let mut routes = Vec::with_capacity(inputs.len());
    for (index, input) in inputs.iter().enumerate() {
        let path = format!("traffic_config.routes[{index}]");
        let entity = entities
            .iter()
            .find(|entity| entity.name.as_str() == input.served_entity_name)
            .ok_or_else(|| unknown_entity(&path, &input.served_entity_name, entities))?;
        let share = Percent::new(input.traffic_percentage).map_err(|_| {
            ValidateConfigError::value(
                format!("{path}.traffic_percentage"),
                input.traffic_percentage.to_string(),
                "use a whole number from 0 to 100",
            )
        })?;
        if shares.insert(&entity.name, share).is_some() {
            return Err(ValidateConfigError::Duplicate {
                field: format!("{path}.served_entity_name"),
                value: entity.name.to_string(),
            });
        }
        routes.push(Route {
            served_entity_name: entity.name.clone(),
            traffic_percentage: share,
        });
    }
    let sum = shares.values().map(|share| i64::from(share.get())).sum();
    if sum == 100 {
        Ok(routes)
    } else {
        Err(ValidateConfigError::Sum { sum })
    }
}

fn unknown_entity(path: &str, given: &str, entities: &[ServedEntityConfig]) -> ValidateConfigError {
    let names: Vec<&str> = entities.iter().map(|entity| entity.name.as_str()).collect();
    ValidateConfigError::value(
        format!("{path}.served_entity_name"),
        format!("{given:?}"),
        format!("name one of the served entities: {}", names.join(", ")),
    )
}

fn auto_capture(
    input: &AutoCaptureInput,
    endpoint: &EndpointName,
    previous: Option<&AutoCapture>,
) -> Result<AutoCapture, ValidateConfigError> {
    let (catalog, schema, prefix) = match previous {
        Some(capture) => {
            let (catalog, schema, prefix) = capture.table.parts();
            (Some(catalog), Some(schema), prefix)
        }
        None => (None, None, endpoint.as_str()),
    };
    let required = |field: &str, given: Option<&str>, kept: Option<&str>| {
        let text = given
            .or(kept)
            .ok_or_else(|| ValidateConfigError::Required {
                field: format!("auto_capture_config.{field}"),
                allowed: "the inference table is catalog_name.schema_name.table_name_prefix",
            })?;
        table_part(field, text)
    };
    let catalog = required("catalog_name", input.catalog_name.as_deref(), catalog)?;
    let schema = required("schema_name", input.schema_name.as_deref(), schema)?;
    let prefix = table_part(
        "table_name_prefix",
        input.table_name_prefix.as_deref().unwrap_or(prefix),
    )?;
    let table = TableName::new(&catalog, &schema, &prefix).map_err(|error| {
        ValidateConfigError::value(
            "auto_capture_config",
            format!("{:?}", error.text),
            error.allowed,
        )
    })?;
    Ok(AutoCapture {
        enabled: input.enabled.unwrap_or(true),
        table,
    })
}

/// One part of a table name, checked alone so that the refusal can name its field.
fn table_part(field: &str, text: &str) -> Result<String, ValidateConfigError> {
    match TableName::new(text, "s", "p") {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(ValidateConfigError::value(
            format!("auto_capture_config.{field}"),
            format!("{:?}", text.chars().take(80).collect::<String>()),
            "use 1 to 63 letters, digits, '_' or '-'",
        )),
    }
}
