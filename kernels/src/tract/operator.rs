//! Operators of our own, as tract takes them.
//!
//! An operator reads its attributes once ([`Build`]), says what comes out of what goes in
//! ([`Operator::outputs`]), and computes whole batches ([`Operator::compute`]); the wrapper
//! [`Wrapped`] makes a tract operator of it.

use std::fmt::Debug;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::{
    InferenceResult, Solver, TensorProxy, check_input_arity, check_output_arity,
};
use tract_onnx::tract_hir::internal::{
    Cost, DatumType, DatumTypeExt as _, EvalContext, EvalOp, Expansion, InferenceOp, Op, OutletId,
    SpecialOps as _, StaticName, TDim, TValue, TVec, Tensor, TractErrorContext as _, TractResult,
    TypedFact, TypedModel, TypedOp, as_op, bail, expand, op_as_typed_op, tvec,
};
use tract_onnx::tract_hir::tract_core::ops::cast::cast;

/// Which evaluation of an operator is wanted, where it has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Evaluation {
    /// The kernel that serves.
    Kernel,
    /// The plain one that the kernel is held against.
    Reference,
    /// None: another engine computes it, from constants as the file has them.
    #[cfg(feature = "wgpu")]
    Device,
}

impl Evaluation {
    /// Whether operators are the plain ones.
    pub(super) fn is_plain(self) -> bool {
        self == Self::Reference
    }

    /// How an operator is built whose constants another engine may read.
    pub(super) fn builder<K: Build>(self) -> Builder {
        match self {
            Self::Kernel | Self::Reference => build::<K>,
            #[cfg(feature = "wgpu")]
            Self::Device => keep::<K>,
        }
    }
}

/// What tract's registers hold.
pub(super) type Builder =
    fn(&ParsingContext<'_>, &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// An operator that can be read from a model.
pub(super) trait Build: Operator + Sized {
    /// Reads and checks the attributes.
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self>;
}

/// The element type and shape of one input or output.
pub(super) type Port = (DatumType, TVec<TDim>);

/// One operator.
pub(super) trait Operator: Debug + Send + Sync + 'static {
    /// Its ONNX name.
    const NAME: &'static str;

    /// How many inputs it takes.
    const INPUTS: usize = 1;

    /// How many outputs it has.
    const OUTPUTS: usize = 1;

    /// Whether the shapes of its outputs hang on what it computes.
    fn finds_shapes(&self) -> bool {
        false
    }

    /// How many inputs this one takes, where that follows from its attributes.
    fn inputs(&self) -> usize {
        Self::INPUTS
    }

    /// How many outputs this one has, where that follows from the node.
    fn output_count(&self) -> usize {
        Self::OUTPUTS
    }

    /// What comes out of inputs like these. Fails on element types and ranks that it cannot take.
    fn outputs(&self, _inputs: &[Port]) -> TractResult<TVec<Port>> {
        bail!("{} needs the values of its parameters", Self::NAME)
    }

    /// The positions of the inputs whose values decide on the shapes of the outputs.
    fn parameters(&self) -> &[usize] {
        &[]
    }

    /// As [`Operator::outputs`], with the values of [`Operator::parameters`] in their order.
    fn outputs_by(&self, inputs: &[Port], _parameters: &[Arc<Tensor>]) -> TractResult<TVec<Port>> {
        self.outputs(inputs)
    }

    /// This operator with what never changes taken in: itself anew, and which inputs it still takes.
    /// `constants` has each input that never changes. `None` where there is nothing to gain.
    fn prepare(
        &self,
        _constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>>
    where
        Self: Sized,
    {
        Ok(None)
    }

    /// How many bytes of constants it has taken in.
    fn held(&self) -> u64 {
        0
    }

    /// The outputs for these inputs, of the element types and shapes of [`Operator::outputs`].
    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>>;
}

pub(super) fn build<K: Build>(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let operator = Wrapped::new(K::build(context, node)?, false);
    Ok((expand(operator), vec![]))
}

/// As [`build`], for an operator whose constants another engine reads: nothing is computed of them
/// before they are there.
#[cfg(feature = "wgpu")]
fn keep<K: Build>(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let operator = Wrapped::new(K::build(context, node)?, true);
    Ok((expand(operator), vec![]))
}

/// The operator of a node that [`build`] or [`keep`] made.
#[cfg(feature = "wgpu")]
pub(super) fn seen<K: Operator>(op: &dyn TypedOp) -> Option<&K> {
    op.downcast_ref::<Wrapped<K>>()
        .map(|wrapped| &*wrapped.operator)
}

/// Makes a tract operator of an [`Operator`].
#[derive(Debug)]
struct Wrapped<K> {
    operator: Arc<K>,
    /// Whether it stays, though all that it takes is constant.
    kept: bool,
}

impl<K> Wrapped<K> {
    fn new(operator: K, kept: bool) -> Self {
        Self {
            operator: Arc::new(operator),
            kept,
        }
    }
}

impl<K> Clone for Wrapped<K> {
    fn clone(&self) -> Self {
        Self {
            operator: Arc::clone(&self.operator),
            kept: self.kept,
        }
    }
}

impl<K> PartialEq for Wrapped<K> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.operator, &other.operator)
    }
}

