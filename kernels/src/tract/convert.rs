//! Our tensors to tract's and back. One copy each way: tract aligns its own memory.

use tract_onnx::prelude::{DatumType, IntoTensor, TValue, TractResult, tract_ndarray};
use tract_onnx::tract_hir::internal::{Datum, bail};

use crate::tensor::{DataType, Tensor, TensorData};

/// Our name for an element type of tract's; `None` for those that do not cross the boundary.
pub(super) fn data_type(datum_type: DatumType) -> Option<DataType> {
    Some(match datum_type {
        DatumType::Bool => DataType::Bool,
        DatumType::U8 => DataType::U8,
        DatumType::U16 => DataType::U16,
        DatumType::U32 => DataType::U32,
        DatumType::U64 => DataType::U64,
        DatumType::I8 => DataType::I8,
        DatumType::I16 => DataType::I16,
        DatumType::I32 => DataType::I32,
        DatumType::I64 => DataType::I64,
        DatumType::F32 => DataType::F32,
        DatumType::F64 => DataType::F64,
        DatumType::String => DataType::String,
        _ => return None,
    })
}

/// tract's name for an element type of ours.
pub(super) fn datum_type(data_type: DataType) -> DatumType {
    match data_type {
        DataType::Bool => DatumType::Bool,
        DataType::U8 => DatumType::U8,
        DataType::U16 => DatumType::U16,
        DataType::U32 => DatumType::U32,
        DataType::U64 => DatumType::U64,
        DataType::I8 => DatumType::I8,
        DataType::I16 => DatumType::I16,
        DataType::I32 => DatumType::I32,
        DataType::I64 => DatumType::I64,
        DataType::F32 => DatumType::F32,
        DataType::F64 => DatumType::F64,
        DataType::String => DatumType::String,
    }
}

/// A copy of `tensor` in tract's memory.
pub(super) fn to_tract(tensor: &Tensor) -> TractResult<TValue> {
    use tract_onnx::prelude::Tensor as Tract;
    let shape = tensor.shape();
    let copy = match tensor.data() {
        TensorData::Bool(values) => Tract::from_shape(shape, values),
        TensorData::U8(values) => Tract::from_shape(shape, values),
        TensorData::U16(values) => Tract::from_shape(shape, values),
        TensorData::U32(values) => Tract::from_shape(shape, values),
        TensorData::U64(values) => Tract::from_shape(shape, values),
        TensorData::I8(values) => Tract::from_shape(shape, values),
        TensorData::I16(values) => Tract::from_shape(shape, values),
        TensorData::I32(values) => Tract::from_shape(shape, values),
        TensorData::I64(values) => Tract::from_shape(shape, values),
        TensorData::F32(values) => Tract::from_shape(shape, values),
        TensorData::F64(values) => Tract::from_shape(shape, values),
        TensorData::String(values) => {
            Ok(tract_ndarray::ArrayD::from_shape_vec(shape, values.clone())?.into_tensor())
        }
    }?;
    Ok(copy.into())
}

/// A copy of `tensor` in our memory.
pub(super) fn from_tract(tensor: &tract_onnx::prelude::Tensor) -> TractResult<Tensor> {
    let shape = tensor.shape().to_vec();
    let data = match data_type(tensor.datum_type()) {
        Some(DataType::Bool) => TensorData::Bool(elements(tensor)?),
        Some(DataType::U8) => TensorData::U8(elements(tensor)?),
        Some(DataType::U16) => TensorData::U16(elements(tensor)?),
        Some(DataType::U32) => TensorData::U32(elements(tensor)?),
        Some(DataType::U64) => TensorData::U64(elements(tensor)?),
        Some(DataType::I8) => TensorData::I8(elements(tensor)?),
        Some(DataType::I16) => TensorData::I16(elements(tensor)?),
        Some(DataType::I32) => TensorData::I32(elements(tensor)?),
        Some(DataType::I64) => TensorData::I64(elements(tensor)?),
        Some(DataType::F32) => TensorData::F32(elements(tensor)?),
        Some(DataType::F64) => TensorData::F64(elements(tensor)?),
        Some(DataType::String) => TensorData::String(elements(tensor)?),
        None => bail!("an output has element type {:?}", tensor.datum_type()),
    };
    Ok(Tensor::new(shape, data)?)
}

fn elements<T: Datum + Clone>(tensor: &tract_onnx::prelude::Tensor) -> TractResult<Vec<T>> {
    Ok(tensor.try_as_plain_ram()?.as_slice::<T>()?.to_vec())
}
