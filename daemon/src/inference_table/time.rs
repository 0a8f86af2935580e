//! Time for rows of a box whose clock was wrong: what the column `request_time` says.
//!
//! A row carries its arrival twice: by the wall clock, which may say 1970, and by the monotonic one,
//! which is right but starts with the process. Once the wall clock follows a time source, the offset
//! between the two is known, and dates every row of the process, those before included.
//!
//! ```text
//! clock at arrival   clock now            request_time            clock_quality
//! synchronised       any                  as it was               ntp
//! not                synchronised         monotonic_us + offset   corrected
//! not, before 2026   set, by nobody knows monotonic_us + offset   unsynced
//! not                any other            as it was               unsynced
//! ```
//!
//! A clock that shows a time before 2026 is wrong, whatever the kernel says of it.
//!
//! Must never: order rows by the result; sequence and `monotonic_us` do that.

use edgeward_base::clock::{Clock, ClockQuality};
use edgeward_base::names::TableName;

use super::gap::Gap;
use super::record::StoredRow;
use super::wal::{Opening, Position, Replay, WalName, replay};

#[cfg(test)]
mod tests;

/// 2026-01-01: no box runs this program before. A clock that shows an earlier time is wrong.
const EARLIEST: i64 = 1_767_225_600_000_000;

/// Whether a wall clock can be right.
pub(super) fn plausible(wall_us: i64) -> bool {
    wall_us >= EARLIEST
}

/// What has to be added to a process's monotonic time to get the wall time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Correction {
    offset_us: Option<i64>,
    /// Whether it comes from a clock that followed a time source. If not, it is only better than a
    /// time that cannot be right.
    is_sure: bool,
}

/// When a row arrived, as its columns say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) time_us: i64,
    /// The column `clock_quality`.
    pub(super) quality: &'static str,
}

impl Correction {
    /// That of this process, if its clock can be right now.
    pub(super) fn now(clock: &dyn Clock) -> Option<Self> {
        Self::at(clock, clock.monotonic_micros())
    }

    /// That of a process whose log begins so, by the clock of the machine, if that has run since and
    /// the wall clock can be right now.
    pub(super) fn by_machine(opening: &Opening<'_>, clock: &dyn Clock) -> Option<Self> {
        let (boot, zero) = opening.machine?;
        let now = clock.machine().filter(|now| now.boot == boot)?;
        Self::at(clock, now.micros.saturating_sub(zero))
    }

    /// That of a process whose monotonic time is this now.
    fn at(clock: &dyn Clock, monotonic_us: u64) -> Option<Self> {
        let wall_us = clock.wall_micros();
        plausible(wall_us).then(|| Self {
            is_sure: clock.quality() == ClockQuality::Ntp,
            ..Self::between(wall_us, monotonic_us)
        })
    }

    fn between(wall_us: i64, monotonic_us: u64) -> Self {
        let monotonic_us = i64::try_from(monotonic_us).unwrap_or(i64::MAX);
        Self {
            offset_us: Some(wall_us.saturating_sub(monotonic_us)),
            is_sure: true,
        }
    }

    /// That of the process that wrote a segment of the log, if its clock was right at any row.
    pub(super) fn in_log(name: WalName, bytes: &[u8]) -> Option<Self> {
        replay(name, bytes, &mut Position::default(), &mut FirstSynced).err()
    }

    /// When a row arrived.
    pub(super) fn arrival(self, row: &StoredRow<'_>) -> Arrival {
        let monotonic_us = i64::try_from(row.monotonic_us).unwrap_or(i64::MAX);
        let can_be_right = plausible(row.request_time_us);
        let as_it_was = if row.clock_synced && can_be_right {
            ClockQuality::Ntp
        } else {
            ClockQuality::Unsynced
        };
        match self.offset_us {
            Some(offset_us)
                if as_it_was == ClockQuality::Unsynced && (self.is_sure || !can_be_right) =>
            {
                Arrival {
                    time_us: offset_us.saturating_add(monotonic_us),
                    quality: if self.is_sure {
                        CORRECTED
                    } else {
                        as_it_was.as_str()
                    },
                }
            }
            _ => Arrival {
                time_us: row.request_time_us,
                quality: as_it_was.as_str(),
            },
        }
    }
}

/// The word for a time that was found out afterwards.
const CORRECTED: &str = "corrected";

/// Stops, with what it says, at the first row whose clock was right.
struct FirstSynced;

impl Replay for FirstSynced {
    type Error = Correction;

    fn row(&mut self, _: &TableName, _: u64, row: &StoredRow<'_>) -> Result<(), Correction> {
        if row.clock_synced && plausible(row.request_time_us) {
            Err(Correction::between(row.request_time_us, row.monotonic_us))
        } else {
            Ok(())
        }
    }

    fn gap(&mut self, _: &TableName, _: &Gap<'_>) -> Result<(), Correction> {
        Ok(())
    }
}
