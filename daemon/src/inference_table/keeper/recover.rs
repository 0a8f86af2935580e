//! What the keeper does first: bring what earlier boots left into order.
//!
//! ```text
//! account readable  --> files that it does not name are leftovers: removed
//!   "     damaged   --> set aside; the files that are there are taken into a new one
//!   "     gone      --> the same; but what the log still holds is compacted from there
//! zeros behind the log of each --> cut, before the first boot is recovered
//! segments of the log in order --> compacted --> boot ended: clean with the mark, else power loss
//!                              \--> rows of 1970, same start of the machine: wait for the clock
//! ```
//!
//! Boot by boot, so that room is made in between. Must never fail or hang: a boot that cannot be
//! brought into order is named in the report and tried again later, and the others go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use edgeward_base::durable::{DurableFs, TEMPORARY_SUFFIX};
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentDate, SegmentName};
use serde::Serialize;

use super::super::segment::parse_path;
use super::super::time::Correction;
use super::super::wal::{Start, WalName, WalSegment, read_start};
use super::account::{Account, BootEnd, ParseAccountError};
use super::catch;
use super::ledger::{Folders, KeepSegmentsError, Ledger};

#[cfg(test)]
mod tests;

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
    /// Files that a later version of this program wrote: left as they are, with their whole boot.
    pub foreign: Vec<PathBuf>,
    /// What could not be done yet; it is tried again, after a while and at the next start.
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

    /// Adds what another try found: what it could not do is all that is still to do.
    pub(super) fn follow(&mut self, again: Self) {
        self.boots.extend(again.boots);
        self.leftovers += again.leftovers;
        self.quarantined = again.quarantined;
        for path in again.foreign {
            if !self.foreign.contains(&path) {
                self.foreign.push(path);
            }
        }
        self.errors = again.errors;
    }

    /// Sealed segments that were made.
    pub(super) fn sealed(&self) -> usize {
        self.boots.iter().map(|boot| boot.sealed).sum()
    }
}

/// Recovery on its way.
#[derive(Debug, Default)]
pub(in super::super) struct Recovery {
    found: Found,
    /// Whose accounts are damaged.
    damaged: BTreeSet<BootId>,
    /// Boots that have not had their turn.
    boots: VecDeque<BootId>,
    report: RecoveryReport,
}

/// What lies below `{rows}`.
#[derive(Debug, Default)]
pub(in super::super) struct Found {
    pub(in super::super) accounts: BTreeMap<BootId, PathBuf>,
    pub(in super::super) wal: BTreeMap<BootId, Vec<WalName>>,
    pub(in super::super) parquet: BTreeMap<BootId, Vec<(SegmentName, SegmentDate, PathBuf)>>,
    pub(in super::super) temporary: Vec<PathBuf>,
    /// Folders of days without a file.
    empty: Vec<PathBuf>,
}

impl Found {
    /// Leaves the other boots out.
    fn retain(&mut self, stays: impl Fn(&BootId) -> bool) {
        self.accounts.retain(|boot, _| stays(boot));
        self.wal.retain(|boot, _| stays(boot));
        self.parquet.retain(|boot, _| stays(boot));
    }

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
    /// Recovers every boot but the one that writes now, or those where that failed before.
    #[cfg(test)]
    pub(in super::super) fn recover(&mut self) -> RecoveryReport {
        let mut recovery = self.start_recovery();
        while self.recover_next(&mut recovery) {}
        self.finish_recovery(recovery)
    }

    /// Whether recovery has something left to do.
    pub(in super::super) fn is_recovering(&self) -> bool {
        !self.listed || !self.failed.is_empty()
    }

    /// Reads the accounts of every boot but the one that writes now, or of those whose recovery
    /// failed before.
    pub(in super::super) fn start_recovery(&mut self) -> Recovery {
        let mut report = RecoveryReport::default();
        let again = self.listed.then(|| self.failed.clone());
        let (back, away) = self.take_back();
        if let Err(error) = &back {
            report.note("rows that a rollback took away stay there", error);
        }
        let mut found = match find(self.fs.as_ref(), &self.folders) {
            Ok(found) => found,
            Err(error) => {
                report.note("the row folders cannot be read", &error);
                return Recovery {
                    report,
                    ..Recovery::default()
                };
            }
        };
        self.listed = back.is_ok();
        let due = |boot: &BootId| again.as_ref().is_none_or(|again| again.contains(boot));
        found.retain(|boot| !away.contains(boot) && due(boot));
        for path in &found.temporary {
            match self.remove(path) {
                Ok(()) => report.leftovers += 1,
                Err(error) => report.note(&path.display().to_string(), &error),
            }
        }
        for folder in &found.empty {
            // What is not empty after all stays.
            drop(std::fs::remove_dir(folder));
        }
        let mut damaged = BTreeSet::new();
        let boots = self.load_accounts(&found, &mut damaged, &mut report);
        self.trim_logs(&boots, &found);
        let before = again.map_or(0, |_| self.foreign);
        self.foreign = before + self.foreign_bytes(&boots, &found);
        self.number_boots(&boots, &found);
        self.failed.extend(&boots);
        Recovery {
            found,
            damaged,
            boots: boots.into(),
            report,
        }
    }

