//! `Softmax` along the last axis.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, ensure, tvec};

use super::super::operator::{only, only_tensor, room};
use super::{Build, Operator, Port};
use crate::float::softmax::softmax;
use crate::team;

/// The shares of the numbers along the last axis.
#[derive(Debug)]
pub(super) struct Softmax;

impl Build for Softmax {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for Softmax {
    const NAME: &'static str = "softmax";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        ensure!(
            datum_type.is_float() && !shape.is_empty(),
            "a softmax of {datum_type:?} {shape:?}"
        );
        Ok(tvec![(*datum_type, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let columns = input.shape().last().copied().unwrap_or(1);
        if input.datum_type() != DatumType::F32 {
            return Ok(tvec![plain(input, columns)?]);
        }
        let mut output = room(DatumType::F32, input.shape())?;
        let numbers = input.try_as_plain_ram()?;
        let mut to = output.try_as_plain_ram_mut()?;
        let numbers = numbers.as_slice::<f32>()?;
        // An exponential takes about a nanosecond.
        team::fill(to.as_slice_mut()?, columns, numbers.len(), |first, to| {
            softmax(numbers.get(first..).unwrap_or_default(), columns, to);
        });
        Ok(tvec![output])
    }
}

/// Of numbers of another type, in `f64`.
fn plain(input: &Tensor, columns: usize) -> TractResult<Tensor> {
    let wide = input.cast_to::<f64>()?;
    let mut numbers = wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
    for row in numbers.chunks_mut(columns.max(1)) {
        let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.iter_mut()
            .for_each(|number| *number = (*number - most).exp());
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|number| *number /= sum);
    }
    let shares = Tensor::from_shape(input.shape(), &numbers)?;
    Ok(shares.cast_to_dt(input.datum_type())?.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of rows of these lengths are those of `f64`, also where `exp` of a number is beyond every
    /// `f32`. What lies up to 87 below the largest has a share: that difference is rounded to 4e-6.
    #[test]
    fn shares_are_those_of_wider_numbers() {
        for columns in [1, 2, 15, 16, 17, 40, 131] {
            let count = u16::try_from(3 * columns).unwrap();
            let numbers = (0..count).map(|at| (f32::from(at) * 7.3).sin() * 200.0);
            let numbers: Vec<f32> = numbers.collect();
            let input = Tensor::from_shape(&[3, columns], &numbers).unwrap();
            let shares = Softmax.compute(&[&input]).unwrap().remove(0);
            let expected = plain(&input, columns).unwrap();
            let shares = shares.try_as_plain_ram().unwrap();
            let expected = expected.try_as_plain_ram().unwrap();
            let pairs = shares.as_slice::<f32>().unwrap().iter();
            for (got, expected) in pairs.zip(expected.as_slice::<f32>().unwrap()) {
                assert!(
                    (got - expected).abs() <= 1e-5 * expected + 1e-37,
                    "{got} {expected}"
                );
            }
        }
    }

    #[test]
    fn a_row_with_nan_is_nan_and_its_neighbour_is_not() {
        let input = Tensor::from_shape(&[2, 2], &[f32::NAN, 1.0, 3.0, 3.0]).unwrap();
        let shares = Softmax.compute(&[&input]).unwrap().remove(0);
        let shares = shares.try_as_plain_ram().unwrap();
        let [a, b, c, d] = shares.as_slice::<f32>().unwrap() else {
            panic!("four shares");
        };
        assert!(a.is_nan() && b.is_nan());
        assert_eq!([*c, *d], [0.5, 0.5]);
    }
}
