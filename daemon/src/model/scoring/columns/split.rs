//! A split table: column names once, then rows of values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::reading::{CellSeed, Key, Reading};
use crate::model::scoring::table::Table;

/// `{"columns": [..], "data": [[..]]}`, the keys in either order; `index` is skipped.
pub(super) struct Split<'r, 't, 'p>(pub(super) &'r mut Reading<'t, 'p>);

impl<'de> Visitor<'de> for Split<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with columns and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        let mut header: Option<Vec<Option<usize>>> = None;
        let mut early: Option<&'de RawValue> = None;
        let mut done = false;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "columns" if header.is_none() => {
                    header = Some(map.next_value_seed(Header(&*reading.table))?);
                }
                "data" if !done && early.is_none() => match &header {
                    Some(header) => {
                        let rows = Rows {
                            reading: &mut *reading,
                            header,
                        };
                        map.next_value_seed(rows)?;
                        done = true;
                    }
                    None => early = Some(map.next_value()?),
                },
                "index" => {
                    map.next_value::<IgnoredAny>()?;
                }
                other => {
                    let shown: String = other.chars().take(80).collect();
                    return Err(reading.refuse(format!(
                        "dataframe_split has {shown:?} twice or does not know it: it takes \
                         columns, data and index"
                    )));
                }
            }
        }
        let Some(header) = header else {
            return Err(reading.refuse("dataframe_split has no columns: name them in a list"));
        };
        if let Some(data) = early {
            let rows = Rows {
                reading: &mut *reading,
                header: &header,
            };
            rows.deserialize(data).map_err(A::Error::custom)?;
        } else if !done {
            return Err(reading.refuse("dataframe_split has no data: send a list of rows"));
        }
        let mut lacking = vec![true; reading.table.plan.slots.len()];
        for position in header.into_iter().flatten() {
            if let Some(lacking) = lacking.get_mut(position) {
                *lacking = false;
            }
        }
        for (position, lacking) in lacking.into_iter().enumerate() {
            if lacking {
                reading.table.lack(position);
            }
        }
        Ok(())
    }
}

/// The columns of a split table: for each, which column of the model it is.
struct Header<'r, 'p>(&'r Table<'p>);

impl<'de> DeserializeSeed<'de> for Header<'_, '_> {
    type Value = Vec<Option<usize>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Header<'_, '_> {
    type Value = Vec<Option<usize>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of column names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
        let slots = self.0.plan.slots.len();
        let mut header = Vec::with_capacity(slots);
        let mut seen = vec![false; slots];
        while let Some(found) = names.next_element_seed(Key {
            table: self.0,
            guess: header.len(),
        })? {
            if let Some(position) = found
                && let Some(seen) = seen.get_mut(position)
                && std::mem::replace(seen, true)
            {
                let name = self.0.name(position);
                return Err(A::Error::custom(format!(
                    "column {name:?} stands there twice"
                )));
            }
            header.push(found);
        }
        Ok(header)
    }
}

/// The rows of a split table.
struct Rows<'r, 't, 'p, 'h> {
    reading: &'r mut Reading<'t, 'p>,
    header: &'h [Option<usize>],
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows, each a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while rows
            .next_element_seed(SplitRow {
                reading: &mut *self.reading,
                header: self.header,
            })?
            .is_some()
        {}
        Ok(())
    }
}

/// One row of a split table.
struct SplitRow<'r, 't, 'p, 'h> {
    reading: &'r mut Reading<'t, 'p>,
    header: &'h [Option<usize>],
}

impl<'de> DeserializeSeed<'de> for SplitRow<'_, '_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for SplitRow<'_, '_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row: a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<(), A::Error> {
        let Self { reading, header } = self;
        let begun = reading.table.begin_row();
        reading.keep::<_, A::Error>(begun)?;
        for (got, column) in header.iter().enumerate() {
            let read = match column {
                Some(column) => cells.next_element_seed(CellSeed {
                    reading: &mut *reading,
                    column: *column,
                })?,
                None => cells.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            if read.is_none() {
                let row = reading.table.rows;
                return Err(reading.refuse(format!(
                    "dataframe_split: row {row} has {got} values for {} columns",
                    header.len()
                )));
            }
        }
        if cells.next_element::<IgnoredAny>()?.is_some() {
            let row = reading.table.rows;
            return Err(reading.refuse(format!(
                "dataframe_split: row {row} has more values than the {} columns",
                header.len()
            )));
        }
        reading.table.rows += 1;
        Ok(())
    }
}
