//! `Normalizer`: each row divided by its largest value, its sum of magnitudes, or its length.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, bail, tvec};

use super::{Build, Operator, Port, matrix_of, numeric, only, only_tensor, rounded};

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

impl Operator for Normalizer {
    const NAME: &'static str = "Normalizer";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        numeric(Self::NAME, *datum_type)?;
        Ok(tvec![(DatumType::F32, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let (_, columns) = matrix_of(Self::NAME, input.shape())?;
        let wide = input.cast_to::<f64>()?;
        let wide = wide.try_as_plain_ram()?;
        let mut output = Tensor::zero::<f32>(input.shape())?;
        let mut view = output.try_as_plain_ram_mut()?;
        let rows = view.as_slice_mut::<f32>()?.chunks_mut(columns.max(1));
        for (to, row) in rows.zip(wide.as_slice::<f64>()?.chunks(columns.max(1))) {
            let norm = match self {
                Self::Max => row.iter().copied().fold(f64::NEG_INFINITY, f64::max),
                Self::L1 => row.iter().map(|value| value.abs()).sum(),
                Self::L2 => row.iter().map(|value| value * value).sum::<f64>().sqrt(),
            };
            let norm = if norm == 0.0 { 1.0 } else { norm };
            for (to, value) in to.iter_mut().zip(row) {
                *to = rounded(value / norm);
            }
        }
        Ok(tvec![output])
    }
}
