//! Tables for a model with tensors: a table is one matrix, or each column is one tensor.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::Reading;
use super::nested::Nested;
use super::rows::Top;
use crate::model::scoring::binding::TensorPlan;

/// A split table.
pub(super) struct Frame<'r, 'p>(pub(super) &'r mut Reading<'p>);

impl<'de> Visitor<'de> for Frame<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with columns and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        let mut columns: Option<Vec<Option<usize>>> = None;
        let mut data: Option<&'de RawValue> = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "columns" if columns.is_none() => {
                    columns = Some(map.next_value_seed(Headings(reading.plan))?);
                }
                "data" if data.is_none() => data = Some(map.next_value()?),
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
        let Some(data) = data else {
            return Err(reading.refuse("dataframe_split has no data: send a list of rows"));
        };
        if reading.builders.len() == 1 {
            data.deserialize_seq(Top(reading)).map_err(A::Error::custom)
        } else {
            let columns = columns.unwrap_or_default();
            data.deserialize_seq(Columns { reading, columns })
                .map_err(A::Error::custom)
        }
    }
}

/// The columns of a split table: for each, which tensor it is.
struct Headings<'p>(&'p TensorPlan);

impl<'de> DeserializeSeed<'de> for Headings<'_> {
    type Value = Vec<Option<usize>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Headings<'_> {
    type Value = Vec<Option<usize>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of column names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut names: A) -> Result<Self::Value, A::Error> {
        let mut columns = Vec::new();
        while let Some(found) = names.next_element_seed(Heading(self.0))? {
            columns.push(found);
        }
        Ok(columns)
    }
}

/// A column's name: pandas writes numbers for a table that has none.
struct Heading<'p>(&'p TensorPlan);

impl<'de> DeserializeSeed<'de> for Heading<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Heading<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a column's name or number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.position(name))
    }
}

/// The rows of a split table each of whose columns is a tensor.
struct Columns<'r, 'p> {
    reading: &'r mut Reading<'p>,
    columns: Vec<Option<usize>>,
}

impl<'de> Visitor<'de> for Columns<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of rows, each a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let Self { reading, columns } = self;
        for builder in &mut reading.builders {
            builder.dims.push(None);
        }
        for position in columns.iter().flatten() {
            if let Some(builder) = reading.builders.get_mut(*position) {
                builder.given = true;
            }
        }
        let mut count = 0;
        while rows
            .next_element_seed(ColumnsRow {
                reading: &mut *reading,
                columns: &columns,
            })?
            .is_some()
        {
            count += 1;
        }
        for position in 0..reading.builders.len() {
            reading.close::<A::Error>(position, 0, count)?;
        }
        Ok(())
    }
}

struct ColumnsRow<'r, 'p, 'c> {
    reading: &'r mut Reading<'p>,
    columns: &'c [Option<usize>],
}

impl<'de> DeserializeSeed<'de> for ColumnsRow<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ColumnsRow<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row: a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<(), A::Error> {
        let Self { reading, columns } = self;
        let mut got = 0;
        for column in columns {
            let read = match column {
                Some(position) => {
                    cells.next_element_seed(Nested::at(&mut *reading, *position, 1))?
                }
                None => cells.next_element::<IgnoredAny>()?.map(|_| ()),
            };
            got += usize::from(read.is_some());
        }
        if got != columns.len() || cells.next_element::<IgnoredAny>()?.is_some() {
            return Err(reading.refuse(format!(
                "dataframe_split: each row must have {} values, one for each column",
                columns.len()
            )));
        }
        Ok(())
    }
}

/// Row objects that become one matrix, its columns in the order of the first row.
pub(super) struct MatrixRecords<'r, 'p>(pub(super) &'r mut Reading<'p>);

impl<'de> Visitor<'de> for MatrixRecords<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of row objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        let reading = self.0;
        if let Some(builder) = reading.builders.first_mut() {
            builder.given = true;
        }
        reading.open::<A::Error>(0, 0)?;
        let mut header = Order::default();
        let mut count = 0;
        while rows
            .next_element_seed(MatrixRow {
                reading: &mut *reading,
                header: &mut header,
                row: count,
            })?
            .is_some()
        {
            count += 1;
        }
        reading.close(0, 0, count)
    }
}

/// The columns of the first row, in its order.
#[derive(Default)]
struct Order {
    names: Vec<String>,
    /// Their places by name, once the first row was read. A row has as many columns as its client likes,
    /// so none may be looked for along all of them.
    sorted: Vec<usize>,
}

impl Order {
    /// Ends the first row; the error is the name of a column that stands there twice.
    fn seal(&mut self) -> Result<(), String> {
        let Self { names, sorted } = self;
        let name = |place: usize| names.get(place).map_or("", String::as_str);
        sorted.extend(0..names.len());
        sorted.sort_unstable_by_key(|place| name(*place));
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [a, b] if name(*a) == name(*b) => Some(name(*a).to_owned()),
            _ => None,
        });
        twice.map_or(Ok(()), Err)
    }

    /// Where the column of that name stands. `guess` is where it does when all rows have one order.
    fn find(&self, name: &str, guess: usize) -> Option<usize> {
        let at = |place: usize| self.names.get(place).map_or("", String::as_str);
        if self.names.get(guess).is_some_and(|known| known == name) {
            return Some(guess);
        }
        let found = self.sorted.binary_search_by_key(&name, |place| at(*place));
        found.ok().and_then(|found| self.sorted.get(found).copied())
    }
}

struct MatrixRow<'r, 'p, 'h> {
    reading: &'r mut Reading<'p>,
    header: &'h mut Order,
    row: usize,
}

impl<'de> DeserializeSeed<'de> for MatrixRow<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MatrixRow<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a row object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            reading,
            header,
            row,
        } = self;
        let mut values: Vec<Option<&'de RawValue>> = vec![None; header.names.len()];
        let mut order = 0;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let value = map.next_value()?;
            if row == 0 {
                header.names.push(name.into_owned());
                values.push(Some(value));
                continue;
            }
            let place = header.find(&name, order);
            match place.and_then(|place| values.get_mut(place)) {
                Some(slot) if slot.is_none() => *slot = Some(value),
                _ => return Err(reading.refuse(strange_column(row, &name))),
            }
            order += 1;
        }
        if row == 0 {
            let sealed = header.seal();
            sealed.map_err(|twice| reading.refuse::<A::Error>(strange_column(row, &twice)))?;
        }
        reading.open::<A::Error>(0, 1)?;
        for (value, name) in values.iter().zip(&header.names) {
            let Some(value) = value else {
                return Err(reading.refuse(format!(
                    "dataframe_records: row {row} lacks column {name:?}, which row 0 has"
                )));
            };
            Nested::at(&mut *reading, 0, 2)
                .deserialize(*value)
                .map_err(A::Error::custom)?;
        }
        reading.close(0, 1, values.len())
    }
}

fn strange_column(row: usize, name: &str) -> String {
    let shown: String = name.chars().take(80).collect();
    format!("dataframe_records: row {row} has column {shown:?} twice, or row 0 does not have it")
}
