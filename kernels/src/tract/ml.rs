//! The `ai.onnx.ml` operators: what scikit-learn, XGBoost and LightGBM exports are made of.
//!
//! An operator reads its attributes once ([`Build`]), says what comes out of what goes in
//! ([`MlOperator::outputs`]), and computes whole batches ([`MlOperator::compute`]); the
//! wrapper [`Ml`] makes a tract operator of it. They replace tract's own where it has any.
//!
//! Semantics follow the ONNX specification, and onnxruntime where the specification is silent.

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::{
    InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{
    DatumType, DatumTypeExt as _, EvalContext, EvalOp, Expansion, InferenceOp, Op, OutletId,
    SpecialOps as _, StaticName, TDim, TValue, TVec, Tensor, TractErrorContext as _, TractResult,
    TypedFact, TypedModel, TypedOp, as_op, bail, expand, op_as_typed_op, op_out_of_plan,
};
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

use crate::scores::PostTransform;

mod array_feature_extractor;
mod binarizer;
mod category_mapper;
mod feature_vectorizer;
mod imputer;
mod label_encoder;
mod labels;
mod linear;
mod normalizer;
mod one_hot_encoder;
mod scaler;
mod svm;
mod tree_ensemble;
mod zip_map;

/// Which evaluation of an operator is wanted, where it has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evaluation {
    /// The kernel that serves.
    Kernel,
    /// The plain one that the kernel is held against.
    Reference,
}

/// Puts our operators into `register`, in place of tract's where it has one of that name.
pub(super) fn register(register: &mut OnnxOpRegister, evaluation: Evaluation) {
    register.insert(
        "ArrayFeatureExtractor",
        build::<array_feature_extractor::ArrayFeatureExtractor>,
    );
    register.insert("Binarizer", build::<binarizer::Binarizer>);
    register.insert("CategoryMapper", build::<category_mapper::CategoryMapper>);
    register.insert(
        "FeatureVectorizer",
        build::<feature_vectorizer::FeatureVectorizer>,
    );
    register.insert("Imputer", build::<imputer::Imputer>);
    register.insert("LabelEncoder", build::<label_encoder::LabelEncoder>);
    register.insert("LinearClassifier", build::<linear::LinearClassifier>);
    register.insert("LinearRegressor", build::<linear::LinearRegressor>);
    register.insert("Normalizer", build::<normalizer::Normalizer>);
    register.insert("OneHotEncoder", build::<one_hot_encoder::OneHotEncoder>);
    register.insert("Scaler", build::<scaler::Scaler>);
    register.insert("SVMClassifier", build::<svm::SvmClassifier>);
    register.insert("SVMRegressor", build::<svm::SvmRegressor>);
    register.insert("ZipMap", build::<zip_map::ZipMap>);
    match evaluation {
        Evaluation::Kernel => {
            register.insert(
                "TreeEnsembleClassifier",
                build::<tree_ensemble::Classifier<false>>,
            );
            register.insert(
                "TreeEnsembleRegressor",
                build::<tree_ensemble::Regressor<false>>,
            );
            register.insert("TreeEnsemble", build::<tree_ensemble::TreeEnsemble<false>>);
        }
        Evaluation::Reference => {
            register.insert(
                "TreeEnsembleClassifier",
                build::<tree_ensemble::Classifier<true>>,
            );
            register.insert(
                "TreeEnsembleRegressor",
                build::<tree_ensemble::Regressor<true>>,
            );
            register.insert("TreeEnsemble", build::<tree_ensemble::TreeEnsemble<true>>);
        }
    }
}

/// An operator that can be read from a model.
trait Build: MlOperator + Sized {
    /// Reads and checks the attributes.
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self>;
}

/// The element type and shape of one input or output.
type Port = (DatumType, TVec<TDim>);

/// One operator of `ai.onnx.ml`.
trait MlOperator: Debug + Send + Sync + 'static {
    /// Its ONNX name.
    const NAME: &'static str;

    /// How many inputs it takes.
    const INPUTS: usize = 1;

    /// How many outputs it has.
    const OUTPUTS: usize = 1;

    /// How many inputs this one takes, where that follows from its attributes.
    fn inputs(&self) -> usize {
        Self::INPUTS
    }

    /// What comes out of inputs like these. Fails on element types and ranks that it cannot take.
    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>>;

    /// The outputs for these inputs, of the element types and shapes of [`MlOperator::outputs`].
    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

fn build<K: Build>(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    Ok((expand(Ml(Arc::new(K::build(context, node)?))), vec![]))
}

/// Makes a tract operator of an [`MlOperator`].
#[derive(Debug)]
struct Ml<K>(Arc<K>);

impl<K> Clone for Ml<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> PartialEq for Ml<K> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl<K> Eq for Ml<K> {}

