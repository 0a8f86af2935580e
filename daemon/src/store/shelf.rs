//! Shelves: the three trees of the database, and values cut into pieces.
//!
//! sled writes a page that outgrows 128 KiB to a file of its own, which it never syncs. A page
//! holds up to 17 values, so a value is kept in pieces of at most 4 KiB: the piece number `n` of
//! the record `name` lies under the key `name NUL n`, where `n` has two bytes, big endian.

use std::convert::Infallible;
use std::path::Path;

use sled::transaction::{
    ConflictableTransactionError, TransactionError, Transactional as _, TransactionalTree,
    UnabortableTransactionError,
};
use sled::{Db, Tree};

use super::record::{self, Durability, Edit, Envelope};

/// Longest piece of a value in bytes: 17 of them with their keys stay far below 128 KiB.
const PIECE_BYTES: usize = 4096;

/// State is tens of kilobytes; sled's default cache of 1 GB would let it keep garbage.
const CACHE_BYTES: u64 = 8 << 20;

/// Under which the meta tree keeps the generation.
const GENERATION: &[u8] = b"generation";

/// The layout of the database as a whole: trees, pieces, envelopes. Layout 0 had the same, in a
/// directory without a number.
pub(super) const LAYOUT: u16 = 1;

/// One tree of records.
#[derive(Clone, Debug)]
pub(super) struct Shelf(Tree);

/// The open database.
#[derive(Clone, Debug)]
pub(super) struct Shelves {
    db: Db,
    records: Shelf,
    progress: Shelf,
    meta: Tree,
}

/// A record's name and its envelope.
pub(super) type Stored = (Vec<u8>, Vec<u8>);

/// What the meta tree says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub(super) layout: u16,
    pub(super) generation: u64,
}

