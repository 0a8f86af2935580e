//! `ArrayFeatureExtractor`: some places of the last axis, in a given order.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::Datum;
use tract_onnx::tract_hir::internal::{
    DatumType, IntoTensor, TDim, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure,
    tract_ndarray, tvec,
};

use super::{Build, Operator, Port};

/// Takes the element at each index of its second input.
#[derive(Debug)]
pub(super) struct ArrayFeatureExtractor;

impl Build for ArrayFeatureExtractor {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for ArrayFeatureExtractor {
    const NAME: &'static str = "ArrayFeatureExtractor";
    const INPUTS: usize = 2;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [(datum_type, shape), (index_type, indices)] = inputs else {
            bail!(
                "ArrayFeatureExtractor takes two inputs, got {}",
                inputs.len()
            )
        };
        ensure!(
            matches!(index_type, DatumType::I64 | DatumType::I32),
            "ArrayFeatureExtractor's indices are {index_type:?}, not i64"
        );
        let count: TDim = indices.iter().product();
        // onnxruntime answers a vector with one row.
        let mut extracted: TVec<TDim> = if shape.len() < 2 {
            tvec![1.into()]
        } else {
            shape.iter().take(shape.len() - 1).cloned().collect()
        };
        extracted.push(count);
        Ok(tvec![(*datum_type, extracted)])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [values, indices] = inputs else {
            bail!(
                "ArrayFeatureExtractor takes two inputs, got {}",
                inputs.len()
            )
        };
        let indices = indices.cast_to::<i64>()?;
        let indices = indices.try_as_plain_ram()?;
        let indices = indices.as_slice::<i64>()?;
        let output = match values.datum_type() {
            DatumType::String => extracted::<String>(values, indices),
            DatumType::F32 => extracted::<f32>(values, indices),
            DatumType::F64 => extracted::<f64>(values, indices),
            DatumType::I64 => extracted::<i64>(values, indices),
            DatumType::I32 => extracted::<i32>(values, indices),
            other => bail!("ArrayFeatureExtractor takes no {other:?}"),
        }?;
        Ok(tvec![output])
    }
}

fn extracted<T: Datum + Clone>(values: &Tensor, indices: &[i64]) -> TractResult<Tensor> {
    let view = values.try_as_plain_ram()?;
    let width = values.shape().last().copied().unwrap_or(1);
    let mut shape: TVec<usize> = match values.shape() {
        [] | [_] => tvec![1],
        [leading @ .., _] => leading.into(),
    };
    shape.push(indices.len());
    let places = indices.iter().map(|index| {
        let place = usize::try_from(*index).ok().filter(|place| *place < width);
        place.with_context(|| format!("index {index} is outside an axis of {width}"))
    });
    let places = places.collect::<TractResult<Vec<usize>>>()?;
    let rows = view.as_slice::<T>()?.chunks_exact(width.max(1));
    let picked = rows.flat_map(|row| places.iter().filter_map(|place| row.get(*place)));
    let picked: Vec<T> = picked.cloned().collect();
    Ok(tract_ndarray::ArrayD::from_shape_vec(&*shape, picked)?.into_tensor())
}
