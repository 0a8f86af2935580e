//! `Gemm`, `IsNaN` and `Sigmoid` for `f64`, which some of scikit-learn's exports need to be as close
//! to their framework as a probability has to be.
//!
//! tract has them for `f32` alone: the factors of its `Gemm` are `f32` constants whatever they are
//! multiplied with, its `IsNaN` answers an `f64` for an `f64`, and its `Sigmoid` refuses one. Must
//! answer for `f32` as tract does.

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::infer::{InferenceResult, Solver, TensorProxy, check_output_arity};
use tract_onnx::tract_hir::internal::{
    AxesMapping, DatumType, Expansion, InferenceOp, OutletId, SpecialOps as _, StaticName, TVec,
    Tensor, TractErrorContext as _, TractResult, TypedModel, TypedOp, bail, ensure, expand,
    tensor0, tvec,
};
use tract_onnx::tract_hir::tract_core::ops::change_axes::AxisOp;
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;
use tract_onnx::tract_hir::tract_core::ops::math::{add, exp, mul, neg, recip};
use tract_onnx::tract_hir::tract_core::ops::nn::sigmoid;

use super::operator::{Build, Operator, Port, build, only, only_tensor};

/// Puts both into `register`, in place of tract's.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("Gemm", gemm);
    register.insert("IsNaN", build::<IsNan>);
    register.insert("Sigmoid", |_, _| Ok((expand(Sigmoid), vec![])));
}

fn gemm(
    _context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let gemm = Gemm {
        alpha: node.get_attr_opt("alpha")?.unwrap_or(1.0),
        beta: node.get_attr_opt("beta")?.unwrap_or(1.0),
        transposed: (
            node.get_attr_opt("transA")?.unwrap_or(false),
            node.get_attr_opt("transB")?.unwrap_or(false),
        ),
    };
    Ok((expand(gemm), vec![]))
}

/// `alpha A B + beta C`, with A, B or both transposed.
#[derive(Debug, Clone)]
struct Gemm {
    alpha: f32,
    beta: f32,
    transposed: (bool, bool),
}

impl Expansion for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, 1)?;
        let ([a, b] | [a, b, _], [y]) = (inputs, outputs) else {
            bail!("Gemm takes two or three inputs, got {}", inputs.len());
        };
        for input in inputs {
            solver.equals(&input.datum_type, &y.datum_type)?;
        }
        for matrix in [a, b, y] {
            solver.equals(&matrix.rank, 2)?;
        }
        let (rows, inner) = if self.transposed.0 { (1, 0) } else { (0, 1) };
        let (shared, columns) = if self.transposed.1 { (1, 0) } else { (0, 1) };
        solver.equals(&a.shape[rows], &y.shape[0])?;
        solver.equals(&a.shape[inner], &b.shape[shared])?;
        solver.equals(&b.shape[columns], &y.shape[1])
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let ([a, b] | [a, b, _]) = inputs else {
            bail!("Gemm takes two or three inputs, got {}", inputs.len());
        };
        let axes = AxesMapping::for_numpy_matmul(2, self.transposed.0, self.transposed.1, false)?;
        let product = EinSum::new(axes, model.outlet_fact(*a)?.datum_type);
        let product = one(model, format!("{prefix}.ab"), product, &[*a, *b])?;
        let product = scaled(model, &format!("{prefix}.alpha"), product, self.alpha)?;
        let Some(c) = inputs.get(2).filter(|_| self.beta != 0.0) else {
            return Ok(tvec![product]);
        };
        let mut c = *c;
        while model.outlet_fact(c)?.rank() < 2 {
            let name = format!("{prefix}.c.{}", model.outlet_fact(c)?.rank());
            c = one(model, name, AxisOp::Add(0), &[c])?;
        }
        let c = scaled(model, &format!("{prefix}.beta"), c, self.beta)?;
        Ok(tvec![one(model, prefix.to_owned(), add(), &[product, c])?])
    }
}

/// `outlet` times `factor`, in the element type of `outlet`; a factor of 1 is none.
#[expect(clippy::float_cmp, reason = "exactly 1 is what most graphs say")]
fn scaled(
    model: &mut TypedModel,
    name: &str,
    outlet: OutletId,
    factor: f32,
) -> TractResult<OutletId> {
    if factor == 1.0 {
        return Ok(outlet);
    }
    let fact = model.outlet_fact(outlet)?;
    let factor = tensor0(factor).cast_to_dt(fact.datum_type)?.into_owned();
    let factor = factor.broadcast_into_rank(fact.rank())?;
    let factor = model.add_const(format!("{name}.factor"), factor)?;
    one(model, name.to_owned(), mul(), &[factor, outlet])
}

/// The one outlet of a new node.
fn one(
    model: &mut TypedModel,
    name: String,
    operator: impl Into<Box<dyn TypedOp>>,
    inputs: &[OutletId],
) -> TractResult<OutletId> {
    let outlets = model.wire_node(name, operator, inputs)?;
    outlets.first().copied().context("a node without an outlet")
}

/// `1 / (1 + exp(-x))`: tract's kernel, or for `f64` the four steps that it is made of.
#[derive(Debug, Clone)]
struct Sigmoid;

impl Expansion for Sigmoid {
    fn name(&self) -> StaticName {
        "Sigmoid".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        solver: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let ([x], [y]) = (inputs, outputs) else {
            bail!("Sigmoid takes one input, got {}", inputs.len());
        };
        solver.equals(&x.datum_type, &y.datum_type)?;
        solver.equals(&x.shape, &y.shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let x = *inputs.first().context("Sigmoid takes one input")?;
        let fact = model.outlet_fact(x)?;
        if fact.datum_type != DatumType::F64 {
            return model.wire_node(prefix, sigmoid(), &[x]);
        }
        let one_of_rank = tensor0(1_f64).broadcast_into_rank(fact.rank())?;
        let ones = model.add_const(format!("{prefix}.one"), one_of_rank)?;
        let negated = one(model, format!("{prefix}.negated"), neg(), &[x])?;
        let power = one(model, format!("{prefix}.power"), exp(), &[negated])?;
        let sum = one(model, format!("{prefix}.sum"), add(), &[ones, power])?;
        Ok(tvec![one(model, prefix.to_owned(), recip(), &[sum])?])
    }
}

/// Whether each element is NaN.
#[derive(Debug)]
struct IsNan;

impl Build for IsNan {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for IsNan {
    const NAME: &'static str = "IsNaN";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        ensure!(
            datum_type.is_float(),
            "IsNaN takes floating-point numbers, got {datum_type:?}"
        );
        Ok(tvec![(DatumType::Bool, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let mut output = Tensor::zero_dt(DatumType::Bool, input.shape())?;
        // Every narrower float is an f64 as it stands.
        let wide = input.cast_to::<f64>()?;
        let wide = wide.try_as_plain_ram()?;
        let mut view = output.try_as_plain_ram_mut()?;
        let answers = view.as_slice_mut::<bool>()?.iter_mut();
        for (answer, element) in answers.zip(wide.as_slice::<f64>()?) {
            *answer = element.is_nan();
        }
        Ok(tvec![output])
    }
}
