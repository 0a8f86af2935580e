//! What the keeper does first: bring what earlier boots left into order.
//!
//! ```text
//! account readable  --> files that it does not name are leftovers: removed
//!   "     damaged   --> set aside; the files that are there are taken into a new one
//! segments of the log in order --> compacted --> boot ended: clean with the mark, else power loss
//! ```
//!
//! Must never fail or hang: a boot that cannot be brought into order stays as it is until the next
//! start, is named in the report, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use edgeward_base::digest::Digest;
use edgeward_base::durable::{DurableFs, TEMPORARY_SUFFIX};
use edgeward_base::names::BootId;
use edgeward_wire::segment::{SegmentDate, SegmentKind, SegmentName};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::Serialize;

use super::super::gap::{Gap, GapCause};
use super::super::segment::{SealedSegment, parse_path};
use super::super::wal::{Replay as _, WalName, WalSegment};
use super::account::{Account, BootEnd};
use super::ledger::{Folders, KeepSegmentsError, Ledger};

/// Accounts of boots that have ended and landed are kept for so many boots.
const ACCOUNTS_KEPT: usize = 100;

/// What recovery found of one earlier boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecoveredBoot {
    /// Which.
    pub boot: BootId,
    /// How it ended.
    pub end: BootEnd,
    /// Segments of the write-ahead log that it left.
    pub wal_segments: usize,
    /// Sealed segments that recovery made of them.
    pub sealed: usize,
}

/// What was found when the row log was opened.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RecoveryReport {
    /// The boots that had left something to do.
    pub boots: Vec<RecoveredBoot>,
    /// Half-made files that were removed.
    pub leftovers: usize,
    /// Where damaged bytes were set aside.
    pub quarantined: Vec<PathBuf>,
    /// What could not be done; it is tried again at the next start.
    pub errors: Vec<String>,
}

impl RecoveryReport {
    fn note(&mut self, what: &str, error: &dyn std::error::Error) {
        let cause = error
            .source()
            .map(|cause| format!(": {cause}"))
            .unwrap_or_default();
        let line = format!("{what}: {error}{cause}");
        tracing::error!(%line, "row recovery");
        self.errors.push(line);
    }
}

/// What lies below `{rows}`.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    pub(in super::super) accounts: BTreeMap<BootId, PathBuf>,
    pub(in super::super) wal: BTreeMap<BootId, Vec<WalName>>,
    pub(in super::super) parquet: BTreeMap<BootId, Vec<(SegmentName, SegmentDate, PathBuf)>>,
    pub(in super::super) temporary: Vec<PathBuf>,
}

impl Found {
    /// The boots that have left anything.
    pub(in super::super) fn boots(&self) -> BTreeSet<BootId> {
        self.accounts
            .keys()
            .chain(self.wal.keys())
            .chain(self.parquet.keys())
            .copied()
            .collect()
    }
}

fn is_temporary(path: &Path) -> bool {
    path.as_os_str()
        .as_encoded_bytes()
        .ends_with(TEMPORARY_SUFFIX.as_bytes())
}

impl Ledger {
    /// Recovers every boot but the one that writes now.
    pub(in super::super) fn recover(&mut self) -> RecoveryReport {
        let mut report = RecoveryReport::default();
        let found = match find(self.fs.as_ref(), &self.folders) {
            Ok(found) => found,
            Err(error) => {
                report.note("the row folders cannot be read", &error);
                return report;
            }
        };
        for path in &found.temporary {
            match self.remove(path) {
                Ok(()) => report.leftovers += 1,
                Err(error) => report.note(&path.display().to_string(), &error),
            }
        }
        for boot in found.boots() {
            if boot != self.boot
                && let Err(error) = self.recover_boot(boot, &found, &mut report)
            {
                report.note(&format!("boot {boot}"), &error);
            }
        }
        self.forget_old_accounts(&mut report);
        report.quarantined.clone_from(&self.quarantined);
        report
    }