/// The value of the meta tree is damaged.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadMetaError {
    #[error("the database fails")]
    Database(#[source] sled::Error),
    #[error("the generation is damaged")]
    Damaged(#[source] record::DecodeRecordError),
}

/// A transaction that failed as a whole.
#[derive(Debug, thiserror::Error)]
pub(super) enum TransactError {
    #[error("the transaction fails")]
    Database(#[source] sled::Error),
    #[error("cannot serialise an envelope")]
    Envelope(#[source] postcard::Error),
}

impl Shelves {
    /// Opens or creates the database in `directory`.
    pub(super) fn open(directory: &Path) -> Result<Self, sled::Error> {
        let db = sled::Config::default()
            .path(directory)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None)
            .open()?;
        let records = Shelf(db.open_tree("records")?);
        let progress = Shelf(db.open_tree("progress")?);
        let meta = db.open_tree("meta")?;
        Ok(Self {
            db,
            records,
            progress,
            meta,
        })
    }

    pub(super) fn of(&self, durability: Durability) -> &Shelf {
        match durability {
            Durability::Committed => &self.records,
            Durability::Progress => &self.progress,
        }
    }

    /// The generation and layout; `None` in an empty database.
    pub(super) fn meta(&self) -> Result<Option<Meta>, ReadMetaError> {
        let Some(bytes) = self.meta.get(GENERATION).map_err(ReadMetaError::Database)? else {
            return Ok(None);
        };
        let envelope = record::open_envelope(GENERATION, &bytes).map_err(ReadMetaError::Damaged)?;
        Ok(Some(Meta {
            layout: envelope.schema,
            generation: envelope.generation,
        }))
    }

    /// Applies edits, each with the generation of its change, in one transaction. The generation of
    /// the database becomes `generation`, where there is one.
    pub(super) fn apply(
        &self,
        edits: &[(u64, &Edit)],
        generation: Option<u64>,
    ) -> Result<(), TransactError> {
        let mut sealed = Vec::with_capacity(edits.len());
        for (generation, edit) in edits {
            let value = edit.value.as_ref().map(|(schema, payload)| {
                let envelope = Envelope {
                    schema: *schema,
                    generation: *generation,
                    payload,
                };
                record::seal_envelope(&edit.name, &envelope)
            });
            let value = value.transpose().map_err(TransactError::Envelope)?;
            sealed.push((edit.durability, edit.name.as_slice(), value));
        }
        self.transact(&sealed, generation)
    }

    /// Puts envelopes that are sealed already, from an export or another database.
    pub(super) fn install(
        &self,
        records: &[Stored],
        progress: &[Stored],
        generation: u64,
    ) -> Result<(), TransactError> {
        let of = |durability, stored: &[Stored]| {
            let put = |(name, value): &Stored| (durability, name.clone(), Some(value.clone()));
            stored.iter().map(put).collect::<Vec<_>>()
        };
        let mut sealed = of(Durability::Committed, records);
        sealed.extend(of(Durability::Progress, progress));
        self.transact(&sealed, Some(generation))
    }

    fn transact<N: AsRef<[u8]>>(
        &self,
        sealed: &[(Durability, N, Option<Vec<u8>>)],
        generation: Option<u64>,
    ) -> Result<(), TransactError> {
        let meta_value = generation
            .map(|generation| {
                let envelope = Envelope {
                    schema: LAYOUT,
                    generation,
                    payload: &[],
                };
                record::seal_envelope(GENERATION, &envelope)
            })
            .transpose()
            .map_err(TransactError::Envelope)?;
        let trees = (&self.records.0, &self.progress.0, &self.meta);
        let done = trees.transaction(|(records, progress, meta)| {
            for (durability, name, value) in sealed {
                let tree = match durability {
                    Durability::Committed => records,
                    Durability::Progress => progress,
                };
                write_pieces(tree, name.as_ref(), value.as_deref().unwrap_or_default())?;
            }
            if let Some(value) = &meta_value {
                meta.insert(GENERATION, value.as_slice())?;
            }
            Ok::<(), ConflictableTransactionError<Infallible>>(())
        });
        match done {
            Ok(()) => Ok(()),
            Err(TransactionError::Storage(source)) => Err(TransactError::Database(source)),
            Err(TransactionError::Abort(never)) => match never {},
        }
    }

    /// Makes the database one of an older layout.
    #[cfg(test)]
    pub(super) fn set_layout(&self, layout: u16, generation: u64) {
        let envelope = Envelope {
            schema: layout,
            generation,
            payload: &[],
        };
        let sealed = record::seal_envelope(GENERATION, &envelope).unwrap();
        self.meta.insert(GENERATION, sealed).unwrap();
        self.flush().unwrap();
    }

    /// Hands everything written to the operating system. Durable only after `db` is synced.
    pub(super) fn flush(&self) -> Result<(), sled::Error> {
        self.db.flush().map(drop)
    }

    pub(super) fn size_on_disk(&self) -> u64 {
        self.db.size_on_disk().unwrap_or(0)
    }
}

impl Shelf {
    /// The envelope of this name.
    pub(super) fn get(&self, name: &[u8]) -> Result<Option<Vec<u8>>, sled::Error> {
        let mut value: Option<Vec<u8>> = None;
        for piece in self.0.scan_prefix(piece_prefix(name)) {
            let (_, bytes) = piece?;
            value.get_or_insert_default().extend_from_slice(&bytes);
        }
        Ok(value)
    }

    /// Names and envelopes of all records whose name begins with `prefix`, in order.
    pub(super) fn scan(&self, prefix: &[u8]) -> Result<Vec<Stored>, sled::Error> {
        let mut found: Vec<Stored> = Vec::new();
        for piece in self.0.scan_prefix(prefix) {
            let (key, bytes) = piece?;
            let name = key.split_last_chunk::<3>().map_or(&*key, |(name, _)| name);
            match found.last_mut() {
                Some((last, value)) if last == name => value.extend_from_slice(&bytes),
                _ => found.push((name.to_vec(), bytes.to_vec())),
            }
        }
        Ok(found)
    }
}

fn piece_prefix(name: &[u8]) -> Vec<u8> {
    [name, &[0]].concat()
}

/// Writes a value in pieces and removes what is left of a longer one; an empty value deletes.
fn write_pieces(
    tree: &TransactionalTree,
    name: &[u8],
    value: &[u8],
) -> Result<(), UnabortableTransactionError> {
    let mut number: u16 = 0;
    let key = |number: u16| [piece_prefix(name), number.to_be_bytes().to_vec()].concat();
    for piece in value.chunks(PIECE_BYTES) {
        tree.insert(key(number), piece)?;
        number += 1;
    }
    while tree.remove(key(number))?.is_some() {
        number += 1;
    }
    Ok(())
}
