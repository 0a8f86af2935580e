//! The Parquet columns of an inference table.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanBuilder, Date32Builder, Float64Builder, Int32Builder, Int64Builder,
    ListBuilder, MapBuilder, MapFieldNames, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use uuid::Uuid;

use super::super::record::StoredRow;
use super::super::segment::day_of;
use super::super::time::Arrival;
use super::Origin;

/// Columns whose values hardly ever repeat: a dictionary of them would cost and save nothing.
pub(super) const DISTINCT: [&str; 4] = [
    "databricks_request_id",
    "client_request_id",
    "request",
    "response",
];
/// Columns by which one request is looked up: they get a bloom filter.
pub(super) const LOOKED_UP: [&str; 2] = ["databricks_request_id", "client_request_id"];
/// Columns too long for smallest and largest values to be of use.
pub(super) const PAYLOADS: [&str; 2] = ["request", "response"];

pub(super) fn utc_micros() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn map_names() -> MapFieldNames {
    MapFieldNames {
        entry: "key_value".into(),
        key: "key".into(),
        value: "value".into(),
    }
}

fn key_field() -> FieldRef {
    Arc::new(Field::new("key", DataType::Utf8, false))
}

fn value_field() -> FieldRef {
    Arc::new(Field::new("value", DataType::Utf8, false))
}

fn element_field() -> FieldRef {
    Arc::new(Field::new("element", DataType::Utf8, false))
}

fn map() -> DataType {
    let pair = DataType::Struct(Fields::from(vec![key_field(), value_field()]));
    DataType::Map(Arc::new(Field::new("key_value", pair, false)), false)
}

/// The columns, in their order. Null is allowed where a request may have had no such thing.
pub(in super::super) fn schema() -> SchemaRef {
    let always = |name: &str, kind: DataType| Field::new(name, kind, false);
    let maybe = |name: &str, kind: DataType| Field::new(name, kind, true);
    let text = DataType::Utf8;
    let long = DataType::Int64;
    Arc::new(Schema::new(vec![
        always("request_date", DataType::Date32),
        always("request_time", utc_micros()),
        always("databricks_request_id", text.clone()),
        maybe("client_request_id", text.clone()),
        maybe("trace_id", text.clone()),
        always("usage_context", map()),
        always("status_code", DataType::Int32),
        always("sampling_fraction", DataType::Float64),
        always("execution_duration_ms", long.clone()),
        maybe("request", text.clone()),
        maybe("response", text.clone()),
        always("logging_error_codes", DataType::List(element_field())),
        maybe("served_entity_id", text.clone()),
        maybe("requester", text.clone()),
        always("request_metadata", map()),
        always("device_id", text.clone()),
        always("boot_id", text.clone()),
        always("sequence", long.clone()),
        maybe("endpoint_name", text.clone()),
        maybe("served_entity_name", text.clone()),
        maybe("entity_name", text.clone()),
        maybe("entity_version", text.clone()),
        maybe("config_version", long.clone()),
        maybe("effective_hash", text.clone()),
        maybe("engine", text.clone()),
        always("streaming", DataType::Boolean),
        always("queue_duration_us", long.clone()),
        always("execution_duration_us", long.clone()),
        maybe("input_tokens", long.clone()),
        maybe("output_tokens", long.clone()),
        maybe("time_to_first_token_us", long.clone()),
        always("monotonic_us", long),
        always("clock_quality", text),
    ]))
}

/// A number as the columns hold it; they cannot hold one beyond 2^63.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn map_builder() -> MapBuilder<StringBuilder, StringBuilder> {
    MapBuilder::new(
        Some(map_names()),
        StringBuilder::new(),
        StringBuilder::new(),
    )
    .with_keys_field(key_field())
    .with_values_field(value_field())
}

fn list_builder() -> ListBuilder<StringBuilder> {
    ListBuilder::new(StringBuilder::new()).with_field(element_field())
}

macro_rules! columns {
    ($($name:ident: $builder:ty = $new:expr),* $(,)?) => {
        /// Rows on their way into a record batch.
        #[derive(Debug)]
        pub(super) struct RowColumns {
            $($name: $builder,)*
        }

        impl RowColumns {
            pub(super) fn new() -> Self {
                Self { $($name: $new,)* }
            }

            /// The columns, which start anew.
            fn take(&mut self) -> Vec<ArrayRef> {
                vec![$(Arc::new(self.$name.finish()) as ArrayRef,)*]
            }
        }
    };
}

