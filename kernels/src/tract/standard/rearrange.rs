//! Operators that move elements and change none: `ReverseSequence`, `CenterCropPad`, `MaxUnpool`,
//! `TensorScatter`.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    TDim, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::places::{self, Window};
use super::{Build, Operator, Port};

/// Reverses the beginning of each sequence of a batch.
#[derive(Debug)]
pub(super) struct ReverseSequence {
    batch_axis: usize,
    time_axis: usize,
}

impl Build for ReverseSequence {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let batch_axis = node.get_attr_opt("batch_axis")?.unwrap_or(1);
        let time_axis = node.get_attr_opt("time_axis")?.unwrap_or(0);
        ensure!(
            batch_axis != time_axis && batch_axis < 2 && time_axis < 2,
            "ReverseSequence has batch_axis {batch_axis} and time_axis {time_axis}"
        );
        Ok(Self {
            batch_axis,
            time_axis,
        })
    }
}

impl Operator for ReverseSequence {
    const NAME: &'static str = "ReverseSequence";
    const INPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [data, (lengths, _)] = inputs else {
            bail!("ReverseSequence takes two inputs");
        };
        ensure!(
            data.1.len() >= 2,
            "ReverseSequence takes a batch of sequences"
        );
        ensure!(lengths.is_integer(), "lengths are {lengths:?}");
        Ok(tvec![data.clone()])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [data, lengths] = inputs else {
            bail!("ReverseSequence takes two inputs");
        };
        let lengths = places::extents(lengths)?;
        let shape = data.shape();
        let from = places::indices(shape).map(|mut index| {
            let row = index.get(self.batch_axis).context("no batch")?;
            let length = *lengths.get(*row).context("a sequence has no length")?;
            let steps = shape.get(self.time_axis).context("no time")?;
            ensure!(
                length <= *steps,
                "a sequence of {steps} has length {length}"
            );
            if let Some(step) = index.get_mut(self.time_axis).filter(|step| **step < length) {
                *step = length - 1 - *step;
            }
            Ok(Some(places::place(&index, shape)))
        });
        let from = from.collect::<TractResult<Vec<_>>>()?;
        Ok(tvec![places::taken(data, shape, &from)?])
    }
}

/// Cuts or pads axes to given extents, the same on both sides.
#[derive(Debug)]
pub(super) struct CenterCropPad {
    axes: Option<Vec<i64>>,
}

impl Build for CenterCropPad {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            axes: node.get_attr_opt_vec("axes")?,
        })
    }
}

impl CenterCropPad {
    /// The shape with the extents that are asked for.
    fn shape<D: Clone + From<usize>>(&self, shape: &[D], wanted: &Tensor) -> TractResult<TVec<D>> {
        let wanted = places::extents(wanted)?;
        let axes: TVec<usize> = match &self.axes {
            Some(axes) => {
                let axes = axes.iter().map(|axis| places::axis(*axis, shape.len()));
                axes.collect::<TractResult<_>>()?
            }
            None => (0..shape.len()).collect(),
        };
        ensure!(
            axes.len() == wanted.len(),
            "{} extents are given for {} axes",
            wanted.len(),
            axes.len()
        );
        let mut shape: TVec<D> = shape.into();
        for (axis, extent) in axes.into_iter().zip(wanted) {
            if let Some(dim) = shape.get_mut(axis) {
                *dim = D::from(extent);
            }
        }
        Ok(shape)
    }
}

impl Operator for CenterCropPad {
    const NAME: &'static str = "CenterCropPad";
    const INPUTS: usize = 2;

    fn parameters(&self) -> &[usize] {
        &[1]
    }

    fn outputs_by(&self, inputs: &[Port], parameters: &[Arc<Tensor>]) -> TractResult<TVec<Port>> {
        let ([(datum_type, shape), _], [wanted]) = (inputs, parameters) else {
            bail!("CenterCropPad takes two inputs");
        };
        Ok(tvec![(*datum_type, self.shape::<TDim>(shape, wanted)?)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [data, wanted] = inputs else {
            bail!("CenterCropPad takes two inputs");
        };
        let before = data.shape();
        let after = self.shape::<usize>(before, wanted)?;
        let source = |(at, (before, after)): (&usize, (&usize, &usize))| {
            let at = if after > before {
                at.checked_sub((after - before) / 2)?
            } else {
                at + (before - after) / 2
            };
            (at < *before).then_some(at)
        };
        let from = places::indices(&after).map(|index| {
            let extents = before.iter().zip(&after);
            let index: Option<TVec<usize>> = index.iter().zip(extents).map(source).collect();
            index.map(|index| places::place(&index, before))
        });
        let from: Vec<Option<usize>> = from.collect();
        Ok(tvec![places::taken(data, &after, &from)?])
    }
}

/// Puts the results of a `MaxPool` back to where they came from, among zeros.
#[derive(Debug)]
pub(super) struct MaxUnpool {
    window: Window,
    /// Whether the shape of the output is given.
    given: bool,
}

impl Build for MaxUnpool {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            window: Window::read(node, node.get_attr_tvec("kernel_shape")?)?,
            given: node.input.get(2).is_some_and(|name| !name.is_empty()),
        })
    }
}

