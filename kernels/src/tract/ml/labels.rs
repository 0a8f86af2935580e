//! Class labels of a classifier: strings or integers, looked up by class index.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, IntoTensor, Tensor, TractResult, bail, ensure, tract_ndarray,
};

/// The labels in class order.
#[derive(Debug)]
pub(super) enum Labels {
    /// `classlabels_strings`.
    Strings(Vec<String>),
    /// `classlabels_int64s` or `classlabels_ints`.
    Integers(Vec<i64>),
}

impl Labels {
    /// Reads the labels of `node`, whose integer ones are the attribute `integers`.
    pub(super) fn read(node: &NodeProto, integers: &str) -> TractResult<Self> {
        let strings = node
            .get_attr_opt_vec::<String>("classlabels_strings")?
            .filter(|list| !list.is_empty());
        let numbers = node
            .get_attr_opt_vec::<i64>(integers)?
            .filter(|list| !list.is_empty());
        match (strings, numbers) {
            (Some(list), None) => Ok(Self::Strings(list)),
            (None, Some(list)) => Ok(Self::Integers(list)),
            _ => bail!(
                "{} needs either classlabels_strings or {integers}",
                node.op_type
            ),
        }
    }

    /// How many classes there are.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Strings(list) => list.len(),
            Self::Integers(list) => list.len(),
        }
    }

    /// The element type of a label.
    pub(super) fn datum_type(&self) -> DatumType {
        match self {
            Self::Strings(_) => DatumType::String,
            Self::Integers(_) => DatumType::I64,
        }
    }

    /// A vector with the label of each class in `classes`.
    pub(super) fn tensor(&self, classes: &[usize]) -> TractResult<Tensor> {
        let known = |count: usize| classes.iter().all(|class| *class < count);
        ensure!(
            known(self.len()),
            "a class without a label among {classes:?}"
        );
        Ok(match self {
            Self::Strings(list) => pick(list, classes).into_tensor(),
            Self::Integers(list) => pick(list, classes).into_tensor(),
        })
    }
}

fn pick<T: Clone>(list: &[T], classes: &[usize]) -> tract_ndarray::Array1<T> {
    classes
        .iter()
        .filter_map(|class| list.get(*class))
        .cloned()
        .collect()
}
