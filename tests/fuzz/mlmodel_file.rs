//! MLmodel files: what is read of one can be served.

use std::sync::Arc;

use edgeward::model::mlmodel::{MlModel, parse};
use edgeward::model::{BindModelError, ColumnType, Schema};
use edgeward_base::error::chain;
use edgeward_kernels::tensor::{DataType, TensorSpec};

use super::models::{self, Echo, spec};

/// A message may list what is in the file; it is never much longer than the file.
const GROWTH: usize = 8;
const FLOOR: usize = 2_000;

/// An MLmodel file, and its signature bound to a model that has just such inputs and outputs; whether it is
/// read.
///
/// # Panics
/// When the product breaks a claim.
pub fn mlmodel(data: &[u8]) -> bool {
    match parse(data) {
        Ok(model) => {
            bound(model);
            true
        }
        Err(error) => {
            let length = chain(&error).len();
            assert!(length <= data.len() * GROWTH + FLOOR, "{length} bytes");
            false
        }
    }
}

/// A signature that was read fits the model that it describes.
fn bound(model: MlModel) {
    let Some(signature) = model.signature else {
        return;
    };
    let inputs = specs(&signature.inputs);
    let outputs = signature.outputs.as_ref().map_or_else(Vec::new, specs);
    let maps = matches!(&signature.outputs, Some(Schema::Columns(columns))
        if columns.iter().any(|column| column.column_type == ColumnType::Map));
    let params = !signature.params.is_empty();
    match models::try_scorer(signature, Arc::new(Echo::of(inputs, outputs))) {
        Ok(_) => assert!(!params && !maps, "bound with what no model has"),
        Err(BindModelError::Params { .. }) => assert!(params),
        Err(BindModelError::NotAMap { .. }) => assert!(maps),
        Err(error) => panic!("{error}"),
    }
}

/// The inputs or outputs of a model for which a signature was written.
fn specs(schema: &Schema) -> Vec<TensorSpec> {
    match schema {
        Schema::Columns(columns) => {
            let columns = columns.iter();
            columns
                .map(|column| spec(&column.name, element(column.column_type), &[None, Some(1)]))
                .collect()
        }
        Schema::Tensors(tensors) => {
            let tensors = tensors.iter();
            tensors
                .map(|tensor| {
                    let name = tensor.name.as_deref().unwrap_or("only");
                    spec(name, tensor.data_type, &tensor.shape)
                })
                .collect()
        }
    }
}

/// The element type of which each value of a column is one.
fn element(column: ColumnType) -> DataType {
    match column {
        ColumnType::Boolean => DataType::Bool,
        ColumnType::Integer => DataType::I32,
        ColumnType::Long | ColumnType::Datetime => DataType::I64,
        ColumnType::Float | ColumnType::Map => DataType::F32,
        ColumnType::Double => DataType::F64,
        ColumnType::String | ColumnType::Binary => DataType::String,
    }
}
