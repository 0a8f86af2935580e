//! Damage: whatever happens to the bytes of a segment, what is read is a prefix of what was
//! written, and nothing else.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use edgeward_base::clock::TestClock;
use edgeward_base::digest::Digest;
use edgeward_base::durable::{DurableFile, DurableFs, RealFs, Space};
use edgeward_base::names::{BootId, TableName};
use edgeward_base::units::ByteCount;
use proptest::prelude::*;
use uuid::Uuid;

use super::super::gap::{Gap, GapCause, LossKey, Lost};
use super::super::policy::TablePolicy;
use super::super::record::{OfferedRow, Row, StoredRow};
use super::entry::Entry;
use super::segment::{Header0, MAGIC, MAGIC_0, Step, read_frames};
use super::*;

const BOOT: BootId = BootId(0x0123_4567_89ab_cdef);
const NAME: WalName = WalName {
    boot: BOOT,
    number: 1,
};

fn log(directory: &Path) -> RowLog {
    let options = LogOptions {
        directory: directory.to_owned(),
        device: "box-1".parse().unwrap(),
        boot: BOOT,
        ordinal: Arc::default(),
        seal_after: Duration::from_secs(600),
        seal_size: 4096,
        clock: TestClock::at(1_780_000_000_000_000),
        fs: RealFs::shared(),
    };
    RowLog::new(options, Arc::default())
}

fn table(number: u8) -> TableName {
    TableName::new("main", "default", &format!("t{number}")).unwrap()
}

fn offered(table_number: u8, id: u64, payload: usize) -> OfferedRow {
    let mut row = Row::new(Uuid::from_u64_pair(0, id), 1_780_000_000_000_000);
    row.request = Some("r".repeat(payload).into());
    let bytes = row.encode(&TablePolicy::keep_all(1 << 20)).unwrap().0;
    OfferedRow {
        table: table(table_number),
        endpoint: None,
        time_us: 0,
        bytes,
    }
}

/// What was read: (table, sequence, request id) of rows, (table, first, rows) of gaps.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Reading {
    rows: Vec<(String, u64, u128)>,
    gaps: Vec<(String, u64, u64)>,
}

impl Replay for Reading {
    type Error = Infallible;

    fn row(
        &mut self,
        table: &TableName,
        sequence: u64,
        row: &StoredRow<'_>,
    ) -> Result<(), Infallible> {
        let id = Uuid::from_bytes(row.request_id).as_u128();
        self.rows.push((table.to_string(), sequence, id));
        Ok(())
    }

    fn gap(&mut self, table: &TableName, gap: &Gap<'_>) -> Result<(), Infallible> {
        self.gaps
            .push((table.to_string(), gap.first, gap.rows.unwrap()));
        Ok(())
    }
}

fn read(bytes: &[u8]) -> (Reading, replay::Passed) {
    let mut reading = Reading::default();
    let Ok(passed) = replay(NAME, bytes, &mut Position::default(), &mut reading);
    (reading, passed)
}

/// A segment with one commit for each entry of `commits`, each of so many rows and payload bytes.
fn segment(commits: &[(u8, u8, usize)]) -> (Vec<u8>, Reading) {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    let mut written = Reading::default();
    let mut next = [1_u64; 4];
    let mut id = 0;
    for (table_number, rows, payload) in commits {
        for _ in 0..*rows {
            id += 1;
            log.push(offered(*table_number, id, *payload));
            let sequence = &mut next[usize::from(*table_number)];
            written
                .rows
                .push((table(*table_number).to_string(), *sequence, u128::from(id)));
            *sequence += 1;
        }
        log.commit();
    }
    (
        std::fs::read(NAME.path(folder.path())).unwrap_or_default(),
        written,
    )
}

fn commits() -> impl Strategy<Value = Vec<(u8, u8, usize)>> {
    proptest::collection::vec((0_u8..3, 1_u8..5, 0_usize..200), 1..4)
}

#[test]
fn a_row_entry_is_its_tag_and_the_encoded_row() {
    let offered = offered(0, 7, 3);
    let stored: StoredRow<'_> = postcard::from_bytes(&offered.bytes).unwrap();
    let entry = postcard::to_stdvec(&Entry::Row(stored)).unwrap();
    assert_eq!(entry.first(), Some(&1));
    assert_eq!(entry[1..], offered.bytes[..]);
}

