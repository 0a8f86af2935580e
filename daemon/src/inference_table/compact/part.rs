//! One Parquet file while it is written.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use edgeward_base::digest::{Digest, DigestHasher};
use edgeward_base::durable::{DurableFile, DurableFs, TEMPORARY_SUFFIX};
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentDate, SegmentKind, SegmentName};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

use super::super::gap::Gap;
use super::super::record::StoredRow;
use super::super::segment::{Runs, SealedSegment, file_name, folder};
use super::super::time::Arrival;
use super::gaps::GapColumns;
use super::rows::{DISTINCT, LOOKED_UP, PAYLOADS, RowColumns};
use super::{CompactError, Origin, gaps, rows};

/// Rows that are gathered before they are encoded.
const BATCH_ROWS: usize = 1_024;
/// Payload bytes that are gathered before they are encoded.
const BATCH_BYTES: usize = 1 << 20;
/// Rows and encoded bytes of a row group: what is held in memory until it is written.
const GROUP_ROWS: usize = 128 * 1_024;
const GROUP_BYTES: usize = 8 << 20;
/// Runs of sequences in one file. A file that would get more is finished, and another started.
const MOST_RUNS: usize = 64;

fn properties() -> WriterProperties {
    let path = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_max_row_group_bytes(Some(GROUP_BYTES))
        .set_created_by(concat!("edgeward ", env!("CARGO_PKG_VERSION")).to_owned());
    for name in DISTINCT {
        properties = properties.set_column_dictionary_enabled(path(name), false);
    }
    for name in PAYLOADS {
        properties = properties.set_column_statistics_enabled(path(name), EnabledStatistics::None);
    }
    for name in LOOKED_UP {
        properties = properties
            .set_column_bloom_filter_enabled(path(name), true)
            .set_column_bloom_filter_max_ndv(path(name), GROUP_ROWS as u64);
    }
    properties.build()
}

/// Appends to a file and hashes what it appends.
#[derive(Debug)]
struct Sink {
    file: Box<dyn DurableFile>,
    hasher: DigestHasher,
    size: u64,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.append(bytes)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "a handful at a time, and almost all are rows"
)]
enum Columns {
    Rows(RowColumns),
    Gaps(GapColumns),
}

impl Columns {
    fn finish(&mut self, schema: &SchemaRef) -> Result<RecordBatch, CompactError> {
        match self {
            Self::Rows(columns) => columns.finish(schema),
            Self::Gaps(columns) => columns.finish(schema),
        }
        .map_err(CompactError::Batch)
    }
}

/// Where a part belongs.
#[derive(Debug, Clone)]
pub(super) struct PartKey {
    pub(super) table: TableName,
    pub(super) kind: SegmentKind,
    /// Days since 1970-01-01.
    pub(super) day: i32,
}

/// One Parquet file while it is written.
pub(super) struct Part {
    key: PartKey,
    temporary: PathBuf,
    schema: SchemaRef,
    columns: Columns,
    writer: ArrowWriter<io::BufWriter<Sink>>,
    gathered: usize,
    gathered_bytes: usize,
    first: u64,
    last: u64,
    rows: u64,
    sequences: u64,
    runs: Runs,
}

impl Part {
    /// Whether a run that starts at `first` still has room: the account lists them.
    pub(super) fn has_room(&self, first: u64) -> bool {
        self.runs.count_with(first) <= MOST_RUNS
    }

    /// Whether rows or gaps of this table, kind and day belong here.
    pub(super) fn takes(&self, table: &TableName, kind: SegmentKind, day: i32) -> bool {
        self.key.day == day && self.key.kind == kind && self.key.table == *table
    }

