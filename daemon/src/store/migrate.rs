//! Migration: what an older binary wrote becomes what this one writes.
//!
//! ```text
//! the state as it was -> export/pre-{version of this binary}.export, durable
//!   -> every record of an older layout rewritten, at the next generation
//! ```
//!
//! The kept file has the layout that was found, so that the older binary reads it after
//! `edgeward state rollback`. May be cut short anywhere and repeated.
//!
//! Must never write a newer layout before the state as it was is durable.

use edgeward_base::durable::write_atomic;

use super::StoreOptions;
use super::export::{self, Export, WriteExportError};
use super::record::{self, Envelope, Table};
use super::shelf::Stored;

/// What the name of a kept state begins with.
pub(super) const KEPT_PREFIX: &str = "pre-";

/// The version whose first start keeps the state.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Keeps the state as an older binary wrote it.
pub(super) fn keep(
    options: &StoreOptions,
    layout: u16,
    older: &Export,
) -> Result<(), WriteExportError> {
    let directory = options.state_dir.join("export");
    let path = directory.join(format!("{KEPT_PREFIX}{VERSION}.export"));
    let bytes = export::serialise(layout, older)?;
    write_atomic(options.fs.as_ref(), &path, &bytes).map_err(WriteExportError::Write)
}

/// The records in the layouts of this binary; those that change get `generation`. A record that its
/// type cannot read stays as it is, and reading it fails by name.
pub(super) fn rewrite(
    records: &[Stored],
    tables: &[Table],
    generation: u64,
) -> Result<Vec<Stored>, WriteExportError> {
    let rewritten = records.iter().map(|stored| {
        let newer = rewrite_one(stored, tables, generation)?;
        Ok(newer.unwrap_or_else(|| stored.clone()))
    });
    rewritten.collect()
}

fn rewrite_one(
    (name, value): &Stored,
    tables: &[Table],
    generation: u64,
) -> Result<Option<Stored>, WriteExportError> {
    let table = record::table_of(name);
    let known = tables.iter().find(|known| known.name == table);
    let (Ok(envelope), Some(known)) = (record::open_envelope(name, value), known) else {
        return Ok(None);
    };
    if envelope.schema >= known.schema {
        return Ok(None);
    }
    match (known.rewrite)(envelope.schema, envelope.payload) {
        Ok(payload) => {
            let newer = Envelope {
                schema: known.schema,
                generation,
                payload: &payload,
            };
            let sealed = record::seal_envelope(name, &newer);
            let sealed = sealed.map_err(WriteExportError::Serialise)?;
            Ok(Some((name.clone(), sealed)))
        }
        Err(error) => {
            let key = record::key_of(name);
            tracing::error!(table, key, %error, "a record of an older version cannot be read");
            Ok(None)
        }
    }
}
