//! What becomes of which operator.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::super::quantised::FUNCTION;
use super::sight::{Quantised, Sight, attribute, integer};
use super::{ADD, CONCAT, CONVOLUTION, MULTIPLY, PRODUCT, TABLE};
use super::{dynamic, real};

/// A node in place of several.
#[derive(Debug)]
pub(super) struct Fused {
    /// The place that it takes.
    pub(super) at: usize,
    pub(super) node: NodeProto,
    /// The nodes that it stands for.
    pub(super) gone: Vec<usize>,
}

/// What follows an operator.
#[derive(Debug)]
pub(super) struct Tail<'a> {
    /// The last node that the operator takes in.
    last: usize,
    gone: Vec<usize>,
    /// The tensor that leaves.
    output: &'a str,
    /// What it is quantised to, if it is.
    quantised: Option<Quantised<'a>>,
    bounds: Bounds,
}

/// The range that an activation holds numbers in.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    least: f32,
    most: f32,
}

/// Operators that give some of their first input's numbers, in some order, and compute nothing.
const CARRIERS: [&str; 9] = [
    "Reshape",
    "Transpose",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Identity",
    "Slice",
    "Gather",
    "Expand",
];

/// What the node at place `at` becomes part of.
pub(super) fn fused(sight: &Sight<'_>, at: usize) -> Option<Fused> {
    let node = sight.node(at)?;
    if !matches!(node.domain.as_str(), "" | "ai.onnx") {
        return None;
    }
    match node.op_type.as_str() {
        "Conv" => convolution(sight, at, node).or_else(|| real::convolution(sight, at, node)),
        "Gemm" => gemm(sight, at, node).or_else(|| real::gemm(sight, at, node)),
        "MatMul" => product(sight, at, node).or_else(|| real::product(sight, at, node)),
        "MatMulInteger" => dynamic::product(sight, at, node),
        "Add" => binary(sight, at, node, ADD).or_else(|| real::sum(sight, at, node)),
        "Mul" => binary(sight, at, node, MULTIPLY),
        "Softmax" => real::softmax(at, node),
        "Erf" => real::gelu(sight, at, node),
        "LayerNormalization" => real::normal(sight, at, node),
        "Concat" => concat(sight, at, node),
        "AveragePool" | "GlobalAveragePool" => average(sight, at, node),
        "MaxPool" => maximum(sight, at, node),
        "Relu" | "Sigmoid" | "Tanh" | "HardSwish" | "LeakyRelu" | "Elu" | "HardSigmoid"
        | "Clip" => table(sight, at, node),
        name if CARRIERS.contains(&name) => carrier(sight, at, node),
        _ => None,
    }
}

/// The range of a `Relu` or a `Clip`.
fn bounds(sight: &Sight<'_>, node: &NodeProto) -> Option<Bounds> {
    let none = Bounds {
        least: f32::NEG_INFINITY,
        most: f32::INFINITY,
    };
    match node.op_type.as_str() {
        "Relu" => Some(Bounds { least: 0.0, ..none }),
        "Clip" => {
            let bound = |place: usize, name: &str, default: f32| {
                let given = node.input.get(place).filter(|input| !input.is_empty());
                match given {
                    Some(input) => sight.real(input),
                    None => Some(attribute(node, name).map_or(default, |given| given.f)),
                }
            };
            let (least, most) = (bound(1, "min", none.least)?, bound(2, "max", none.most)?);
            (least <= most).then_some(Bounds { least, most })
        }
        _ => None,
    }
}

/// What follows the node at place `at`.
fn tail<'a>(sight: &Sight<'a>, at: usize, node: &'a NodeProto) -> Option<Tail<'a>> {
    let mut tail = activation(sight, at, node)?;
    if let Some((place, taker)) = sight.only_taker(tail.output)
        && let Some(quantised) = sight.made_by(taker)
        && taker.input.first().map(String::as_str) == Some(tail.output)
    {
        tail.last = place;
        tail.gone.push(place);
        tail.output = quantised.bytes;
        tail.quantised = Some(quantised);
    }
    Some(tail)
}

/// The activation that follows the node at place `at`, if one does.
fn activation<'a>(sight: &Sight<'a>, at: usize, node: &'a NodeProto) -> Option<Tail<'a>> {
    let [output] = node.output.as_slice() else {
        return None;
    };
    let mut tail = Tail::new(at, vec![at], output);
    if let Some((place, taker)) = sight.only_taker(tail.output)
        && let Some(bounds) = bounds(sight, taker)
        && taker.input.first().map(String::as_str) == Some(tail.output)
    {
        tail.bounds = bounds;
        tail.last = place;
        tail.gone.push(place);
        tail.output = taker.output.first()?;
    }
    Some(tail)
}

/// What follows, where that ends with a `QuantizeLinear`.
fn quantised_tail<'a>(sight: &Sight<'a>, at: usize, node: &'a NodeProto) -> Option<Tail<'a>> {
    tail(sight, at, node).filter(|tail| tail.quantised.is_some())
}

