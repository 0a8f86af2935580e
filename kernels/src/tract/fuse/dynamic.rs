//! Products whose scale is found at each call, as dynamic quantisation writes them.
//!
//! ```text
//! x  ->  DynamicQuantizeLinear  ->  a, a_scale, a_zero
//! a, b  ->  MatMulInteger  ->  Cast to f32  ->  Mul by (a_scale x b_scale)  [->  Add of a row]      become one node
//! ```
//!
//! The sum becomes a real number, is multiplied and added to as the file says, so that the result is the
//! same to the bit.

use tract_onnx::pb::NodeProto;

use super::PRODUCT;
use super::rules::{Fused, Tail};
use super::sight::{Sight, integer};

/// ONNX's number for `f32`.
const FLOAT: i64 = 1;

/// The product at place `at`.
pub(super) fn product(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [left, right, zeros @ ..] = node.input.as_slice() else {
        return None;
    };
    let columns = *sight.constant(right)?.dims.last()?;
    let (cast_at, cast) = sight.only_taker(node.output.first()?)?;
    if cast.op_type != "Cast" || integer(cast, "to") != Some(FLOAT) {
        return None;
    }
    let real = cast.output.first()?;
    let (last, scaled) = sight.only_taker(real)?;
    if scaled.op_type != "Mul" {
        return None;
    }
    let scale = scaled.input.iter().find(|input| *input != real)?;
    let (of_left, of_right) = scales(sight, scale, columns)?;
    let mut tail = Tail::new(last, vec![at, cast_at, last], scaled.output.first()?);
    let zero = |place: usize| zeros.get(place).map_or("", String::as_str);
    let mut inputs = vec![
        left.as_str(),
        of_left,
        zero(0),
        right.as_str(),
        of_right,
        zero(1),
    ];
    if let Some((place, row)) = added(sight, scaled.output.first()?, columns) {
        let output = sight.node(place)?.output.first()?;
        tail = Tail::new(place, vec![at, cast_at, last, place], output);
        inputs.extend(["", "", "", row]);
    }
    Some(tail.fuse(node, PRODUCT, inputs, Vec::new()))
}

/// The constant row of `columns` numbers that alone is added to `tensor`, and the place of the sum.
fn added<'a>(sight: &Sight<'a>, tensor: &str, columns: i64) -> Option<(usize, &'a str)> {
    let (place, sum) = sight.only_taker(tensor)?;
    if sum.op_type != "Add" {
        return None;
    }
    let row = sum.input.iter().find(|input| *input != tensor)?;
    (sight.constant_reals(row)?.dims == [columns]).then_some((place, row.as_str()))
}

/// The scale that a `DynamicQuantizeLinear` found, and the constant one, that `tensor` is the product of.
fn scales<'a>(sight: &Sight<'a>, tensor: &str, columns: i64) -> Option<(&'a str, &'a str)> {
    let maker = sight.maker(tensor).filter(|maker| maker.op_type == "Mul")?;
    let [first, second] = maker.input.as_slice() else {
        return None;
    };
    let is_found = |name: &str| {
        let maker = sight.maker(name);
        maker.is_some_and(|maker| {
            maker.op_type == "DynamicQuantizeLinear"
                && maker.output.get(1).is_some_and(|scale| scale == name)
        })
    };
    // One number, or one for each column: whatever else it is, it is not what the node takes.
    let is_fixed = |name: &str| {
        let tensor = sight.constant_reals(name);
        tensor.is_some_and(|tensor| {
            matches!(tensor.dims.as_slice(), [] | [1]) || tensor.dims == [columns]
        })
    };
    if is_found(first) && is_fixed(second) {
        Some((first, second))
    } else {
        (is_fixed(first) && is_found(second)).then_some((second.as_str(), first.as_str()))
    }
}
