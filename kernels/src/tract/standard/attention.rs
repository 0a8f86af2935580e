//! `Attention` with what tract's own lacks: a cap on the scores, scores as an output, a Boolean mask,
//! lengths of padded keys, and a causal mask behind a cache.
//!
//! ```text
//! inputs   Q [batch, heads, queries, width]   K, V [batch, kv_heads, keys, width]
//!          or [batch, queries, heads x width] each
//!          mask, broadcast to [batch, heads, queries, all keys]; past_key, past_value; lengths [batch]
//! outputs  Y, like Q with the width of V; present_key, present_value; scores
//! ```
//!
//! Scores are masked before they are capped, as version 23 says and its tests show; onnxruntime caps
//! them first.
//!
//! Computed in `f64`. Must never stand in for tract's where that computes the same: its products are
//! faster.

use std::sync::OnceLock;

use tract_onnx::model::{OnnxOpRegister, ParsingContext, optional_inputs, optional_outputs};
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, type_proto};
use tract_onnx::prelude::IntoTensor;
use tract_onnx::prelude::tract_ndarray::{Array2, Array4, ArrayView2, ArrayView4, Axis, s};
use tract_onnx::tract_hir::internal::{
    DatumType, InferenceOp, TDim, TVec, Tensor, ToDim, TractErrorContext as _, TractResult, bail,
    ensure, tvec,
};

use super::places;
use super::{Build, Operator, Port, build};

/// Makes an operator of a node.
type Builder =
    fn(&ParsingContext<'_>, &NodeProto) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)>;

/// What tract makes of a node.
static OF_TRACT: OnceLock<Builder> = OnceLock::new();

/// Puts the operator into `register`, before tract's where it has one.
pub(super) fn register(register: &mut OnnxOpRegister) {
    if let Some(builder) = register.0.get("Attention") {
        OF_TRACT.get_or_init(|| *builder);
    }
    register.insert("Attention", one_of_two);
}

/// tract's operator, or ours where it lacks something.
fn one_of_two(
    context: &ParsingContext<'_>,
    node: &NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let given = |names: &[String], at: usize| names.get(at).is_some_and(|name| !name.is_empty());
    let capped = node.get_attr_opt::<f32>("softcap")?.unwrap_or(0.0) != 0.0;
    let causal = node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) != 0;
    let (mask, past) = (given(&node.input, 3), given(&node.input, 4));
    let ours = capped
        || given(&node.output, 3)
        || given(&node.input, 6)
        || causal && past
        || mask && !is_numbers(context, node.input.get(3).map_or("", String::as_str));
    match OF_TRACT.get() {
        Some(tract) if !ours => tract(context, node),
        _ => build::<Attention>(context, node),
    }
}

/// Operators that keep the type of their first input.
const KEEP: [&str; 12] = [
    "Concat",
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Pad",
    "Reshape",
    "Slice",
    "Squeeze",
    "Tile",
    "Transpose",
    "Unsqueeze",
];

/// Operators that answer numbers, whatever they take.
const NUMBERS: [&str; 10] = [
    "Add", "Clip", "Div", "Exp", "Log", "MatMul", "Mul", "Neg", "Softmax", "Sub",
];

/// Whether the value of this name is numbers for sure, as far as the nodes that it comes from tell.
/// tract adds a Boolean mask to the scores as if it were numbers.
fn is_numbers(context: &ParsingContext<'_>, name: &str) -> bool {
    let graphs = || context.parent_graphs.iter().rev();
    let made = graphs().find_map(|graph| {
        let mut nodes = graph.node.iter();
        nodes.find(|node| node.output.iter().any(|output| output == name))
    });
    let Some(node) = made else {
        return graphs().any(|graph| is_given_as_numbers(graph, name));
    };
    let input = |at: usize| node.input.get(at).map_or("", String::as_str);
    match node.op_type.as_str() {
        kept if KEEP.contains(&kept) => is_numbers(context, input(0)),
        "Where" => is_numbers(context, input(1)),
        "Cast" => node
            .get_attr_opt::<i64>("to")
            .is_ok_and(|to| to != Some(DataType::Bool as i64)),
        other => NUMBERS.contains(&other),
    }
}

