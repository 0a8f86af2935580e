//! Nested lists of values: one tensor, or the rows of one.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Reading;
use super::rows::by_name;
use crate::model::scoring::cell::Cell;

/// Reads a value or nested lists that stand `depth` lists deep in the tensor at `position`.
pub(super) struct Nested<'r, 'p> {
    reading: &'r mut Reading<'p>,
    position: usize,
    depth: usize,
    /// Whether it is a whole row, which may also be an object of tensors by name.
    row: bool,
}

impl<'r, 'p> Nested<'r, 'p> {
    /// A part of the tensor at `position`.
    pub(super) fn at(reading: &'r mut Reading<'p>, position: usize, depth: usize) -> Self {
        Self {
            reading,
            position,
            depth,
            row: false,
        }
    }

    /// A row: of the one tensor, or of several by name.
    pub(super) fn row(reading: &'r mut Reading<'p>) -> Self {
        Self {
            reading,
            position: 0,
            depth: 1,
            row: true,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Nested<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Nested<'_, '_> {
    /// A bare row names no tensor: there must be one only.
    fn check_bare<E: de::Error>(&mut self) -> Result<(), E> {
        if self.row {
            match self.reading.builders.as_mut_slice() {
                [only] => only.given = true,
                _ => return Err(self.reading.refuse_nameless()),
            }
        }
        Ok(())
    }

    fn push<E: de::Error>(mut self, cell: &Cell<'_>) -> Result<(), E> {
        self.check_bare::<E>()?;
        self.reading.push(self.position, self.depth, cell)
    }
}

impl<'de> Visitor<'de> for Nested<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, or nested lists of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        self.check_bare::<A::Error>()?;
        let Self {
            reading,
            position,
            depth,
            ..
        } = self;
        reading.open::<A::Error>(position, depth)?;
        let mut length = 0;
        while elements
            .next_element_seed(Nested::at(&mut *reading, position, depth + 1))?
            .is_some()
        {
            length += 1;
        }
        reading.close(position, depth, length)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.row {
            return by_name(self.reading, map, self.depth);
        }
        self.push(&Cell::Object)
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.push(&Cell::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.push(&Cell::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.push(&Cell::Int(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.push(&Cell::whole(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.push(&Cell::Float(value))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        self.push(&Cell::Text(text.into()))
    }
}
