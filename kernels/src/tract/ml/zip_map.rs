//! `ZipMap`: turns a row of scores into a map from label to score. Tensors have no maps, so the
//! scores pass as they are, in the order of the classes; who serves the model puts names to them.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TVec, Tensor, TractResult, tvec};

use super::{Build, Operator, Port, only, only_tensor};

/// Passes scores through.
#[derive(Debug)]
pub(super) struct ZipMap;

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
