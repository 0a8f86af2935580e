//! A model of one product, `Y = X w`, of which `w` is real numbers, bytes with a scale for each column, or halves of
//! bytes with one for each 32 neighbours.

use std::path::Path;

use edgeward_base::digest::Digest;
use prost::Message as _;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};

use crate::engine::{ModelFile, ModelForm};

/// Rows and columns of the matrix.
pub(super) const SIDE: usize = 512;

/// ONNX's numbers for element types.
const FLOAT: i32 = 1;
const INT8: i32 = 3;
const INT4: i32 = 22;

/// The model with so many bits for a weight, in `folder`.
pub(super) fn write(folder: &Path, bits: usize) -> ModelFile {
    let path = folder.join(format!("{bits}.onnx"));
    std::fs::write(&path, model(bits).encode_to_vec()).unwrap();
    ModelFile {
        digest: Digest::of_file(&path).unwrap(),
        path,
        form: ModelForm::Onnx,
        text: None,
    }
}

fn model(bits: usize) -> ModelProto {
    let product = node("MatMul", ["X", "w"], "Y", Vec::new());
    let how = match bits {
        8 => vec![integer("axis", 1)],
        _ => vec![integer("axis", 0), integer("block_size", 32)],
    };
    let real = node("DequantizeLinear", ["q", "s"], "w", how);
    ModelProto {
        ir_version: 10,
        opset_import: vec![OperatorSetIdProto {
            version: 21,
            ..OperatorSetIdProto::default()
        }],
        graph: Some(GraphProto {
            node: if bits == 32 {
                vec![product]
            } else {
                vec![real, product]
            },
            initializer: weights(bits),
            input: vec![value("X", Some([None, i64::try_from(SIDE).ok()]))],
            output: vec![value("Y", None)],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    }
}

fn weights(bits: usize) -> Vec<TensorProto> {
    let scales = |count: usize| (0..count).flat_map(|_| 0.01_f32.to_le_bytes()).collect();
    let bytes = |count: usize| {
        (0..count)
            .map(|at| u8::try_from(at % 251).unwrap())
            .collect()
    };
    let numbers = SIDE * SIDE;
    let square = [SIDE, SIDE];
    match bits {
        32 => {
            let reals = (0..numbers).flat_map(|at| ((at % 13) as f32).to_le_bytes());
            vec![tensor("w", FLOAT, &square, reals.collect())]
        }
        8 => vec![
            tensor("q", INT8, &square, bytes(numbers)),
            tensor("s", FLOAT, &[SIDE], scales(SIDE)),
        ],
        _ => vec![
            tensor("q", INT4, &square, bytes(numbers / 2)),
            tensor("s", FLOAT, &[SIDE / 32, SIDE], scales(numbers / 32)),
        ],
    }
}

fn tensor(name: &str, data_type: i32, dims: &[usize], raw_data: Vec<u8>) -> TensorProto {
    TensorProto {
        name: name.to_owned(),
        data_type,
        dims: dims
            .iter()
            .map(|dim| i64::try_from(*dim).unwrap())
            .collect(),
        raw_data,
        ..TensorProto::default()
    }
}

fn node(
    op_type: &str,
    input: [&str; 2],
    output: &str,
    attribute: Vec<AttributeProto>,
) -> NodeProto {
    NodeProto {
        op_type: op_type.to_owned(),
        input: input.map(str::to_owned).to_vec(),
        output: vec![output.to_owned()],
        attribute,
        ..NodeProto::default()
    }
}

fn integer(name: &str, i: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i,
        ..AttributeProto::default()
    }
}

fn value(name: &str, shape: Option<[Option<i64>; 2]>) -> ValueInfoProto {
    let dim = |extent: Option<i64>| Dimension {
        value: extent.map(dimension::Value::DimValue),
        ..Dimension::default()
    };
    let shape = shape.map(|shape| TensorShapeProto {
        dim: shape.map(dim).to_vec(),
    });
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: FLOAT,
                shape,
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}