    fn recover_boot(
        &mut self,
        boot: BootId,
        found: &Found,
        report: &mut RecoveryReport,
    ) -> Result<(), KeepSegmentsError> {
        let wal = found.wal.get(&boot).map_or(&[][..], Vec::as_slice);
        let files = found.parquet.get(&boot).map_or(&[][..], Vec::as_slice);
        let account = found.accounts.get(&boot);
        match account
            .map(|path| self.read_account(boot, path))
            .transpose()?
        {
            Some(Some(account)) => {
                self.accounts.insert(boot, account);
                report.leftovers += self.remove_leftovers(boot, files)?;
            }
            // Before the first commit of its account a boot has only leftovers; its log is whole.
            None if !wal.is_empty() => report.leftovers += self.remove_leftovers(boot, files)?,
            damaged => {
                if let Some(path) = account.filter(|_| damaged.is_some()) {
                    self.set_file_aside(path)?;
                }
                self.adopt(boot, files)?;
            }
        }
        let mut sealed = self.replace_missing(boot)?;
        for name in wal {
            sealed += self.compact(WalSegment {
                name: *name,
                committed: None,
            })?;
        }
        let ended = self.accounts.get(&boot).map(|account| account.end);
        sealed += self.end(boot, None)?;
        if !wal.is_empty() || ended == Some(BootEnd::Running) || sealed > 0 {
            let end = self.account(boot).end;
            let wal_segments = wal.len();
            report.boots.push(RecoveredBoot {
                boot,
                end,
                wal_segments,
                sealed,
            });
        }
        Ok(())
    }

    fn read_account(
        &self,
        boot: BootId,
        path: &Path,
    ) -> Result<Option<Account>, KeepSegmentsError> {
        let bytes = self.fs.read(path).map_err(KeepSegmentsError::Read)?;
        Ok(Account::parse(boot, &bytes))
    }

    fn remove_leftovers(
        &self,
        boot: BootId,
        files: &[(SegmentName, SegmentDate, PathBuf)],
    ) -> Result<usize, KeepSegmentsError> {
        let account = self.accounts.get(&boot);
        let named = |name: &SegmentName, date: &SegmentDate| {
            account.is_some_and(|account| {
                account
                    .segments
                    .iter()
                    .any(|known| known.name == *name && known.date == *date)
            })
        };
        let leftovers = files.iter().filter(|(name, date, _)| !named(name, date));
        let mut count = 0;
        for (_, _, path) in leftovers {
            self.remove(path)?;
            count += 1;
        }
        Ok(count)
    }

