//! A graph as the rules see it: who makes each tensor, who takes it, and which are constants.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

/// ONNX's numbers for element types.
const FLOAT: i32 = 1;
const UINT8: i32 = 2;
const INT8: i32 = 3;
const INT32: i32 = 6;

/// One graph.
#[derive(Debug)]
pub(super) struct Sight<'a> {
    nodes: &'a [NodeProto],
    constants: HashMap<&'a str, &'a TensorProto>,
    makers: HashMap<&'a str, usize>,
    takers: HashMap<&'a str, Vec<usize>>,
    /// What somebody outside the nodes takes: outputs of the graph, and all that its subgraphs name.
    outside: HashSet<&'a str>,
}

/// A quantised tensor behind a real one: the inputs of a `DequantizeLinear`, or what a
/// `QuantizeLinear` makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantised<'a> {
    /// The tensor of bytes.
    pub(super) bytes: &'a str,
    pub(super) scale: &'a str,
    /// Empty where there is none.
    pub(super) zero: &'a str,
}

impl<'a> Sight<'a> {
    pub(super) fn of(graph: &'a GraphProto) -> Self {
        let mut sight = Self {
            nodes: &graph.node,
            constants: HashMap::new(),
            makers: HashMap::new(),
            takers: HashMap::new(),
            outside: graph
                .output
                .iter()
                .map(|output| output.name.as_str())
                .collect(),
        };
        for tensor in &graph.initializer {
            sight.constants.insert(&tensor.name, tensor);
        }
        for (at, node) in graph.node.iter().enumerate() {
            if let Some((name, tensor)) = written_out(node) {
                sight.constants.insert(name, tensor);
            }
            for output in &node.output {
                sight.makers.insert(output, at);
            }
            for input in &node.input {
                sight.takers.entry(input).or_default().push(at);
            }
            for attribute in &node.attribute {
                sight.look_inside(attribute);
            }
        }
        sight
    }

    fn look_inside(&mut self, attribute: &'a AttributeProto) {
        for graph in attribute.g.iter().chain(&attribute.graphs) {
            for node in &graph.node {
                self.outside.extend(node.input.iter().map(String::as_str));
                for attribute in &node.attribute {
                    self.look_inside(attribute);
                }
            }
            let outputs = graph.output.iter();
            self.outside
                .extend(outputs.map(|output| output.name.as_str()));
        }
    }

