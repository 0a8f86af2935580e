//! `Compress`: the slices along an axis, or the elements, that a condition picks.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::Symbol;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::places;
use super::{Build, Operator, Port};

/// Picks slices. A condition that is shorter than the axis picks none of the rest.
#[derive(Debug)]
pub(super) struct Compress {
    axis: Option<i64>,
    /// How many are picked.
    picked: Symbol,
}

impl Build for Compress {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            axis: node.get_attr_opt("axis")?,
            picked: context.template.symbols.new_with_prefix("picked"),
        })
    }
}

impl Operator for Compress {
    const NAME: &'static str = "Compress";
    const INPUTS: usize = 2;

    fn finds_shapes(&self) -> bool {
        true
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [(datum_type, shape), (condition, _)] = inputs else {
            bail!("Compress takes two inputs");
        };
        ensure!(
            *condition == DatumType::Bool,
            "a condition is not {condition:?}"
        );
        let Some(axis) = self.axis else {
            return Ok(tvec![(*datum_type, tvec![self.picked.to_dim()])]);
        };
        let axis = places::axis(axis, shape.len())?;
        let mut shape = shape.clone();
        *shape.get_mut(axis).context("no axis")? = self.picked.to_dim();
        Ok(tvec![(*datum_type, shape)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [data, condition] = inputs else {
            bail!("Compress takes two inputs");
        };
        let condition = condition.try_as_plain_ram()?.as_slice::<bool>()?;
        let picked = condition.iter().enumerate().filter(|(_, picked)| **picked);
        let picked: TVec<usize> = picked.map(|(at, _)| at).collect();
        let Some(axis) = self.axis else {
            let from: Vec<Option<usize>> = picked.iter().copied().map(Some).collect();
            return Ok(tvec![places::taken(data, &[picked.len()], &from)?]);
        };
        let axis = places::axis(axis, data.rank())?;
        let extent = data.shape().get(axis).copied().unwrap_or_default();
        ensure!(
            picked.iter().all(|at| *at < extent),
            "a condition is longer than its axis"
        );
        let mut shape: TVec<usize> = data.shape().into();
        *shape.get_mut(axis).context("no axis")? = picked.len();
        let from = places::indices(&shape).map(|mut index| {
            let at = index.get_mut(axis)?;
            *at = picked.get(*at).copied()?;
            Some(places::place(&index, data.shape()))
        });
        let from: Vec<Option<usize>> = from.collect();
        Ok(tvec![places::taken(data, &shape, &from)?])
    }
}
