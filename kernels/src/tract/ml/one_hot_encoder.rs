//! `OneHotEncoder`: a category becomes a 1 in its own column. An unknown category becomes a row of
//! zeros when `zeros` is 1, and is an error otherwise.

use std::collections::HashMap;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, ToDim, TractResult, bail, tvec};

use super::{Build, Operator, Port, only, only_tensor};

/// Encodes categories.
#[derive(Debug)]
pub(super) struct OneHotEncoder {
    categories: Categories,
    /// Whether unknown categories become zeros.
    zeros: bool,
}

#[derive(Debug)]
enum Categories {
    Strings(HashMap<String, usize>),
    Integers(HashMap<i64, usize>),
}

impl Categories {
    fn len(&self) -> usize {
        match self {
            Self::Strings(columns) => columns.len(),
            Self::Integers(columns) => columns.len(),
        }
    }
}

impl Build for OneHotEncoder {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let strings = node
            .get_attr_opt_vec::<String>("cats_strings")?
            .filter(|list| !list.is_empty());
        let integers = node
            .get_attr_opt_vec::<i64>("cats_int64s")?
            .filter(|list| !list.is_empty());
        let categories = match (strings, integers) {
            (Some(list), None) => Categories::Strings(list.into_iter().zip(0..).collect()),
            (None, Some(list)) => Categories::Integers(list.into_iter().zip(0..).collect()),
            _ => bail!("OneHotEncoder needs either cats_strings or cats_int64s"),
        };
        let zeros = node.get_attr_opt::<i64>("zeros")?.unwrap_or(1) == 1;
        Ok(Self { categories, zeros })
    }
}

impl Operator for OneHotEncoder {
    const NAME: &'static str = "OneHotEncoder";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let fits = match self.categories {
            Categories::Strings(_) => *datum_type == DatumType::String,
            Categories::Integers(_) => datum_type.is_number(),
        };
        if !fits {
            bail!("OneHotEncoder's categories do not fit an input of type {datum_type:?}");
        }
        let mut shape = shape.clone();
        shape.push(self.categories.len().to_dim());
        Ok(tvec![(DatumType::F32, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let width = self.categories.len();
        let mut shape: TVec<usize> = input.shape().into();
        shape.push(width);
        let mut output = Tensor::zero::<f32>(&shape)?;
        let mut view = output.try_as_plain_ram_mut()?;
        let rows = view.as_slice_mut::<f32>()?.chunks_mut(width);
        match &self.categories {
            Categories::Strings(columns) => {
                let values = input.try_as_plain_ram()?;
                for (row, value) in rows.zip(values.as_slice::<String>()?) {
                    self.mark(row, columns.get(value.as_str()).copied(), value)?;
                }
            }
            Categories::Integers(columns) => {
                let integers = input.cast_to::<i64>()?;
                for (row, value) in rows.zip(integers.try_as_plain_ram()?.as_slice::<i64>()?) {
                    self.mark(row, columns.get(value).copied(), value)?;
                }
            }
        }
        Ok(tvec![output])
    }
}

impl OneHotEncoder {
    fn mark(
        &self,
        row: &mut [f32],
        column: Option<usize>,
        value: &dyn std::fmt::Debug,
    ) -> TractResult<()> {
        match column.and_then(|column| row.get_mut(column)) {
            Some(cell) => *cell = 1.0,
            None if self.zeros => {}
            None => bail!("OneHotEncoder does not know the category {value:?}"),
        }
        Ok(())
    }
}