    pub(super) fn node(&self, at: usize) -> Option<&'a NodeProto> {
        self.nodes.get(at)
    }

    pub(super) fn is_unused(&self, tensor: &str) -> bool {
        !self.takers.contains_key(tensor) && !self.outside.contains(tensor)
    }

    /// The one node that takes `tensor`, where there is only one and nobody else does.
    pub(super) fn only_taker(&self, tensor: &str) -> Option<(usize, &'a NodeProto)> {
        if self.outside.contains(tensor) {
            return None;
        }
        match self.takers.get(tensor)?.as_slice() {
            [at] => Some((*at, self.nodes.get(*at)?)),
            _ => None,
        }
    }

    /// The node that makes `tensor`.
    pub(super) fn maker(&self, tensor: &str) -> Option<&'a NodeProto> {
        self.nodes.get(self.maker_at(tensor)?)
    }

    /// Its place.
    pub(super) fn maker_at(&self, tensor: &str) -> Option<usize> {
        self.makers.get(tensor).copied()
    }

    pub(super) fn constant(&self, name: &str) -> Option<&'a TensorProto> {
        self.constants.get(name).copied()
    }

    /// A constant of real numbers.
    pub(super) fn constant_reals(&self, name: &str) -> Option<&'a TensorProto> {
        self.constant(name)
            .filter(|tensor| tensor.data_type == FLOAT)
    }

    /// The same, also where it is handed on under another name, as PyTorch writes weights that are equal.
    pub(super) fn shared_reals(&self, name: &str) -> Option<&'a TensorProto> {
        let behind = || {
            let maker = self
                .maker(name)
                .filter(|maker| maker.op_type == "Identity")?;
            self.constant_reals(maker.input.first()?)
        };
        self.constant_reals(name).or_else(behind)
    }

    /// The bytes that `tensor` was made of by a `DequantizeLinear`.
    fn behind(&self, tensor: &str) -> Option<(&'a NodeProto, Quantised<'a>)> {
        let node = self.nodes.get(*self.makers.get(tensor)?)?;
        if node.op_type != "DequantizeLinear" {
            return None;
        }
        let [bytes, scale, rest @ ..] = node.input.as_slice() else {
            return None;
        };
        let zero = rest.first().map_or("", String::as_str);
        Some((node, Quantised { bytes, scale, zero }))
    }

    /// The bytes of 8 bits that `tensor` was made of, where all of them have one scale that never
    /// changes.
    pub(super) fn activations(&self, tensor: &str) -> Option<Quantised<'a>> {
        let (_, quantised) = self.behind(tensor)?;
        self.is_plain(quantised).then_some(quantised)
    }

    fn is_plain(&self, quantised: Quantised<'_>) -> bool {
        self.scale(quantised).is_some() && self.zero(quantised).is_some()
    }

    /// The constant bytes that `tensor` was made of, where all have one scale or those at each place
    /// along `axis` of `rank` have one.
    pub(super) fn weights(
        &self,
        tensor: &str,
        axis: usize,
    ) -> Option<(Quantised<'a>, &'a TensorProto)> {
        let (node, quantised) = self.behind(tensor)?;
        let bytes = self.constant(quantised.bytes)?;
        let scale = self.constant(quantised.scale)?;
        let eight_bits = matches!(bytes.data_type, INT8 | UINT8);
        let zero_fits = quantised.zero.is_empty()
            || self.constant(quantised.zero).is_some_and(|zero| {
                zero.data_type == bytes.data_type && elements(zero) == elements(scale)
            });
        if !eight_bits || !zero_fits || scale.data_type != FLOAT {
            return None;
        }
        let rank = i64::try_from(bytes.dims.len()).ok()?;
        let along = integer(node, "axis").unwrap_or(1);
        let along = if along < 0 { along + rank } else { along };
        let fits = elements(scale) == 1
            || (usize::try_from(along).ok() == Some(axis)
                && bytes.dims.get(axis) == Some(&i64::try_from(elements(scale)).ok()?));
        (fits && integer(node, "block_size").unwrap_or(0) == 0).then_some((quantised, bytes))
    }

    /// The bias that `tensor` was made of, where it is in steps of `activations` times `weights`.
    pub(super) fn bias(
        &self,
        tensor: &str,
        activations: Quantised<'_>,
        weights: Quantised<'_>,
    ) -> Option<&'a str> {
        let (_, quantised) = self.behind(tensor)?;
        let bytes = self.constant(quantised.bytes)?;
        let no_zero = quantised.zero.is_empty()
            || self
                .constant(quantised.zero)
                .and_then(whole_numbers)
                .is_some_and(|zeros| zeros.iter().all(|zero| *zero == 0));
        if bytes.data_type != INT32 || !no_zero || bytes.dims.len() != 1 {
            return None;
        }
        let step = self.scale(activations)?;
        let of_weights = reals(self.constant(weights.scale)?)?;
        let of_bias = reals(self.constant(quantised.scale)?)?;
        let count = of_weights.len().max(of_bias.len());
        let same = |(of_weights, of_bias): (&f32, &f32)| {
            (step * of_weights - of_bias).abs() <= of_bias.abs() * 1e-6
        };
        let pairs = of_weights.iter().cycle().zip(of_bias.iter().cycle());
        let alike = (of_weights.len() == count || of_weights.len() == 1)
            && (of_bias.len() == count || of_bias.len() == 1);
        (alike && pairs.take(count).all(same)).then_some(quantised.bytes)
    }

    /// What a `QuantizeLinear` to 8 bits makes, where all numbers get one scale that never changes.
    pub(super) fn made_by(&self, node: &'a NodeProto) -> Option<Quantised<'a>> {
        let ([_, scale, zero], [bytes]) = (node.input.as_slice(), node.output.as_slice()) else {
            return None;
        };
        let quantised = Quantised { bytes, scale, zero };
        (node.op_type == "QuantizeLinear" && self.is_plain(quantised)).then_some(quantised)
    }

    /// The one scale.
    pub(super) fn scale(&self, quantised: Quantised<'_>) -> Option<f32> {
        match reals(self.constant(quantised.scale)?)?.as_slice() {
            [scale] => Some(*scale),
            _ => None,
        }
    }

    /// The one zero point, of 8 bits, and its element type.
    pub(super) fn zero(&self, quantised: Quantised<'_>) -> Option<(i32, i32)> {
        let zero = self.constant(quantised.zero)?;
        match (zero.data_type, whole_numbers(zero)?.as_slice()) {
            (INT8 | UINT8, [number]) => Some((zero.data_type, *number)),
            _ => None,
        }
    }

    /// The value of a constant of one real number.
    pub(super) fn real(&self, name: &str) -> Option<f32> {
        match reals(self.constant(name)?)?.as_slice() {
            [real] => Some(*real),
            _ => None,
        }
    }
}

/// The constant that a node is, and its name.
pub(in crate::tract) fn written_out(node: &NodeProto) -> Option<(&str, &TensorProto)> {
    let value = attribute(node, "value").filter(|_| node.op_type == "Constant")?;
    Some((node.output.first()?, value.t.as_ref()?))
}

/// The attribute `name` of a node.
pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute
        .iter()
        .find(|attribute| attribute.name == name)
}

/// A whole number among the attributes.
pub(super) fn integer(node: &NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|attribute| attribute.i)
}

/// How many elements a tensor has.
fn elements(tensor: &TensorProto) -> usize {
    let extents = tensor.dims.iter();
    extents
        .map(|extent| usize::try_from(*extent).unwrap_or_default())
        .product()
}

/// The elements of a tensor of `f32` that is within the file.
fn reals(tensor: &TensorProto) -> Option<Vec<f32>> {
    if tensor.data_type != FLOAT {
        return None;
    }
    let reals = if tensor.raw_data.is_empty() {
        tensor.float_data.clone()
    } else {
        let words = tensor.raw_data.as_chunks::<4>().0.iter();
        words.map(|word| f32::from_le_bytes(*word)).collect()
    };
    (reals.len() == elements(tensor)).then_some(reals)
}

/// The elements of a tensor of 8 or 32 bits that is within the file.
fn whole_numbers(tensor: &TensorProto) -> Option<Vec<i32>> {
    let raw = tensor.raw_data.iter();
    let numbers: Vec<i32> = match tensor.data_type {
        INT8 | UINT8 | INT32 if tensor.raw_data.is_empty() => tensor.int32_data.clone(),
        INT8 => raw.map(|byte| i32::from(byte.cast_signed())).collect(),
        UINT8 => raw.map(|byte| i32::from(*byte)).collect(),
        INT32 => {
            let words = tensor.raw_data.as_chunks::<4>().0.iter();
            words.map(|word| i32::from_le_bytes(*word)).collect()
        }
        _ => return None,
    };
    (numbers.len() == elements(tensor)).then_some(numbers)
}
