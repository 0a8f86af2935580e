//! `CategoryMapper`: strings to integers or back, through one list of pairs.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, IntoTensor, TVec, Tensor, TractResult, bail, ensure, tract_ndarray, tvec,
};

use super::{Build, Operator, Port, only, only_tensor};

/// The pairs, the last of several for one key. Which way it maps follows from the element type of
/// its input.
#[derive(Debug)]
pub(super) struct CategoryMapper {
    integers: HashMap<String, i64>,
    strings: HashMap<i64, String>,
    default_integer: i64,
    default_string: String,
}

impl Build for CategoryMapper {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let strings = node.get_attr_vec::<String>("cats_strings")?;
        let integers = node.get_attr_vec::<i64>("cats_int64s")?;
        ensure!(
            strings.len() == integers.len(),
            "CategoryMapper has {} strings and {} integers",
            strings.len(),
            integers.len()
        );
        let default_string = node.get_attr_opt::<String>("default_string")?;
        let to_integers = strings.iter().cloned().zip(integers.iter().copied());
        Ok(Self {
            integers: to_integers.collect(),
            strings: integers.into_iter().zip(strings).collect(),
            default_integer: node.get_attr_opt("default_int64")?.unwrap_or(-1),
            default_string: default_string.unwrap_or_else(|| "_Unused".to_owned()),
        })
    }
}

impl Operator for CategoryMapper {
    const NAME: &'static str = "CategoryMapper";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let mapped = match datum_type {
            DatumType::String => DatumType::I64,
            DatumType::I64 => DatumType::String,
            other => bail!("CategoryMapper takes strings or i64, got {other:?}"),
        };
        Ok(tvec![(mapped, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let view = input.try_as_plain_ram()?;
        let output = if input.datum_type() == DatumType::String {
            let integer = |string: &String| self.integers.get(string).copied();
            let mapped = view.as_slice::<String>()?.iter();
            let mapped = mapped.map(|string| integer(string).unwrap_or(self.default_integer));
            shaped(input, mapped.collect())?.into_tensor()
        } else {
            let mapped = view.as_slice::<i64>()?.iter();
            let mapped = mapped.map(|key| self.strings.get(key).unwrap_or(&self.default_string));
            shaped(input, mapped.cloned().collect())?.into_tensor()
        };
        Ok(tvec![output])
    }
}

fn shaped<T>(like: &Tensor, values: Vec<T>) -> TractResult<tract_ndarray::ArrayD<T>> {
    Ok(tract_ndarray::ArrayD::from_shape_vec(like.shape(), values)?)
}
