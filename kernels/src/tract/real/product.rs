//! Products of a matrix of `f32`, or of several, with constant weights: `Gemm`, and `MatMul` with the
//! bias and the activation behind it.
//!
//! ```text
//! x [..., depth]    w [depth, columns], or turned    bias [columns], or none    y [..., columns]
//! ```

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, DimLike, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::super::operator::room;
use super::{Build, Operator, Port, bounds};
use crate::float::Bounds;
use crate::float::product::Weights;

/// A product and the activation behind it.
#[derive(Debug)]
pub(super) struct Product {
    /// The weights are given column by column.
    turned: bool,
    bounds: Bounds,
    bias: bool,
    /// The weights and their depth, where they never change.
    weights: Option<Arc<Packed>>,
}

/// Weights, packed.
#[derive(Debug)]
struct Packed {
    weights: Weights,
    depth: usize,
}

impl Build for Product {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            turned: node.get_attr_opt::<i64>("transB")?.unwrap_or(0) != 0,
            bounds: bounds(node)?,
            bias: node.input.len() > 2,
            weights: None,
        })
    }
}

impl Packed {
    fn new(tensor: &Tensor, bias: Option<&Tensor>, turned: bool) -> TractResult<Self> {
        let (depth, columns) = extents(tensor.shape(), turned)?;
        let numbers = tensor.try_as_plain_ram()?;
        let numbers = numbers.as_slice::<f32>()?;
        let bias = bias.map(Tensor::try_as_plain_ram).transpose()?;
        let bias = bias
            .as_ref()
            .map(|bias| bias.as_slice::<f32>())
            .transpose()?;
        ensure!(
            bias.is_none_or(|bias| bias.len() == columns),
            "a bias that is not one for each of {columns} columns"
        );
        let weight = |_, place: usize, column: usize| {
            let at = if turned {
                column * depth + place
            } else {
                place * columns + column
            };
            numbers.get(at).copied().unwrap_or_default()
        };
        Ok(Self {
            weights: Weights::pack((1, depth, columns), weight, bias),
            depth,
        })
    }
}

/// Depth and columns of weights.
fn extents<D: Clone + std::fmt::Debug>(shape: &[D], turned: bool) -> TractResult<(D, D)> {
    match shape {
        [columns, depth] if turned => Ok((depth.clone(), columns.clone())),
        [depth, columns] => Ok((depth.clone(), columns.clone())),
        _ => bail!("weights of shape {shape:?} are no matrix"),
    }
}

impl Operator for Product {
    const NAME: &'static str = "product";

    fn inputs(&self) -> usize {
        match self.weights {
            Some(_) => 1,
            None => 2 + usize::from(self.bias),
        }
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = inputs.first().context("no left side")?;
        ensure!(
            *datum_type == DatumType::F32,
            "a product of {datum_type:?} with weights of f32"
        );
        let (depth, columns) = match &self.weights {
            Some(packed) => (packed.depth.into(), packed.weights.columns().into()),
            None => extents(&inputs.get(1).context("no weights")?.1, self.turned)?,
        };
        let [rows @ .., given] = &**shape else {
            bail!("a product of a single number")
        };
        if let (Ok(given), Ok(depth)) = (given.to_usize(), depth.to_usize()) {
            ensure!(given == depth, "a product of depths {given} and {depth}");
        }
        let mut shape: TVec<_> = rows.into();
        shape.push(columns);
        Ok(tvec![(DatumType::F32, shape)])
    }

    fn prepare(
        &self,
        constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>> {
        let (weights, bias) = match constants {
            [_, Some(weights)] => (weights, None),
            [_, Some(weights), Some(bias)] => (weights, Some(&**bias)),
            _ => return Ok(None),
        };
        let packed = Packed::new(weights, bias, self.turned)?;
        let prepared = Self {
            weights: Some(Arc::new(packed)),
            ..*self
        };
        Ok(Some((prepared, tvec![0])))
    }

    fn held(&self) -> u64 {
        self.weights
            .as_ref()
            .map_or(0, |packed| packed.weights.bytes())
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let left = *inputs.first().context("no left side")?;
        let packed = match (&self.weights, inputs) {
            (Some(packed), _) => Arc::clone(packed),
            (None, [_, weights, bias @ ..]) => {
                Arc::new(Packed::new(weights, bias.first().copied(), self.turned)?)
            }
            (None, _) => bail!("no weights"),
        };
        let [rows @ .., depth] = left.shape() else {
            bail!("a product of a single number")
        };
        ensure!(
            *depth == packed.depth,
            "a product of depths {depth} and {}",
            packed.depth
        );
        let columns = packed.weights.columns();
        let mut shape: TVec<usize> = rows.into();
        shape.push(columns);
        let mut output = room(DatumType::F32, &shape)?;
        let given = left.try_as_plain_ram()?;
        let mut room = output.try_as_plain_ram_mut()?;
        let room = room.as_slice_mut::<f32>()?;
        if *depth == 0 {
            bail!("a product of no depth");
        }
        packed
            .weights
            .multiply_matrix(given.as_slice::<f32>()?, self.bounds, room, columns);
        Ok(tvec![output])
    }
}