impl<K> Eq for Wrapped<K> {}

impl<K: Operator> Expansion for Wrapped<K> {
    fn name(&self) -> StaticName {
        K::NAME.into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.operator.output_count())
    }

    fn runs_out_of_plan(&self) -> bool {
        !self.kept
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, self.operator.inputs())?;
        check_output_arity(outputs, self.operator.output_count())?;
        let types = inputs.iter().map(|input| &input.datum_type);
        solver.given_all(types, move |solver, types| {
            let shapes = inputs.iter().map(|input| &input.shape);
            solver.given_all(shapes, move |solver, shapes| {
                let types = types.iter().map(|datum_type| without_dims(*datum_type));
                let ports: Vec<Port> = types.zip(shapes).collect();
                if self.operator.parameters().is_empty() {
                    return says(solver, outputs, self.operator.outputs(&ports)?);
                }
                let values = self.operator.parameters().iter().copied();
                let values = values
                    .filter_map(|at| inputs.get(at))
                    .map(|input| &input.value);
                solver.given_all(values, move |solver, values| {
                    says(solver, outputs, self.operator.outputs_by(&ports, &values)?)
                })
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
        let constants = numbers
            .iter()
            .map(|input| Ok(model.outlet_fact(*input)?.konst.clone()));
        let constants: TVec<Option<Arc<Tensor>>> = constants.collect::<TractResult<_>>()?;
        let prepared = if self.kept {
            None
        } else {
            self.operator.prepare(&constants)?
        };
        let Some((prepared, kept)) = prepared else {
            return model.wire_node(prefix, self.clone(), &numbers);
        };
        let kept = kept.iter().filter_map(|place| numbers.get(*place).copied());
        let kept: TVec<OutletId> = kept.collect();
        model.wire_node(prefix, Self::new(prepared, false), &kept)
    }
}

/// States what the outputs are.
fn says<'r, 'p: 'r>(
    solver: &mut Solver<'r>,
    outputs: &'p [TensorProxy],
    ports: TVec<Port>,
) -> InferenceResult {
    for (output, (datum_type, shape)) in outputs.iter().zip(ports) {
        solver.equals(&output.datum_type, datum_type)?;
        solver.equals(&output.shape, shape)?;
    }
    Ok(())
}

/// What tract's list of costs calls the bytes of [`Operator::held`].
pub(super) fn held() -> Cost {
    Cost::Custom(false, "bytes held".to_owned())
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

impl<K: Operator> Op for Wrapped<K> {
    fn name(&self) -> StaticName {
        K::NAME.into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        self.operator.finds_shapes()
    }

    op_as_typed_op!();
}

impl<K: Operator> EvalOp for Wrapped<K> {
    fn eval_out_of_plan(&self, inputs: TVec<TValue>) -> TractResult<Option<TVec<TValue>>> {
        let bytes = |value: &TValue| matches!(value.datum_type(), DatumType::I8 | DatumType::U8);
        if self.kept && inputs.first().is_some_and(bytes) {
            return Ok(None);
        }
        self.eval(&EvalContext::out_of_plan(), inputs).map(Some)
    }

    fn eval(&self, _context: &EvalContext<'_>, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let tensors: TVec<&Tensor> = inputs.iter().map(|value| &**value).collect();
        let outputs = self.operator.compute(&tensors)?;
        Ok(outputs.into_iter().map(TValue::from).collect())
    }
}

impl<K: Operator> TypedOp for Wrapped<K> {
    as_op!();

    fn cost(&self, _inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![(held(), TDim::from(self.operator.held()))])
    }

    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let ports: Vec<Port> = inputs
            .iter()
            .map(|fact| (fact.datum_type, fact.shape.iter().cloned().collect()))
            .collect();
        let parameters = self.operator.parameters().iter().map(|at| {
            let value = inputs.get(*at).and_then(|fact| fact.konst.clone());
            value.with_context(|| format!("{} needs the value of input {at}", K::NAME))
        });
        let parameters = parameters.collect::<TractResult<Vec<Arc<Tensor>>>>()?;
        let outputs = self.operator.outputs_by(&ports, &parameters)?;
        Ok(outputs
            .into_iter()
            .map(|(datum_type, shape)| datum_type.fact(&*shape))
            .collect())
    }
}