impl<'a> Tail<'a> {
    /// A tail that ends with the node at place `last`, whose output leaves as it is.
    pub(super) fn new(last: usize, gone: Vec<usize>, output: &'a str) -> Self {
        Self {
            last,
            gone,
            output,
            quantised: None,
            bounds: Bounds {
                least: f32::NEG_INFINITY,
                most: f32::INFINITY,
            },
        }
    }

    /// What follows the node at place `at` in real numbers.
    pub(super) fn of_reals(sight: &Sight<'a>, at: usize) -> Option<Self> {
        activation(sight, at, sight.node(at)?)
    }

    /// With the node at place `at`, which this follows, taken in.
    pub(super) fn behind(mut self, at: usize) -> Self {
        self.gone.push(at);
        self
    }

    /// A node of type `kind` in place of `node` and what follows it.
    pub(super) fn fuse(
        self,
        node: &NodeProto,
        kind: &str,
        inputs: Vec<&str>,
        attributes: Vec<AttributeProto>,
    ) -> Fused {
        let mut attributes = attributes;
        if self.bounds.least > f32::NEG_INFINITY {
            attributes.push(real("least", self.bounds.least));
        }
        if self.bounds.most < f32::INFINITY {
            attributes.push(real("most", self.bounds.most));
        }
        Fused {
            at: self.last,
            node: NodeProto {
                input: inputs.into_iter().map(str::to_owned).collect(),
                output: vec![self.output.to_owned()],
                name: node.name.clone(),
                op_type: kind.to_owned(),
                attribute: attributes,
                ..NodeProto::default()
            },
            gone: self.gone,
        }
    }

    /// Scale and zero point of what leaves; empty where that is a real number.
    fn scale_and_zero(&self) -> [&'a str; 2] {
        self.quantised
            .as_ref()
            .map_or(["", ""], |quantised| [quantised.scale, quantised.zero])
    }
}

fn real(name: &str, value: f32) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Float.into(),
        f: value,
        ..AttributeProto::default()
    }
}

pub(in crate::tract) fn whole(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int.into(),
        i: value,
        ..AttributeProto::default()
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::String.into(),
        s: value.as_bytes().to_vec(),
        ..AttributeProto::default()
    }
}

fn convolution(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let node_in_sight = sight.node(at)?;
    let [image, filters, rest @ ..] = node.input.as_slice() else {
        return None;
    };
    let image = sight.activations(image)?;
    let (weights, tensor) = sight.weights(filters, 0)?;
    if !matches!(tensor.dims.len(), 3 | 4) {
        return None;
    }
    let bias = match rest.first().filter(|bias| !bias.is_empty()) {
        None => "",
        Some(bias) => sight.bias(bias, image, weights)?,
    };
    let tail = tail(sight, at, node_in_sight)?;
    let [scale, zero] = tail.scale_and_zero();
    let inputs = vec![
        image.bytes,
        image.scale,
        image.zero,
        weights.bytes,
        weights.scale,
        weights.zero,
        scale,
        zero,
        bias,
    ];
    Some(tail.fuse(node, CONVOLUTION, inputs, node.attribute.clone()))
}

fn gemm(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [left, right, rest @ ..] = node.input.as_slice() else {
        return None;
    };
    let factor = |name: &str| attribute(node, name).map_or(1.0, |given| given.f);
    let turned = integer(node, "transB").unwrap_or(0) != 0;
    #[expect(clippy::float_cmp, reason = "any other factor is not 1")]
    if integer(node, "transA").unwrap_or(0) != 0 || factor("alpha") != 1.0 || factor("beta") != 1.0
    {
        return None;
    }
    let left = sight.activations(left)?;
    let (weights, tensor) = sight.weights(right, usize::from(!turned))?;
    if tensor.dims.len() != 2 {
        return None;
    }
    let bias = match rest.first().filter(|bias| !bias.is_empty()) {
        None => "",
        Some(bias) => sight.bias(bias, left, weights)?,
    };
    let tail = tail(sight, at, sight.node(at)?)?;
    let inputs = of_product(left, weights, bias, tail.scale_and_zero());
    Some(tail.fuse(node, PRODUCT, inputs, vec![whole("transB", turned.into())]))
}

fn of_product<'a>(
    left: Quantised<'a>,
    right: Quantised<'a>,
    bias: &'a str,
    [scale, zero]: [&'a str; 2],
) -> Vec<&'a str> {
    vec![
        left.bytes,
        left.scale,
        left.zero,
        right.bytes,
        right.scale,
        right.zero,
        bias,
        scale,
        zero,
    ]
}

fn product(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [left, right] = node.input.as_slice() else {
        return None;
    };
    let left = sight.activations(left)?;
    let right = match sight.weights(right, 1) {
        Some((weights, tensor)) if tensor.dims.len() == 2 => weights,
        // Products of two activations (attention) have one scale on both sides.
        _ => sight.activations(right).filter(|right| {
            sight
                .constant(right.bytes)
                .is_none_or(|tensor| tensor.dims.len() > 1)
        })?,
    };
    let tail = tail(sight, at, sight.node(at)?)?;
    let inputs = of_product(left, right, "", tail.scale_and_zero());
    Some(tail.fuse(node, PRODUCT, inputs, Vec::new()))
}