impl MaxUnpool {
    /// The shape that was pooled, as far as the window tells.
    fn pooled(&self, shape: &[TDim]) -> TractResult<TVec<TDim>> {
        let mut shape: TVec<TDim> = shape.into();
        let rank = self.window.kernel.len();
        ensure!(
            shape.len() == rank + 2,
            "MaxUnpool has a kernel of {rank} axes"
        );
        for (axis, dim) in shape.iter_mut().skip(2).enumerate() {
            let of = |list: &TVec<usize>| list.get(axis).map_or_else(|| 0.to_dim(), ToDim::to_dim);
            let pads = of(&self.window.pads.0) + of(&self.window.pads.1);
            let steps = (dim.clone() - 1) * of(&self.window.strides);
            *dim = steps + of(&self.window.kernel) - pads;
        }
        Ok(shape)
    }
}

impl Operator for MaxUnpool {
    const NAME: &'static str = "MaxUnpool";

    fn inputs(&self) -> usize {
        2 + usize::from(self.given)
    }

    fn parameters(&self) -> &[usize] {
        if self.given { &[2] } else { &[] }
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = inputs.first().context("MaxUnpool takes two inputs")?;
        Ok(tvec![(*datum_type, self.pooled(shape)?)])
    }

    fn outputs_by(&self, inputs: &[Port], parameters: &[Arc<Tensor>]) -> TractResult<TVec<Port>> {
        let ([(datum_type, _), ..], [shape]) = (inputs, parameters) else {
            return self.outputs(inputs);
        };
        let shape = places::extents(shape)?;
        let shape = shape.iter().map(|extent| extent.to_dim()).collect();
        Ok(tvec![(*datum_type, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [data, places, given @ ..] = inputs else {
            bail!("MaxUnpool takes two inputs");
        };
        // Places are those of the shape that was pooled, whatever shape is asked for.
        let dims: TVec<TDim> = data.shape().iter().map(ToDim::to_dim).collect();
        let pooled = self.pooled(&dims)?;
        let pooled = pooled.iter().map(usize::try_from);
        let pooled = pooled.collect::<Result<TVec<usize>, _>>()?;
        let given = given
            .first()
            .map(|shape| places::extents(shape))
            .transpose()?;
        let shape = given.unwrap_or_else(|| pooled.clone());
        let mut from = vec![None; shape.iter().product()];
        for (at, target) in places::extents(places)?.into_iter().enumerate() {
            ensure!(
                target < pooled.iter().product(),
                "{target} is no place in {pooled:?}"
            );
            let index = places::index(target, &pooled);
            let inside = index.iter().zip(&shape).all(|(at, extent)| at < extent);
            let cell = from.get_mut(places::place(&index, &shape));
            if let Some(cell) = cell.filter(|_| inside) {
                *cell = Some(at);
            }
        }
        Ok(tvec![places::taken(data, &shape, &from)?])
    }
}

/// Writes new entries into a cache, each row of the batch from a place of its own.
#[derive(Debug)]
pub(super) struct TensorScatter {
    axis: i64,
    circular: bool,
    /// Whether the places are given.
    given: bool,
}

impl Build for TensorScatter {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let circular = match node.get_attr_opt::<&str>("mode")?.unwrap_or("linear") {
            "linear" => false,
            "circular" => true,
            other => bail!("mode is {other:?}, not linear or circular"),
        };
        Ok(Self {
            axis: node.get_attr_opt("axis")?.unwrap_or(-2),
            circular,
            given: node.input.get(2).is_some_and(|name| !name.is_empty()),
        })
    }
}

impl Operator for TensorScatter {
    const NAME: &'static str = "TensorScatter";

    fn inputs(&self) -> usize {
        2 + usize::from(self.given)
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [cache, update, ..] = inputs else {
            bail!("TensorScatter takes a cache and an update");
        };
        ensure!(
            cache.0 == update.0 && cache.1.len() == update.1.len(),
            "an update is like its cache"
        );
        let axis = places::axis(self.axis, cache.1.len())?;
        ensure!(axis != 0, "the axis of TensorScatter is not the batch");
        Ok(tvec![cache.clone()])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [cache, update, begin @ ..] = inputs else {
            bail!("TensorScatter takes a cache and an update");
        };
        let shape = cache.shape();
        let axis = places::axis(self.axis, shape.len())?;
        let entries = shape.get(axis).copied().unwrap_or_default();
        let begin = begin
            .first()
            .map(|begin| places::extents(begin))
            .transpose()?;
        // Elements of the update follow those of the cache.
        let both = cache.len();
        let mut from: Vec<Option<usize>> = (0..both).map(Some).collect();
        for (place, mut index) in places::indices(update.shape()).enumerate() {
            let row = index.first().copied().unwrap_or_default();
            let begin = begin.as_ref().map_or(Some(&0), |begin| begin.get(row));
            let begin = *begin.context("a row of the batch has no place")?;
            let at = index.get_mut(axis).context("no axis")?;
            *at += begin;
            if self.circular && entries > 0 {
                *at %= entries;
            }
            let inside = index.iter().zip(shape).all(|(at, extent)| at < extent);
            ensure!(inside, "an update does not fit into its cache");
            if let Some(cell) = from.get_mut(places::place(&index, shape)) {
                *cell = Some(both + place);
            }
        }
        let flat = |tensor: &Tensor| {
            let mut tensor = tensor.clone();
            let length = tensor.len();
            tensor.set_shape(&[length])?;
            TractResult::Ok(tensor)
        };
        let all = Tensor::stack_tensors(0, &[flat(cache)?, flat(update)?])?;
        Ok(tvec![places::taken(&all, shape, &from)?])
    }
}