/// Whether an input or an initializer of this name is numbers.
fn is_given_as_numbers(graph: &GraphProto, name: &str) -> bool {
    let boolean = DataType::Bool as i32;
    let input = graph.input.iter().find(|input| input.name == name);
    let kind = input.and_then(|input| input.r#type.as_ref()?.value.as_ref());
    let constant = graph.initializer.iter().find(|tensor| tensor.name == name);
    match (kind, constant) {
        (Some(type_proto::Value::TensorType(kind)), _) => kind.elem_type != boolean,
        (None, Some(constant)) => constant.data_type != boolean,
        (None, None) => false,
    }
}

/// Scaled dot-product attention.
#[derive(Debug)]
pub(super) struct Attention {
    inputs: Inputs,
    wanted: Vec<Output>,
    /// Heads of queries and of keys, where these are laid side by side.
    heads: Option<(usize, usize)>,
    scale: Option<f64>,
    causal: bool,
    cap: f64,
    scores: Scores,
}

/// Where each input is among those that are given.
#[derive(Debug, Clone, Copy)]
struct Inputs {
    count: usize,
    mask: Option<usize>,
    past_key: Option<usize>,
    past_value: Option<usize>,
    lengths: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Output {
    Y,
    PresentKey,
    PresentValue,
    Scores,
}

/// Which scores are an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scores {
    Products,
    Masked,
    Capped,
    Softmax,
}

impl Build for Attention {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let mut given = optional_inputs(node).skip(3);
        let mut next = || given.next().flatten();
        let outputs = [
            Output::Y,
            Output::PresentKey,
            Output::PresentValue,
            Output::Scores,
        ];
        let heads = |name| node.get_attr_opt::<usize>(name);
        let scale = node.get_attr_opt::<f32>("scale")?;
        Ok(Self {
            inputs: Inputs {
                count: node.input.iter().filter(|name| !name.is_empty()).count(),
                mask: next(),
                past_key: next(),
                past_value: next(),
                lengths: next(),
            },
            wanted: outputs
                .into_iter()
                .zip(optional_outputs(node))
                .filter_map(|(output, at)| at.map(|_| output))
                .collect(),
            heads: heads("q_num_heads")?.zip(heads("kv_num_heads")?),
            scale: scale.map(f64::from),
            causal: node.get_attr_opt::<i64>("is_causal")?.unwrap_or(0) != 0,
            cap: f64::from(node.get_attr_opt::<f32>("softcap")?.unwrap_or(0.0)),
            scores: match node
                .get_attr_opt::<i64>("qk_matmul_output_mode")?
                .unwrap_or(0)
            {
                0 => Scores::Products,
                1 => Scores::Masked,
                2 => Scores::Capped,
                3 => Scores::Softmax,
                other => bail!("qk_matmul_output_mode is {other}"),
            },
        })
    }
}

impl Operator for Attention {
    const NAME: &'static str = "Attention";

    fn inputs(&self) -> usize {
        self.inputs.count
    }

    fn output_count(&self) -> usize {
        self.wanted.len()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let [(datum_type, q), (_, k), (_, v), ..] = inputs else {
            bail!("Attention takes at least three inputs");
        };
        ensure!(datum_type.is_float(), "Attention takes no {datum_type:?}");
        let (q4, k4, v4) = (
            self.laid(q, |heads| heads.0)?,
            self.laid(k, |heads| heads.1)?,
            self.laid(v, |heads| heads.1)?,
        );
        let ([batch, heads, queries, _], [_, _, keys, _], [_, _, _, width]) = (&*q4, &*k4, &*v4)
        else {
            bail!("Attention takes inputs of rank 3 or 4");
        };
        let past = self.inputs.past_key.and_then(|at| inputs.get(at));
        let past = past.and_then(|(_, shape)| shape.get(2)).cloned();
        let all = keys.clone() + past.unwrap_or_else(|| 0.to_dim());
        let y = match &**q {
            [_, _, _] => tvec![batch.clone(), queries.clone(), heads.clone() * width],
            _ => tvec![batch.clone(), heads.clone(), queries.clone(), width.clone()],
        };
        let present = |mut shape: TVec<TDim>| {
            if let Some(keys) = shape.get_mut(2) {
                *keys = all.clone();
            }
            shape
        };
        let scores = tvec![batch.clone(), heads.clone(), queries.clone(), all.clone()];
        let wanted = self.wanted.iter().map(|output| match output {
            Output::Y => y.clone(),
            Output::PresentKey => present(k4.clone()),
            Output::PresentValue => present(v4.clone()),
            Output::Scores => scores.clone(),
        });
        Ok(wanted.map(|shape| (*datum_type, shape)).collect())
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let [q, k, v, ..] = inputs else {
            bail!("Attention takes at least three inputs");
        };
        let given = |at: Option<usize>| at.and_then(|at| inputs.get(at)).copied();
        let queries = self.split(q, |heads| heads.0)?;
        let past_keys = given(self.inputs.past_key);
        let keys = behind(past_keys, self.split(k, |heads| heads.1)?)?;
        let values = behind(
            given(self.inputs.past_value),
            self.split(v, |heads| heads.1)?,
        )?;
        let past = past_keys.and_then(|past| past.shape().get(2)).copied();
        let masks = Masks {
            given: given(self.inputs.mask).map(additive).transpose()?,
            lengths: given(self.inputs.lengths)
                .map(places::extents)
                .transpose()?,
            past: self.causal.then(|| past.unwrap_or_default()),
        };
        let (y, scores) = self.attend(&queries, &keys, &values, &masks)?;
        let y = if q.rank() == 3 {
            merged(&y)?
        } else {
            y.into_tensor()
        };
        let of = |output: &Output| match output {
            Output::Y => y.cast_to_dt(q.datum_type()).map(|y| y.into_owned()),
            Output::PresentKey => narrowed(&keys, q.datum_type()),
            Output::PresentValue => narrowed(&values, q.datum_type()),
            Output::Scores => narrowed(&scores, q.datum_type()),
        };
        self.wanted.iter().map(of).collect()
    }
}

