//! Sums of products over axes: products of matrices, of any number of axes and in any order.

use std::sync::Arc;

use burn_backend::Shape;
use burn_backend::ops::FloatTensorOps as _;
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::{DatumType, TractResult};
use tract_onnx::tract_hir::tract_core::ops::einsum::EinSum;

use super::super::packed::Arrangement;
use super::{Lowered, Sight, Step, of_all, take, there};

/// Which axes of the two inputs and of the output belong together.
#[derive(Default)]
struct Axes {
    /// In both inputs and the output.
    batch: Vec<[usize; 3]>,
    /// In the left input and the output.
    rows: Vec<[usize; 2]>,
    /// In the right input and the output.
    columns: Vec<[usize; 2]>,
    /// In both inputs.
    depth: Vec<[usize; 2]>,
    /// Of one element, in one of the three tensors alone.
    spare: [Vec<usize>; 3],
}

pub(super) fn lower(sight: &Sight<'_>) -> Option<Step> {
    let sum = sum_of(sight)?;
    let (left, right) = (sight.shape(0), sight.shape(1));
    let axes = Axes::of(sum, [left, right])?;
    let same = |[a, b]: &[usize; 2]| left.get(*a) == right.get(*b);
    if !axes.depth.iter().all(same) {
        return None;
    }
    // [batch.., rows, depth] x [batch.., depth, columns] = [batch.., rows, columns]
    let rows = size(left, axes.rows.iter().map(|[a, _]| *a));
    let depth = size(left, axes.depth.iter().map(|[a, _]| *a));
    let columns = size(right, axes.columns.iter().map(|[b, _]| *b));
    let left_batch = axes.batch.iter().map(|[a, _, _]| extent(left, *a));
    let left_matrix: Vec<usize> = left_batch.chain([rows, depth]).collect();
    let right_batch = axes.batch.iter().map(|[_, b, _]| extent(right, *b));
    let right_matrix: Vec<usize> = right_batch.chain([depth, columns]).collect();
    let orders = axes.orders();
    let result = orders.result.iter();
    let result = result.map(|axis| extent(sight.output(), *axis));
    let result = Shape::from(there(&result.collect::<Vec<usize>>()).to_vec());
    let (left_matrix, right_matrix) = (Shape::from(left_matrix), Shape::from(right_matrix));
    let back = inverse(&orders.result)?;
    Some(of_all(move |inputs| {
        let [left, right] = take(inputs)?;
        let left = reshape(ordered(left, &orders.left), left_matrix.clone());
        let right = reshape(ordered(right, &orders.right), right_matrix.clone());
        let product = CubeBackend::float_matmul(left, right);
        Ok(ordered(reshape(product, result.clone()), &back))
    }))
}

/// The sum of products of two tensors of real numbers.
fn sum_of<'a>(sight: &Sight<'a>) -> Option<&'a EinSum> {
    let sum = sight.op.downcast_ref::<EinSum>()?;
    let is_real = sight.is_real() && sum.operating_dt == DatumType::F32;
    (is_real && sum.q_params.is_none() && sight.inputs.len() == 2).then_some(sum)
}

/// The product with weights that stay packed: one of the two sides is read from bytes that never
/// change.
pub(super) fn packed(sight: &Sight<'_>) -> TractResult<Option<Lowered>> {
    let Some(sum) = sum_of(sight) else {
        return Ok(None);
    };
    for weights in [1, 0] {
        let side = sight.inputs.get(weights);
        if side.is_some_and(|side| side.bytes.is_some()) {
            return packed_side(sight, sum, weights);
        }
    }
    Ok(None)
}

/// The product with a constant right side that is larger than what the device binds: some of its columns at a
/// time.
pub(super) fn in_parts(sight: &Sight<'_>) -> TractResult<Option<Lowered>> {
    let (Some(sum), Some(right)) = (sum_of(sight), sight.inputs.get(1)) else {
        return Ok(None);
    };
    let Some(tensor) = right.value else {
        return Ok(None);
    };
    let most = sight.store.device.most_elements(size_of::<f32>());
    let axes = Axes::of(sum, [sight.shape(0), &right.shape]);
    let axes = axes.and_then(|axes| axes.without_batch(&right.shape));
    let Some(axes) = axes.filter(|_| tensor.volume() > most) else {
        return Ok(None);
    };
    let ([[column, _]], Some(back)) = (axes.columns.as_slice(), inverse(&axes.orders().result))
    else {
        return Ok(None);
    };
    let store = sight.store;
    let parts = store.weights.slices(store.device, tensor, *column)?;
    let orders = axes.orders();
    let rows = size(sight.shape(0), axes.rows.iter().map(|[a, _]| *a));
    let depth = size(&right.shape, axes.depth.iter().map(|[_, b]| *b));
    let matrix = Shape::from(vec![rows, depth]);
    let result = orders.result.iter();
    let result = result.map(|axis| extent(sight.output(), *axis));
    let result = Shape::from(there(&result.collect::<Vec<usize>>()).to_vec());
    let step = of_all(move |inputs| {
        let [left] = take(inputs)?;
        let left = reshape(ordered(left, &orders.left), matrix.clone());
        let products = parts.iter().map(|part| {
            let columns = part.meta.num_elements() / depth.max(1);
            let part = ordered(part.clone(), &orders.right);
            let part = reshape(part, Shape::from(vec![depth, columns]));
            CubeBackend::float_matmul(left.clone(), part)
        });
        let product = CubeBackend::float_cat(products.collect(), 1);
        Ok(ordered(reshape(product, result.clone()), &back))
    });
    Ok(Some(Lowered::of([0], step)))
}

