//! What the keeper does first: bring what earlier boots left into order.
//!
//! ```text
//! account readable  --> files that it does not name are leftovers: removed
//!   "     damaged   --> set aside; the files that are there are taken into a new one
//! segments of the log in order --> compacted --> boot ended: clean with the mark, else power loss
//!                              \--> rows of 1970, same start of the machine: wait for the clock
//! ```
//!
//! Must never fail or hang: a boot that cannot be brought into order stays as it is until the next
//! start, is named in the report, and the others go on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use edgeward_base::durable::{DurableFs, TEMPORARY_SUFFIX};
use edgeward_base::names::BootId;
use edgeward_wire::segment::{SegmentDate, SegmentName};
use serde::Serialize;

use super::super::segment::parse_path;
use super::super::time::Correction;
use super::super::wal::{Start, WalName, WalSegment, read_start};
use super::account::{Account, BootEnd, ParseAccountError};
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
    /// Leaves these boots out.
    fn forget(&mut self, boots: &BTreeSet<BootId>) {
        self.accounts.retain(|boot, _| !boots.contains(boot));
        self.wal.retain(|boot, _| !boots.contains(boot));
        self.parquet.retain(|boot, _| !boots.contains(boot));
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
    /// Recovers every boot but the one that writes now.
    pub(in super::super) fn recover(&mut self) -> RecoveryReport {
        let mut report = RecoveryReport::default();
        let (back, away) = self.take_back();
        if let Err(error) = back {
            report.note("rows that a rollback took away stay there", &error);
        }
        let mut found = match find(self.fs.as_ref(), &self.folders) {
            Ok(found) => found,
            Err(error) => {
                report.note("the row folders cannot be read", &error);
                return report;
            }
        };
        found.forget(&away);
        for path in &found.temporary {
            match self.remove(path) {
                Ok(()) => report.leftovers += 1,
                Err(error) => report.note(&path.display().to_string(), &error),
            }
        }
        let mut damaged = BTreeSet::new();
        let boots = self.load_accounts(&found, &mut damaged, &mut report);
        self.number_boots(&boots, &found);
        for boot in boots {
            let recovered = self.recover_boot(boot, damaged.contains(&boot), &found, &mut report);
            if let Err(error) = recovered {
                report.note(&format!("boot {boot}"), &error);
            }
        }
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
                        continue;
                    }
                }
            }
            boots.push(boot);
        }
        boots
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
        self.ordinal.store(highest + 1, Ordering::Relaxed);
    }

    /// The ordinal that a segment of the log names.
    fn ordinal_in(&self, name: WalName) -> Option<u32> {
        let bytes = self.fs.read(&name.path(&self.folders.wal)).ok()?;
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
            self.adopt(boot, files)?;
        } else if self.accounts.contains_key(&boot) || !wal.is_empty() {
            // Before the first commit of its account a boot has only leftovers; its log is whole.
            report.leftovers += self.remove_leftovers(boot, files)?;
        } else {
            self.adopt(boot, files)?;
        }
        let sealed = self.replace_missing(boot)?;
        // Asked first: a clock that is set while the log is read must not leave the rows undated.
        let awaits_clock = self.awaits_clock(wal.len());
        let may_be_told = self.date_rows(boot, wal)?;
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
            }
        }
        report.boots.iter().map(|boot| boot.sealed).sum()
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
