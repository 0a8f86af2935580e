//! `ZipMap`: turns a row of scores into a map from label to score. The scores pass as they are, in the
//! order of the labels; whoever answers callers puts the labels to them (see `maps`).

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TVec, Tensor, TractResult, tvec};

use super::labels::Labels;
use super::{Build, Operator, Port, only, only_tensor};

/// Passes scores through.
#[derive(Debug)]
pub(super) struct ZipMap;

/// The labels in the order of the scores, numbers as decimals.
pub(crate) fn labels(node: &NodeProto) -> TractResult<Vec<String>> {
    Ok(match Labels::read(node, "classlabels_int64s")? {
        Labels::Strings(labels) => labels,
        Labels::Integers(labels) => labels.iter().map(i64::to_string).collect(),
    })
}

impl Build for ZipMap {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for ZipMap {
    const NAME: &'static str = "ZipMap";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        Ok(tvec![only(Self::NAME, inputs)?.clone()])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        Ok(tvec![only_tensor(Self::NAME, inputs)?.clone()])
    }
}