    /// Brings the next boot into order. Answers whether there was one.
    pub(super) fn recover_next(&mut self, recovery: &mut Recovery) -> bool {
        let Some(boot) = recovery.boots.pop_front() else {
            return false;
        };
        let Recovery {
            found,
            damaged,
            report,
            ..
        } = recovery;
        let recovered = catch(|| self.recover_boot(boot, damaged.contains(&boot), found, report));
        match recovered.and_then(|recovered| recovered) {
            Ok(()) => drop(self.failed.remove(&boot)),
            Err(error) => report.note(&format!("boot {boot}"), &error),
        }
        true
    }

    /// What recovery found.
    pub(super) fn finish_recovery(&mut self, recovery: Recovery) -> RecoveryReport {
        let mut report = recovery.report;
        self.forget_old_accounts(&mut report);
        report.quarantined.clone_from(&self.quarantined);
        report
    }

    /// Reads the accounts of earlier boots. Answers the boots that can be brought into order, and
    /// which of their accounts are damaged.
    fn load_accounts(
        &mut self,
        found: &Found,
        damaged: &mut BTreeSet<BootId>,
        report: &mut RecoveryReport,
    ) -> Vec<BootId> {
        let mut boots = Vec::new();
        for boot in found.boots() {
            if boot == self.boot {
                continue;
            }
            if let Some(path) = found.accounts.get(&boot) {
                match self.fs.read(path).map(|bytes| Account::parse(boot, &bytes)) {
                    Ok(Ok(account)) => drop(self.accounts.insert(boot, account)),
                    Ok(Err(ParseAccountError::Damaged)) => drop(damaged.insert(boot)),
                    Ok(Err(ParseAccountError::Newer)) => {
                        report.foreign.push(path.clone());
                        continue;
                    }
                    Err(error) => {
                        report.note(&path.display().to_string(), &error);
                        self.failed.insert(boot);
                        continue;
                    }
                }
            }
            boots.push(boot);
        }
        boots
    }

    /// What the sealed files take of boots that are left to a later version.
    fn foreign_bytes(&self, boots: &[BootId], found: &Found) -> u64 {
        let known = |boot: &BootId| {
            *boot == self.boot || boots.contains(boot) || self.failed.contains(boot)
        };
        let foreign = found.parquet.iter().filter(|(boot, _)| !known(boot));
        let paths = foreign.flat_map(|(_, files)| files.iter().map(|(_, _, path)| path));
        let sizes = paths.filter_map(|path| self.fs.size(path).ok());
        sizes.map(|size| size.0).sum()
    }

    /// Numbers the boots that were not counted, and after them the one that writes now.
    fn number_boots(&mut self, boots: &[BootId], found: &Found) {
        let mut uncounted = Vec::new();
        for boot in boots {
            if !self.accounts.contains_key(boot) {
                let wal = found.wal.get(boot).map_or(&[][..], Vec::as_slice);
                match wal.iter().find_map(|name| self.ordinal_in(*name)) {
                    Some(ordinal) => drop(self.ordinals.insert(*boot, ordinal)),
                    None => uncounted.push(*boot),
                }
            }
        }
        let accounts = self.accounts.values().map(|account| account.ordinal);
        let known = accounts.chain(self.ordinals.values().copied());
        let mut highest = known.max().unwrap_or(0);
        for boot in uncounted {
            highest += 1;
            self.ordinals.insert(boot, highest);
        }
        // Counted once: a later try recovers boots before the one that writes now.
        let own = self.ordinal.load(Ordering::Relaxed);
        if own == 0 {
            self.ordinal.store(highest + 1, Ordering::Relaxed);
        }
    }

    /// The ordinal that a segment of the log names. Whatever the file does to who reads it, its boot
    /// is named in the report when it has its turn.
    fn ordinal_in(&self, name: WalName) -> Option<u32> {
        let path = name.path(&self.folders.wal);
        let bytes = catch(|| self.fs.read(&path)).ok()?.ok()?;
        match read_start(name, &bytes) {
            Start::Good { opening, .. } => Some(opening.ordinal).filter(|ordinal| *ordinal > 0),
            _ => None,
        }
    }

