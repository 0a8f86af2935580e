//! Takes nodes out of a typed graph that tract keeps although they change nothing.
//!
//! Each node of a plan costs a third of a microsecond, which is much beside a tabular model's
//! own work. What is taken out here must give its input bit for bit, for every shape.

use tract_onnx::prelude::{DatumType, TractResult, TypedModel};
use tract_onnx::tract_hir::internal::{ToDim, TypedModelPatch};
use tract_onnx::tract_hir::tract_core::ops::array::Gather;

/// Takes out every `Gather` that picks each index of its axis in order. scikit-learn's converter
/// writes one before each column's encoder, and tract's own pass covers numbers only.
pub(super) fn without_identities(mut model: TypedModel) -> TractResult<TypedModel> {
    while let Some(patch) = (0..model.nodes().len())
        .find_map(|node| identity(&model, node).transpose())
        .transpose()?
    {
        patch.apply(&mut model)?;
    }
    model.into_compact()
}

/// The patch that takes node `id` out, if it is a `Gather` of everything.
fn identity(model: &TypedModel, id: usize) -> TractResult<Option<TypedModelPatch>> {
    let node = model.node(id);
    let (Some(gather), [data, indices]) = (node.op_as::<Gather>(), node.inputs.as_slice()) else {
        return Ok(None);
    };
    let data_fact = model.outlet_fact(*data)?;
    let Some(indices) = model.outlet_fact(*indices)?.konst.as_ref() else {
        return Ok(None);
    };
    let every = indices.rank() == 1
        && indices.datum_type() == DatumType::I64
        && data_fact.shape.get(gather.axis) == Some(&indices.len().to_dim())
        && indices
            .try_as_plain_ram()?
            .as_slice::<i64>()?
            .iter()
            .zip(0..)
            .all(|(index, position)| *index == position);
    let lost_name = model.outputs.contains(data) && model.outputs.contains(&id.into());
    if !every || lost_name || gather.output_type.is_some() {
        return Ok(None);
    }
    TypedModelPatch::rewire(model, &[*data], &[id.into()], &|_, taps| Ok(taps.into())).map(Some)
}

#[cfg(test)]
mod tests;
