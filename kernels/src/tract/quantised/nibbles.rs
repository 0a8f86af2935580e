//! Weights of 4 bits, which tract has no type for: they become bytes of the same values.
//!
//! Only what `DequantizeLinear` alone takes: it looks at values, never at their range. Anything else stays
//! as it is and is refused by tract.

use std::collections::HashSet;

use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

/// ONNX's numbers for element types.
const UINT8: i32 = 2;
const INT8: i32 = 3;
const UINT4: i32 = 21;
const INT4: i32 = 22;

/// Widens them in `graph`.
pub(in crate::tract) fn widen(graph: &mut GraphProto) {
    let others = graph.node.iter();
    let others = others.filter(|node| node.op_type != "DequantizeLinear");
    let mut taken: HashSet<String> = others.flat_map(|node| node.input.clone()).collect();
    taken.extend(graph.output.iter().map(|output| output.name.clone()));
    // What a subgraph takes is not looked at: then nothing is widened.
    if graph.node.iter().any(has_subgraph) {
        return;
    }
    for tensor in &mut graph.initializer {
        if !taken.contains(&tensor.name) {
            widen_tensor(tensor);
        }
    }
    for node in &mut graph.node {
        let is_free = node.output.iter().all(|output| !taken.contains(output));
        if node.op_type == "Constant" && is_free {
            let values = node.attribute.iter_mut();
            values
                .filter_map(|attribute| attribute.t.as_mut())
                .for_each(widen_tensor);
        }
    }
}

fn has_subgraph(node: &NodeProto) -> bool {
    let mut attributes = node.attribute.iter();
    attributes.any(|attribute| attribute.g.is_some() || !attribute.graphs.is_empty())
}

fn widen_tensor(tensor: &mut TensorProto) {
    let signed = match tensor.data_type {
        UINT4 => false,
        INT4 => true,
        _ => return,
    };
    let Some(count) = count(&tensor.dims) else {
        return;
    };
    let packed: Vec<u8> = if tensor.raw_data.is_empty() {
        let numbers = tensor.int32_data.iter();
        numbers
            .filter_map(|two| u8::try_from(two & 0xFF).ok())
            .collect()
    } else {
        tensor.raw_data.clone()
    };
    // Of another length it is no tensor, and stays for tract to say so.
    if packed.len() != count.div_ceil(2) || !tensor.external_data.is_empty() {
        return;
    }
    let nibbles = packed.iter().flat_map(|two| [two & 0xF, two >> 4]);
    let values = nibbles.map(|nibble| {
        let negative = signed && nibble > 7;
        if negative { nibble | 0xF0 } else { nibble }
    });
    tensor.raw_data = values.take(count).collect();
    tensor.int32_data.clear();
    tensor.data_type = if signed { INT8 } else { UINT8 };
}

fn count(dims: &[i64]) -> Option<usize> {
    let mut dims = dims.iter().map(|dim| usize::try_from(*dim).ok());
    dims.try_fold(1_usize, |count, dim| count.checked_mul(dim?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(taker: &str, tensor: TensorProto) -> GraphProto {
        GraphProto {
            node: vec![NodeProto {
                op_type: taker.to_owned(),
                input: vec![tensor.name.clone(), "scale".to_owned()],
                output: vec!["real".to_owned()],
                ..NodeProto::default()
            }],
            initializer: vec![tensor],
            ..GraphProto::default()
        }
    }

    fn tensor(data_type: i32, dims: &[i64], raw_data: &[u8]) -> TensorProto {
        TensorProto {
            name: "w".to_owned(),
            data_type,
            dims: dims.to_vec(),
            raw_data: raw_data.to_vec(),
            ..TensorProto::default()
        }
    }

    #[test]
    fn halves_of_bytes_become_bytes_the_lower_half_first() {
        let mut signed = graph("DequantizeLinear", tensor(INT4, &[3], &[0x7F, 0x08]));
        widen(&mut signed);
        let widened = signed.initializer.remove(0);
        assert_eq!(widened.data_type, INT8);
        assert_eq!(widened.raw_data, [0xFF, 7, 0xF8]);
        let mut unsigned = graph("DequantizeLinear", tensor(UINT4, &[2, 1], &[0x7F]));
        widen(&mut unsigned);
        let widened = unsigned.initializer.remove(0);
        assert_eq!(widened.data_type, UINT8);
        assert_eq!(widened.raw_data, [15, 7]);
    }

    #[test]
    fn what_another_operator_takes_or_what_has_another_length_stays() {
        for (taker, dims, raw) in [
            ("QuantizeLinear", &[2][..], &[0x7F][..]),
            ("DequantizeLinear", &[3], &[0x7F]),
            ("DequantizeLinear", &[-1], &[0x7F]),
        ] {
            let mut graph = graph(taker, tensor(INT4, dims, raw));
            let before = graph.clone();
            widen(&mut graph);
            assert_eq!(graph, before, "{taker} of {dims:?}");
        }
    }
}
