//! `inputs` and `instances`: bare nested lists, tensors by name, or rows of tensors by name.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Reading;
use super::nested::Nested;
use crate::model::scoring::InputForm;

/// The whole value of a request.
pub(super) struct Top<'r, 'p>(pub(super) &'r mut Reading<'p>);

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0.form {
            InputForm::Inputs => "nested lists, or an object of them by tensor name",
            _ => "a list of rows",
        })
    }

    /// Whole tensors by name.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if self.0.form != InputForm::Inputs {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        }
        by_name(self.0, map, 0)
    }

    /// Rows, of one tensor or of several by name.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        let reading = self.0;
        for builder in &mut reading.builders {
            builder.dims.push(None);
        }
        let mut rows = 0;
        while elements
            .next_element_seed(Nested::row(&mut *reading))?
            .is_some()
        {
            rows += 1;
        }
        if rows == 0 {
            return Err(
                reading.refuse_unfit(format!("{} has no rows: send at least one", reading.form))
            );
        }
        for position in 0..reading.builders.len() {
            reading.close::<A::Error>(position, 0, rows)?;
        }
        Ok(())
    }
}

/// Reads an object of tensors, each of whose values stand `depth` lists deep.
pub(super) fn by_name<'de, A: MapAccess<'de>>(
    reading: &mut Reading<'_>,
    mut map: A,
    depth: usize,
) -> Result<(), A::Error> {
    let mut seen = vec![false; reading.builders.len()];
    while let Some(name) = map.next_key::<Cow<'de, str>>()? {
        let Some(position) = reading.plan.position(&name) else {
            map.next_value::<IgnoredAny>()?;
            continue;
        };
        if seen
            .get_mut(position)
            .is_some_and(|seen| std::mem::replace(seen, true))
        {
            return Err(reading.refuse(format!("{} has tensor {name:?} twice", reading.form)));
        }
        if let Some(builder) = reading.builders.get_mut(position) {
            builder.given = true;
        }
        map.next_value_seed(Nested::at(&mut *reading, position, depth))?;
    }
    let lacking = seen.iter().position(|seen| !seen);
    if let Some(lacking) = lacking.filter(|_| depth > 0) {
        let name = reading
            .plan
            .tensors
            .get(lacking)
            .map_or("", |tensor| tensor.input.as_str());
        return Err(reading.refuse_unfit(format!(
            "Model is missing inputs [{name:?}] in a row of {}; each row must have {}",
            reading.form,
            reading.plan.names()
        )));
    }
    Ok(())
}
