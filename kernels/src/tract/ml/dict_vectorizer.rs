//! `DictVectorizer`: from a map to a row with a place for each key of a vocabulary. The map arrives
//! as that row (see `maps`), in which NaN stands for a key that the map has not.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TDim, TVec, Tensor, TractResult, bail, ensure, tvec,
};

use super::{Build, Operator, Port, only, only_tensor};

/// Counts a key that is not there as nothing.
#[derive(Debug)]
pub(super) struct DictVectorizer {
    columns: usize,
}

/// The keys in the order of their columns, numbers as decimals.
pub(crate) fn vocabulary(node: &NodeProto) -> TractResult<Vec<String>> {
    let strings = node.get_attr_opt_vec::<String>("string_vocabulary")?;
    let numbers = node.get_attr_opt_vec::<i64>("int64_vocabulary")?;
    match (strings, numbers) {
        (Some(keys), None) => Ok(keys),
        (None, Some(keys)) => Ok(keys.iter().map(i64::to_string).collect()),
        _ => bail!("DictVectorizer needs either string_vocabulary or int64_vocabulary"),
    }
}

impl Build for DictVectorizer {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let columns = vocabulary(node)?.len();
        Ok(Self { columns })
    }
}

impl Operator for DictVectorizer {
    const NAME: &'static str = "DictVectorizer";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let row = only(Self::NAME, inputs)?;
        ensure!(
            row.1.last() == Some(&TDim::from(self.columns)),
            "DictVectorizer has {} keys, and its input the shape {:?}",
            self.columns,
            row.1
        );
        Ok(tvec![row.clone()])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let mut row = only_tensor(Self::NAME, inputs)?.clone();
        match row.datum_type() {
            DatumType::F32 => {
                for value in row.try_as_plain_ram_mut()?.as_slice_mut::<f32>()? {
                    *value = if value.is_nan() { 0.0 } else { *value };
                }
            }
            DatumType::F64 => {
                for value in row.try_as_plain_ram_mut()?.as_slice_mut::<f64>()? {
                    *value = if value.is_nan() { 0.0 } else { *value };
                }
            }
            // A text that is not there is empty.
            _ => {}
        }
        Ok(tvec![row])
    }
}