fn binary(sight: &Sight<'_>, at: usize, node: &NodeProto, kind: &str) -> Option<Fused> {
    let [left, right] = node.input.as_slice() else {
        return None;
    };
    let (left, right) = (sight.activations(left)?, sight.activations(right)?);
    let tail = quantised_tail(sight, at, sight.node(at)?)?;
    let (of_left, of_right) = (sight.zero(left)?.0, sight.zero(right)?.0);
    let of_output = sight.zero(tail.quantised?)?.0;
    if of_left != of_right || of_left != of_output {
        return None;
    }
    let [scale, zero] = tail.scale_and_zero();
    let inputs = vec![
        left.bytes,
        left.scale,
        left.zero,
        right.bytes,
        right.scale,
        right.zero,
        scale,
        zero,
    ];
    Some(tail.fuse(node, kind, inputs, Vec::new()))
}

fn concat(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let parts = node.input.iter().map(|input| sight.activations(input));
    let parts: Vec<Quantised<'_>> = parts.collect::<Option<_>>()?;
    let tail = quantised_tail(sight, at, sight.node(at)?)?;
    if tail.bounds.least > f32::NEG_INFINITY || tail.bounds.most < f32::INFINITY {
        return None;
    }
    let mut inputs = tail.scale_and_zero().to_vec();
    inputs.extend(
        parts
            .iter()
            .flat_map(|part| [part.bytes, part.scale, part.zero]),
    );
    let attributes = node.attribute.clone();
    Some(tail.fuse(node, CONCAT, inputs, attributes))
}

/// The inputs of an operator of one tensor and two scales.
fn of_one<'a>(from: Quantised<'a>, [scale, zero]: [&'a str; 2]) -> Vec<&'a str> {
    vec![from.bytes, from.scale, from.zero, scale, zero]
}

/// What follows, where that is a `QuantizeLinear` and nothing else.
fn bare_tail<'a>(sight: &Sight<'a>, at: usize) -> Option<Tail<'a>> {
    let node = sight.node(at)?;
    let tail = quantised_tail(sight, at, node)?;
    (tail.gone.len() == 2).then_some(tail)
}

fn average(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let from = sight.activations(node.input.first()?)?;
    let flag = |name: &str| integer(node, name).unwrap_or(0) != 0;
    let kernel = attribute(node, "kernel_shape").map_or(2, |kernel| kernel.ints.len());
    if (flag("ceil_mode") && flag("count_include_pad")) || !matches!(kernel, 1 | 2) {
        return None;
    }
    let tail = bare_tail(sight, at)?;
    let inputs = of_one(from, tail.scale_and_zero());
    let kind = format!("Edgeward{}", node.op_type);
    Some(tail.fuse(node, &kind, inputs, node.attribute.clone()))
}

fn table(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let from = sight.activations(node.input.first()?)?;
    let tail = bare_tail(sight, at)?;
    let mut attributes = vec![text(FUNCTION, &node.op_type)];
    let factors = node.attribute.iter();
    let factors = factors.filter(|factor| matches!(factor.name.as_str(), "alpha" | "beta"));
    attributes.extend(factors.cloned());
    if node.op_type == "Clip" {
        let bounds = bounds(sight, node)?;
        attributes.extend([real("least", bounds.least), real("most", bounds.most)]);
    }
    let inputs = of_one(from, tail.scale_and_zero());
    Some(tail.fuse(node, TABLE, inputs, attributes))
}

/// What follows, where it is a `QuantizeLinear` to the scale that the node's first input has: then
/// nothing is rounded, and a node that only picks numbers can pick bytes.
fn unchanged<'a>(
    sight: &Sight<'a>,
    at: usize,
    node: &NodeProto,
) -> Option<(Quantised<'a>, Tail<'a>)> {
    let from = sight.activations(node.input.first()?)?;
    let tail = bare_tail(sight, at)?;
    let to = tail.quantised?;
    let same = sight.scale(from)?.to_bits() == sight.scale(to)?.to_bits()
        && sight.zero(from)? == sight.zero(to)?;
    same.then_some((from, tail))
}

fn maximum(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let kernel = attribute(node, "kernel_shape")?.ints.len();
    if !matches!(kernel, 1 | 2) || integer(node, "storage_order").unwrap_or(0) != 0 {
        return None;
    }
    let (from, tail) = unchanged(sight, at, node)?;
    let attributes = node.attribute.clone();
    Some(tail.fuse(node, "EdgewardMaxPool", vec![from.bytes], attributes))
}

fn carrier(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let (from, tail) = unchanged(sight, at, node)?;
    let mut inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
    *inputs.first_mut()? = from.bytes;
    let attributes = node.attribute.clone();
    Some(tail.fuse(node, &node.op_type, inputs, attributes))
}