#[test]
fn nothing_is_written_while_nothing_is_new() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    log.commit();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    log.push(offered(0, 1, 10));
    log.commit();
    let before = std::fs::read(NAME.path(folder.path())).unwrap();
    log.commit();
    log.commit();
    assert_eq!(std::fs::read(NAME.path(folder.path())).unwrap(), before);
    assert_eq!(before.len(), 4096, "preallocated");
}

#[test]
fn a_segment_is_sealed_by_size_by_age_and_by_day() {
    let folder = tempfile::tempdir().unwrap();
    let clock = TestClock::at(1_780_000_000_000_000);
    let mut log = log(folder.path());
    log.options_for_test().clock = clock.clone();
    log.push(offered(0, 1, 10));
    log.commit();
    assert_eq!(log.seal_in(), Some(Duration::from_secs(600)));
    clock.advance(Duration::from_secs(599));
    assert_eq!(log.seal_in(), Some(Duration::from_secs(1)));
    assert_eq!(log.take_sealed(), []);
    clock.advance(Duration::from_secs(86_400));
    log.push(offered(0, 2, 10));
    log.commit();
    assert_eq!(log.take_sealed().len(), 1, "the day has changed");
    for id in 3..200 {
        let mut row = Row::new(Uuid::from_u64_pair(0, id), 0);
        // Nothing that compresses.
        row.request = Some(Digest::of(&id.to_le_bytes()).to_string().into());
        let bytes = row.encode(&TablePolicy::keep_all(1 << 20)).unwrap().0;
        let row = OfferedRow {
            bytes,
            ..offered(0, id, 0)
        };
        log.push(row);
    }
    log.commit();
    assert_eq!(log.take_sealed().len(), 1, "the size is reached");
    assert_eq!(log.seal_in(), None);
}

#[test]
fn losses_take_their_sequences_before_new_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    let key = LossKey {
        table: table(0),
        endpoint: None,
        cause: GapCause::ChannelFull,
    };
    log.losses().add(
        key,
        Lost {
            rows: 5,
            bytes: 50,
            first_us: 1,
            last_us: 2,
        },
    );
    log.push(offered(0, 1, 10));
    log.commit();
    let (reading, _) = read(&std::fs::read(NAME.path(folder.path())).unwrap());
    assert_eq!(reading.gaps, [(table(0).to_string(), 1, 5)]);
    assert_eq!(reading.rows, [(table(0).to_string(), 6, 1)]);
}

#[test]
fn a_close_is_read_back_and_damage_after_it_takes_it_away() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    log.push(offered(0, 1, 10));
    assert!(log.close(true).is_some());
    let mut bytes = std::fs::read(NAME.path(folder.path())).unwrap();
    assert_eq!(
        read(&bytes).1,
        replay::Passed {
            bad_tail: None,
            closed: true
        }
    );
    *bytes.last_mut().unwrap() = 1;
    let (reading, passed) = read(&bytes);
    assert_eq!(reading.rows.len(), 1);
    assert!(passed.bad_tail.is_some() && !passed.closed);
}

#[test]
fn a_frame_counts_only_where_it_was_written() {
    let (bytes, _) = segment(&[(0, 1, 10)]);
    let other = WalName { number: 2, ..NAME };
    assert!(matches!(
        read_frames(other, &bytes).next(),
        Some(Step::BadTail(0))
    ));
    let other = WalName {
        boot: BootId(1),
        ..NAME
    };
    assert!(matches!(
        read_frames(other, &bytes).next(),
        Some(Step::BadTail(0))
    ));
}

#[test]
fn a_header_tells_what_earlier_segments_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    for (table_number, id) in [(0, 1), (1, 2)] {
        log.push(offered(table_number, id, 10));
    }
    log.commit();
    log.seal();
    log.push(offered(0, 3, 10));
    log.commit();
    let second = WalName { number: 2, ..NAME };
    let bytes = std::fs::read(second.path(folder.path())).unwrap();
    let mut reading = Reading::default();
    let Ok(_) = replay(second, &bytes, &mut Position::default(), &mut reading);
    let lost = [(table(0).to_string(), 1, 1), (table(1).to_string(), 1, 1)];
    assert_eq!(reading.gaps, lost, "the other table has no later row");
    assert_eq!(reading.rows, [(table(0).to_string(), 2, 3)]);
}

