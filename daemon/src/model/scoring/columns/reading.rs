//! What every form of a table shares: cells, keys, and refusals that keep their message.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, Visitor};

use crate::model::scoring::ScoreError;
use crate::model::scoring::cell::{Cell, CellVisitor};
use crate::model::scoring::table::Table;

/// The table, and the first refusal.
pub(super) struct Reading<'t, 'p> {
    pub(super) table: &'t mut Table<'p>,
    pub(super) refused: &'t mut Option<ScoreError>,
}

/// What the JSON reader hears of a refusal; the refusal itself is in [`Reading`].
fn stop<E: de::Error>() -> E {
    E::custom("refused")
}

impl Reading<'_, '_> {
    /// Passes a result on, and keeps its refusal.
    pub(super) fn keep<T, E: de::Error>(&mut self, result: Result<T, ScoreError>) -> Result<T, E> {
        result.map_err(|error| {
            self.refused.get_or_insert(error);
            stop()
        })
    }

    /// Refuses with a message for the client.
    pub(super) fn refuse<E: de::Error>(&mut self, message: impl Into<String>) -> E {
        self.refused
            .get_or_insert_with(|| ScoreError::bad_request(message));
        stop()
    }

    /// Refuses rows that do not fit what the signature asks for.
    pub(super) fn refuse_unfit<E: de::Error>(&mut self, message: impl Into<String>) -> E {
        self.refused
            .get_or_insert_with(|| ScoreError::invalid(message));
        stop()
    }

    /// A bare array or a scalar: it has no names.
    pub(super) fn refuse_nameless<E: de::Error>(&mut self) -> E {
        let names: Vec<&str> = self
            .table
            .plan
            .slots
            .iter()
            .map(|slot| slot.column.name.as_str())
            .collect();
        let message = format!(
            "{} must name its columns, because the model has the columns {names:?}: send a list of \
             row objects, or dataframe_split",
            self.table.form
        );
        self.refused
            .get_or_insert_with(|| ScoreError::invalid(message));
        stop()
    }
}

/// Reads one cell of the current row.
pub(super) struct CellSeed<'r, 't, 'p> {
    pub(super) reading: &'r mut Reading<'t, 'p>,
    pub(super) column: usize,
}

impl<'de> DeserializeSeed<'de> for CellSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { reading, column } = self;
        deserializer.deserialize_any(CellVisitor(|cell: Cell<'_>| {
            let put = reading.table.put(column, cell);
            reading.keep::<_, de::value::Error>(put)
        }))
    }
}

/// The key of a row object: a column of the model, or none of them. Allocates nothing.
pub(super) struct Key<'r, 'p> {
    pub(super) table: &'r Table<'p>,
    pub(super) guess: usize,
}

impl<'de> DeserializeSeed<'de> for Key<'_, '_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name")
    }

    /// pandas numbers the columns of a table that has no names.
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.table.find(name, self.guess))
    }
}
