//! What has landed, read as an analyst reads it: by what the files say, not by who wrote them.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use edgeward_wire::segment::{SegmentKind, SegmentName};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use super::super::segment::SealedSegment;

/// Landed segments, with what they hold.
pub(super) type Landed = BTreeMap<SegmentName, Contents>;

/// A row as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LandedRow {
    pub(super) sequence: u64,
    /// The number in its request id.
    pub(super) id: u64,
    pub(super) request: Option<String>,
    pub(super) endpoint: Option<String>,
}

/// A gap as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LandedGap {
    pub(super) first: u64,
    pub(super) last: Option<u64>,
    pub(super) rows: Option<u64>,
    pub(super) cause: String,
}

/// What a segment holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contents {
    Rows(Vec<LandedRow>),
    Gaps(Vec<LandedGap>),
}

/// All rows of a Parquet file.
pub(in super::super) fn read_parquet(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = Arc::clone(reader.schema());
    let batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    arrow::compute::concat_batches(&schema, &batches).unwrap()
}

/// Lands a segment, which says the same each time.
pub(super) fn land(landed: &mut Landed, segment: &SealedSegment) {
    let contents = contents(segment);
    if let Some(before) = landed.get(&segment.name) {
        assert_eq!(
            *before, contents,
            "{} landed again with other contents",
            segment.name
        );
    }
    landed.insert(segment.name.clone(), contents);
}

fn longs(batch: &RecordBatch, name: &str) -> Vec<Option<u64>> {
    let column = batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Int64Type>();
    column
        .iter()
        .map(|value| value.map(|value| u64::try_from(value).unwrap()))
        .collect()
}

fn texts(batch: &RecordBatch, name: &str) -> Vec<Option<String>> {
    let column = batch.column_by_name(name).unwrap().as_string::<i32>();
    column.iter().map(|text| text.map(str::to_owned)).collect()
}

/// What a segment holds; it is what its manifest says.
pub(super) fn contents(segment: &SealedSegment) -> Contents {
    let batch = read_parquet(&segment.path);
    assert_eq!(
        segment.size,
        std::fs::metadata(&segment.path).unwrap().len()
    );
    assert_eq!(segment.rows, batch.num_rows() as u64);
    assert_eq!(segment.manifest().validate(), Ok(()));
    match segment.name.kind {
        SegmentKind::Rows => {
            let rows = rows_of(&batch);
            assert_eq!(rows.first().unwrap().sequence, segment.name.first);
            assert_eq!(rows.last().unwrap().sequence, segment.name.last);
            Contents::Rows(rows)
        }
        SegmentKind::Gaps => Contents::Gaps(gaps_of(&batch)),
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<LandedRow> {
    let (sequences, ids) = (
        longs(batch, "sequence"),
        texts(batch, "databricks_request_id"),
    );
    let (requests, endpoints) = (texts(batch, "request"), texts(batch, "endpoint_name"));
    let rows = (0..batch.num_rows()).map(|at| LandedRow {
        sequence: sequences[at].unwrap(),
        id: ids[at]
            .as_ref()
            .unwrap()
            .parse::<Uuid>()
            .unwrap()
            .as_u64_pair()
            .1,
        request: requests[at].clone(),
        endpoint: endpoints[at].clone(),
    });
    rows.collect()
}

fn gaps_of(batch: &RecordBatch) -> Vec<LandedGap> {
    let (firsts, lasts) = (
        longs(batch, "first_sequence"),
        longs(batch, "last_sequence"),
    );
    let (rows, causes) = (longs(batch, "rows"), texts(batch, "cause"));
    let gaps = (0..batch.num_rows()).map(|at| LandedGap {
        first: firsts[at].unwrap(),
        last: lasts[at],
        rows: rows[at],
        cause: causes[at].clone().unwrap(),
    });
    gaps.collect()
}
