//! The Gaussian error linear unit: what transformers put between their products.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, ensure, tvec};

use super::super::operator::{only, only_tensor, room};
use super::{Build, Operator, Port};
use crate::float::function::gelu;
use crate::team;

/// Numbers that one thread takes at once, at least.
const BLOCK: usize = 1 << 10;

/// `x * (1 + erf(x / sqrt(2))) / 2` of each number.
#[derive(Debug)]
pub(super) struct Gelu;

impl Build for Gelu {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for Gelu {
    const NAME: &'static str = "gelu";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        ensure!(*datum_type == DatumType::F32, "a gelu of {datum_type:?}");
        Ok(tvec![(*datum_type, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let mut output = room(DatumType::F32, input.shape())?;
        let numbers = input.try_as_plain_ram()?;
        let numbers = numbers.as_slice::<f32>()?;
        let mut to = output.try_as_plain_ram_mut()?;
        // One takes about a nanosecond.
        team::fill(to.as_slice_mut()?, BLOCK, numbers.len(), |first, to| {
            gelu(numbers.get(first..).unwrap_or_default(), to);
        });
        Ok(tvec![output])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of `x * Phi(x)` from tables of the normal distribution, to seven digits.
    #[test]
    fn numbers_are_those_of_the_normal_distribution() {
        let known = [
            (0.0_f32, 0.0_f32),
            (1.0, 0.841_344_7),
            (-1.0, -0.158_655_3),
            (2.0, 1.954_499_7),
            (-2.0, -0.045_500_26),
            (0.5, 0.345_731_2),
            (-3.0, -0.004_049_694),
            (40.0, 40.0),
            (-40.0, 0.0),
        ];
        let numbers: Vec<f32> = known.iter().map(|(x, _)| *x).cycle().take(45).collect();
        let input = Tensor::from_shape(&[5, 9], &numbers).unwrap();
        let result = Gelu.compute(&[&input]).unwrap().remove(0);
        let result = result.try_as_plain_ram().unwrap();
        let pairs = result.as_slice::<f32>().unwrap().iter();
        for (got, (x, expected)) in pairs.zip(known.iter().cycle()) {
            assert!((got - expected).abs() < 1e-6, "{x}: {got}, not {expected}");
        }
        let input = Tensor::from_shape(&[1], &[f32::NAN]).unwrap();
        let result = Gelu.compute(&[&input]).unwrap().remove(0);
        assert!(
            result
                .try_as_plain_ram()
                .unwrap()
                .as_slice::<f32>()
                .unwrap()[0]
                .is_nan()
        );
    }
}
