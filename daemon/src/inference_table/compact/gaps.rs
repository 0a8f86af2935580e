//! The Parquet columns of a `{prefix}_gaps` table.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use edgeward_base::names::TableName;

use super::super::gap::Gap;
use super::Origin;
use super::rows::{signed, utc_micros};

/// The columns, in their order. Null stands for what nobody knows.
pub(in super::super) fn schema() -> SchemaRef {
    let always = |name: &str, kind: DataType| Field::new(name, kind, false);
    let maybe = |name: &str, kind: DataType| Field::new(name, kind, true);
    Arc::new(Schema::new(vec![
        always("device_id", DataType::Utf8),
        always("boot_id", DataType::Utf8),
        always("table_name", DataType::Utf8),
        maybe("endpoint_name", DataType::Utf8),
        always("first_sequence", DataType::Int64),
        maybe("last_sequence", DataType::Int64),
        maybe("first_time", utc_micros()),
        maybe("last_time", utc_micros()),
        maybe("rows", DataType::Int64),
        maybe("bytes", DataType::Int64),
        always("cause", DataType::Utf8),
    ]))
}

/// Gaps on their way into a record batch.
#[derive(Debug)]
pub(super) struct GapColumns {
    table: TableName,
    device_id: StringBuilder,
    boot_id: StringBuilder,
    table_name: StringBuilder,
    endpoint_name: StringBuilder,
    first_sequence: Int64Builder,
    last_sequence: Int64Builder,
    first_time: TimestampMicrosecondBuilder,
    last_time: TimestampMicrosecondBuilder,
    rows: Int64Builder,
    bytes: Int64Builder,
    cause: StringBuilder,
}

impl GapColumns {
    pub(super) fn new(table: TableName) -> Self {
        let time = || TimestampMicrosecondBuilder::new().with_timezone("UTC");
        Self {
            table,
            device_id: StringBuilder::new(),
            boot_id: StringBuilder::new(),
            table_name: StringBuilder::new(),
            endpoint_name: StringBuilder::new(),
            first_sequence: Int64Builder::new(),
            last_sequence: Int64Builder::new(),
            first_time: time(),
            last_time: time(),
            rows: Int64Builder::new(),
            bytes: Int64Builder::new(),
            cause: StringBuilder::new(),
        }
    }

    /// Adds one gap.
    pub(super) fn append(&mut self, origin: &Origin, gap: &Gap<'_>) {
        self.device_id.append_value(&origin.device);
        self.boot_id.append_value(&origin.boot);
        self.table_name.append_value(self.table.as_str());
        self.endpoint_name.append_option(gap.endpoint);
        self.first_sequence.append_value(signed(gap.first));
        self.last_sequence.append_option(gap.last.map(signed));
        self.first_time
            .append_option(gap.times_us.map(|(first, _)| first));
        self.last_time
            .append_option(gap.times_us.map(|(_, last)| last));
        self.rows.append_option(gap.rows.map(signed));
        self.bytes.append_option(gap.bytes.map(signed));
        self.cause.append_value(gap.cause.as_str());
    }

    /// The gaps as a batch; the columns start anew.
    pub(super) fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.device_id.finish()),
            Arc::new(self.boot_id.finish()),
            Arc::new(self.table_name.finish()),
            Arc::new(self.endpoint_name.finish()),
            Arc::new(self.first_sequence.finish()),
            Arc::new(self.last_sequence.finish()),
            Arc::new(self.first_time.finish()),
            Arc::new(self.last_time.finish()),
            Arc::new(self.rows.finish()),
            Arc::new(self.bytes.finish()),
            Arc::new(self.cause.finish()),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns)
    }
}
