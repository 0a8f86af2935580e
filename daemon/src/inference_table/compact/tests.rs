//! What a reader finds in the files: every column with its type and its values.

use std::fs::File;
use std::path::Path;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Date32Type, Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use edgeward_base::clock::ClockQuality;
use edgeward_base::durable::RealFs;
use edgeward_base::names::ModelVersion;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::{FileReader as _, SerializedFileReader};
use uuid::Uuid;

use super::super::gap::StoredGap;
use super::super::policy::TablePolicy;
use super::super::record::Row;
use super::*;

const TIME: i64 = 1_780_012_800_000_001;
const BOOT: BootId = BootId(0xfeed);

fn full_row() -> Row {
    let mut row = Row::new(
        Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
        TIME,
    );
    row.monotonic_us = 77;
    row.clock_quality = ClockQuality::Ntp;
    row.client_request_id = Some("client-1".into());
    row.trace_id = Some("0af7651916cd43dd8448eb211c80319c".into());
    row.usage_context = vec![("team".into(), "risk".into()), ("app".into(), "pos".into())];
    row.status_code = 429;
    row.sampling_fraction = 0.5;
    row.request = Some(Bytes::from_static(br#"{"inputs":[[1.5]]}"#));
    row.response = Some(Bytes::from_static(b"\xff"));
    row.requester = Some("app@box".parse().unwrap());
    row.endpoint_name = Some("fraud-detection".parse().unwrap());
    row.served_entity_id = Some("00112233445566778899aabbccddeeff".into());
    row.served_entity_name = Some("champion".parse().unwrap());
    row.entity_name = Some("main.default.fraud".parse().unwrap());
    row.entity_version = ModelVersion::new(3);
    row.config_version = Some(2);
    row.effective_hash = Some("abcd".into());
    row.engine = Some("tract");
    row.streaming = true;
    row.queue_duration_us = 12;
    row.execution_duration_us = 3_999;
    row.input_tokens = Some(5);
    row.output_tokens = Some(6);
    row.time_to_first_token_us = Some(7);
    row
}

fn compaction(tables: &Path) -> Compaction<'_> {
    let origin = Origin::new(&"box-1".parse().unwrap(), BOOT);
    Compaction::new(&RealFs, tables, origin, TIME)
}

fn table() -> TableName {
    "main.default.fraud".parse().unwrap()
}

fn compacted(tables: &Path, rows: &[Row]) -> Vec<SealedSegment> {
    let mut compaction = compaction(tables);
    for (row, sequence) in rows.iter().zip(1..) {
        compaction
            .row(
                &table(),
                sequence,
                &StoredRow::of(row, &TablePolicy::keep_all(1 << 20)),
            )
            .unwrap();
    }
    compaction.finish().unwrap()
}

fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let mut batches: Vec<_> = reader.build().unwrap().map(Result::unwrap).collect();
    assert_eq!(batches.len(), 1);
    batches.remove(0)
}

fn text(batch: &RecordBatch, name: &str) -> String {
    batch
        .column_by_name(name)
        .unwrap()
        .as_string::<i32>()
        .value(0)
        .to_owned()
}

fn long(batch: &RecordBatch, name: &str) -> i64 {
    batch
        .column_by_name(name)
        .unwrap()
        .as_primitive::<Int64Type>()
        .value(0)
}

fn pairs(batch: &RecordBatch, name: &str) -> Vec<(String, String)> {
    let map = batch.column_by_name(name).unwrap().as_map().value(0);
    let (keys, values) = (
        map.column(0).as_string::<i32>(),
        map.column(1).as_string::<i32>(),
    );
    keys.iter()
        .zip(values)
        .map(|(k, v)| (k.unwrap().into(), v.unwrap().into()))
        .collect()
}

#[test]
fn every_column_is_read_back_with_its_type() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = compacted(folder.path(), &[full_row()]);
    let batch = read(&sealed[0].path);
    assert_eq!(batch.schema().fields(), rows::schema().fields());
    let column = |name| batch.column_by_name(name).unwrap();
    assert_eq!(
        column("request_date").as_primitive::<Date32Type>().value(0),
        20_602
    );
    assert_eq!(
        column("request_time")
            .as_primitive::<TimestampMicrosecondType>()
            .value(0),
        TIME
    );
    assert_eq!(
        column("status_code").as_primitive::<Int32Type>().value(0),
        429
    );
    let fraction = column("sampling_fraction")
        .as_primitive::<Float64Type>()
        .value(0);
    assert!((fraction - 0.5).abs() < f64::EPSILON);
    assert!(column("streaming").as_boolean().value(0));
    for (name, expected) in [
        (
            "databricks_request_id",
            "01900000-0000-7000-8000-000000000001",
        ),
        ("client_request_id", "client-1"),
        ("trace_id", "0af7651916cd43dd8448eb211c80319c"),
        ("request", r#"{"inputs":[[1.5]]}"#),
        ("served_entity_id", "00112233445566778899aabbccddeeff"),
        ("requester", "app@box"),
        ("device_id", "box-1"),
        ("boot_id", "000000000000feed"),
        ("endpoint_name", "fraud-detection"),
        ("served_entity_name", "champion"),
        ("entity_name", "main.default.fraud"),
        ("entity_version", "3"),
        ("effective_hash", "abcd"),
        ("engine", "tract"),
        ("clock_quality", "ntp"),
    ] {
        assert_eq!(text(&batch, name), expected, "{name}");
    }
    for (name, expected) in [
        ("execution_duration_ms", 3),
        ("sequence", 1),
        ("config_version", 2),
        ("queue_duration_us", 12),
        ("execution_duration_us", 3_999),
        ("input_tokens", 5),
        ("output_tokens", 6),
        ("time_to_first_token_us", 7),
        ("monotonic_us", 77),
    ] {
        assert_eq!(long(&batch, name), expected, "{name}");
    }
}

