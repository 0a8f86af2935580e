//! `LabelEncoder`: a table from one set of values to another, with a default for the rest.

use std::collections::HashMap;
use std::hash::Hash;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::Datum;
use tract_onnx::tract_hir::internal::{
    DatumType, IntoTensor, TVec, Tensor, TractResult, bail, ensure, tract_ndarray, tvec,
};

use super::{Build, MlOperator, Port, only, only_tensor};

/// Maps values through a table.
#[derive(Debug)]
pub(super) struct LabelEncoder {
    keys: Keys,
    values: Values,
}

/// The position of each key in the table. Floats are looked up by their bits, with one NaN and one
/// zero.
#[derive(Debug)]
enum Keys {
    Strings(HashMap<String, usize>),
    Integers(HashMap<i64, usize>),
    Floats(HashMap<u32, usize>),
}

/// The values by position, and the default last.
#[derive(Debug)]
enum Values {
    Strings(Vec<String>),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
}

impl Build for LabelEncoder {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        for attribute in ["keys_tensor", "values_tensor"] {
            let given = node.attribute.iter().any(|given| given.name == attribute);
            ensure!(!given, "LabelEncoder's {attribute} is not supported");
        }
        if let Some(classes) = node.get_attr_opt_vec::<String>("classes_strings")? {
            return Self::first_version(node, &classes);
        }
        let (keys, key_count) = Keys::read(node)?;
        let values = Values::read(node)?;
        ensure!(
            values.positions() == key_count,
            "LabelEncoder has {key_count} keys and {} values",
            values.positions()
        );
        Ok(Self { keys, values })
    }
}

impl LabelEncoder {
    /// Version 1 of the operator: strings to their position, default -1. Positions to strings, the
    /// other direction of that version, was never written by an exporter in use.
    fn first_version(node: &NodeProto, classes: &[String]) -> TractResult<Self> {
        let default = node.get_attr_opt::<i64>("default_int64")?.unwrap_or(-1);
        let mut positions = (0..).take(classes.len()).collect::<Vec<i64>>();
        positions.push(default);
        let keys = classes.iter().cloned().zip(0..).collect();
        Ok(Self {
            keys: Keys::Strings(keys),
            values: Values::Integers(positions),
        })
    }
}

impl Keys {
    fn read(node: &NodeProto) -> TractResult<(Self, usize)> {
        if let Some(list) = node.get_attr_opt_vec::<String>("keys_strings")? {
            let count = list.len();
            Ok((Self::Strings(table(list)), count))
        } else if let Some(list) = node.get_attr_opt_vec::<i64>("keys_int64s")? {
            let count = list.len();
            Ok((Self::Integers(table(list)), count))
        } else if let Some(list) = node.get_attr_opt_vec::<f32>("keys_floats")? {
            let count = list.len();
            Ok((Self::Floats(table(list.into_iter().map(float_key))), count))
        } else {
            bail!("LabelEncoder needs keys_strings, keys_int64s or keys_floats")
        }
    }

    fn datum_type(&self) -> DatumType {
        match self {
            Self::Strings(_) => DatumType::String,
            Self::Integers(_) => DatumType::I64,
            Self::Floats(_) => DatumType::F32,
        }
    }

    /// The position of each element of `input`, `default` where there is none.
    fn positions(&self, input: &Tensor, default: usize) -> TractResult<Vec<usize>> {
        let view = input.try_as_plain_ram()?;
        let or_default = |found: Option<&usize>| found.copied().unwrap_or(default);
        Ok(match self {
            Self::Strings(keys) => view
                .as_slice::<String>()?
                .iter()
                .map(|value| or_default(keys.get(value.as_str())))
                .collect(),
            Self::Integers(keys) => view
                .as_slice::<i64>()?
                .iter()
                .map(|value| or_default(keys.get(value)))
                .collect(),
            Self::Floats(keys) => view
                .as_slice::<f32>()?
                .iter()
                .map(|value| or_default(keys.get(&float_key(*value))))
                .collect(),
        })
    }
}

/// The first of several equal keys wins.
fn table<K: Hash + Eq>(keys: impl IntoIterator<Item = K>) -> HashMap<K, usize> {
    let mut table = HashMap::new();
    for (key, position) in keys.into_iter().zip(0..) {
        table.entry(key).or_insert(position);
    }
    table
}

fn float_key(value: f32) -> u32 {
    if value.is_nan() {
        f32::NAN.to_bits()
    } else if value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

impl Values {
    fn read(node: &NodeProto) -> TractResult<Self> {
        if let Some(mut list) = node.get_attr_opt_vec::<String>("values_strings")? {
            list.push(
                node.get_attr_opt::<String>("default_string")?
                    .unwrap_or_else(|| "_Unused".to_owned()),
            );
            Ok(Self::Strings(list))
        } else if let Some(mut list) = node.get_attr_opt_vec::<i64>("values_int64s")? {
            list.push(node.get_attr_opt::<i64>("default_int64")?.unwrap_or(-1));
            Ok(Self::Integers(list))
        } else if let Some(mut list) = node.get_attr_opt_vec::<f32>("values_floats")? {
            list.push(node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0));
            Ok(Self::Floats(list))
        } else {
            bail!("LabelEncoder needs values_strings, values_int64s or values_floats")
        }
    }

    fn datum_type(&self) -> DatumType {
        match self {
            Self::Strings(_) => DatumType::String,
            Self::Integers(_) => DatumType::I64,
            Self::Floats(_) => DatumType::F32,
        }
    }

    /// How many values there are besides the default; also the position of the default.
    fn positions(&self) -> usize {
        let with_default = match self {
            Self::Strings(list) => list.len(),
            Self::Integers(list) => list.len(),
            Self::Floats(list) => list.len(),
        };
        with_default.saturating_sub(1)
    }
}

impl MlOperator for LabelEncoder {
    const NAME: &'static str = "LabelEncoder";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let wanted = self.keys.datum_type();
        ensure!(
            *datum_type == wanted,
            "LabelEncoder's keys are {wanted:?}, its input {datum_type:?}"
        );
        Ok(tvec![(self.values.datum_type(), shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let positions = self.keys.positions(input, self.values.positions())?;
        let output = match &self.values {
            Values::Strings(list) => gather(list, &positions, input.shape())?,
            Values::Integers(list) => gather(list, &positions, input.shape())?,
            Values::Floats(list) => gather(list, &positions, input.shape())?,
        };
        Ok(tvec![output])
    }
}

fn gather<T: Datum + Clone>(
    list: &[T],
    positions: &[usize],
    shape: &[usize],
) -> TractResult<Tensor> {
    let values: Vec<T> = positions
        .iter()
        .filter_map(|position| list.get(*position))
        .cloned()
        .collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, values)?.into_tensor())
}
