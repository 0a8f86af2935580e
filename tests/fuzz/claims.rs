//! What holds for every model: of a refusal, and of tensors that were accepted.

use edgeward::api::ApiError;
use edgeward::model::ScoreError;
use edgeward_kernels::tensor::{DataType, Tensor, TensorData, TensorSpec};

/// The longest message, in bytes: a client's text is quoted in it, and must not come back whole.
const MOST_MESSAGE: usize = 5_000;

/// Tensors of a text may take so many times its bytes; `"",` makes a string of 24.
const GROWTH: usize = 8;

/// Whatever was wrong, the client is told so, briefly, and asked not to repeat it. Always false: what is refused is
/// not answered.
pub(crate) fn refused(error: &ScoreError) -> bool {
    assert!(error.mistake().is_some(), "not a client's mistake: {error}");
    api_error(&error.clone().into())
}

/// The same of an error that is an answer already.
pub(crate) fn api_error(error: &ApiError) -> bool {
    assert_eq!(error.status.as_u16(), 400, "{error:?}");
    assert!(!error.worth_retrying(), "{error:?}");
    let length = error.message.len();
    assert!(
        (1..=MOST_MESSAGE).contains(&length),
        "{length} bytes: {error:?}"
    );
    false
}

/// Tensors of a body of `length` bytes, beside which `floor` bytes are always allowed.
pub(crate) fn accepted(specs: &[TensorSpec], tensors: &[Tensor], length: usize, floor: usize) {
    assert_eq!(specs.len(), tensors.len());
    for (spec, tensor) in specs.iter().zip(tensors) {
        let shape = tensor.shape();
        assert!(spec.admits(shape), "{spec:?} does not admit {shape:?}");
        assert_eq!(spec.data_type, tensor.data_type());
        assert_eq!(shape.iter().product::<usize>(), tensor.data().len());
        assert_ne!(tensor.rows(), Some(0), "{} has no rows", spec.name);
    }
    let held: usize = tensors.iter().map(held).sum();
    let most = length * GROWTH + floor;
    assert!(
        held <= most,
        "{length} bytes became {held}, more than {most}"
    );
}

/// Bytes that a tensor takes in memory.
fn held(tensor: &Tensor) -> usize {
    let elements = tensor.data().len() * size(tensor.data_type());
    match tensor.data() {
        TensorData::String(texts) => elements + texts.iter().map(String::len).sum::<usize>(),
        _ => elements,
    }
}

fn size(data_type: DataType) -> usize {
    wire_size(data_type).unwrap_or(size_of::<String>())
}

/// Bytes of an element on the wire; a text says itself how long it is.
pub(crate) fn wire_size(data_type: DataType) -> Option<usize> {
    Some(match data_type {
        DataType::Bool | DataType::U8 | DataType::I8 => 1,
        DataType::U16 | DataType::I16 => 2,
        DataType::U32 | DataType::I32 | DataType::F32 => 4,
        DataType::U64 | DataType::I64 | DataType::F64 => 8,
        DataType::String => return None,
    })
}
