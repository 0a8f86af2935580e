//! Records, changes and the envelope around each value.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest serialised record. State is configuration: what is larger is an artifact and belongs
/// in a file.
const RECORD_LIMIT: usize = 1 << 20;

/// Separates table and key in a record's name.
const SEPARATOR: u8 = 0;

/// Bytes of the CRC at the end of an envelope.
const CRC_BYTES: usize = 4;

/// How long a record's change may wait before it is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Durable and exported before it is acknowledged.
    Committed,
    /// Recomputable: made durable at most once per interval, not exported, lost in a rebuild.
    Progress,
}

/// A type that the store keeps, one record per key.
///
/// Values are written with postcard, which knows no field names: a changed struct needs a new
/// [`SCHEMA`](Record::SCHEMA), and `serde_json::Value`, `#[serde(flatten)]`, `#[serde(untagged)]`
/// and `skip_serializing_if` do not work in it.
pub trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The table: a short lower-case word that no other type uses.
    const TABLE: &'static str;
    /// The version of the layout, from 1.
    const SCHEMA: u16;
    /// Whether a change of this type is acknowledged only once it is durable.
    const DURABILITY: Durability = Durability::Committed;

    /// The key of this record within its table; no NUL.
    fn key(&self) -> String;

    /// Reads a payload of layout `schema`. A type that changed its layout reads older ones
    /// here; the first start of a binary with the newer layout rewrites them.
    ///
    /// # Errors
    /// [`DecodeRecordError`] when the layout is another one or the payload is no such record.
    fn decode(schema: u16, payload: &[u8]) -> Result<Self, DecodeRecordError> {
        if schema != Self::SCHEMA {
            return Err(DecodeRecordError::Schema {
                found: schema,
                known: Self::SCHEMA,
            });
        }
        postcard::from_bytes(payload).map_err(DecodeRecordError::Payload)
    }
}

/// A table's name and the newest layout that this binary knows.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// [`Record::TABLE`].
    pub name: &'static str,
    /// [`Record::SCHEMA`].
    pub schema: u16,
    /// Reads a payload of an older layout and writes it in the newest.
    pub(super) rewrite: Rewrite,
}

/// From the layout and payload found to the payload in the newest layout.
type Rewrite = fn(u16, &[u8]) -> Result<Vec<u8>, DecodeRecordError>;

impl Table {
    /// The table of a record type.
    #[must_use]
    pub const fn of<R: Record>() -> Self {
        Self {
            name: R::TABLE,
            schema: R::SCHEMA,
            rewrite: |schema, payload| {
                let record = R::decode(schema, payload)?;
                postcard::to_stdvec(&record).map_err(DecodeRecordError::Payload)
            },
        }
    }
}

/// A stored value that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeRecordError {
    /// Its checksum does not match.
    #[error("the record is damaged: its checksum does not match")]
    Damaged,
    /// It was written in a layout that this type does not read.
    #[error("the record has layout {found}, this binary reads layout {known}")]
    Schema {
        /// The layout found.
        found: u16,
        /// The layout that the type writes.
        known: u16,
    },
    /// The payload is no such record.
    #[error("the record's payload does not have its layout")]
    Payload(#[source] postcard::Error),
}

/// A record that cannot be part of a change.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The record cannot be serialised.
    #[error("cannot serialise record {key} of table {table}")]
    Serialise {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// What postcard answered.
        #[source]
        source: postcard::Error,
    },
    /// The record is larger than the store keeps.
    #[error("record {key} of table {table} has {size} bytes, at most {RECORD_LIMIT} are kept")]
    TooLarge {
        /// The table.
        table: &'static str,
        /// The record's key.
        key: String,
        /// Its serialised size in bytes.
        size: usize,
    },
    /// The key holds a NUL, which separates names.
    #[error("key {key:?} of table {table} holds a NUL")]
    Key {
        /// The table.
        table: &'static str,
        /// The key.
        key: String,
    },
}

/// Records to put and to delete, in order, whole or not at all.
#[derive(Clone, Debug, Default)]
pub struct Change {
    edits: Vec<Edit>,
}

