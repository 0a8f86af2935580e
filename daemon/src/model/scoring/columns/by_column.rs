//! Columns by name: `inputs` where it is an object.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::reading::{Key, Reading};
use super::records::Records;
use crate::model::scoring::cell::{Cell, CellVisitor};

/// An object of columns, each a list of values; or a list of row objects.
pub(super) struct Inputs<'r, 't, 'p>(pub(super) &'r mut Reading<'t, 'p>);

impl<'de> Visitor<'de> for Inputs<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of columns, or a list of row objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, rows: A) -> Result<(), A::Error> {
        Records(self.0).visit_seq(rows)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let reading = self.0;
        let mut seen = vec![false; reading.table.plan.slots.len()];
        let mut rows: Option<usize> = None;
        let mut guess = 0;
        while let Some(column) = map.next_key_seed(Key {
            table: &*reading.table,
            guess,
        })? {
            let Some(column) = column else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            guess = column + 1;
            let again = seen
                .get_mut(column)
                .is_some_and(|seen| std::mem::replace(seen, true));
            if again {
                let name = reading.table.name(column).to_owned();
                return Err(reading.refuse(format!("inputs has column {name:?} twice")));
            }
            let got = map.next_value_seed(Values {
                reading: &mut *reading,
                column,
            })?;
            if *rows.get_or_insert(got) != got {
                let name = reading.table.name(column).to_owned();
                let first = rows.unwrap_or_default();
                return Err(reading.refuse_unfit(format!(
                    "inputs: column {name:?} has {got} values, the columns before it {first}"
                )));
            }
        }
        reading.table.rows = rows.unwrap_or_default();
        for (column, seen) in seen.into_iter().enumerate() {
            if !seen {
                reading.table.lack(column);
            }
        }
        Ok(())
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

/// The values of one column; answers how many there were. A bare value is a column of one.
struct Values<'r, 't, 'p> {
    reading: &'r mut Reading<'t, 'p>,
    column: usize,
}

impl<'de> DeserializeSeed<'de> for Values<'_, '_, '_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Values<'_, '_, '_> {
    fn only<E: de::Error>(self, cell: Cell<'_>) -> Result<usize, E> {
        put(self.reading, self.column, 0, cell).map(|()| 1)
    }
}

fn put<E: de::Error>(
    reading: &mut Reading<'_, '_>,
    column: usize,
    row: usize,
    cell: Cell<'_>,
) -> Result<(), E> {
    let placed = reading
        .table
        .reserve_rows(row + 1)
        .and_then(|()| reading.table.put_at(column, row, cell));
    reading.keep(placed)
}

impl<'de> Visitor<'de> for Values<'_, '_, '_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut cells: A) -> Result<usize, A::Error> {
        let Self { reading, column } = self;
        let mut row = 0;
        while cells
            .next_element_seed(ValueSeed {
                reading: &mut *reading,
                column,
                row,
            })?
            .is_some()
        {
            row += 1;
        }
        Ok(row)
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<usize, A::Error> {
        self.only(Cell::Object)
    }

    fn visit_unit<E: de::Error>(self) -> Result<usize, E> {
        self.only(Cell::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<usize, E> {
        self.only(Cell::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<usize, E> {
        self.only(Cell::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<usize, E> {
        self.only(Cell::whole(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<usize, E> {
        self.only(Cell::Float(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<usize, E> {
        self.only(Cell::Text(text.into()))
    }
}

/// Reads one cell of a column.
struct ValueSeed<'r, 't, 'p> {
    reading: &'r mut Reading<'t, 'p>,
    column: usize,
    row: usize,
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self {
            reading,
            column,
            row,
        } = self;
        deserializer.deserialize_any(CellVisitor(|cell: Cell<'_>| {
            put::<de::value::Error>(reading, column, row, cell)
        }))
    }
}
