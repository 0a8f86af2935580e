//! The Parquet columns of a `{prefix}_gaps` table, and the way back from them.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{
    Array as _, ArrayRef, AsArray as _, Int64Builder, RecordBatch, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Int64Type, Schema, SchemaRef, TimestampMicrosecondType,
};
use arrow::error::ArrowError;
use edgeward_base::names::TableName;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::super::gap::{Gap, GapCause};
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

/// A gap as a file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct KnownGap {
    endpoint: Option<String>,
    cause: GapCause,
    pub(in super::super) first: u64,
    last: Option<u64>,
    rows: Option<u64>,
    bytes: Option<u64>,
    times_us: Option<(i64, i64)>,
}

impl KnownGap {
    /// The gap, to be written again.
    pub(in super::super) fn gap(&self) -> Gap<'_> {
        Gap {
            endpoint: self.endpoint.as_deref(),
            cause: self.cause,
            first: self.first,
            last: self.last,
            rows: self.rows,
            bytes: self.bytes,
            times_us: self.times_us,
        }
    }

    /// Whether `next` goes on where this ends, so that one gap can say as much as both.
    pub(in super::super) fn is_followed_by(&self, next: &Self) -> bool {
        let whole = |gap: &Self| gap.last.map(|last| last - gap.first + 1);
        self.last.is_some_and(|last| last + 1 == next.first)
            && self.cause == next.cause
            && self.endpoint == next.endpoint
            && self.rows == whole(self)
            && next.rows == whole(next)
            && self.bytes.is_some() == next.bytes.is_some()
            && self.times_us.is_some() == next.times_us.is_some()
    }

    /// Becomes the gap of both.
    pub(in super::super) fn take_in(&mut self, next: &Self) {
        let sum = |one: Option<u64>, other: Option<u64>| Some(one?.saturating_add(other?));
        self.last = next.last;
        self.rows = sum(self.rows, next.rows);
        self.bytes = sum(self.bytes, next.bytes);
        let times = self.times_us.into_iter().chain(next.times_us);
        self.times_us = times.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
    }
}

/// Reads a file of gaps.
///
/// # Errors
/// When it cannot be read, or holds what this version does not know.
pub(in super::super) fn read_gaps(path: &Path) -> io::Result<Vec<KnownGap>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(io::Error::other)?;
    let mut gaps = Vec::new();
    for batch in reader {
        let batch = batch.map_err(io::Error::other)?;
        for row in 0..batch.num_rows() {
            let gap = gap_at(&batch, row).ok_or(io::ErrorKind::InvalidData)?;
            gaps.push(gap);
        }
    }
    Ok(gaps)
}

/// The gap in a row of a batch; `None` where a column is not what it is written as.
fn gap_at(batch: &RecordBatch, row: usize) -> Option<KnownGap> {
    let text = |name| {
        let column = batch.column_by_name(name)?.as_string_opt::<i32>()?;
        Some(column.is_valid(row).then(|| column.value(row)))
    };
    let count = |name| {
        let value = number::<Int64Type>(batch, name, row)?;
        value.map_or(Some(None), |value| u64::try_from(value).ok().map(Some))
    };
    let time = |name| number::<TimestampMicrosecondType>(batch, name, row);
    Some(KnownGap {
        endpoint: text("endpoint_name")?.map(str::to_owned),
        cause: GapCause::parse(text("cause")??)?,
        first: count("first_sequence")??,
        last: count("last_sequence")?,
        rows: count("rows")?,
        bytes: count("bytes")?,
        times_us: time("first_time")?.zip(time("last_time")?),
    })
}

/// The value of a column in a row: outer `None` where there is no such column, inner for null.
fn number<T: ArrowPrimitiveType>(
    batch: &RecordBatch,
    name: &str,
    row: usize,
) -> Option<Option<T::Native>> {
    let column = batch.column_by_name(name)?.as_primitive_opt::<T>()?;
    Some(column.is_valid(row).then(|| column.value(row)))
}
