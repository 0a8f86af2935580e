//! `LabelEncoder`: a table from one set of values to another, with a default for the rest.
//!
//! Versions 1 (strings to their position, or back), 2 (three types of lists) and 4 (tensors).

use std::collections::HashMap;
use std::hash::Hash;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::{NodeProto, TensorProto};
use tract_onnx::prelude::Datum;
use tract_onnx::tract_hir::internal::{
    DatumType, IntoTensor, TVec, Tensor, TractResult, bail, ensure, tensor0, tensor1,
    tract_ndarray, tvec,
};

use super::{Build, Operator, Port, only, only_tensor};

/// Maps values through a table.
#[derive(Debug)]
pub(super) struct LabelEncoder {
    table: Table,
    /// The other direction, of version 1: which one follows from the input.
    back: Option<Table>,
}

/// One direction.
#[derive(Debug)]
struct Table {
    keys: Keys,
    key_type: DatumType,
    /// A vector of the values by position, and the default last.
    values: Tensor,
}

/// The position of each key. Floats are looked up by their bits, with one NaN and one zero.
#[derive(Debug)]
enum Keys {
    Strings(HashMap<String, usize>),
    Integers(HashMap<i64, usize>),
    Floats(HashMap<u64, usize>),
}

impl Build for LabelEncoder {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        if let Some(classes) = node.get_attr_opt_vec::<String>("classes_strings")? {
            return Self::first_version(node, &classes);
        }
        let keys = list(context, node, "keys")?;
        let values = list(context, node, "values")?;
        let default = default_of(context, node, values.datum_type())?;
        let table = Table::new(&keys, &values, &default)?;
        Ok(Self { table, back: None })
    }
}

impl LabelEncoder {
    fn first_version(node: &NodeProto, classes: &[String]) -> TractResult<Self> {
        let positions: Vec<i64> = (0..).take(classes.len()).collect();
        let (classes, positions) = (tensor1(classes), tensor1(&positions));
        let position: i64 = node.get_attr_opt("default_int64")?.unwrap_or(-1);
        let class = node.get_attr_opt::<String>("default_string")?;
        let class = class.unwrap_or_else(|| UNKNOWN.to_owned());
        Ok(Self {
            table: Table::new(&classes, &positions, &tensor0(position))?,
            back: Some(Table::new(&positions, &classes, &tensor0(class))?),
        })
    }

    fn table(&self, input: DatumType) -> TractResult<&Table> {
        let tables = [Some(&self.table), self.back.as_ref()];
        let mut tables = tables.into_iter().flatten();
        match tables.find(|table| table.key_type == input) {
            Some(table) => Ok(table),
            None => bail!(
                "LabelEncoder's keys are {:?}, its input {input:?}",
                self.table.key_type
            ),
        }
    }
}

const UNKNOWN: &str = "_Unused";

/// The list of the attribute `{what}_tensor`, or of one of the typed ones.
fn list(context: &ParsingContext<'_>, node: &NodeProto, what: &str) -> TractResult<Tensor> {
    let named = |kind: &str| format!("{what}_{kind}");
    if let Some(proto) = node.get_attr_opt::<&TensorProto>(&named("tensor"))? {
        let tensor = context.load_tensor(proto)?;
        let length = tensor.len();
        Ok(tensor.into_tensor().into_shape(&[length])?)
    } else if let Some(list) = node.get_attr_opt_vec::<String>(&named("strings"))? {
        Ok(tensor1(&list))
    } else if let Some(list) = node.get_attr_opt_vec::<i64>(&named("int64s"))? {
        Ok(tensor1(&list))
    } else if let Some(list) = node.get_attr_opt_vec::<f32>(&named("floats"))? {
        Ok(tensor1(&list))
    } else {
        bail!("LabelEncoder needs {what}_strings, {what}_int64s, {what}_floats or {what}_tensor")
    }
}

/// What stands for a key that is not in the table.
fn default_of(
    context: &ParsingContext<'_>,
    node: &NodeProto,
    datum_type: DatumType,
) -> TractResult<Tensor> {
    if let Some(proto) = node.get_attr_opt::<&TensorProto>("default_tensor")? {
        let tensor = context.load_tensor(proto)?;
        ensure!(
            tensor.len() == 1 && tensor.datum_type() == datum_type,
            "LabelEncoder's default_tensor is no single {datum_type:?}"
        );
        return Ok(tensor.into_tensor());
    }
    Ok(match datum_type {
        DatumType::String => {
            let default = node.get_attr_opt::<String>("default_string")?;
            tensor0(default.unwrap_or_else(|| UNKNOWN.to_owned()))
        }
        DatumType::F32 | DatumType::F64 => {
            let default = node.get_attr_opt::<f32>("default_float")?.unwrap_or(-0.0);
            tensor0(default).cast_to_dt(datum_type)?.into_owned()
        }
        _ => {
            let default = node.get_attr_opt::<i64>("default_int64")?.unwrap_or(-1);
            tensor0(default).cast_to_dt(datum_type)?.into_owned()
        }
    })
}

