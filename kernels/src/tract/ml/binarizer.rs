//! `Binarizer`: 1 above a threshold, 0 elsewhere; NaN is not above anything.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::Datum;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, bail, tvec};

use super::{Build, Operator, Port, only, only_tensor};

/// Compares each element with one threshold. The element type stays.
#[derive(Debug)]
pub(super) struct Binarizer {
    threshold: f32,
}

impl Build for Binarizer {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let threshold = node.get_attr_opt("threshold")?.unwrap_or(0.0);
        Ok(Self { threshold })
    }
}

impl Operator for Binarizer {
    const NAME: &'static str = "Binarizer";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        match datum_type {
            DatumType::F32 | DatumType::F64 | DatumType::I32 | DatumType::I64 => {
                Ok(tvec![(*datum_type, shape.clone())])
            }
            other => bail!("Binarizer takes f32, f64, i32 or i64, got {other:?}"),
        }
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let threshold = f64::from(self.threshold);
        let output = match input.datum_type() {
            DatumType::F32 => binarized(input, |x: f32| f64::from(x) > threshold, [0.0, 1.0])?,
            DatumType::F64 => binarized(input, |x: f64| x > threshold, [0.0, 1.0])?,
            DatumType::I32 => binarized(input, |x: i32| f64::from(x) > threshold, [0, 1])?,
            _ => {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "near a threshold, which is an f32, an i64 is exact in f64"
                )]
                let above = |x: i64| x as f64 > threshold;
                binarized(input, above, [0, 1])?
            }
        };
        Ok(tvec![output])
    }
}

fn binarized<T: Datum + Copy>(
    input: &Tensor,
    above: impl Fn(T) -> bool,
    [zero, one]: [T; 2],
) -> TractResult<Tensor> {
    let mut output = input.clone();
    let mut view = output.try_as_plain_ram_mut()?;
    for value in view.as_slice_mut::<T>()? {
        *value = if above(*value) { one } else { zero };
    }
    Ok(output)
}
