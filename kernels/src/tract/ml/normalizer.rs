//! `Normalizer`: each row divided by its largest value, its sum of magnitudes, or its length.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, bail, tvec};

use super::{Build, MlOperator, Port, as_f32, matrix_of, numeric, only, only_tensor};

/// Scales rows to norm 1. A row of norm 0 stays as it is.
#[derive(Debug)]
pub(super) enum Normalizer {
    /// By the largest value.
    Max,
    /// By the sum of magnitudes.
    L1,
    /// By the root of the sum of squares.
    L2,
}

impl Build for Normalizer {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        match node.get_attr_opt::<&str>("norm")?.unwrap_or("MAX") {
            "MAX" => Ok(Self::Max),
            "L1" => Ok(Self::L1),
            "L2" => Ok(Self::L2),
            other => bail!("Normalizer's norm is {other:?}, not MAX, L1 or L2"),
        }
    }
}

impl MlOperator for Normalizer {
    const NAME: &'static str = "Normalizer";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        numeric(Self::NAME, *datum_type)?;
        Ok(tvec![(DatumType::F32, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let mut output = as_f32(only_tensor(Self::NAME, inputs)?)?.into_owned();
        let (_, columns) = matrix_of(Self::NAME, output.shape())?;
        let mut view = output.try_as_plain_ram_mut()?;
        for row in view.as_slice_mut::<f32>()?.chunks_mut(columns.max(1)) {
            let norm = match self {
                Self::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Self::L1 => row.iter().map(|value| value.abs()).sum(),
                Self::L2 => row.iter().map(|value| value * value).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                row.iter_mut().for_each(|value| *value /= norm);
            }
        }
        Ok(tvec![output])
    }
}