impl Table {
    fn new(keys: &Tensor, values: &Tensor, default: &Tensor) -> TractResult<Self> {
        ensure!(
            keys.len() == values.len(),
            "LabelEncoder has {} keys and {} values",
            keys.len(),
            values.len()
        );
        let default = default.clone().into_shape(&[1])?;
        Ok(Self {
            keys: Keys::of(keys)?,
            key_type: keys.datum_type(),
            values: Tensor::stack_tensors(0, &[values, &default])?,
        })
    }

    /// The value of each element of `input`.
    fn look_up(&self, input: &Tensor) -> TractResult<Tensor> {
        let default = self.values.len() - 1;
        let positions = self.keys.positions(input, default)?;
        match self.values.datum_type() {
            DatumType::String => gather::<String>(&self.values, &positions, input.shape()),
            DatumType::I64 => gather::<i64>(&self.values, &positions, input.shape()),
            DatumType::I32 => gather::<i32>(&self.values, &positions, input.shape()),
            DatumType::I16 => gather::<i16>(&self.values, &positions, input.shape()),
            DatumType::F32 => gather::<f32>(&self.values, &positions, input.shape()),
            DatumType::F64 => gather::<f64>(&self.values, &positions, input.shape()),
            other => bail!("LabelEncoder's values are {other:?}"),
        }
    }
}

impl Keys {
    fn of(keys: &Tensor) -> TractResult<Self> {
        Ok(match keys.datum_type() {
            DatumType::String => {
                let view = keys.try_as_plain_ram()?;
                Self::Strings(table(view.as_slice::<String>()?.iter().cloned()))
            }
            DatumType::F32 | DatumType::F64 => {
                let keys = keys.cast_to::<f64>()?;
                let view = keys.try_as_plain_ram()?;
                Self::Floats(table(view.as_slice::<f64>()?.iter().map(float_key)))
            }
            DatumType::I64 | DatumType::I32 | DatumType::I16 => {
                let keys = keys.cast_to::<i64>()?;
                let view = keys.try_as_plain_ram()?;
                Self::Integers(table(view.as_slice::<i64>()?.iter().copied()))
            }
            other => bail!("LabelEncoder's keys are {other:?}"),
        })
    }

    /// The position of each element of `input`, `default` where there is none.
    fn positions(&self, input: &Tensor, default: usize) -> TractResult<Vec<usize>> {
        let or_default = |found: Option<&usize>| found.copied().unwrap_or(default);
        Ok(match self {
            Self::Strings(keys) => {
                let view = input.try_as_plain_ram()?;
                let elements = view.as_slice::<String>()?.iter();
                elements.map(|key| or_default(keys.get(key))).collect()
            }
            Self::Integers(keys) => {
                let input = input.cast_to::<i64>()?;
                let view = input.try_as_plain_ram()?;
                let elements = view.as_slice::<i64>()?.iter();
                elements.map(|key| or_default(keys.get(key))).collect()
            }
            Self::Floats(keys) => {
                let input = input.cast_to::<f64>()?;
                let view = input.try_as_plain_ram()?;
                let elements = view.as_slice::<f64>()?.iter();
                elements
                    .map(|key| or_default(keys.get(&float_key(key))))
                    .collect()
            }
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

fn float_key(value: &f64) -> u64 {
    if value.is_nan() {
        f64::NAN.to_bits()
    } else if *value == 0.0 {
        0
    } else {
        value.to_bits()
    }
}

impl Operator for LabelEncoder {
    const NAME: &'static str = "LabelEncoder";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let table = self.table(*datum_type)?;
        Ok(tvec![(table.values.datum_type(), shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        Ok(tvec![self.table(input.datum_type())?.look_up(input)?])
    }
}

fn gather<T: Datum + Clone>(
    values: &Tensor,
    positions: &[usize],
    shape: &[usize],
) -> TractResult<Tensor> {
    let view = values.try_as_plain_ram()?;
    let values = view.as_slice::<T>()?;
    let found = positions
        .iter()
        .filter_map(|position| values.get(*position));
    let found: Vec<T> = found.cloned().collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(shape, found)?.into_tensor())
}