    /// Finds out how the clock of a boot was wrong, from what is left of its log and from the clock
    /// of the machine. Answers whether the latter may still tell.
    fn date_rows(&mut self, boot: BootId, wal: &[WalName]) -> Result<bool, KeepSegmentsError> {
        let clock = Arc::clone(&self.clock);
        let machine = clock.machine().map(|now| now.boot);
        let mut may_be_told = false;
        for name in wal {
            let read = self.read_log(*name)?;
            let by_machine = match read_start(*name, &read.bytes) {
                Start::Good { opening, .. } => {
                    let of = opening.machine.map(|(boot, _)| boot);
                    may_be_told |= of.is_some() && of == machine;
                    Correction::by_machine(&opening, clock.as_ref())
                }
                _ => None,
            };
            let found = Correction::in_log(*name, &read.bytes).or(by_machine);
            if let Some(correction) = found {
                self.corrections.insert(boot, correction);
                return Ok(false);
            }
        }
        Ok(may_be_told)
    }

    /// Whether a later version of this program wrote a segment of the log.
    fn is_newer(&self, name: WalName) -> Result<bool, KeepSegmentsError> {
        let read = self.read_log(name)?;
        Ok(read_start(name, &read.bytes) == Start::Newer)
    }

    fn recover_boot(
        &mut self,
        boot: BootId,
        damaged: bool,
        found: &Found,
        report: &mut RecoveryReport,
    ) -> Result<(), KeepSegmentsError> {
        let wal = found.wal.get(&boot).map_or(&[][..], Vec::as_slice);
        let files = found.parquet.get(&boot).map_or(&[][..], Vec::as_slice);
        if damaged {
            self.set_file_aside(&Account::path(&self.folders.account, boot))?;
        }
        report.leftovers += if self.accounts.contains_key(&boot) {
            self.remove_leftovers(boot, files)?
        } else {
            let log = self.start_of_log(wal)?;
            self.adopt(boot, files, log.as_ref())?
        };
        let sealed = self.replace_missing(boot)?;
        // Asked first: a clock that is set while the log is read must not leave the rows undated.
        let awaits_clock = self.awaits_clock(wal.len());
        let may_be_told = self.date_rows(boot, wal)?;
        self.undated.retain(|(waiting, _)| *waiting != boot);
        if may_be_told && awaits_clock {
            self.undated.push((boot, wal.to_vec()));
            return Ok(());
        }
        self.recover_log(boot, wal, sealed, report)
    }

    /// Compacts the logs of earlier boots that waited for the clock. Answers how many sealed
    /// segments that made.
    pub(in super::super) fn recover_undated(&mut self) -> usize {
        let mut report = RecoveryReport::default();
        for (boot, wal) in std::mem::take(&mut self.undated) {
            let dated = self.date_rows(boot, &wal);
            let recovered = dated.and_then(|_| self.recover_log(boot, &wal, 0, &mut report));
            if let Err(error) = recovered {
                report.note(&format!("boot {boot}"), &error);
                self.failed.insert(boot);
            }
        }
        report.sealed()
    }

    /// The sequence of each table that the log of a boot goes on from; tables that are not named
    /// start there. `None` where nobody knows, or no log is left.
    fn start_of_log(
        &self,
        wal: &[WalName],
    ) -> Result<Option<BTreeMap<TableName, u64>>, KeepSegmentsError> {
        let Some(first) = wal.first() else {
            return Ok(None);
        };
        if first.number == 1 {
            return Ok(Some(BTreeMap::new()));
        }
        let read = self.read_log(*first)?;
        let tables = match read_start(*first, &read.bytes) {
            Start::Good { opening, .. } => opening.tables,
            _ => Vec::new(),
        };
        let parsed = |(name, next): &(&str, u64)| Some((name.parse().ok()?, *next));
        // Version 0 named no table, nor does what is damaged.
        Ok((!tables.is_empty()).then(|| tables.iter().filter_map(parsed).collect()))
    }

