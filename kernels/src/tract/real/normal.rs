//! `LayerNormalization` along the last axis, with constant scale and bias.
//!
//! ```text
//! x [..., columns]    scale [columns]    bias [columns], or none    y as x
//! ```

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, TractErrorContext as _, TractResult, ensure, tvec,
};

use super::super::operator::room;
use super::{Build, Operator, Port};
use crate::float::normal::normalise;
use crate::team;

/// Numbers that are normalised in about a nanosecond.
const MADE: usize = 2;

/// The normalisation of each row.
#[derive(Debug)]
pub(super) struct Normal {
    epsilon: f32,
    inputs: usize,
}

impl Build for Normal {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            epsilon: node.get_attr_opt("epsilon")?.unwrap_or(1e-5),
            inputs: node.input.len(),
        })
    }
}

impl Operator for Normal {
    const NAME: &'static str = "layer normalisation";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = inputs.first().context("no numbers")?;
        let columns = shape.last().context("a row of a single number")?;
        ensure!(
            *datum_type == DatumType::F32,
            "a layer normalisation of {datum_type:?} with a scale of f32"
        );
        for (_, other) in inputs.iter().skip(1) {
            if let ([given], Ok(columns)) = (&**other, usize::try_from(columns)) {
                let given = usize::try_from(given);
                ensure!(
                    given.is_ok_and(|given| given == columns),
                    "scale and bias of {other:?} for rows of {columns}"
                );
            }
        }
        Ok(tvec![(*datum_type, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let plain = |at: usize| -> TractResult<_> {
            inputs
                .get(at)
                .map(|input| input.try_as_plain_ram())
                .transpose()
        };
        let (numbers, scale) = (
            plain(0)?.context("no numbers")?,
            plain(1)?.context("no scale")?,
        );
        let (numbers, scale) = (numbers.as_slice::<f32>()?, scale.as_slice::<f32>()?);
        let bias = plain(2)?;
        let bias = bias
            .as_ref()
            .map(|bias| bias.as_slice::<f32>())
            .transpose()?;
        let shape = inputs
            .first()
            .map(|input| input.shape())
            .unwrap_or_default();
        ensure!(
            shape.last() == Some(&scale.len()) && bias.is_none_or(|bias| bias.len() == scale.len()),
            "a scale of {} for rows of shape {shape:?}",
            scale.len()
        );
        let mut output = room(DatumType::F32, shape)?;
        let mut to = output.try_as_plain_ram_mut()?;
        let to = to.as_slice_mut::<f32>()?;
        team::fill(to, scale.len(), numbers.len() / MADE, |first, to| {
            let numbers = numbers.get(first..).unwrap_or_default();
            normalise(numbers, scale, bias, self.epsilon, to);
        });
        Ok(tvec![output])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of these lengths are those of `f64`, with and without a bias, alone and shared.
    #[test]
    fn rows_are_those_of_wider_numbers() {
        for columns in [1_u16, 2, 15, 16, 33, 384] {
            let (width, rows) = (usize::from(columns), 6);
            let wave = |at: u16, by: f64| (f64::from(at) * by).sin();
            let all = (0..6 * columns).map(|at| wave(at, 7.3) * 4.0 + 90.0);
            let scale: Vec<f64> = (0..columns).map(|at| wave(at, 1.7)).collect();
            let bias: Vec<f64> = (0..columns).map(|at| wave(at, 2.9)).collect();
            let all: Vec<f64> = all.collect();
            #[expect(clippy::cast_possible_truncation, reason = "made into what is tested")]
            let tensor = |shape: &[usize], numbers: &[f64]| {
                let numbers: Vec<f32> = numbers.iter().map(|number| *number as f32).collect();
                Tensor::from_shape(shape, &numbers).unwrap()
            };
            let given = [
                tensor(&[2, 3, width], &all),
                tensor(&[width], &scale),
                tensor(&[width], &bias),
            ];
            for inputs in [2, 3] {
                let given: Vec<&Tensor> = given.iter().take(inputs).collect();
                let normal = Normal {
                    epsilon: 1e-5,
                    inputs,
                };
                let result = normal.compute(&given).unwrap().remove(0);
                assert_eq!(result.shape(), [2, 3, width]);
                let shared = team::with_helpers(2, || normal.compute(&given).unwrap().remove(0));
                assert_eq!(shared, result);
                let result = result.try_as_plain_ram().unwrap();
                let result = result.as_slice::<f32>().unwrap();
                for row in 0..rows {
                    let of_row = row * width..(row + 1) * width;
                    let (row, result) = (&all[of_row.clone()], &result[of_row]);
                    let mean = row.iter().sum::<f64>() / f64::from(columns);
                    let squares = row.iter().map(|x| (x - mean) * (x - mean));
                    let spread = (squares.sum::<f64>() / f64::from(columns) + 1e-5).sqrt();
                    for (at, (x, got)) in row.iter().zip(result).enumerate() {
                        let moved = if inputs == 3 { bias[at] } else { 0.0 };
                        let expected = (x - mean) / spread * scale[at] + moved;
                        // Numbers around 90 are known to 4e-6, of a spread of about 3.
                        assert!(
                            (f64::from(*got) - expected).abs() < 1e-4,
                            "{got} {expected}"
                        );
                    }
                }
            }
        }
    }
}
