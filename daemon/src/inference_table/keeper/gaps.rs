//! Few files of gaps instead of many: a box that is offline for weeks seals some with every
//! segment, and each is a file, a line of an account, and an upload.
//!
//! Gaps of one boot, table and day that were never offered are put together, and those that follow
//! one another for one cause become one. The order is that of every change: the new file, the
//! account that names it instead of the old ones, then they go.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edgeward_base::digest::Digest;
use edgeward_base::names::{BootId, TableName};
use edgeward_wire::segment::{SegmentDate, SegmentKind};

use super::super::compact::{KnownGap, read_gaps};
use super::super::segment::SealedSegment;
use super::ledger::{KeepSegmentsError, Ledger};

#[cfg(test)]
mod tests;

/// So many files of gaps are left alone.
pub(super) const MOST_FILES: usize = 8;
/// A file with more runs than this is long enough.
const SMALL: usize = 32;
/// Runs that one file may have.
const MOST_RUNS: usize = 64;

impl Ledger {
    /// Puts files of gaps together where there are more than `most`. Answers how many went.
    pub(in super::super) fn consolidate_gaps(
        &mut self,
        most: usize,
    ) -> Result<usize, KeepSegmentsError> {
        let mut groups: BTreeMap<(BootId, TableName, SegmentDate), Vec<SealedSegment>> =
            BTreeMap::new();
        for segment in self.accounts.values().flat_map(|account| &account.segments) {
            let small = segment.runs().count() <= SMALL;
            if segment.name.kind == SegmentKind::Gaps && !segment.offered && small {
                let key = (
                    segment.name.boot,
                    segment.name.table.clone(),
                    segment.date.clone(),
                );
                groups.entry(key).or_default().push(segment.clone());
            }
        }
        let mut went = 0;
        for ((boot, ..), mut segments) in groups {
            segments.sort_unstable_by_key(|segment| segment.name.first);
            if segments.len() > most {
                let merged = self.merge(segments);
                went += merged.inspect_err(|_| self.sweep(boot))?;
            }
        }
        Ok(went)
    }

    /// Merges as many of these files of gaps as one file may hold.
    fn merge(&mut self, segments: Vec<SealedSegment>) -> Result<usize, KeepSegmentsError> {
        let (merged, gaps) = self.gather(segments);
        let (Some(one), true) = (merged.first(), merged.len() > 1) else {
            return Ok(0);
        };
        let mut account = self.account(one.name.boot);
        let mut compaction = self.compaction(account.boot);
        for gap in join(gaps) {
            compaction
                .gap_of_day(&one.name.table, one.date.days(), &gap.gap())
                .map_err(KeepSegmentsError::Compact)?;
        }
        let sealed = compaction.finish().map_err(KeepSegmentsError::Compact)?;
        let mut paths = Vec::new();
        for old in &merged {
            drop(account.take(&old.name));
            paths.push(self.placed(old).path);
        }
        let position = account.position();
        account.enter(sealed, &position);
        self.commit(account)?;
        for path in &paths {
            self.remove_sealed(path)?;
        }
        Ok(paths.len())
    }

    /// Reads files of gaps until one file is full of them. Leaves out those that are damaged,
    /// which the upload finds, and those whose name the new file would take: while the account
    /// still names the old ones, none may be written over.
    fn gather(&self, mut segments: Vec<SealedSegment>) -> (Vec<SealedSegment>, Vec<KnownGap>) {
        let mut runs = 0;
        segments.retain(|segment| {
            runs += segment.runs().count();
            runs <= MOST_RUNS
        });
        let mut read: BTreeMap<PathBuf, Vec<KnownGap>> = BTreeMap::new();
        segments.retain(|segment| {
            let path = self.placed(segment).path;
            let sound = Digest::of_file(&path).is_ok_and(|digest| digest == segment.digest);
            let gaps = sound.then(|| read_gaps(&path).ok()).flatten();
            let is_read = gaps.is_some();
            read.insert(path, gaps.unwrap_or_default());
            is_read
        });
        loop {
            let first = segments.iter().map(|segment| segment.name.first).min();
            let last = segments.iter().map(|segment| segment.name.last).max();
            let in_the_way = segments.iter().position(|segment| {
                (Some(segment.name.first), Some(segment.name.last)) == (first, last)
            });
            match in_the_way {
                Some(place) => drop(segments.remove(place)),
                None => break,
            }
        }
        let gaps = segments.iter().filter_map(|segment| {
            let path = self.placed(segment).path;
            read.remove(&path)
        });
        let gaps = gaps.flatten().collect();
        (segments, gaps)
    }
}

/// Gaps in the order of their sequences; those that follow one another for one cause as one.
fn join(mut gaps: Vec<KnownGap>) -> Vec<KnownGap> {
    gaps.sort_unstable_by_key(|gap| gap.first);
    let mut joined: Vec<KnownGap> = Vec::new();
    for gap in gaps {
        match joined.last_mut() {
            Some(before) if before.is_followed_by(&gap) => before.take_in(&gap),
            _ => joined.push(gap),
        }
    }
    joined
}
