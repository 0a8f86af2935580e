//! What the keeper owns: the accounts, and the files that they name.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use edgeward_base::clock::SharedClock;
use edgeward_base::durable::{SharedFs, is_unreadable, parent, write_atomic};
use edgeward_base::names::{BootId, DeviceId, EndpointName, TableName};
use edgeward_wire::segment::SegmentName;

use super::super::compact::{CompactError, Compaction, Origin};
use super::super::gap::{Gap, Losses};
use super::super::segment::{SealedSegment, parse_path, path_of};
use super::super::time::{Correction, plausible};
use super::super::wal::{Position, Replay as _, WalName, WalSegment, replay};
use super::account::{Account, BootEnd, TableAccount};
use super::ballast::{RowBallast, is_full};

/// Segments of the log that wait for the clock to be set: at most an hour of a box that is idle, and
/// 48 MiB of one that is not.
const MOST_UNDATED: usize = 6;

/// How a segment with a bad sector is read: what is lost before the sector is less than this.
const READ_STEP: usize = 4 << 10;

/// Why a change of the sealed segments did not happen. The state on disk is as before, or the
/// next try or start brings it there.
#[derive(Debug, thiserror::Error)]
pub enum KeepSegmentsError {
    /// The log could not be read.
    #[error("cannot read the row log")]
    Read(#[source] io::Error),
    /// Damaged bytes could not be set aside.
    #[error("cannot set damaged rows aside")]
    Quarantine(#[source] io::Error),
    /// What was reserved and never written could not be given back.
    #[error("cannot shorten a segment of the row log")]
    Trim(#[source] io::Error),
    /// The Parquet files could not be made.
    #[error("cannot compact the row log")]
    Compact(#[source] CompactError),
    /// The account could not be written.
    #[error("cannot write the account of rows")]
    Account(#[source] io::Error),
    /// A file that is not needed any more could not be removed.
    #[error("cannot remove a spent file")]
    Remove(#[source] io::Error),
    /// There is no such segment: it has landed, or has gone to make room.
    #[error("no segment {0} is sealed")]
    Unknown(SegmentName),
    /// A bug, or a file that is worse than any that was thought of.
    #[error("keeping rows panicked: {0}")]
    Panicked(String),
}

/// The folders below `{rows}`.
#[derive(Debug, Clone)]
pub(in super::super) struct Folders {
    pub(in super::super) wal: PathBuf,
    pub(in super::super) parquet: PathBuf,
    pub(in super::super) quarantine: PathBuf,
    pub(in super::super) account: PathBuf,
}

impl Folders {
    pub(in super::super) fn of(rows: &Path) -> Self {
        Self {
            wal: rows.join("wal"),
            parquet: rows.join("parquet"),
            quarantine: rows.join("quarantine"),
            account: rows.join("account"),
        }
    }
}

/// What could be read of a segment of the log.
#[derive(Debug)]
pub(super) struct LogBytes {
    pub(super) bytes: Vec<u8>,
    /// Whether there is more, which the disk does not give.
    pub(super) unreadable: bool,
}

/// What `read` gives from the start on, up to its end or its first failure.
pub(super) fn readable_start(mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>) -> Vec<u8> {
    let (mut bytes, mut step) = (Vec::new(), vec![0; READ_STEP]);
    while let Ok(length) = read(&mut step, bytes.len() as u64)
        && length > 0
    {
        bytes.extend_from_slice(step.get(..length).unwrap_or_default());
    }
    bytes
}

/// The accounts of all boots, and what it takes to change them.
#[derive(Debug)]
pub(in super::super) struct Ledger {
    pub(super) fs: SharedFs,
    pub(super) clock: SharedClock,
    pub(super) folders: Folders,
    pub(super) device: DeviceId,
    /// The boot that writes now.
    pub(super) boot: BootId,
    pub(super) accounts: BTreeMap<BootId, Account>,
    /// The ordinals of earlier boots that have no account yet; recovery gives them.
    pub(super) ordinals: BTreeMap<BootId, u32>,
    /// That of the boot that writes now; 0 until recovery has counted.
    pub(super) ordinal: Arc<AtomicU32>,
    /// How the clocks of boots are corrected, where that is known.
    pub(super) corrections: BTreeMap<BootId, Correction>,
    /// Earlier boots whose rows may be dated once the clock is set, with their logs.
    pub(super) undated: Vec<(BootId, Vec<WalName>)>,
    /// Earlier boots that could not be brought into order yet.
    pub(super) failed: BTreeSet<BootId>,
    /// Whether what earlier boots left has been listed.
    pub(super) listed: bool,
    /// Bad tails that were set aside since the start.
    pub(super) quarantined: Vec<PathBuf>,
    /// What the sealed files of boots take that are left to a later version: no account here names
    /// them.
    pub(super) foreign: u64,
    /// Tables whose rows are never given up.
    pub(super) stops: BTreeSet<TableName>,
    /// What is given up so that a full disk takes an account.
    pub(super) ballast: RowBallast,
}

impl Ledger {
    pub(in super::super) fn new(
        fs: SharedFs,
        clock: SharedClock,
        folders: Folders,
        device: DeviceId,
        boot: BootId,
    ) -> Self {
        Self {
            ballast: RowBallast::new(Arc::clone(&fs), parent(&folders.account)),
            fs,
            clock,
            folders,
            device,
            boot,
            accounts: BTreeMap::new(),
            ordinals: BTreeMap::new(),
            ordinal: Arc::default(),
            corrections: BTreeMap::new(),
            undated: Vec::new(),
            failed: BTreeSet::new(),
            listed: false,
            quarantined: Vec::new(),
            foreign: 0,
            stops: BTreeSet::new(),
        }
    }

    /// Which boot of this box writes now, once recovery has counted.
    pub(in super::super) fn ordinal(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.ordinal)
    }

    /// The sealed segments that have not landed, oldest boot first.
    pub(in super::super) fn sealed(&self) -> Vec<SealedSegment> {
        let mut accounts: Vec<_> = self.accounts.values().collect();
        accounts.sort_by_key(|account| account.age());
        let segments = accounts.into_iter().flat_map(|account| &account.segments);
        segments.map(|segment| self.placed(segment)).collect()
    }

    pub(super) fn placed(&self, segment: &SealedSegment) -> SealedSegment {
        let path = self
            .folders
            .parquet
            .join(path_of(&segment.name, &segment.date));
        SealedSegment {
            path,
            ..segment.clone()
        }
    }

    /// Whether compaction had better wait: the clock is wrong and may soon be set, which dates the
    /// rows that wait. `waiting` segments of the log, and those of earlier boots, are no more than
    /// the disk can spare.
    pub(in super::super) fn awaits_clock(&self, waiting: usize) -> bool {
        let undated: usize = self.undated.iter().map(|(_, wal)| wal.len()).sum();
        waiting + undated <= MOST_UNDATED && !plausible(self.clock.wall_micros())
    }

    /// Whether logs of earlier boots wait for the clock.
    pub(in super::super) fn has_undated(&self) -> bool {
        !self.undated.is_empty()
    }

    /// Turns a segment of the log into sealed segments, and removes it.
    ///
    /// Segments of one boot have to come in their order.
    pub(in super::super) fn compact(
        &mut self,
        segment: WalSegment,
    ) -> Result<usize, KeepSegmentsError> {
        let compacted = self.try_compact(segment);
        compacted.inspect_err(|_| self.sweep(segment.name.boot))
    }

    fn try_compact(&mut self, segment: WalSegment) -> Result<usize, KeepSegmentsError> {
        let WalSegment { name, committed } = segment;
        let path = name.path(&self.folders.wal);
        let mut account = self.account(name.boot);
        if name.number <= account.compacted {
            self.remove(&path)?;
            return Ok(0);
        }
        let LogBytes {
            mut bytes,
            unreadable,
        } = self.read_log(name)?;
        if let Some(committed) = committed.and_then(|committed| usize::try_from(committed).ok()) {
            bytes.truncate(committed);
        }
        if name.boot == self.boot
            && let Some(correction) = Correction::now(self.clock.as_ref())
        {
            self.corrections.insert(name.boot, correction);
        }
        let mut position = account.position();
        let mut compaction = self.compaction(name.boot);
        let passed = replay(name, &bytes, &mut position, &mut compaction)
            .map_err(KeepSegmentsError::Compact)?;
        let mut sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        self.mark_kept(&mut sealed);
        let mut aside = unreadable;
        if let Some(offset) = passed.bad_tail {
            match self.set_tail_aside(name, offset, &bytes) {
                // There is no room for a copy of the tail: then the file itself stays.
                Err(error) if is_full(&error) => aside = true,
                set => set?,
            }
        }
        let count = sealed.len();
        account.enter(sealed, &position);
        if passed.bad_tail.is_some() && account.tables.is_empty() {
            // Nobody knows whose rows these were: an open gap of this table will stand for them.
            account
                .tables
                .insert(TableName::unmatched(), TableAccount::default());
        }
        account.compacted = name.number;
        if passed.closed {
            account.end = BootEnd::Clean;
        }
        self.commit(account)?;
        if aside {
            self.set_file_aside(&path)?;
        } else {
            self.remove(&path)?;
        }
        Ok(count)
    }

    /// Reads a segment of the log; of one with a bad sector, what comes before it.
    pub(super) fn read_log(&self, name: WalName) -> Result<LogBytes, KeepSegmentsError> {
        let path = name.path(&self.folders.wal);
        let (bytes, unreadable) = match self.fs.read(&path) {
            // What is gone leaves a jump of sequences, which the next segment shows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => (Vec::new(), false),
            Err(error) if is_unreadable(&error) => {
                tracing::error!(%error, segment = %name, "a row segment cannot be read to its end");
                let file = File::open(&path).map_err(KeepSegmentsError::Read)?;
                (readable_start(|buffer, at| file.read_at(buffer, at)), true)
            }
            read => (read.map_err(KeepSegmentsError::Read)?, false),
        };
        Ok(LogBytes { bytes, unreadable })
    }

    /// Ends a boot whose log is compacted: `clean`, with `last` as the sequences that each table
    /// has come to, or not. Answers how many segments that made.
    pub(in super::super) fn end(
        &mut self,
        boot: BootId,
        clean: Option<&Position>,
    ) -> Result<usize, KeepSegmentsError> {
        let mut account = match self.accounts.get(&boot) {
            Some(account) if account.end == BootEnd::Running => account.clone(),
            // No account: the boot never logged a row.
            _ => return Ok(0),
        };
        let mut position = account.position();
        let mut compaction = self.compaction(boot);
        match clean {
            Some(last) => {
                for (table, next) in last.iter() {
                    position
                        .jump(table, next, &mut compaction)
                        .map_err(KeepSegmentsError::Compact)?;
                }
                account.end = BootEnd::Clean;
            }
            None => {
                for (table, next) in position.iter() {
                    compaction
                        .add_open_gap(table, next)
                        .map_err(KeepSegmentsError::Compact)?;
                }
                account.end = BootEnd::PowerLoss;
            }
        }
        let sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        let count = sealed.len();
        account.enter(sealed, &position);
        self.commit(account)?;
        Ok(count)
    }

    /// Ends the boot that writes now: its log is compacted, `last` is what each table has come to,
    /// and `losses` are of rows after that, which the log did not take. It has ended cleanly only
    /// when that is `complete`. Answers how many segments that made.
    pub(in super::super) fn close(
        &mut self,
        last: &Position,
        losses: &Losses,
        complete: bool,
    ) -> Result<usize, KeepSegmentsError> {
        let boot = self.boot;
        match (losses.is_empty(), complete) {
            (true, true) => return self.end(boot, Some(last)),
            (true, false) => return Ok(0),
            (false, _) => {}
        }
        let closed = match self.try_close(last, losses, complete) {
            // What counts rows is never given up for want of room.
            Err(error) if is_full(&error) && self.ballast.release() => {
                self.try_close(last, losses, complete)
            }
            closed => closed,
        };
        closed.inspect_err(|_| self.sweep(boot))
    }

    fn try_close(
        &mut self,
        last: &Position,
        losses: &Losses,
        complete: bool,
    ) -> Result<usize, KeepSegmentsError> {
        // A boot of which the log took nothing has no account yet.
        let mut account = self.account(self.boot);
        let mut position = account.position();
        let mut compaction = self.compaction(self.boot);
        for (table, next) in last.iter() {
            position
                .jump(table, next, &mut compaction)
                .map_err(KeepSegmentsError::Compact)?;
        }
        let places = position.iter().map(|(table, next)| (table.clone(), next));
        let mut places: BTreeMap<TableName, u64> = places.collect();
        for (key, lost) in losses.iter() {
            let next = places.entry(key.table.clone()).or_insert(1);
            let gap = Gap {
                endpoint: key.endpoint.as_ref().map(EndpointName::as_str),
                cause: key.cause,
                first: *next,
                last: Some(*next + lost.rows - 1),
                rows: Some(lost.rows),
                bytes: Some(lost.bytes),
                times_us: Some((lost.first_us, lost.last_us)),
            };
            compaction
                .gap(&key.table, &gap)
                .map_err(KeepSegmentsError::Compact)?;
            *next += lost.rows;
        }
        let sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        let count = sealed.len();
        account.enter(sealed, &places.into_iter().collect());
        if complete {
            account.end = BootEnd::Clean;
        }
        self.commit(account)?;
        Ok(count)
    }

    /// Deletes a segment that has landed; one that is not there has been deleted before.
    pub(in super::super) fn land(&mut self, name: &SegmentName) -> Result<(), KeepSegmentsError> {
        let Some(mut account) = self.accounts.get(&name.boot).cloned() else {
            return Ok(());
        };
        let Some(segment) = account.land(name) else {
            return Ok(());
        };
        let path = self.placed(&segment).path;
        match self.commit(account.clone()) {
            // Its file makes the room. Should the power go in between, one that was offered and is
            // gone is not held to be lost: the registry is asked, and answers with its receipt.
            Err(error) if is_full(&error) && segment.offered => {
                self.remove_sealed(&path)?;
                self.commit(account)
            }
            committed => committed.and_then(|()| self.remove_sealed(&path)),
        }
    }

    /// Notes durably that a segment may have landed from now on: called before its last bytes are
    /// sent. Of one that is not there none may be.
    pub(in super::super) fn mark_offered(
        &mut self,
        name: &SegmentName,
    ) -> Result<(), KeepSegmentsError> {
        let unknown = || KeepSegmentsError::Unknown(name.clone());
        let mut account = self.accounts.get(&name.boot).cloned().ok_or_else(unknown)?;
        if account.mark_offered(name).ok_or_else(unknown)? {
            self.commit(account)?;
        }
        Ok(())
    }

    /// The account of a boot, or a new one.
    pub(super) fn account(&self, boot: BootId) -> Account {
        let own = || self.ordinal.load(Ordering::Relaxed);
        let ordinal = self.ordinals.get(&boot).copied().unwrap_or_else(own);
        let open = || Account::open(boot, ordinal, self.clock.wall_micros());
        self.accounts.get(&boot).cloned().unwrap_or_else(open)
    }

    pub(super) fn compaction(&self, boot: BootId) -> Compaction<'_> {
        let origin = Origin::new(&self.device, boot);
        let now_us = self.clock.wall_micros();
        let correction = self.corrections.get(&boot).copied().unwrap_or_default();
        Compaction::new(self.fs.as_ref(), &self.folders.parquet, origin, now_us)
            .corrected_by(correction)
    }

    /// Makes an account the one that counts.
    pub(super) fn commit(&mut self, account: Account) -> Result<(), KeepSegmentsError> {
        let write = || {
            self.fs
                .create_dir_all(&self.folders.account)
                .and_then(|()| account.write(self.fs.as_ref(), &self.folders.account))
        };
        match write() {
            // Without an account nothing could be deleted from a full disk. It goes into another
            // new file: what failed is not tried again.
            Err(error) if is_full(&error) && self.ballast.release() => write(),
            written => written,
        }
        .map_err(KeepSegmentsError::Account)?;
        self.accounts.insert(account.boot, account);
        Ok(())
    }

    /// Removes a file durably, if it is there.
    pub(super) fn remove(&self, path: &Path) -> Result<(), KeepSegmentsError> {
        match self.fs.remove(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed
                .and_then(|()| self.fs.sync_dir(parent(path)))
                .map_err(KeepSegmentsError::Remove),
        }
    }

    /// Removes a file of rows or gaps, and the folder of its day if that is empty now.
    pub(super) fn remove_sealed(&self, path: &Path) -> Result<(), KeepSegmentsError> {
        self.remove(path)?;
        // One with other files in it stays; the next file of that day makes it anew.
        drop(std::fs::remove_dir(parent(path)));
        Ok(())
    }

    /// Copies what follows the good part of a segment of the log into quarantine.
    fn set_tail_aside(
        &mut self,
        name: WalName,
        offset: usize,
        bytes: &[u8],
    ) -> Result<(), KeepSegmentsError> {
        let tail = bytes.get(offset..).unwrap_or_default();
        let length = tail
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        let path = self
            .folders
            .quarantine
            .join(format!("{name}.from-{offset}"));
        self.fs
            .create_dir_all(&self.folders.quarantine)
            .and_then(|()| {
                write_atomic(
                    self.fs.as_ref(),
                    &path,
                    tail.get(..length).unwrap_or_default(),
                )
            })
            .map_err(KeepSegmentsError::Quarantine)?;
        tracing::warn!(segment = %name, offset, bytes = length, "damaged rows are set aside");
        self.quarantined.push(path);
        Ok(())
    }

    /// What a file is called in quarantine. Segments of several tables and days have one name.
    fn name_aside(&self, path: &Path) -> OsString {
        let name = path.file_name().unwrap_or_default();
        let below = path.strip_prefix(&self.folders.parquet);
        let Some((segment, date)) = below.ok().and_then(parse_path) else {
            return name.to_owned();
        };
        let mut aside = OsString::from(format!(
            "{}_{}-{date}-",
            segment.table,
            segment.kind.suffix()
        ));
        aside.push(name);
        aside
    }

    /// Moves a whole file into quarantine, if it is there.
    pub(super) fn set_file_aside(&mut self, path: &Path) -> Result<(), KeepSegmentsError> {
        let aside = self.folders.quarantine.join(self.name_aside(path));
        let moved = self
            .fs
            .create_dir_all(&self.folders.quarantine)
            .and_then(|()| self.fs.rename(path, &aside));
        match moved {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved
                .and_then(|()| self.fs.sync_dir(&self.folders.quarantine))
                .and_then(|()| self.fs.sync_dir(parent(path)))
                .map_err(KeepSegmentsError::Quarantine)?,
        }
        tracing::warn!(file = %aside.display(), "a damaged file is set aside");
        self.quarantined.push(aside);
        Ok(())
    }
}
