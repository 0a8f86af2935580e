//! Giving back what earlier boots reserved in the log and never wrote.
//!
//! A segment takes its whole length of the disk as soon as it is opened. Boots that are killed
//! before they have recovered the one before would pile such segments up, until rows that are
//! sealed go to make room for zeros. So before anything is recovered, the zeros behind the last
//! good frame go. Must never: touch the log of the boot that writes, or of one that a later version
//! wrote; cut before a byte that is not zero, since what is damaged goes into quarantine whole; or
//! keep anything from being recovered.

use std::io;

use edgeward_base::names::BootId;

use super::super::wal::{WalName, end_of_frames};
use super::catch;
use super::ledger::{KeepSegmentsError, Ledger};
use super::recover::Found;

#[cfg(test)]
mod tests;

impl Ledger {
    /// Cuts the zeros off the logs of these boots. What cannot be cut stays, and recovery says what
    /// is wrong with it.
    pub(super) fn trim_logs(&self, boots: &[BootId], found: &Found) {
        let names = boots.iter().filter_map(|boot| found.wal.get(boot));
        let (mut segments, mut bytes) = (0_usize, 0_usize);
        for name in names.flatten().filter(|name| name.boot != self.boot) {
            match catch(|| self.trim(*name)).and_then(|cut| cut) {
                Ok(0) => {}
                Ok(cut) => {
                    segments += 1;
                    bytes += cut;
                }
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, segment = %name, "a row segment keeps its length");
                }
            }
        }
        if segments > 0 {
            tracing::info!(
                segments,
                bytes,
                "what earlier starts reserved for rows is free again"
            );
        }
    }

    /// Answers how many bytes were cut.
    fn trim(&self, name: WalName) -> Result<usize, KeepSegmentsError> {
        let path = name.path(&self.folders.wal);
        let bytes = match self.fs.read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            read => read.map_err(KeepSegmentsError::Read)?,
        };
        let Some(end) = end_of_frames(name, &bytes).filter(|end| *end < bytes.len()) else {
            return Ok(0);
        };
        // Not synced: with its zeros or without, the segment says the same.
        let mut file = self.fs.open(&path).map_err(KeepSegmentsError::Trim)?;
        file.set_len(end as u64).map_err(KeepSegmentsError::Trim)?;
        Ok(bytes.len() - end)
    }
}