fn packed_side(sight: &Sight<'_>, sum: &EinSum, weights: usize) -> TractResult<Option<Lowered>> {
    let numbers = 1 - weights;
    let (of_numbers, of_weights) = (sight.shape(numbers), sight.shape(weights));
    let axes = Axes::of_sides(sum, [numbers, weights], [of_numbers, of_weights]);
    let Some(axes) = axes.and_then(|axes| axes.without_batch(of_weights)) else {
        return Ok(None);
    };
    let same = |[a, b]: &[usize; 2]| of_numbers.get(*a) == of_weights.get(*b);
    if !axes.depth.iter().all(same) {
        return Ok(None);
    }
    let orders = axes.orders();
    // Of the right side, the depth stands before the columns.
    let spare = axes.spare.get(1).map_or(0, Vec::len);
    let columns = axes.columns.len();
    let mut order = orders.right.clone();
    if let Some(behind) = order.get_mut(spare..) {
        behind.rotate_right(columns);
    }
    let arrangement = Arrangement {
        order,
        leading: spare + columns,
    };
    let Some(port) = sight.inputs.get(weights) else {
        return Ok(None);
    };
    let Some(packed) = port.packed(sight.store, &arrangement)? else {
        return Ok(None);
    };
    let rows = size(of_numbers, axes.rows.iter().map(|[a, _]| *a));
    let result = orders.result.iter();
    let result = result.map(|axis| extent(sight.output(), *axis));
    let result = Shape::from(there(&result.collect::<Vec<usize>>()).to_vec());
    let matrix = Shape::from(vec![rows, packed.depth]);
    let Some(back) = inverse(&orders.result) else {
        return Ok(None);
    };
    let device = Arc::clone(sight.store.device);
    let step = of_all(move |inputs| {
        let [numbers] = take(inputs)?;
        let numbers = reshape(ordered(numbers, &orders.left), matrix.clone());
        let product = packed.product(&device, &numbers, None)?;
        Ok(ordered(reshape(product, result.clone()), &back))
    });
    Ok(Some(Lowered::of([numbers], step)))
}

fn extent(shape: &[usize], axis: usize) -> usize {
    shape.get(axis).copied().unwrap_or(1)
}

/// How many elements these axes have together.
fn size(shape: &[usize], axes: impl Iterator<Item = usize>) -> usize {
    axes.map(|axis| extent(shape, axis)).product()
}

/// In which order each tensor has its axes as a matrix.
struct Orders {
    left: Vec<usize>,
    right: Vec<usize>,
    result: Vec<usize>,
}

impl Axes {
    /// `None` where an axis of several elements is summed alone, or one stands twice in a tensor.
    fn of(sum: &EinSum, shapes: [&[usize]; 2]) -> Option<Self> {
        Self::of_sides(sum, [0, 1], shapes)
    }

    /// As [`Self::of`], with these inputs of the sum as left and right.
    fn of_sides(
        sum: &EinSum,
        [left_side, right_side]: [usize; 2],
        [left_shape, right_shape]: [&[usize]; 2],
    ) -> Option<Self> {
        let mut axes = Self::default();
        for axis in sum.axes.iter_all_axes() {
            let (left, right) = (axis.inputs.get(left_side)?, axis.inputs.get(right_side)?);
            let output = axis.outputs.first()?;
            match (left.as_slice(), right.as_slice(), output.as_slice()) {
                ([a], [b], [c]) => axes.batch.push([*a, *b, *c]),
                ([a], [], [c]) => axes.rows.push([*a, *c]),
                ([], [b], [c]) => axes.columns.push([*b, *c]),
                ([a], [b], []) => axes.depth.push([*a, *b]),
                // One element long, it adds nothing.
                ([a], [], []) if left_shape.get(*a) == Some(&1) => axes.spare[0].push(*a),
                ([], [b], []) if right_shape.get(*b) == Some(&1) => axes.spare[1].push(*b),
                ([], [], [c]) => axes.spare[2].push(*c),
                _ => return None,
            }
        }
        Some(axes)
    }

    /// With rows for batches, where the right side has none: its axes there are of one element.
    fn without_batch(mut self, right_shape: &[usize]) -> Option<Self> {
        for [a, b, c] in std::mem::take(&mut self.batch) {
            if right_shape.get(b) != Some(&1) {
                return None;
            }
            self.rows.push([a, c]);
            self.spare.get_mut(1)?.push(b);
        }
        Some(self)
    }

    fn orders(&self) -> Orders {
        let [mut left, mut right, mut result] = self.spare.clone();
        for [a, b, c] in &self.batch {
            left.push(*a);
            right.push(*b);
            result.push(*c);
        }
        left.extend(self.rows.iter().map(|[a, _]| a));
        left.extend(self.depth.iter().map(|[a, _]| a));
        right.extend(self.depth.iter().map(|[_, b]| b));
        right.extend(self.columns.iter().map(|[b, _]| b));
        result.extend(self.rows.iter().map(|[_, c]| c));
        result.extend(self.columns.iter().map(|[_, c]| c));
        Orders {
            left,
            right,
            result,
        }
    }
}

/// `tensor` with its axes in this order; one without axes stays.
fn ordered(tensor: CubeTensor, order: &[usize]) -> CubeTensor {
    if order.is_sorted() {
        return tensor;
    }
    permute(tensor, order)
}

/// The order that undoes `order`.
fn inverse(order: &[usize]) -> Option<Vec<usize>> {
    (0..order.len())
        .map(|axis| order.iter().position(|place| *place == axis))
        .collect()
}
