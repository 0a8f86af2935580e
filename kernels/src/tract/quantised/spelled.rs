//! Quantised operators in the words of the real ones, for an engine that computes those.
//!
//! ```text
//! x, w  ->  QLinearConv  ->  y      becomes      x, w  ->  DequantizeLinear  ->  Conv  ->  QuantizeLinear  ->  y
//! ```
//!
//! The result may be a step of the output away: sums are of real numbers then. What has no such words
//! stays as it is, and so do the products whose sums leave as whole numbers (`MatMulInteger`,
//! `ConvInteger`): those are exact.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto};

/// Rewrites `graph`, of the standard operators of version `opset`.
pub(in crate::tract) fn spell_out(graph: &mut GraphProto, opset: i64) {
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in std::mem::take(&mut graph.node) {
        let mut words = Words {
            name: node.output.first().cloned().unwrap_or_default(),
            nodes: Vec::new(),
        };
        if words.spell(&node, opset).is_some() {
            nodes.append(&mut words.nodes);
        } else {
            nodes.push(node);
        }
    }
    graph.node = nodes;
}

/// The nodes that one becomes.
struct Words {
    /// What their tensors are called after.
    name: String,
    nodes: Vec<NodeProto>,
}

impl Words {
    /// `None` where the node stays.
    fn spell(&mut self, node: &NodeProto, opset: i64) -> Option<()> {
        let input = |place: usize| node.input.get(place).map_or("", String::as_str);
        let linear = |place: usize| [input(place), input(place + 1), input(place + 2)];
        if attribute(node, "channels_last") == Some(1) {
            return None;
        }
        match node.op_type.as_str() {
            "QLinearConv" => {
                let mut inputs = vec![self.real(linear(0), None), self.real(linear(3), Some(0))];
                if !input(8).is_empty() {
                    inputs.push(self.bias(input(8), [input(1), input(4)]));
                }
                self.op("Conv", inputs, node.attribute.clone());
                self.quantised([input(6), input(7)], node)
            }
            "QLinearMatMul" => {
                let inputs = vec![self.real(linear(0), None), self.real(linear(3), Some(-1))];
                self.op("MatMul", inputs, Vec::new());
                self.quantised([input(6), input(7)], node)
            }
            "QGemm" => self.gemm(node),
            "QLinearAdd" | "QLinearMul" => {
                let inputs = vec![self.real(linear(0), None), self.real(linear(3), None)];
                self.op(node.op_type.get(7..)?, inputs, Vec::new());
                self.quantised([input(6), input(7)], node)
            }
            "QLinearConcat" => {
                let tensors = node.input.get(2..)?.chunks_exact(3);
                let each = tensors.map(|of| of.first_chunk::<3>());
                let each = each.collect::<Option<Vec<&[String; 3]>>>()?.into_iter();
                let each: Vec<[&str; 3]> =
                    each.map(|of| of.each_ref().map(String::as_str)).collect();
                let inputs = each.into_iter().map(|of| self.real(of, None));
                let inputs = inputs.collect();
                self.op("Concat", inputs, node.attribute.clone());
                self.quantised([input(0), input(1)], node)
            }
            "QLinearSoftmax"
                if opset < 13 || attribute(node, "opset").is_some_and(|of| of < 13) =>
            {
                None
            }
            "QLinearSigmoid"
            | "QLinearLeakyRelu"
            | "QLinearSoftmax"
            | "QLinearAveragePool"
            | "QLinearGlobalAveragePool" => {
                let inputs = vec![self.real(linear(0), None)];
                let ours = ["opset", "channels_last"];
                let attributes = node.attribute.iter();
                let attributes = attributes.filter(|of| !ours.contains(&of.name.as_str()));
                let attributes = attributes.cloned().collect();
                self.op(node.op_type.get(7..)?, inputs, attributes);
                self.quantised([input(3), input(4)], node)
            }
            _ => None,
        }
    }

    fn gemm(&mut self, node: &NodeProto) -> Option<()> {
        let input = |place: usize| node.input.get(place).map_or("", String::as_str);
        let columns = if attribute(node, "transB") == Some(1) {
            0
        } else {
            1
        };
        let alpha = node.attribute.iter().find(|of| of.name == "alpha");
        if alpha.is_some_and(|alpha| alpha.f.to_bits() != 1_f32.to_bits()) {
            return None;
        }
        let left = self.real([input(0), input(1), input(2)], None);
        let right = self.real([input(3), input(4), input(5)], Some(columns));
        let mut inputs = vec![left, right];
        if !input(6).is_empty() {
            inputs.push(self.bias(input(6), [input(1), input(4)]));
        }
        self.op("Gemm", inputs, node.attribute.clone());
        if input(7).is_empty() {
            let last = self.nodes.last_mut()?;
            last.output.clone_from(&node.output);
            return Some(());
        }
        self.quantised([input(7), input(8)], node)
    }

    /// The real numbers of a quantised tensor: its bytes, scales and zero points.
    fn real(&mut self, of: [&str; 3], axis: Option<i64>) -> String {
        let given = of.iter().filter(|name| !name.is_empty());
        let inputs = given.map(|name| (*name).to_owned()).collect();
        let axis = axis.map(|axis| integer("axis", axis));
        self.op("DequantizeLinear", inputs, axis.into_iter().collect())
    }

    /// The real numbers of a bias, whose scales are the products of those of both sides.
    fn bias(&mut self, bias: &str, scales: [&str; 2]) -> String {
        let scales = scales.map(str::to_owned).to_vec();
        let scale = self.op("Mul", scales, Vec::new());
        let float = integer("to", DataType::Float as i64);
        let real = self.op("Cast", vec![bias.to_owned()], vec![float]);
        self.op("Mul", vec![real, scale], Vec::new())
    }

    /// What the last node gives, quantised to the output of `node`.
    fn quantised(&mut self, of: [&str; 2], node: &NodeProto) -> Option<()> {
        let real = self.nodes.last()?.output.first()?.clone();
        let given = of.iter().filter(|name| !name.is_empty());
        let mut inputs = vec![real];
        inputs.extend(given.map(|name| (*name).to_owned()));
        self.op("QuantizeLinear", inputs, Vec::new());
        self.nodes.last_mut()?.output.clone_from(&node.output);
        Some(())
    }

    /// Adds a node; its one output is a name of its own.
    fn op(&mut self, kind: &str, input: Vec<String>, attribute: Vec<AttributeProto>) -> String {
        let output = format!("{}.{kind}.{}", self.name, self.nodes.len());
        self.nodes.push(NodeProto {
            op_type: kind.to_owned(),
            name: output.clone(),
            input,
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        output
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: AttributeType::Int as i32,
        i: value,
        ..AttributeProto::default()
    }
}

fn attribute(node: &NodeProto, name: &str) -> Option<i64> {
    let found = node.attribute.iter().find(|of| of.name == name);
    found.map(|of| of.i)
}