impl<K: MlOperator> Expansion for Ml<K> {
    fn name(&self) -> StaticName {
        K::NAME.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(K::OUTPUTS)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.0.inputs())?;
        check_output_arity(outputs, K::OUTPUTS)?;
        let types = inputs.iter().map(|input| &input.datum_type);
        solver.given_all(types, move |solver, types| {
            let shapes = inputs.iter().map(|input| &input.shape);
            solver.given_all(shapes, move |solver, shapes| {
                let types = types.iter().map(|datum_type| without_dims(*datum_type));
                let ports: Vec<Port> = types.zip(shapes).collect();
                for (output, (datum_type, shape)) in outputs.iter().zip(self.0.outputs(&ports)?) {
                    solver.equals(&output.datum_type, datum_type)?;
                    solver.equals(&output.shape, shape)?;
                }
                Ok(())
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut numbers: TVec<OutletId> = inputs.into();
        for (position, input) in numbers.iter_mut().enumerate() {
            let datum_type = model.outlet_fact(*input)?.datum_type;
            if datum_type != without_dims(datum_type) {
                let name = format!("{prefix}.numbers.{position}");
                let cast = cast(without_dims(datum_type));
                *input = model
                    .wire_node(name, cast, &[*input])?
                    .first()
                    .copied()
                    .unwrap_or(*input);
            }
        }
        model.wire_node(prefix, self.clone(), &numbers)
    }
}

/// What an operator sees of an element type: tract takes every cast to `int64` for a computation
/// on dimensions.
fn without_dims(datum_type: DatumType) -> DatumType {
    if datum_type == DatumType::TDim {
        DatumType::I64
    } else {
        datum_type
    }
}

impl<K: MlOperator> Op for Ml<K> {
    fn name(&self) -> StaticName {
        K::NAME.into()
    }

    op_as_typed_op!();
}

impl<K: MlOperator> EvalOp for Ml<K> {
    op_out_of_plan!();

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let tensors: TVec<&Tensor> = inputs.iter().map(|value| &**value).collect();
        Ok(self
            .0
            .compute(&tensors)?
            .into_iter()
            .map(TValue::from)
            .collect())
    }
}

impl<K: MlOperator> TypedOp for Ml<K> {
    as_op!();

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ports: Vec<Port> = inputs
            .iter()
            .map(|fact| (fact.datum_type, fact.shape.iter().cloned().collect()))
            .collect();
        let outputs = self.0.outputs(&ports)?;
        Ok(outputs
            .into_iter()
            .map(|(datum_type, shape)| datum_type.fact(&*shape))
            .collect())
    }
}

/// The one port of an operator that takes one input.
fn only<'a>(name: &str, inputs: &'a [Port]) -> TractResult<&'a Port> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{name} takes one input, got {}", inputs.len()),
    }
}

/// The one tensor of an operator that takes one input.
fn only_tensor<'a>(name: &str, inputs: &[&'a Tensor]) -> TractResult<&'a Tensor> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{name} takes one input, got {}", inputs.len()),
    }
}

/// The numeric elements of `tensor` as `f32`, without a copy when they are.
fn as_f32(tensor: &Tensor) -> TractResult<std::borrow::Cow<'_, Tensor>> {
    tensor.cast_to::<f32>()
}

/// A number that was computed wider, as an output is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "outputs of these operators are f32, as ONNX says"
)]
fn rounded(value: f64) -> f32 {
    value as f32
}

/// Rows and columns of a matrix, or of a vector taken as one row of features.
fn matrix_of(name: &str, shape: &[usize]) -> TractResult<(usize, usize)> {
    match shape {
        [columns] => Ok((1, *columns)),
        [rows, columns] => Ok((*rows, *columns)),
        _ => bail!("{name} takes a matrix, got shape {shape:?}"),
    }
}

/// Rows and columns of an input that is not known to the number yet.
fn dims_of(name: &str, shape: &[TDim]) -> TractResult<(TDim, TDim)> {
    match shape {
        [columns] => Ok((1.into(), columns.clone())),
        [rows, columns] => Ok((rows.clone(), columns.clone())),
        _ => bail!("{name} takes a matrix, got shape {shape:?}"),
    }
}

/// Whether elements of this type can be taken as numbers.
fn numeric(name: &str, datum_type: DatumType) -> TractResult<()> {
    if datum_type.is_number() || datum_type == DatumType::Bool {
        Ok(())
    } else {
        bail!("{name} takes numbers, got {datum_type:?}")
    }
}

/// The `post_transform` of a node.
fn transform_of(node: &NodeProto) -> TractResult<PostTransform> {
    let name = node
        .get_attr_opt::<&str>("post_transform")?
        .unwrap_or("NONE");
    PostTransform::parse(name).with_context(|| format!("post_transform {name:?} is unknown"))
}