#[test]
fn a_later_version_is_told_from_damage() {
    let (bytes, _) = segment(&[(0, 1, 10)]);
    assert!(matches!(read_start(NAME, &bytes), Start::Good { .. }));
    // The same frames under another digit: a bit has flipped.
    let mut flipped = bytes;
    flipped[14] = b'3';
    assert_eq!(read_start(NAME, &flipped), Start::Damaged);
    let mut later = flipped;
    later[16..].fill(7);
    assert_eq!(read_start(NAME, &later), Start::Newer);
    assert_eq!(read_frames(NAME, &later).count(), 0);
    later[14] = b'x';
    assert_eq!(read_start(NAME, &later), Start::Damaged);
}

#[test]
fn version_0_is_read() {
    let (bytes, written) = segment(&[(0, 2, 10)]);
    let Start::Good { batches, .. } = read_start(NAME, &bytes) else {
        panic!("a header is good where it was written");
    };
    let batch = match read_frames(NAME, &bytes).next() {
        Some(Step::Batch { batch, .. }) => batch.into_owned(),
        other => panic!("{other:?} after {batches}"),
    };
    let header = postcard::to_stdvec(&Header0 {
        device: "box-1",
        opened_us: 5,
    })
    .unwrap();
    let frame = |offset: usize, kind, data: &[u8]| {
        frame::encode(NAME, offset as u64, kind, &[data]).unwrap()
    };
    let mut old = MAGIC_0.to_vec();
    old.extend(frame(old.len(), frame::FrameKind::Header, &header));
    old.extend(frame(old.len(), frame::FrameKind::Batch, &batch));
    let (reading, passed) = read(&old);
    assert_eq!((reading, passed), (written, replay::Passed::default()));
}

/// A disk with room for a row and none for a segment, or with none at all.
#[derive(Debug, Default)]
struct NearlyFull {
    full: std::sync::atomic::AtomicBool,
    tries: std::sync::atomic::AtomicU32,
}

#[derive(Debug)]
struct NoRoomAhead(Box<dyn DurableFile>);

impl DurableFile for NoRoomAhead {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.append(bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, bytes)
    }

    fn preallocate(&mut self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn set_len(&mut self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&mut self) -> io::Result<()> {
        self.0.sync_all()
    }
}

impl DurableFs for NearlyFull {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        RealFs.read(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        RealFs.list(directory)
    }

    fn space(&self, directory: &Path) -> io::Result<Space> {
        RealFs.space(directory)
    }

    fn size(&self, path: &Path) -> io::Result<ByteCount> {
        RealFs.size(path)
    }

    fn create_dir_all(&self, directory: &Path) -> io::Result<()> {
        RealFs.create_dir_all(directory)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        self.tries.fetch_add(1, Ordering::Relaxed);
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(Box::new(NoRoomAhead(RealFs.create_new(path)?)))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DurableFile>> {
        RealFs.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealFs.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        RealFs.remove(path)
    }

    fn sync_dir(&self, directory: &Path) -> io::Result<()> {
        RealFs.sync_dir(directory)
    }
}

#[test]
fn a_disk_without_room_for_a_segment_still_takes_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    log.options_for_test().fs = Arc::new(NearlyFull::default());
    for id in 1..=3 {
        log.push(offered(0, id, 10));
        log.commit();
    }
    assert!(log.losses().is_empty());
    let (reading, passed) = read(&std::fs::read(NAME.path(folder.path())).unwrap());
    assert_eq!(reading.rows.len(), 3);
    assert_eq!(passed, replay::Passed::default());
}

