//! Tables for a model with tensors: a table is one matrix, or each column is one tensor.

use std::borrow::Cow;
use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;

use super::Reading;
use super::nested::Nested;
use super::rows::Top;

/// A split table.
pub(super) struct Frame<'r, 'p>(pub(super) &'r mut Reading<'p>);

/// A column's name: pandas writes numbers for a table that has none.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Heading {
    Text(String),
    Number(i64),
}

impl<'de> Visitor<'de> for Frame<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with columns and data")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        let mut headings: Option<Vec<Heading>> = None;
        let mut data: Option<&'de RawValue> = None;
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            match key.as_ref() {
                "columns" if headings.is_none() => headings = Some(map.next_value()?),
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
            let columns: Vec<Option<usize>> = headings
                .unwrap_or_default()
                .iter()
                .map(|heading| match heading {
                    Heading::Text(name) => reading.plan.position(name),
                    Heading::Number(number) => reading.plan.position(&number.to_string()),
                })
                .collect();
            data.deserialize_seq(Columns { reading, columns })
                .map_err(A::Error::custom)
        }
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
        for (position, builder) in reading.builders.iter_mut().enumerate() {
            builder.dims.push(None);
            builder.given = columns.contains(&Some(position));
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
        let mut header = Vec::new();
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

struct MatrixRow<'r, 'p, 'h> {
    reading: &'r mut Reading<'p>,
    header: &'h mut Vec<String>,
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
        let mut values: Vec<Option<&'de RawValue>> = vec![None; header.len()];
        let mut order = 0;
        while let Some(name) = map.next_key::<Cow<'de, str>>()? {
            let value = map.next_value()?;
            let place = match header.get(order) {
                Some(expected) if *expected == name => Some(order),
                _ => header.iter().position(|known| *known == name),
            };
            match place.and_then(|place| values.get_mut(place)) {
                Some(slot) if slot.is_none() => *slot = Some(value),
                None if row == 0 => {
                    header.push(name.into_owned());
                    values.push(Some(value));
                }
                _ => return Err(reading.refuse(strange_column(row, &name))),
            }
            order += 1;
        }
        reading.open::<A::Error>(0, 1)?;
        for (value, name) in values.iter().zip(header.iter()) {
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