fn narrowed(array: &Array4<f64>, datum_type: DatumType) -> TractResult<Tensor> {
    let tensor = array.clone().into_tensor();
    Ok(tensor.cast_to_dt(datum_type)?.into_owned())
}

/// What hides keys from queries.
struct Masks {
    /// What is added to the scores.
    given: Option<Tensor>,
    /// How many keys of each row of the batch are none of padding.
    lengths: Option<TVec<usize>>,
    /// Of a causal mask: how many keys come before the first query.
    past: Option<usize>,
}

impl Masks {
    fn apply(&self, scores: &mut Array2<f64>, row: usize, head: usize) -> TractResult<()> {
        let (queries, keys) = scores.dim();
        if let Some(mask) = &self.given {
            let mask = mask.to_plain_array_view::<f64>()?;
            let plane = [
                (mask.ndim().checked_sub(4), row),
                (mask.ndim().checked_sub(3), head),
            ];
            let mut plane_of = mask;
            // The batch first: the axis of the heads is the first one then.
            for (axis, at) in plane {
                if axis.is_some() {
                    let extent = plane_of.len_of(Axis(0));
                    let at = if extent == 1 { 0 } else { at };
                    ensure!(at < extent, "the mask has too few planes");
                    plane_of = plane_of.index_axis_move(Axis(0), at);
                }
            }
            let covered = plane_of.len_of(Axis(plane_of.ndim() - 1));
            let covered = if covered == 1 {
                keys
            } else {
                covered.min(keys)
            };
            let mask = plane_of.broadcast((queries, covered));
            let mask = mask.context("the mask does not fit the scores")?;
            let mut begin = scores.slice_mut(s![.., ..covered]);
            begin += &mask;
            // Keys behind a mask are hidden.
            scores.slice_mut(s![.., covered..]).fill(f64::NEG_INFINITY);
        }
        let length = self.lengths.as_ref().and_then(|lengths| lengths.get(row));
        for ((query, key), score) in scores.indexed_iter_mut() {
            let later = self.past.is_some_and(|past| key > past + query);
            let padding = length.is_some_and(|length| key >= *length);
            if later || padding {
                *score = f64::NEG_INFINITY;
            }
        }
        Ok(())
    }
}

/// A mask as what is added: a Boolean one hides where it is false.
fn additive(mask: &Tensor) -> TractResult<Tensor> {
    ensure!(mask.rank() >= 2, "a mask has at least two axes");
    if mask.datum_type() != DatumType::Bool {
        return Ok(mask.cast_to::<f64>()?.into_owned());
    }
    let seen = mask.to_plain_array_view::<bool>()?;
    let added = seen.mapv(|seen| if seen { 0.0 } else { f64::NEG_INFINITY });
    Ok(added.into_tensor())
}

impl Attention {
    /// A shape with its heads on an axis of their own.
    fn laid(
        &self,
        shape: &[TDim],
        of: impl Fn((usize, usize)) -> usize,
    ) -> TractResult<TVec<TDim>> {
        match shape {
            [batch, places, wide] => {
                let heads = of(self.heads.context("heads are not said to be how many")?);
                ensure!(heads > 0, "there are no heads");
                let (batch, places) = (batch.clone(), places.clone());
                Ok(tvec![batch, heads.to_dim(), places, wide.clone() / heads])
            }
            [_, _, _, _] => Ok(shape.into()),
            _ => bail!("Attention takes inputs of rank 3 or 4, got {shape:?}"),
        }
    }

