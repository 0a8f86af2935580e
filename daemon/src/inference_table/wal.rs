//! The write-ahead log: rows on disk before they are Parquet.
//!
//! Owns `{rows}/wal`. One log for all tables, so that a commit is one `fdatasync` however many
//! endpoints there are. Must never: append after a failed write, sync a file again after a failed
//! sync, or write when nothing is new.
//!
//! A segment is a file `{boot}-{number}.wal`, numbers from 1, eight digits. Version 1:
//!
//! ```text
//! file    = magic frame(header) frame(batch)* zeros?
//! magic   = "EDGEWARD ROWS 1\n"                                   16 bytes
//! frame   = length u32 | crc u32 | kind u8 | data                 little endian
//!           length: of kind and data; crc: CRC-32 of boot u64, number u32, offset of the frame
//!           u64, length, kind, data. A frame is good only where it was written.
//! kind    = 0 header | 1 batch | 2 batch, compressed
//! header  = postcard { version u8, device, opened_us, ordinal, machine, tables }
//!           version: that of the magic, under the CRC; ordinal: which boot of the box, 0 while
//!           that is not known; machine: which start of the machine, and how long it had run when
//!           the process started, so that a later process can date its rows; tables: (name, next)* of every table so far, so that what an
//!           earlier segment lost is counted even for tables that no later batch names
//! batch   = entry*                                                 one group commit
//! 2: data = size of the batch u32 | the batch, zstd 1              when that is shorter
//! entry   = postcard, one of
//!           0 Table { name, next }   the entries after it are of this table, from this sequence
//!           1 Row(StoredRow)         takes one sequence
//!           2 Gap(StoredGap)         takes as many as it counts
//!           3 Close                  the boot ended cleanly: nothing was lost after this
//! ```
//!
//! Segments are preallocated, so that a commit does not change the file's size: the log ends where
//! only zeros follow. Anything else that is no good frame is a bad tail. A tail of zeros in the last
//! segment of a boot cannot be told from its end: it is part of what the gap of unknown length after
//! the last row stands for. The zeros that a boot left behind its last frame go at the next start:
//! a box that is killed again and again would fill its disk with them.
//!
//! Version 0 has the header `{ device, opened_us }` and is read as well. A magic of a later version is
//! not damage: the file stays as it is, until a program that knows it comes back.

mod backoff;
mod entry;
mod frame;
mod log;
mod replay;
mod segment;

pub(super) use log::{LogCounters, LogOptions, RowLog};
pub(super) use replay::{Position, Replay, replay};
pub(super) use segment::{Opening, Start, WalName, WalSegment, end_of_frames, read_start};

#[cfg(test)]
mod tests;
