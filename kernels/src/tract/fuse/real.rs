//! What becomes of convolutions and products of real numbers.

use tract_onnx::pb::NodeProto;

use super::rules::{Fused, Tail, whole};
use super::sight::{Sight, attribute, integer};
use super::{REAL_ADD, REAL_CONVOLUTION, REAL_GELU, REAL_NORMAL, REAL_PRODUCT, REAL_SOFTMAX};

/// A convolution whose filters and bias are constants.
pub(super) fn convolution(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [image, filters, bias @ ..] = node.input.as_slice() else {
        return None;
    };
    let tensor = sight.constant_reals(filters)?;
    if !matches!(tensor.dims.len(), 3 | 4) || sight.constant(image).is_some() {
        return None;
    }
    let mut inputs = vec![image.as_str(), filters];
    if let Some(bias) = bias.first().filter(|bias| !bias.is_empty()) {
        sight.constant_reals(bias)?;
        inputs.push(bias);
    }
    let tail = Tail::of_reals(sight, at)?;
    Some(tail.fuse(node, REAL_CONVOLUTION, inputs, node.attribute.clone()))
}

/// A `Gemm` whose weights and bias are constants.
pub(super) fn gemm(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [left, weights, bias @ ..] = node.input.as_slice() else {
        return None;
    };
    let factor = |name: &str| attribute(node, name).map_or(1.0, |given| given.f);
    #[expect(clippy::float_cmp, reason = "any other factor is not 1")]
    if integer(node, "transA").unwrap_or(0) != 0 || factor("alpha") != 1.0 || factor("beta") != 1.0
    {
        return None;
    }
    let turned = integer(node, "transB").unwrap_or(0) != 0;
    let columns = matrix(sight, left, weights, turned)?;
    let mut inputs = vec![left.as_str(), weights];
    if let Some(bias) = bias.first().filter(|bias| !bias.is_empty()) {
        let tensor = sight.constant_reals(bias)?;
        (tensor.dims == [columns]).then_some(())?;
        inputs.push(bias);
    }
    let tail = Tail::of_reals(sight, at)?;
    Some(tail.fuse(
        node,
        REAL_PRODUCT,
        inputs,
        vec![whole("transB", turned.into())],
    ))
}

/// A `MatMul` with constant weights, and the constant that is added to each row of what it makes.
pub(super) fn product(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [left, weights] = node.input.as_slice() else {
        return None;
    };
    let columns = matrix(sight, left, weights, false)?;
    let mut inputs = vec![left.as_str(), weights];
    let made = node.output.first()?;
    let added = sight.only_taker(made).and_then(|(place, taker)| {
        let other = taker.input.iter().find(|input| *input != made)?;
        let is_row = sight.constant_reals(other)?.dims == [columns];
        (taker.op_type == "Add" && is_row).then_some((place, other))
    });
    let tail = match added {
        Some((place, bias)) => {
            inputs.push(bias);
            Tail::of_reals(sight, place)?.behind(at)
        }
        None => Tail::of_reals(sight, at)?,
    };
    Some(tail.fuse(node, REAL_PRODUCT, inputs, Vec::new()))
}

/// A softmax along the last axis, of whatever numbers.
pub(super) fn softmax(at: usize, node: &NodeProto) -> Option<Fused> {
    let ([from], [output]) = (node.input.as_slice(), node.output.as_slice()) else {
        return None;
    };
    // Without the attribute, what is meant hangs on the version of the operators.
    if integer(node, "axis") != Some(-1) {
        return None;
    }
    let tail = Tail::new(at, vec![at], output);
    Some(tail.fuse(node, REAL_SOFTMAX, vec![from], Vec::new()))
}

