//! The whole way of a row through the handle, on a real folder.

use std::path::Path;

use arrow::array::AsArray as _;
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use edgeward_base::clock::{SystemClock, TestClock};
use edgeward_base::durable::{FaultFs, RealFs};
use edgeward_harness::wait;
use edgeward_wire::segment::SegmentKind;
use uuid::Uuid;

use super::*;

mod budget;
mod fates;
pub(super) mod landed;
mod model;
mod power;
pub(super) mod world;

use landed::read_parquet;

fn options(directory: &Path, boot: u64) -> InferenceTableOptions {
    let mut options = InferenceTableOptions::new(
        directory.to_owned(),
        "box-1".parse().unwrap(),
        BootId(boot),
        SystemClock::shared(),
        RealFs::shared(),
    );
    options.commit_interval = Duration::from_millis(5);
    options
}

fn open(options: InferenceTableOptions) -> InferenceTables {
    let tasks = Tasks::new(tokio::runtime::Handle::current());
    InferenceTables::open(options, &tasks).unwrap()
}

fn row(number: u64) -> Row {
    let mut row = Row::new(Uuid::from_u64_pair(1, number), 1_780_000_000_000_000);
    row.request = Some(Bytes::from(format!("{{\"inputs\":[{number}]}}")));
    row
}

fn sequences(segment: &SealedSegment) -> Vec<i64> {
    let batch = read_parquet(&segment.path);
    batch
        .column_by_name("sequence")
        .unwrap()
        .as_primitive::<Int64Type>()
        .values()
        .to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sealed_listed_and_gone_once_landed() {
    let folder = tempfile::tempdir().unwrap();
    let tables = open(options(folder.path(), 1));
    let table: TableName = "main.default.fraud".parse().unwrap();
    for number in 0..100 {
        tables.offer(&table, &row(number));
    }
    tables.seal().await.unwrap();
    let sealed = tables.sealed().await.unwrap();
    assert_eq!(sealed.len(), 1);
    assert_eq!(
        (sealed[0].name.first, sealed[0].name.last, sealed[0].rows),
        (1, 100, 100)
    );
    assert_eq!(sealed[0].manifest().validate(), Ok(()));
    assert_eq!(sequences(&sealed[0]), (1..=100).collect::<Vec<_>>());
    assert_eq!(tables.counters().committed, 100);
    tables.landed(&sealed[0].name).await.unwrap();
    assert!(!sealed[0].path.try_exists().unwrap());
    assert_eq!(tables.sealed().await.unwrap(), []);
    tables.landed(&sealed[0].name).await.unwrap();
    tables.close(true).await.unwrap();
    assert!(matches!(
        tables.sealed().await,
        Err(AskInferenceTablesError::Closed)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_that_may_miss_rows_is_no_clean_end() {
    for complete in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let tables = open(options(folder.path(), 1));
        tables.offer(&TableName::unmatched(), &row(0));
        tables.close(complete).await.unwrap();
        let tables = open(options(folder.path(), 2));
        tables.recovery().await.unwrap();
        let report = verify(&RealFs, folder.path()).unwrap();
        let ended = report.boots.first().map(|boot| boot.end);
        let expected = if complete {
            BootEnd::Clean
        } else {
            BootEnd::PowerLoss
        };
        assert_eq!(ended, Some(expected));
        tables.close(true).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_a_disk_cost_are_counted_though_no_other_row_comes() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path(), 1);
    let fault = FaultFs::failing_once(RealFs::shared(), 0, std::io::ErrorKind::StorageFull);
    options.fs = Arc::new(fault.clone());
    let tables = open(options);
    tables.recovery().await.unwrap();
    fault.fail_in(1);
    tables.offer(&TableName::unmatched(), &row(0));
    wait::until("the loss is in the log", || {
        let report = verify(&RealFs, folder.path()).ok()?;
        let gaps = report.boots.iter().flat_map(|boot| &boot.tables);
        (gaps.map(|table| table.gaps).sum::<u64>() == 1).then_some(())
    });
    tables.close(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_boot_leaves_its_segments_to_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let tables = open(options(folder.path(), 1));
    tables.offer(&TableName::unmatched(), &row(0));
    tables.close(true).await.unwrap();
    let tables = open(options(folder.path(), 2));
    let sealed = tables.sealed().await.unwrap();
    assert_eq!(sealed.len(), 1);
    assert_eq!(sealed[0].name.kind, SegmentKind::Rows);
    assert_eq!(*tables.recovery().await.unwrap(), RecoveryReport::default());
    tables.close(true).await.unwrap();
}

/// How often the keeper looks at the disk.
const TICK: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_boot_that_failed_is_tried_again_while_this_one_runs() {
    let folder = tempfile::tempdir().unwrap();
    let before = open(options(folder.path(), 1));
    before.offer(&TableName::unmatched(), &row(0));
    before.close(true).await.unwrap();
    std::fs::remove_dir_all(folder.path().join("account")).unwrap();
    let clock = TestClock::at(world::NOON);
    let fs = FaultFs::failing_once(RealFs::shared(), 1, std::io::ErrorKind::Other);
    let mut options = options(folder.path(), 2);
    (options.clock, options.fs) = (clock.clone(), Arc::new(fs));
    let tables = open(options);
    assert_eq!(tables.recovery().await.unwrap().errors.len(), 1);
    assert_eq!(tables.recovery_errors().len(), 1);
    assert_eq!(tables.sealed().await.unwrap(), []);
    // The one that waits for a request looks at the clock after it.
    clock.advance(TICK);
    tables.sealed().await.unwrap();
    let sealed = tables.sealed().await.unwrap();
    let kinds: Vec<_> = sealed.iter().map(|segment| segment.name.kind).collect();
    // Without its account nobody knows how it ended.
    assert_eq!(kinds, [SegmentKind::Rows, SegmentKind::Gaps]);
    assert_eq!(tables.recovery_errors(), Vec::<String>::new());
    tables.close(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_do_not_keep_the_keeper_from_looking_at_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::at(world::NOON);
    let mut options = options(folder.path(), 1);
    options.clock = clock.clone();
    let tables = open(options);
    let mut looks = tables.shared.disk_use.clone();
    tables.sealed().await.unwrap();
    for _ in 0..10 {
        looks.borrow_and_update();
        clock.advance(TICK);
        // More often than the keeper would wait for one.
        tables.sealed().await.unwrap();
        tables.sealed().await.unwrap();
        assert!(looks.has_changed().unwrap());
    }
    tables.close(true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_boot_whose_log_took_nothing_counts_what_it_lost_at_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let fs = FaultFs::failing_once(RealFs::shared(), 0, std::io::ErrorKind::Other);
    fs.fill(&folder.path().join("wal"));
    let mut options = options(folder.path(), 1);
    options.fs = Arc::new(fs);
    let tables = open(options);
    for number in 0..7 {
        tables.offer(&TableName::unmatched(), &row(number));
    }
    tables.close(true).await.unwrap();
    assert_eq!(tables.counters().lost, 7);
    let report = verify(&RealFs, folder.path()).unwrap();
    assert!(report.is_sound(), "{report}");
    assert_eq!(report.boots.len(), 1, "it leaves a trace");
    assert_eq!(report.boots[0].end, BootEnd::Clean);
    let table = &report.boots[0].tables[0];
    assert_eq!((table.rows, table.causes["enospc"], table.last), (0, 7, 7));
}