/// The one port of an operator that takes one input.
pub(super) fn only<'a>(name: &str, inputs: &'a [Port]) -> TractResult<&'a Port> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{name} takes one input, got {}", inputs.len()),
    }
}

/// The one tensor of an operator that takes one input.
pub(super) fn only_tensor<'a>(name: &str, inputs: &[&'a Tensor]) -> TractResult<&'a Tensor> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("{name} takes one input, got {}", inputs.len()),
    }
}

/// A tensor of numbers for a caller who writes every one of them before anybody reads one.
#[expect(
    unsafe_code,
    reason = "zeros that are written over at once cost a network of convolutions a tenth of its time"
)]
pub(super) fn room(datum_type: DatumType, shape: &[usize]) -> TractResult<Tensor> {
    if !datum_type.is_number() || !datum_type.is_copy() {
        bail!("no room for {datum_type:?}");
    }
    // SAFETY: the elements are plain numbers, of which every pattern of bits is one, and the caller
    // writes all of them.
    let mut tensor = unsafe { Tensor::uninitialized_dt(datum_type, shape)? };
    if cfg!(debug_assertions) {
        // What a caller forgot is no number that a test expects.
        tensor.as_bytes_mut().fill(0xA5);
    }
    Ok(tensor)
}

/// The numeric elements of `tensor` as `f32`, without a copy when they are.
pub(super) fn as_f32(tensor: &Tensor) -> TractResult<std::borrow::Cow<'_, Tensor>> {
    tensor.cast_to::<f32>()
}

/// A number that was computed wider, as an output is.
#[expect(
    clippy::cast_possible_truncation,
    reason = "outputs of these operators are f32, as ONNX says"
)]
pub(super) fn rounded(value: f64) -> f32 {
    value as f32
}

/// Rows and columns of a matrix, or of a vector taken as one row of features.
pub(super) fn matrix_of(name: &str, shape: &[usize]) -> TractResult<(usize, usize)> {
    match shape {
        [columns] => Ok((1, *columns)),
        [rows, columns] => Ok((*rows, *columns)),
        _ => bail!("{name} takes a matrix, got shape {shape:?}"),
    }
}

/// Rows and columns of an input that is not known to the number yet.
pub(super) fn dims_of(name: &str, shape: &[TDim]) -> TractResult<(TDim, TDim)> {
    match shape {
        [columns] => Ok((1.into(), columns.clone())),
        [rows, columns] => Ok((rows.clone(), columns.clone())),
        _ => bail!("{name} takes a matrix, got shape {shape:?}"),
    }
}

/// Whether elements of this type can be taken as numbers.
pub(super) fn numeric(name: &str, datum_type: DatumType) -> TractResult<()> {
    if datum_type.is_number() || datum_type == DatumType::Bool {
        Ok(())
    } else {
        bail!("{name} takes numbers, got {datum_type:?}")
    }
}