#[test]
fn a_full_disk_is_left_alone_for_longer_and_longer_and_every_row_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (clock, disk) = (TestClock::at(0), Arc::new(NearlyFull::default()));
    let mut log = log(folder.path());
    log.options_for_test().fs = disk.clone();
    log.options_for_test().clock = clock.clone();
    disk.full.store(true, Ordering::Relaxed);
    for id in 1..=3_600 {
        clock.advance(Duration::from_secs(1));
        log.push(offered(0, id, 10));
        log.commit();
    }
    let tries = disk.tries.load(Ordering::Relaxed);
    assert!((60..=80).contains(&tries), "{tries} tries in an hour");
    disk.full.store(false, Ordering::Relaxed);
    clock.advance(Duration::from_secs(60));
    log.push(offered(0, 4_000, 10));
    log.commit();
    assert!(log.losses().is_empty());
    let wal = RealFs.list(folder.path()).unwrap().remove(0);
    let name = WalName::of_path(&wal).unwrap();
    let mut reading = Reading::default();
    let bytes = std::fs::read(wal).unwrap();
    let Ok(_) = replay(name, &bytes, &mut Position::default(), &mut reading);
    assert_eq!(reading.gaps, [(table(0).to_string(), 1, 3_600)]);
    assert_eq!(reading.rows, [(table(0).to_string(), 3_601, 4_000)]);
}

#[test]
fn rows_beyond_a_frame_wait_for_the_next() {
    const ROW: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    let mut log = log(folder.path());
    let rows = (1..=20).take_while(|id| {
        let room = !log.is_full();
        if room {
            log.push(offered(0, *id, ROW));
        }
        room
    });
    assert_eq!(rows.count(), 8);
}

#[test]
fn what_a_failing_disk_cost_is_due_to_be_counted_when_its_pause_ends() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(NearlyFull::default());
    let mut log = log(folder.path());
    log.options_for_test().fs = disk.clone();
    assert_eq!(log.count_in(), None);
    disk.full.store(true, Ordering::Relaxed);
    for (id, due) in [(1, 0), (2, 1)] {
        log.push(offered(0, id, 10));
        log.commit();
        assert_eq!(log.count_in(), Some(Duration::from_secs(due)));
    }
}

#[test]
fn a_close_is_tried_however_short_ago_the_disk_failed() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(NearlyFull::default());
    let mut log = log(folder.path());
    log.options_for_test().fs = disk.clone();
    disk.full.store(true, Ordering::Relaxed);
    for id in 1..=3 {
        log.push(offered(0, id, 10));
        log.commit();
    }
    disk.full.store(false, Ordering::Relaxed);
    assert!(log.close(true).is_some(), "the losses are counted");
}

#[test]
fn a_segment_that_was_only_preallocated_is_empty() {
    assert_eq!(read_frames(NAME, &[0; 4096]).count(), 0);
    assert_eq!(read_frames(NAME, &[]).count(), 0);
    assert!(matches!(
        read_frames(NAME, &MAGIC[..7]).next(),
        Some(Step::BadTail(0))
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_is_committed_is_read_back(commits in commits()) {
        let (bytes, written) = segment(&commits);
        let (reading, passed) = read(&bytes);
        prop_assert_eq!(reading, written);
        prop_assert_eq!(passed, replay::Passed::default());
    }

    #[test]
    fn a_truncated_segment_gives_a_prefix(commits in commits(), at in any::<prop::sample::Index>()) {
        let (mut bytes, written) = segment(&commits);
        bytes.truncate(at.index(bytes.len()));
        let (reading, _) = read(&bytes);
        prop_assert!(written.rows.starts_with(&reading.rows));
        prop_assert_eq!(reading.gaps, []);
    }

    #[test]
    fn a_damaged_segment_gives_a_prefix_and_is_seen(
        commits in commits(),
        at in any::<prop::sample::Index>(),
        flip in 1_u8..,
    ) {
        let (mut bytes, written) = segment(&commits);
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[at.index(end)] ^= flip;
        let (reading, passed) = read(&bytes);
        prop_assert!(written.rows.starts_with(&reading.rows));
        prop_assert!(reading.rows.len() < written.rows.len());
        prop_assert!(passed.bad_tail.is_some());
    }

    #[test]
    fn a_page_of_zeros_gives_a_prefix(commits in commits(), at in any::<prop::sample::Index>()) {
        let (mut bytes, written) = segment(&commits);
        let start = at.index(bytes.len());
        bytes[start..].iter_mut().take(512).for_each(|byte| *byte = 0);
        let (reading, _) = read(&bytes);
        prop_assert!(written.rows.starts_with(&reading.rows));
    }
}
