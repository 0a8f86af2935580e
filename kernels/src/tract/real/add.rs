//! Sums of two tensors of `f32`, with the activation behind them: what residual networks add up.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tvec,
};
use tract_onnx::tract_hir::tract_core::broadcast::multi_broadcast;

use super::super::operator::room;
use super::{Build, Operator, Port, bounds};
use crate::float::{Bounds, sum};
use crate::team;

/// Sums that one thread takes at once, at least.
const BLOCK: usize = 1 << 10;

/// Sums that are made in about a nanosecond.
const ADDED: usize = 4;

/// A sum and the activation behind it.
#[derive(Debug)]
pub(super) struct Add {
    bounds: Bounds,
}

impl Build for Add {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            bounds: bounds(node)?,
        })
    }
}

impl Operator for Add {
    const NAME: &'static str = "sum";
    const INPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [(left_type, left), (right_type, right)] = inputs else {
            bail!("a sum of {} tensors", inputs.len())
        };
        ensure!(
            *left_type == DatumType::F32 && *right_type == DatumType::F32,
            "a sum of {left_type:?} and {right_type:?}"
        );
        Ok(tvec![(DatumType::F32, multi_broadcast(&[left, right])?)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [left, right] = inputs else {
            bail!("a sum of {} tensors", inputs.len())
        };
        let shape = multi_broadcast(&[left.shape(), right.shape()])?;
        let (left, right) = (laid_out(left, &shape)?, laid_out(right, &shape)?);
        let mut output = room(DatumType::F32, &shape)?;
        let (left, right) = (left.try_as_plain_ram()?, right.try_as_plain_ram()?);
        let mut to = output.try_as_plain_ram_mut()?;
        let (left, right) = (left.as_slice::<f32>()?, right.as_slice::<f32>()?);
        let to = to.as_slice_mut::<f32>()?;
        team::fill(to, BLOCK, left.len() / ADDED, |first, to| {
            let (left, right) = (left.get(first..), right.get(first..));
            let (left, right) = (left.unwrap_or_default(), right.unwrap_or_default());
            sum::add(left, right, self.bounds, to);
        });
        Ok(tvec![output])
    }
}

/// A tensor in this shape, its numbers repeated where it has fewer.
fn laid_out<'a>(tensor: &'a Tensor, shape: &[usize]) -> TractResult<std::borrow::Cow<'a, Tensor>> {
    if tensor.shape() == shape {
        return Ok(std::borrow::Cow::Borrowed(tensor));
    }
    let full = tensor.broadcast_to_shape(shape);
    Ok(std::borrow::Cow::Owned(full.with_context(|| {
        format!("{:?} does not fit {shape:?}", tensor.shape())
    })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(shape: &[usize], first: u8) -> Tensor {
        let count = u8::try_from(shape.iter().product::<usize>()).unwrap();
        let numbers: Vec<f32> = (first..first + count).map(f32::from).collect();
        Tensor::from_shape(shape, &numbers).unwrap()
    }

    #[test]
    fn numbers_are_repeated_where_there_are_fewer() {
        let bounds = Bounds {
            least: 0.0,
            most: 24.0,
        };
        let (left, right) = (numbers(&[2, 3], 0), numbers(&[3], 20));
        let sum = Add { bounds }.compute(&[&left, &right]).unwrap().remove(0);
        let expected = [20.0_f32, 22.0, 24.0, 23.0, 24.0, 24.0];
        assert_eq!(sum, Tensor::from_shape(&[2, 3], &expected).unwrap());
        let refused = Add { bounds }.compute(&[&left, &numbers(&[2], 0)]);
        assert!(refused.is_err());
    }
}