    /// Compacts the log of an earlier boot and ends it.
    fn recover_log(
        &mut self,
        boot: BootId,
        wal: &[WalName],
        mut sealed: usize,
        report: &mut RecoveryReport,
    ) -> Result<(), KeepSegmentsError> {
        for name in wal {
            if self.is_newer(*name)? {
                // The boot has not ended for us: what it holds, a later version brings to an end.
                report.foreign.push(name.path(&self.folders.wal));
                return Ok(());
            }
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

    /// Removes what a change that failed half-way has made: files that no account names, whose rows
    /// who looks at the folder would count twice. Of the two accounts that there may be, the one in
    /// use and one that a failed sync may have left, either may be the one after a power cut.
    pub(super) fn sweep(&self, boot: BootId) {
        let path = Account::path(&self.folders.account, boot);
        let left = match self.fs.read(&path) {
            Ok(bytes) => match Account::parse(boot, &bytes) {
                Ok(account) => Some(account),
                Err(_) => return,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => return,
        };
        let used = self.accounts.get(&boot);
        if used.is_none() && boot != self.boot {
            // Recovery has not taken it up: its files may be all that is left of it.
            return;
        }
        let Ok(found) = find(self.fs.as_ref(), &self.folders) else {
            return;
        };
        let files = found.parquet.get(&boot).map_or(&[][..], Vec::as_slice);
        let unnamed = files.iter().filter(|(name, date, _)| {
            let mut accounts = left.iter().chain(used);
            !accounts.any(|account| names(account, name, date))
        });
        let prefix = boot.to_string();
        let half_made = found.temporary.iter().filter(|path| {
            let name = path.file_name().unwrap_or_default().as_encoded_bytes();
            // Hidden, but for what earlier versions left.
            let name = name.strip_prefix(b".").unwrap_or(name);
            path.starts_with(&self.folders.parquet) && name.starts_with(prefix.as_bytes())
        });
        for path in unnamed.map(|(_, _, path)| path).chain(half_made) {
            if let Err(error) = self.remove_sealed(path) {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, path = %path.display(), "a half-made file stays");
            }
        }
    }

    fn remove_leftovers(
        &self,
        boot: BootId,
        files: &[(SegmentName, SegmentDate, PathBuf)],
    ) -> Result<usize, KeepSegmentsError> {
        let account = self.accounts.get(&boot);
        let named = |name: &SegmentName, date: &SegmentDate| {
            account.is_some_and(|account| names(account, name, date))
        };
        let leftovers = files.iter().filter(|(name, date, _)| !named(name, date));
        let mut count = 0;
        for (_, _, path) in leftovers {
            self.remove_sealed(path)?;
            count += 1;
        }
        Ok(count)
    }

    /// Drops the oldest accounts of boots that have nothing left to land.
    fn forget_old_accounts(&mut self, report: &mut RecoveryReport) {
        let mut done: Vec<_> = self
            .accounts
            .values()
            .filter(|account| account.end != BootEnd::Running && account.segments.is_empty())
            .map(Account::age)
            .collect();
        done.sort_unstable();
        let too_many = done.len().saturating_sub(ACCOUNTS_KEPT);
        for (_, _, boot) in done.into_iter().take(too_many) {
            match self.remove(&Account::path(&self.folders.account, boot)) {
                Ok(()) => drop(self.accounts.remove(&boot)),
                Err(error) => report.note(&format!("account of boot {boot}"), &error),
            }
        }
    }
}

/// Whether an account names a file.
fn names(account: &Account, name: &SegmentName, date: &SegmentDate) -> bool {
    let mut segments = account.segments.iter();
    segments.any(|known| known.name == *name && known.date == *date)
}

/// Lists what lies below `{rows}`, in the order in which rows go from one place to the next: who
/// looks on while the keeper works sees them in two places then, and never in none.
pub(in super::super) fn find(fs: &dyn DurableFs, folders: &Folders) -> io::Result<Found> {
    let mut found = Found::default();
    for name in fs
        .list(&folders.wal)?
        .iter()
        .filter_map(|path| WalName::of_path(path))
    {
        found.wal.entry(name.boot).or_default().push(name);
    }
    for path in fs.list(&folders.account)? {
        match Account::boot_of(&path) {
            Some(boot) => drop(found.accounts.insert(boot, path)),
            None if is_temporary(&path) => found.temporary.push(path),
            None => {}
        }
    }
    let quarantined = fs.list(&folders.quarantine)?;
    found
        .temporary
        .extend(quarantined.into_iter().filter(|path| is_temporary(path)));
    let tables = &folders.parquet;
    // catalog, schema, table, day: files stand at the fifth level.
    let mut level = vec![tables.clone()];
    for depth in 1..=5 {
        let above = std::mem::take(&mut level);
        for folder in above {
            match fs.list(&folder) {
                // The folder of a day goes with its last file.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::NotADirectory | io::ErrorKind::NotFound
                    ) => {}
                Ok(entries) if entries.is_empty() && depth == 5 => found.empty.push(folder),
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