#[derive(Clone, Debug)]
pub(super) struct Edit {
    pub(super) table: &'static str,
    pub(super) durability: Durability,
    pub(super) name: Vec<u8>,
    /// Schema and payload; `None` deletes.
    pub(super) value: Option<(u16, Vec<u8>)>,
}

impl Change {
    /// A change of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a record in the place of the one with its key, or adds it.
    ///
    /// # Errors
    /// [`ChangeError`] when the record cannot be stored.
    pub fn put<R: Record>(mut self, record: &R) -> Result<Self, ChangeError> {
        let (table, key) = (R::TABLE, record.key());
        if key.as_bytes().contains(&SEPARATOR) {
            return Err(ChangeError::Key { table, key });
        }
        let payload = match postcard::to_stdvec(record) {
            Ok(payload) => payload,
            Err(source) => return Err(ChangeError::Serialise { table, key, source }),
        };
        if payload.len() > RECORD_LIMIT {
            return Err(ChangeError::TooLarge {
                table,
                key,
                size: payload.len(),
            });
        }
        self.edits.push(Edit {
            table,
            durability: R::DURABILITY,
            name: name(table, &key),
            value: Some((R::SCHEMA, payload)),
        });
        Ok(self)
    }

    /// Deletes the record with this key, if it is there.
    #[must_use]
    pub fn delete<R: Record>(mut self, key: &str) -> Self {
        self.edits.push(Edit {
            table: R::TABLE,
            durability: R::DURABILITY,
            name: name(R::TABLE, key),
            value: None,
        });
        self
    }

    /// Whether nothing would change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    pub(super) fn edits(&self) -> &[Edit] {
        &self.edits
    }

    pub(super) fn tables(&self) -> impl Iterator<Item = &'static str> {
        self.edits.iter().map(|edit| edit.table)
    }

    pub(super) fn first_committed_table(&self) -> Option<&'static str> {
        let committed = |edit: &&Edit| edit.durability == Durability::Committed;
        self.edits.iter().find(committed).map(|edit| edit.table)
    }
}

/// A record's name: table, NUL, key. With an empty key, the prefix of all names of the table.
pub(super) fn name(table: &str, key: &str) -> Vec<u8> {
    [table.as_bytes(), &[SEPARATOR], key.as_bytes()].concat()
}

/// The table in a record's name; empty when the name is damaged.
pub(super) fn table_of(name: &[u8]) -> &str {
    let table = name
        .split(|byte| *byte == SEPARATOR)
        .next()
        .unwrap_or_default();
    std::str::from_utf8(table).unwrap_or_default()
}

/// The key in a record's name; empty when the name is damaged.
pub(super) fn key_of(name: &[u8]) -> &str {
    let key = name
        .splitn(2, |byte| *byte == SEPARATOR)
        .nth(1)
        .unwrap_or_default();
    std::str::from_utf8(key).unwrap_or_default()
}

/// A value with what is needed to trust it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope<'a> {
    pub(super) schema: u16,
    pub(super) generation: u64,
    #[serde(borrow)]
    pub(super) payload: &'a [u8],
}

/// Serialises an envelope and its checksum. The name is under the checksum, so that a value that
/// turns up under another name is found out.
pub(super) fn seal_envelope(
    name: &[u8],
    envelope: &Envelope<'_>,
) -> Result<Vec<u8>, postcard::Error> {
    let mut bytes = postcard::to_stdvec(envelope)?;
    let crc = checksum(name, &bytes);
    bytes.extend_from_slice(&crc);
    Ok(bytes)
}

/// Checks and reads an envelope.
pub(super) fn open_envelope<'a>(
    name: &[u8],
    bytes: &'a [u8],
) -> Result<Envelope<'a>, DecodeRecordError> {
    let (body, crc) = bytes
        .split_last_chunk::<CRC_BYTES>()
        .ok_or(DecodeRecordError::Damaged)?;
    if *crc != checksum(name, body) {
        return Err(DecodeRecordError::Damaged);
    }
    postcard::from_bytes(body).map_err(DecodeRecordError::Payload)
}

fn checksum(name: &[u8], body: &[u8]) -> [u8; CRC_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name);
    hasher.update(&[SEPARATOR]);
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}
