//! A list of row objects: `dataframe_records`, `instances`, and `inputs` where it is a list.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::reading::{CellSeed, Key, Reading};

/// A list of row objects.
pub(super) struct Records<'r, 't, 'p>(pub(super) &'r mut Reading<'t, 'p>);

impl<'de> Visitor<'de> for Records<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of row objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows.next_element_seed(Record(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

/// A row object, or whatever stands in its place.
struct Record<'r, 't, 'p>(&'r mut Reading<'t, 'p>);

impl<'de> DeserializeSeed<'de> for Record<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Record<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut row: A) -> Result<(), A::Error> {
        let reading = self.0;
        let begun = reading.table.begin_row();
        reading.keep::<_, A::Error>(begun)?;
        let mut guess = 0;
        while let Some(column) = row.next_key_seed(Key {
            table: &*reading.table,
            guess,
        })? {
            match column {
                Some(column) => {
                    guess = column + 1;
                    row.next_value_seed(CellSeed {
                        reading: &mut *reading,
                        column,
                    })?;
                }
                None => {
                    row.next_value::<IgnoredAny>()?;
                }
            }
        }
        reading.table.end_row();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.0.refuse_nameless())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        Err(self.0.refuse_nameless())
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Err(self.0.refuse_nameless())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Err(self.0.refuse_nameless())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<(), E> {
        Err(self.0.refuse_nameless())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(self.0.refuse_nameless())
    }

    fn visit_str<E: de::Error>(self, _: &str) -> Result<(), E> {
        Err(self.0.refuse_nameless())
    }
}