columns! {
    request_date: Date32Builder = Date32Builder::new(),
    request_time: TimestampMicrosecondBuilder =
        TimestampMicrosecondBuilder::new().with_timezone("UTC"),
    databricks_request_id: StringBuilder = StringBuilder::new(),
    client_request_id: StringBuilder = StringBuilder::new(),
    trace_id: StringBuilder = StringBuilder::new(),
    usage_context: MapBuilder<StringBuilder, StringBuilder> = map_builder(),
    status_code: Int32Builder = Int32Builder::new(),
    sampling_fraction: Float64Builder = Float64Builder::new(),
    execution_duration_ms: Int64Builder = Int64Builder::new(),
    request: StringBuilder = StringBuilder::new(),
    response: StringBuilder = StringBuilder::new(),
    logging_error_codes: ListBuilder<StringBuilder> = list_builder(),
    served_entity_id: StringBuilder = StringBuilder::new(),
    requester: StringBuilder = StringBuilder::new(),
    request_metadata: MapBuilder<StringBuilder, StringBuilder> = map_builder(),
    device_id: StringBuilder = StringBuilder::new(),
    boot_id: StringBuilder = StringBuilder::new(),
    sequence: Int64Builder = Int64Builder::new(),
    endpoint_name: StringBuilder = StringBuilder::new(),
    served_entity_name: StringBuilder = StringBuilder::new(),
    entity_name: StringBuilder = StringBuilder::new(),
    entity_version: StringBuilder = StringBuilder::new(),
    config_version: Int64Builder = Int64Builder::new(),
    effective_hash: StringBuilder = StringBuilder::new(),
    engine: StringBuilder = StringBuilder::new(),
    streaming: BooleanBuilder = BooleanBuilder::new(),
    queue_duration_us: Int64Builder = Int64Builder::new(),
    execution_duration_us: Int64Builder = Int64Builder::new(),
    input_tokens: Int64Builder = Int64Builder::new(),
    output_tokens: Int64Builder = Int64Builder::new(),
    time_to_first_token_us: Int64Builder = Int64Builder::new(),
    monotonic_us: Int64Builder = Int64Builder::new(),
    clock_quality: StringBuilder = StringBuilder::new(),
}

impl RowColumns {
    /// Adds one row.
    pub(super) fn append(
        &mut self,
        origin: &Origin,
        sequence: u64,
        arrival: Arrival,
        row: &StoredRow<'_>,
    ) -> Result<(), ArrowError> {
        self.append_request(arrival, row)?;
        self.append_route(row)?;
        self.device_id.append_value(&origin.device);
        self.boot_id.append_value(&origin.boot);
        self.sequence.append_value(signed(sequence));
        self.streaming.append_value(row.streaming);
        self.queue_duration_us
            .append_value(signed(row.queue_duration_us));
        self.execution_duration_us
            .append_value(signed(row.execution_duration_us));
        self.execution_duration_ms
            .append_value(signed(row.execution_duration_us / 1_000));
        self.input_tokens
            .append_option(row.input_tokens.map(signed));
        self.output_tokens
            .append_option(row.output_tokens.map(signed));
        self.time_to_first_token_us
            .append_option(row.time_to_first_token_us.map(signed));
        self.monotonic_us.append_value(signed(row.monotonic_us));
        self.clock_quality.append_value(arrival.quality);
        Ok(())
    }

    fn append_request(&mut self, arrival: Arrival, row: &StoredRow<'_>) -> Result<(), ArrowError> {
        self.request_date.append_value(day_of(arrival.time_us));
        self.request_time.append_value(arrival.time_us);
        let mut text = Uuid::encode_buffer();
        let id = Uuid::from_bytes(row.request_id);
        self.databricks_request_id
            .append_value(id.hyphenated().encode_lower(&mut text));
        self.client_request_id.append_option(row.client_request_id);
        self.trace_id.append_option(row.trace_id);
        for (key, value) in &row.usage_context {
            self.usage_context.keys().append_value(key);
            self.usage_context.values().append_value(value);
        }
        self.usage_context.append(true)?;
        self.status_code.append_value(i32::from(row.status_code));
        self.sampling_fraction.append_value(row.sampling_fraction);
        self.request.append_option(row.request);
        self.response.append_option(row.response);
        for code in &row.logging_error_codes {
            self.logging_error_codes
                .values()
                .append_value(code.as_str());
        }
        self.logging_error_codes.append(true);
        self.requester.append_option(row.requester);
        Ok(())
    }

    fn append_route(&mut self, row: &StoredRow<'_>) -> Result<(), ArrowError> {
        for (key, value) in row.request_metadata() {
            if let Some(value) = value {
                self.request_metadata.keys().append_value(key);
                self.request_metadata.values().append_value(value);
            }
        }
        self.request_metadata.append(true)?;
        self.endpoint_name.append_option(row.endpoint_name);
        self.served_entity_id.append_option(row.served_entity_id);
        self.served_entity_name
            .append_option(row.served_entity_name);
        self.entity_name.append_option(row.entity_name);
        self.entity_version
            .append_option(row.entity_version.map(|version| version.to_string()));
        self.config_version
            .append_option(row.config_version.map(signed));
        self.effective_hash.append_option(row.effective_hash);
        self.engine.append_option(row.engine);
        Ok(())
    }

    /// The rows as a batch; the columns start anew.
    pub(super) fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(Arc::clone(schema), self.take())
    }
}