    /// Starts the file under a temporary name: a hidden one, since pandas reads every file of a table's
    /// folder whose name does not start with a point or an underscore.
    pub(super) fn create(
        fs: &dyn DurableFs,
        tables: &Path,
        origin: &Origin,
        key: PartKey,
    ) -> Result<Self, CompactError> {
        let date = SegmentDate::of_days(key.day);
        let folder = tables.join(folder(&key.table, key.kind, &date));
        let temporary = folder.join(format!(".{}{TEMPORARY_SUFFIX}", origin.boot));
        let failed = |source| CompactError::Create {
            path: temporary.clone(),
            source,
        };
        fs.create_dir_all(&folder).map_err(failed)?;
        match fs.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let file = fs.create_new(&temporary).map_err(failed)?;
        let sink = Sink {
            file,
            hasher: DigestHasher::new(),
            size: 0,
        };
        let (schema, columns) = match key.kind {
            SegmentKind::Rows => (rows::schema(), Columns::Rows(RowColumns::new())),
            SegmentKind::Gaps => (
                gaps::schema(),
                Columns::Gaps(GapColumns::new(key.table.clone())),
            ),
        };
        let buffered = io::BufWriter::with_capacity(64 << 10, sink);
        let writer = ArrowWriter::try_new(buffered, Arc::clone(&schema), Some(properties()))
            .map_err(CompactError::Encode)?;
        Ok(Self {
            key,
            temporary,
            schema,
            columns,
            writer,
            gathered: 0,
            gathered_bytes: 0,
            first: u64::MAX,
            last: 0,
            rows: 0,
            sequences: 0,
            runs: Runs::default(),
        })
    }

    /// Adds a row; its sequence is above all before it.
    pub(super) fn add_row(
        &mut self,
        origin: &Origin,
        sequence: u64,
        arrival: Arrival,
        row: &StoredRow<'_>,
    ) -> Result<(), CompactError> {
        if let Columns::Rows(columns) = &mut self.columns {
            columns
                .append(origin, sequence, arrival, row)
                .map_err(CompactError::Batch)?;
        }
        self.gathered_bytes += row.request.map_or(0, str::len) + row.response.map_or(0, str::len);
        self.count(sequence, sequence, 1)
    }

    /// Adds a gap.
    pub(super) fn add_gap(&mut self, origin: &Origin, gap: &Gap<'_>) -> Result<(), CompactError> {
        if let Columns::Gaps(columns) = &mut self.columns {
            columns.append(origin, gap);
        }
        self.count(
            gap.first,
            gap.last.unwrap_or(gap.first),
            gap.rows.unwrap_or(0),
        )
    }

    fn count(&mut self, first: u64, last: u64, sequences: u64) -> Result<(), CompactError> {
        self.first = self.first.min(first);
        self.last = self.last.max(last);
        self.rows += 1;
        self.sequences += sequences;
        if sequences > 0 {
            self.runs.add(first, last);
        }
        self.gathered += 1;
        if self.gathered >= BATCH_ROWS || self.gathered_bytes >= BATCH_BYTES {
            self.encode()?;
        }
        Ok(())
    }

    fn encode(&mut self) -> Result<(), CompactError> {
        let batch = self.columns.finish(&self.schema)?;
        (self.gathered, self.gathered_bytes) = (0, 0);
        self.writer.write(&batch).map_err(CompactError::Encode)
    }

    /// Makes the file durable under its name.
    pub(super) fn finish(
        mut self,
        fs: &dyn DurableFs,
        boot: BootId,
    ) -> Result<SealedSegment, CompactError> {
        self.encode()?;
        let buffered = self.writer.into_inner().map_err(CompactError::Encode)?;
        let temporary = self.temporary;
        let failed = |source| CompactError::Finish {
            path: temporary.clone(),
            source,
        };
        let mut sink = buffered
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        sink.file.sync_all().map_err(failed)?;
        let (digest, size): (Digest, u64) = (sink.hasher.finish(), sink.size);
        drop(sink.file);
        let PartKey { table, kind, day } = self.key;
        let name = SegmentName {
            table,
            kind,
            boot,
            first: self.first,
            last: self.last,
        };
        let path = temporary.with_file_name(file_name(&name));
        fs.rename(&temporary, &path).map_err(failed)?;
        fs.sync_dir(edgeward_base::durable::parent(&path))
            .map_err(failed)?;
        Ok(SealedSegment {
            name,
            date: SegmentDate::of_days(day),
            rows: self.rows,
            sequences: self.sequences,
            size,
            digest,
            runs: self.runs.kept(),
            offered: false,
            keep: false,
            path,
        })
    }
}