    /// The elements with their heads on an axis of their own.
    fn split(
        &self,
        tensor: &Tensor,
        of: impl Fn((usize, usize)) -> usize,
    ) -> TractResult<Array4<f64>> {
        let wide = tensor.cast_to::<f64>()?;
        let view = wide.to_plain_array_view::<f64>()?;
        if let [batch, places, wide] = *tensor.shape() {
            let heads = of(self.heads.context("heads are not said to be how many")?);
            ensure!(
                heads > 0 && wide % heads == 0,
                "{wide} are not {heads} heads"
            );
            let split = view.into_shape_with_order((batch, places, heads, wide / heads))?;
            return Ok(split.permuted_axes([0, 2, 1, 3]).to_owned());
        }
        Ok(view.into_dimensionality()?.to_owned())
    }

    /// What the queries find, and the scores that are wanted.
    fn attend(
        &self,
        queries: &Array4<f64>,
        keys: &Array4<f64>,
        values: &Array4<f64>,
        masks: &Masks,
    ) -> TractResult<(Array4<f64>, Array4<f64>)> {
        let (batch, heads, count, width) = queries.dim();
        let (rows, shared, all, key_width) = keys.dim();
        let (value_rows, value_heads, value_count, value_width) = values.dim();
        ensure!(
            rows == batch
                && value_rows == batch
                && shared == value_heads
                && all == value_count
                && width == key_width
                && shared > 0
                && heads % shared == 0,
            "queries, keys and values of Attention do not fit"
        );
        let mut found = Array4::zeros((batch, heads, count, value_width));
        let mut wanted = Array4::zeros((batch, heads, count, all));
        for row in 0..batch {
            for head in 0..heads {
                let of = head / (heads / shared);
                let query = queries.slice(s![row, head, .., ..]);
                let key = keys.slice(s![row, of, .., ..]);
                let (scores, softmax) = self.scores(&query, &key, masks, (row, head))?;
                let value = values.slice(s![row, of, .., ..]);
                found
                    .slice_mut(s![row, head, .., ..])
                    .assign(&softmax.dot(&value));
                wanted.slice_mut(s![row, head, .., ..]).assign(&scores);
            }
        }
        Ok((found, wanted))
    }

    /// The scores that are wanted, and their softmax.
    fn scores(
        &self,
        query: &ArrayView2<'_, f64>,
        key: &ArrayView2<'_, f64>,
        masks: &Masks,
        (row, head): (usize, usize),
    ) -> TractResult<(Array2<f64>, Array2<f64>)> {
        let width = query.len_of(Axis(1));
        #[expect(clippy::cast_precision_loss, reason = "a head is narrower than 2^52")]
        let scale = self.scale.unwrap_or_else(|| 1.0 / (width as f64).sqrt());
        let mut scores = query.dot(&key.t());
        scores *= scale;
        let mut wanted = scores.clone();
        masks.apply(&mut scores, row, head)?;
        if self.scores == Scores::Masked {
            wanted.assign(&scores);
        }
        if self.cap > 0.0 {
            scores.mapv_inplace(|score| self.cap * (score / self.cap).tanh());
        }
        if self.scores == Scores::Capped {
            wanted.assign(&scores);
        }
        for mut of_query in scores.rows_mut() {
            let highest = of_query.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            of_query.mapv_inplace(|score| (score - highest).exp());
            let sum = of_query.sum();
            of_query /= sum;
        }
        if self.scores == Scores::Softmax {
            wanted.assign(&scores);
        }
        Ok((wanted, scores))
    }
}

/// What came before, followed by what is new.
fn behind(past: Option<&Tensor>, new: Array4<f64>) -> TractResult<Array4<f64>> {
    let Some(past) = past else { return Ok(new) };
    let past = past.cast_to::<f64>()?;
    let past = past.to_plain_array_view::<f64>()?;
    let past: ArrayView4<'_, f64> = past.into_dimensionality()?;
    Ok(tract_onnx::prelude::tract_ndarray::concatenate(
        Axis(2),
        &[past, new.view()],
    )?)
}

/// Heads side by side again.
fn merged(y: &Array4<f64>) -> TractResult<Tensor> {
    let (batch, heads, queries, width) = y.dim();
    let order = y.view().permuted_axes([0, 2, 1, 3]);
    let order = order.as_standard_layout().into_owned();
    let shape = (batch, queries, heads * width);
    Ok(order.into_shape_with_order(shape)?.into_tensor())
}