#[test]
fn lists_maps_and_nulls_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = compacted(folder.path(), &[full_row()]);
    let batch = read(&sealed[0].path);
    let column = |name| batch.column_by_name(name).unwrap();
    assert!(column("response").is_null(0), "not UTF-8");
    let codes = column("logging_error_codes").as_list::<i32>().value(0);
    assert_eq!(codes.as_string::<i32>().value(0), "RESPONSE_NOT_UTF8");
    let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    };
    assert_eq!(
        pairs(&batch, "usage_context"),
        owned(&[("team", "risk"), ("app", "pos")])
    );
    assert_eq!(
        pairs(&batch, "request_metadata"),
        owned(&[
            ("endpoint_name", "fraud-detection"),
            ("model_name", "main.default.fraud"),
            ("model_version", "3"),
        ])
    );
}

#[test]
fn what_a_request_did_not_have_is_null() {
    let folder = tempfile::tempdir().unwrap();
    let sealed = compacted(folder.path(), &[Row::new(Uuid::nil(), TIME)]);
    let batch = read(&sealed[0].path);
    for field in batch.schema().fields() {
        let nulls = batch.column_by_name(field.name()).unwrap().null_count();
        assert_eq!(nulls, usize::from(field.is_nullable()), "{}", field.name());
    }
}

#[test]
fn days_that_interleave_become_one_file_each() {
    let folder = tempfile::tempdir().unwrap();
    let at = |days: i64| Row::new(Uuid::nil(), TIME + days * 86_400_000_000);
    let sealed = compacted(folder.path(), &[at(0), at(1), at(0), at(1), at(1)]);
    let found: Vec<_> = sealed
        .iter()
        .map(|segment| {
            (
                segment.date.to_string(),
                segment.name.first,
                segment.name.last,
                segment.rows,
            )
        })
        .collect();
    assert_eq!(
        found,
        [
            ("2026-05-29".to_owned(), 1, 3, 2),
            ("2026-05-30".to_owned(), 2, 5, 3)
        ]
    );
}

#[test]
fn files_have_the_promised_layout() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0..3_000).map(|_| full_row()).collect();
    let sealed = compacted(folder.path(), &rows);
    let reader = SerializedFileReader::new(File::open(&sealed[0].path).unwrap()).unwrap();
    let metadata = reader.metadata();
    assert_eq!(metadata.num_row_groups(), 1);
    let group = metadata.row_group(0);
    assert_eq!(group.num_rows(), 3_000);
    for column in group.columns() {
        let name = column.column_path().string();
        let payload = rows::PAYLOADS.contains(&name.as_str());
        let looked_up = rows::LOOKED_UP.contains(&name.as_str());
        assert_eq!(column.statistics().is_none(), payload, "{name}");
        assert_eq!(column.bloom_filter_offset().is_some(), looked_up, "{name}");
        assert!(
            matches!(column.compression(), parquet::basic::Compression::ZSTD(_)),
            "{name} is {:?}",
            column.compression()
        );
    }
}

#[test]
fn large_payloads_make_row_groups_of_a_bounded_size() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (0_u64..200)
        .map(|number| {
            let mut row = full_row();
            let mut state = number;
            let noise: String = std::iter::repeat_with(|| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                char::from(b'!' + u8::try_from((state >> 33) % 90).unwrap())
            })
            .take(200_000)
            .collect();
            row.request = Some(noise.into());
            row
        })
        .collect();
    let sealed = compacted(folder.path(), &rows);
    let reader = SerializedFileReader::new(File::open(&sealed[0].path).unwrap()).unwrap();
    assert!(reader.metadata().num_row_groups() > 1);
    for group in reader.metadata().row_groups() {
        assert!(
            group.compressed_size() < 12 << 20,
            "{}",
            group.compressed_size()
        );
    }
}

#[test]
fn gaps_are_read_back_with_what_is_known_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut compaction = compaction(folder.path());
    let stored = StoredGap {
        endpoint: Some("fraud-detection"),
        cause: GapCause::ChannelFull,
        lost: super::super::gap::Lost {
            rows: 4,
            bytes: 400,
            first_us: TIME,
            last_us: TIME + 5,
        },
    };
    let known = Gap {
        endpoint: stored.endpoint,
        cause: stored.cause,
        first: 3,
        last: Some(6),
        rows: Some(4),
        bytes: Some(400),
        times_us: Some((TIME, TIME + 5)),
    };
    compaction.gap(&table(), &known).unwrap();
    compaction.add_open_gap(&table(), 7).unwrap();
    let sealed = compaction.finish().unwrap();
    assert_eq!(sealed.len(), 1);
    assert_eq!((sealed[0].rows, sealed[0].sequences), (2, 4));
    let batch = read(&sealed[0].path);
    assert_eq!(batch.schema().fields(), gaps::schema().fields());
    assert_eq!(text(&batch, "table_name"), "main.default.fraud");
    assert_eq!(text(&batch, "endpoint_name"), "fraud-detection");
    assert_eq!(text(&batch, "cause"), "channel_full");
    let known = ["first_sequence", "last_sequence", "rows", "bytes"];
    assert_eq!(known.map(|name| long(&batch, name)), [3, 6, 4, 400]);
    for name in [
        "last_sequence",
        "rows",
        "bytes",
        "first_time",
        "last_time",
        "endpoint_name",
    ] {
        assert!(
            batch.column_by_name(name).unwrap().is_null(1),
            "{name} of the open gap"
        );
    }
}