/// What PyTorch writes for a gelu, around the `Erf` at place `at`:
///
/// ```text
/// x  ->  Div by sqrt(2)  ->  Erf  ->  Add 1  ->  Mul by x  ->  Mul by 0.5
/// ```
pub(super) fn gelu(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let scaled = node.input.first()?;
    let first = sight.maker_at(scaled)?;
    let divided = sight.node(first).filter(|node| node.op_type == "Div")?;
    let [x, root] = divided.input.as_slice() else {
        return None;
    };
    // A constant of more axes would give its own to what it is computed with.
    let near = |name: &str, number: f32| {
        let single = sight.constant(name)?.dims.is_empty();
        let given = sight.real(name).filter(|_| single)?;
        ((given - number).abs() < 1e-6).then_some(())
    };
    near(root, std::f32::consts::SQRT_2)?;
    sight.only_taker(scaled)?;
    // The node of `kind` that alone takes `tensor`, what else it takes, and what it makes.
    let taken = |tensor: &str, kind: &str| {
        let (at, node) = sight.only_taker(tensor)?;
        let other = node.input.iter().find(|input| *input != tensor)?;
        let made = node.output.first()?;
        (node.op_type == kind && node.input.len() == 2).then_some((
            at,
            other.as_str(),
            made.as_str(),
        ))
    };
    let (second, one, sum) = taken(node.output.first()?, "Add")?;
    let (third, factor, product) = taken(sum, "Mul")?;
    let (last, half, output) = taken(product, "Mul")?;
    (near(one, 1.0).is_some() && factor == x && near(half, 0.5).is_some()).then_some(())?;
    let tail = Tail::new(last, vec![first, at, second, third, last], output);
    Some(tail.fuse(node, REAL_GELU, vec![x], Vec::new()))
}

/// A layer normalisation along the last axis whose scale and bias are constants, and of which only the
/// result is wanted.
pub(super) fn normal(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [from, scale, bias @ ..] = node.input.as_slice() else {
        return None;
    };
    let [output, others @ ..] = node.output.as_slice() else {
        return None;
    };
    // In another type than f32 the sums may be kept: ONNX says so by an attribute.
    if integer(node, "axis").unwrap_or(-1) != -1
        || integer(node, "stash_type").unwrap_or(1) != 1
        || others.iter().any(|other| !other.is_empty())
    {
        return None;
    }
    let mut inputs = vec![from.as_str(), scale.as_str()];
    inputs.extend(
        bias.iter()
            .map(String::as_str)
            .filter(|bias| !bias.is_empty()),
    );
    // A single number would be meant for every column.
    let columns = &sight.shared_reals(scale)?.dims;
    let is_row = |name: &&str| {
        let row = sight.shared_reals(name);
        row.is_some_and(|row| row.dims == *columns)
    };
    let are_rows = inputs.iter().skip(1).all(is_row);
    let is_wide = matches!(columns.as_slice(), [columns] if *columns > 1);
    (are_rows && is_wide).then_some(())?;
    let tail = Tail::new(at, vec![at], output);
    Some(tail.fuse(node, REAL_NORMAL, inputs, node.attribute.clone()))
}

/// A sum of two tensors, of which a convolution or a product made one: those are of `f32`.
pub(super) fn sum(sight: &Sight<'_>, at: usize, node: &NodeProto) -> Option<Fused> {
    let [left, right] = node.input.as_slice() else {
        return None;
    };
    let computed = |name: &str| {
        let made = sight.maker(name)?;
        let weights = made.input.get(1)?;
        let real = matches!(made.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
        (real && sight.constant_reals(weights).is_some()).then_some(())
    };
    computed(left).or_else(|| computed(right))?;
    if sight.constant(left).is_some() || sight.constant(right).is_some() {
        return None;
    }
    let tail = Tail::of_reals(sight, at)?;
    Some(tail.fuse(node, REAL_ADD, vec![left, right], Vec::new()))
}

/// How many columns constant weights have that something computed is multiplied with.
fn matrix(sight: &Sight<'_>, left: &str, weights: &str, turned: bool) -> Option<i64> {
    let dims = &sight.constant_reals(weights)?.dims;
    match dims.as_slice() {
        [first, second] if *first > 0 && *second > 0 && sight.constant(left).is_none() => {
            Some(if turned { *first } else { *second })
        }
        _ => None,
    }
}
