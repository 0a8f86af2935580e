//! `QLinearConcat`: quantised tensors one after the other, each brought to the scale of the output.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::parameters::{encoding, reals, wholes};
use super::table::{bytes_of, look_up};
use super::{Build, Operator, Port};
use crate::int8::linear::Linear;

/// Inputs are the output's scale and zero point, then tensor, scale and zero point of each part.
#[derive(Debug)]
pub(super) struct QLinearConcat {
    inputs: usize,
    axis: i64,
}

impl Build for QLinearConcat {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let inputs = node.input.len();
        ensure!(
            inputs >= 5
                && (inputs - 2).is_multiple_of(3)
                && node.input.iter().all(|name| !name.is_empty()),
            "QLinearConcat takes a scale and a zero point for each tensor, got {inputs} inputs"
        );
        Ok(Self {
            inputs,
            axis: node.get_attr("axis")?,
        })
    }
}

impl QLinearConcat {
    fn place(&self, rank: usize) -> TractResult<usize> {
        let axis = if self.axis < 0 {
            self.axis.saturating_add(i64::try_from(rank)?)
        } else {
            self.axis
        };
        let place = usize::try_from(axis).ok().filter(|place| *place < rank);
        place.with_context(|| format!("axis {} is none of {rank}", self.axis))
    }
}

fn linear(scale: &Tensor, zero: &Tensor, kind: DatumType) -> TractResult<Linear> {
    match (reals(scale)?.as_slice(), wholes(zero)?.as_slice()) {
        ([scale], [zero]) => Ok(Linear {
            scale: *scale,
            zero: *zero,
            encoding: encoding("QLinearConcat", kind)?,
        }),
        _ => bail!("QLinearConcat takes one scale and one zero point for each tensor"),
    }
}

impl Operator for QLinearConcat {
    const NAME: &'static str = "QLinearConcat";

    fn inputs(&self) -> usize {
        self.inputs
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [_, (kind, _), parts @ ..] = inputs else {
            bail!("QLinearConcat has no inputs")
        };
        encoding(Self::NAME, *kind)?;
        let mut parts = parts.iter().step_by(3);
        let (_, first) = parts.next().context("QLinearConcat has no tensors")?;
        let mut shape = first.clone();
        let place = self.place(shape.len())?;
        for (_, part) in parts {
            ensure!(
                part.len() == shape.len(),
                "tensors of different numbers of axes"
            );
            for (axis, (extent, more)) in shape.iter_mut().zip(part).enumerate() {
                if axis == place {
                    *extent += more;
                } else {
                    ensure!(extent == more, "axis {axis} is {extent} and {more}");
                }
            }
        }
        Ok(tvec![(*kind, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [scale, zero, parts @ ..] = inputs else {
            bail!("QLinearConcat has no inputs")
        };
        let kind = zero.datum_type();
        let to = linear(scale, zero, kind)?;
        let mut tables = Vec::new();
        let mut shape: Option<TVec<usize>> = None;
        for part in parts.chunks(3) {
            let [tensor, scale, zero] = part else {
                bail!("QLinearConcat lacks a zero point")
            };
            let from = linear(scale, zero, tensor.datum_type())?;
            tables.push((bytes_of(from, to, |x| x), *tensor));
            let place = self.place(tensor.rank())?;
            match &mut shape {
                None => shape = Some(tensor.shape().into()),
                Some(shape) => {
                    if let (Some(extent), Some(more)) =
                        (shape.get_mut(place), tensor.shape().get(place))
                    {
                        *extent += more;
                    }
                }
            }
        }
        let shape = shape.context("QLinearConcat has no tensors")?;
        let place = self.place(shape.len())?;
        let line = |shape: &[usize]| shape.iter().skip(place).product::<usize>();
        let mut output = Tensor::zero_dt(kind, &shape)?;
        let whole = line(&shape).max(1);
        let mut start = 0;
        for (table, tensor) in &tables {
            let length = line(tensor.shape());
            let lines = output.as_bytes_mut().chunks_mut(whole);
            for (into, from) in lines.zip(tensor.as_bytes().chunks(length.max(1))) {
                let into = into.get_mut(start..start + length).unwrap_or_default();
                look_up(table, from, into);
            }
            start += length;
        }
        Ok(tvec![output])
    }
}