    /// Opens an account for files whose own account is lost. What had landed before is not known
    /// any more; the sequences before the first file are not held to be missing.
    fn adopt(
        &mut self,
        boot: BootId,
        files: &[(SegmentName, SegmentDate, PathBuf)],
    ) -> Result<(), KeepSegmentsError> {
        let mut account = self.account(boot);
        let mut damaged = Vec::new();
        for (name, date, path) in files {
            let table = account.tables.entry(name.table.clone()).or_default();
            table.last = table.last.max(name.last);
            match adopted(name, date, path) {
                Ok(segment) => account.segments.push(segment),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a sealed segment is damaged");
                    self.set_file_aside(path)?;
                    damaged.push((name, None));
                }
            }
        }
        self.replace(account, &damaged)?;
        Ok(())
    }

    /// Puts gaps in the place of segments that are gone or not as long as they were.
    fn replace_missing(&mut self, boot: BootId) -> Result<usize, KeepSegmentsError> {
        let Some(account) = self.accounts.get(&boot).cloned() else {
            return Ok(0);
        };
        let mut missing = Vec::new();
        for segment in &account.segments {
            let path = self.placed(segment).path;
            match std::fs::metadata(&path) {
                Ok(metadata) if metadata.len() == segment.size => continue,
                Ok(_) => self.set_file_aside(&path)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(KeepSegmentsError::Read(error)),
            }
            missing.push((&segment.name, Some(segment.sequences)));
        }
        if missing.is_empty() {
            Ok(0)
        } else {
            self.replace(account.clone(), &missing)
        }
    }

    /// Puts a gap in the place of a segment whose content is damaged, and sets its file aside.
    pub(in super::super) fn set_aside(
        &mut self,
        name: &SegmentName,
    ) -> Result<usize, KeepSegmentsError> {
        let Some(account) = self.accounts.get(&name.boot).cloned() else {
            return Ok(0);
        };
        let Some(segment) = account
            .segments
            .iter()
            .find(|segment| segment.name == *name)
            .cloned()
        else {
            return Ok(0);
        };
        let sealed = self.replace(account, &[(name, Some(segment.sequences))])?;
        if name.kind == SegmentKind::Rows {
            self.set_file_aside(&self.placed(&segment).path)?;
        }
        Ok(sealed)
    }

    /// Replaces segments by gaps of so many rows.
    fn replace(
        &mut self,
        mut account: Account,
        damaged: &[(&SegmentName, Option<u64>)],
    ) -> Result<usize, KeepSegmentsError> {
        let mut compaction = self.compaction(account.boot);
        for (name, rows) in damaged {
            let gap = Gap {
                endpoint: None,
                cause: GapCause::CorruptTail,
                first: name.first,
                last: Some(name.last),
                rows: *rows,
                bytes: None,
                times_us: None,
            };
            compaction
                .gap(&name.table, &gap)
                .map_err(KeepSegmentsError::Compact)?;
            account.segments.retain(|segment| segment.name != **name);
        }
        let sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        let count = sealed.len();
        let position = account.position();
        account.enter(sealed, &position);
        self.commit(account)?;
        Ok(count)
    }

    /// Drops the oldest accounts of boots that have nothing left to land.
    fn forget_old_accounts(&mut self, report: &mut RecoveryReport) {
        let mut done: Vec<_> = self
            .accounts
            .values()
            .filter(|account| account.end != BootEnd::Running && account.segments.is_empty())
            .map(|account| (account.opened_us, account.boot))
            .collect();
        done.sort_unstable();
        let too_many = done.len().saturating_sub(ACCOUNTS_KEPT);
        for (_, boot) in done.into_iter().take(too_many) {
            match self.remove(&Account::path(&self.folders.account, boot)) {
                Ok(()) => drop(self.accounts.remove(&boot)),
                Err(error) => report.note(&format!("account of boot {boot}"), &error),
            }
        }
    }
}

/// Lists what lies below `{rows}`.
pub(in super::super) fn find(fs: &dyn DurableFs, folders: &Folders) -> io::Result<Found> {
    let mut found = Found::default();
    for path in fs.list(&folders.account)? {
        match Account::boot_of(&path) {
            Some(boot) => drop(found.accounts.insert(boot, path)),
            None if is_temporary(&path) => found.temporary.push(path),
            None => {}
        }
    }
    for name in fs
        .list(&folders.wal)?
        .iter()
        .filter_map(|path| WalName::of_path(path))
    {
        found.wal.entry(name.boot).or_default().push(name);
    }
    let quarantined = fs.list(&folders.quarantine)?;
    found
        .temporary
        .extend(quarantined.into_iter().filter(|path| is_temporary(path)));
    let tables = &folders.parquet;
    // catalog, schema, table, day: files stand at the fifth level.
    let mut level = vec![tables.clone()];
    for _ in 0..5 {
        let above = std::mem::take(&mut level);
        for folder in above {
            match fs.list(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {}
                entries => level.extend(entries?),
            }
        }
    }
    for path in level {
        let name = path.strip_prefix(tables).ok().and_then(parse_path);
        if let Some((name, date)) = name {
            found
                .parquet
                .entry(name.boot)
                .or_default()
                .push((name, date, path));
        } else if is_temporary(&path) {
            found.temporary.push(path);
        }
    }
    Ok(found)
}

/// What a file says of itself.
fn adopted(name: &SegmentName, date: &SegmentDate, path: &Path) -> io::Result<SealedSegment> {
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    let parquet = ParquetRecordBatchReaderBuilder::try_new(file).map_err(io::Error::other)?;
    let rows = parquet.metadata().file_metadata().num_rows();
    let rows = u64::try_from(rows).map_err(io::Error::other)?;
    let span = name.last - name.first + 1;
    Ok(SealedSegment {
        name: name.clone(),
        date: date.clone(),
        rows,
        sequences: if name.kind == SegmentKind::Rows {
            rows
        } else {
            span
        },
        size,
        digest: Digest::of_file(path)?,
        path: path.to_owned(),
    })
}
