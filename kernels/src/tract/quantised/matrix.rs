//! Products of quantised matrices: `MatMulInteger`, `QLinearMatMul`, `QGemm`, and what `fuse` makes of
//! the same between `DequantizeLinear` and `QuantizeLinear`.
//!
//! ```text
//! left   [..., rows, depth]      right  [..., depth, columns], or turned over
//! ```
//!
//! Axes before the last two are batches; they broadcast.

use std::borrow::Cow;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    TDim, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tvec,
};

use super::finish::{Ending, Finish, Leaving};
use super::parameters::{Inputs, Role, encoding};
use super::product::Weights;
use super::signed::{signed, unsigned};
use super::{Build, Operator, Port};
use crate::int8::layout::transpose;
use crate::int8::product::Weights as Ours;
use crate::int8::requantise::straighten;
use crate::int8::sums::with_sums;
use crate::team::{each_of, pieces};

/// How many sums are computed before they are made what leaves.
const SUMS: usize = 1 << 14;

/// One product of two quantised matrices. The `REFERENCE` adds up one product after the other.
#[derive(Debug)]
pub(super) struct Product<const REFERENCE: bool> {
    inputs: Inputs,
    finish: Finish,
    turned: Turned,
    /// The right side, where it never changes.
    right: Option<Arc<Right>>,
}

/// Which sides are given turned over.
#[derive(Debug, Clone, Copy)]
struct Turned {
    left: bool,
    right: bool,
}

/// The right side, packed.
#[derive(Debug)]
struct Right {
    /// Its axes before the last two.
    batches: TVec<usize>,
    depth: usize,
    columns: usize,
    /// One for each batch.
    packed: Vec<Weights>,
    /// For the reference: the numbers less their zero points, column by column.
    plain: Vec<i32>,
}

const INTEGER: [Role; 4] = [Role::A, Role::B, Role::AZero, Role::BZero];
const LINEAR: [Role; 8] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::B,
    Role::BScale,
    Role::BZero,
    Role::YScale,
    Role::YZero,
];
/// Of `QGemm`, and what is added to real results behind it.
const GEMM: [Role; 10] = [
    Role::A,
    Role::AScale,
    Role::AZero,
    Role::B,
    Role::BScale,
    Role::BZero,
    Role::Bias,
    Role::YScale,
    Role::YZero,
    Role::Added,
];

impl<const REFERENCE: bool> Build for Product<REFERENCE> {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let roles: &[Role] = match node.op_type.as_str() {
            "MatMulInteger" => &INTEGER,
            "QLinearMatMul" => &LINEAR,
            _ => &GEMM,
        };
        let turned = |name: &str| -> TractResult<bool> {
            Ok(node.get_attr_opt::<i64>(name)?.unwrap_or(0) != 0)
        };
        Ok(Self {
            inputs: Inputs::of(node, roles)?,
            finish: Finish::read(node)?,
            turned: Turned {
                left: turned("transA")?,
                right: turned("transB")?,
            },
            right: None,
        })
    }
}

#[cfg(feature = "wgpu")]
impl<const REFERENCE: bool> Product<REFERENCE> {
    /// The places of both sides' zero points, where the sums themselves leave.
    pub(super) fn integer(&self) -> Option<[Option<usize>; 2]> {
        let plain = self.right.is_none() && !self.inputs.has(Role::AScale);
        plain.then(|| [Role::AZero, Role::BZero].map(|role| self.inputs.place(role)))
    }
}

/// The last two axes of a matrix, and those before.
fn matrix<D: Clone>(shape: &[D], turned: bool) -> TractResult<(&[D], D, D)> {
    match shape {
        [batches @ .., rows, columns] if turned => Ok((batches, columns.clone(), rows.clone())),
        [batches @ .., rows, columns] => Ok((batches, rows.clone(), columns.clone())),
        _ => bail!("a product of quantised matrices needs two axes on both sides"),
    }
}

/// The batches of two sides together.
fn together<D: Clone + PartialEq + From<usize> + std::fmt::Debug>(
    left: &[D],
    right: &[D],
) -> TractResult<TVec<D>> {
    let one = D::from(1);
    let rank = left.len().max(right.len());
    let pad = |side: &[D]| -> TVec<D> {
        let missing = std::iter::repeat_n(one.clone(), rank - side.len());
        missing.chain(side.iter().cloned()).collect()
    };
    let (left, right) = (pad(left), pad(right));
    let pairs = left.into_iter().zip(right);
    pairs
        .map(|(left, right)| {
            if left == right || right == one {
                Ok(left)
            } else if left == one {
                Ok(right)
            } else {
                bail!("batches of {left:?} and {right:?} do not go together")
            }
        })
        .collect()
}

impl Right {
    fn new(inputs: &Inputs, given: &[&Tensor], turned: bool, reference: bool) -> TractResult<Self> {
        let tensor = inputs.need(given, Role::B)?;
        let (batches, depth, columns) = matrix(tensor.shape(), turned)?;
        let encoding = encoding("a quantised product", tensor.datum_type())?;
        let zeros = inputs.zeros(given, Role::BZero, columns)?;
        let zeros: Vec<i32> = zeros
            .into_iter()
            .map(|zero| zero - 128 - encoding.least())
            .collect();
        let numbers = signed(tensor)?;
        let count = batches.iter().product::<usize>();
        let mut right = Self {
            batches: batches.into(),
            depth,
            columns,
            packed: Vec::with_capacity(count),
            plain: Vec::new(),
        };
        let mut column_by_column = vec![0_i8; depth * columns];
        for one in numbers.chunks(right.size()).take(count) {
            if turned {
                column_by_column.copy_from_slice(one);
            } else {
                transpose(one, depth, columns, &mut column_by_column);
            }
            if reference {
                let columns = column_by_column.chunks(depth.max(1)).zip(&zeros);
                right.plain.extend(columns.flat_map(|(column, zero)| {
                    column.iter().map(move |number| i32::from(*number) - zero)
                }));
            } else {
                let packed = Weights::pack(&column_by_column, (1, depth), zeros.clone())?;
                right.packed.push(packed);
            }
        }
        Ok(right)
    }

    /// The left side as it is multiplied with this one; turned over where its extents are given.
    fn numbers<'a>(
        &self,
        left: &'a Tensor,
        turned: Option<(usize, usize)>,
    ) -> TractResult<Numbers<'a>> {
        let mut packed = self.packed.iter();
        if !self.packed.is_empty() && packed.all(|packed| packed.ours().is_some()) {
            return Ok(Numbers::Unsigned(upright(unsigned(left)?, turned)));
        }
        Ok(Numbers::Signed(upright(signed(left)?, turned)))
    }

    /// Numbers in one matrix, and 1 where there are none.
    fn size(&self) -> usize {
        (self.depth * self.columns).max(1)
    }
}

impl<const REFERENCE: bool> Operator for Product<REFERENCE> {
    const NAME: &'static str = "quantised product";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (left_type, left) = self.inputs.port(inputs, Role::A)?;
        encoding(Self::NAME, *left_type)?;
        let (left, rows, depth) = matrix(left, self.turned.left)?;
        let (right, right_depth, columns): (TVec<TDim>, TDim, TDim) = match &self.right {
            Some(right) => (
                right
                    .batches
                    .iter()
                    .map(|extent| TDim::from(*extent))
                    .collect(),
                right.depth.into(),
                right.columns.into(),
            ),
            None => {
                let (right_type, right) = self.inputs.port(inputs, Role::B)?;
                encoding(Self::NAME, *right_type)?;
                let (batches, depth, columns) = matrix(right, self.turned.right)?;
                (batches.into(), depth, columns)
            }
        };
        if let (Ok(left), Ok(right)) = (usize::try_from(&depth), usize::try_from(&right_depth)) {
            ensure!(left == right, "a product of depths {left} and {right}");
        }
        let mut shape = together(left, &right)?;
        shape.extend([rows, columns]);
        Ok(tvec![(Finish::output(&self.inputs, inputs)?, shape)])
    }

    fn prepare(
        &self,
        constants: &[Option<Arc<Tensor>>],
    ) -> TractResult<Option<(Self, TVec<usize>)>> {
        let roles = [Role::B, Role::BZero];
        let Some((inputs, kept)) = self.inputs.absorb(constants, &roles) else {
            return Ok(None);
        };
        let none = Tensor::zero::<u8>(&[0])?;
        let given: Vec<&Tensor> = constants
            .iter()
            .map(|constant| constant.as_deref().unwrap_or(&none))
            .collect();
        let right = Right::new(&self.inputs, &given, self.turned.right, REFERENCE)?;
        let prepared = Self {
            inputs,
            finish: self.finish,
            turned: self.turned,
            right: Some(Arc::new(right)),
        };
        Ok(Some((prepared, kept)))
    }

    fn held(&self) -> u64 {
        self.right.as_ref().map_or(0, |right| {
            let packed: u64 = right.packed.iter().map(Weights::bytes).sum();
            packed + size_of_val(&*right.plain) as u64
        })
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let left = self.inputs.need(inputs, Role::A)?;
        let right = match &self.right {
            Some(right) => Arc::clone(right),
            None => {
                let turned = self.turned.right;
                Arc::new(Right::new(&self.inputs, inputs, turned, REFERENCE)?)
            }
        };
        let (batches, rows, depth) = matrix(left.shape(), self.turned.left)?;
        ensure!(
            depth == right.depth,
            "a product of depths {depth} and {}",
            right.depth
        );
        let mut shape = together(batches, &right.batches)?;
        let count = shape.iter().product::<usize>();
        let places = Places::new(&shape, batches, &right.batches);
        shape.extend([rows, right.columns]);
        let encoding = encoding(Self::NAME, left.datum_type())?;
        let zero = self.inputs.zero(inputs, Role::AZero)? - 128 - encoding.least();
        let numbers = right.numbers(left, self.turned.left.then_some((rows, depth)))?;
        let multiply = Multiply {
            numbers: &numbers,
            zero,
            right: &right,
            finish: self,
            inputs,
        };
        // A right side without batches meets all rows at once.
        let (count, rows) = match right.batches.iter().product::<usize>() {
            1 if count > 0 => (1, rows * count),
            _ => (count, rows),
        };
        // Batches of the right side differ in their offsets alone, not in what leaves.
        let output = multiply.ending(0)?.fill(&shape, |output| {
            let outputs = pieces(output, (0..count).map(|_| rows * right.columns));
            for (batch, output) in outputs.into_iter().enumerate() {
                let sides = if count == 1 { (0, 0) } else { places.of(batch) };
                multiply.run(output, sides, rows)?;
            }
            Ok(())
        })?;
        Ok(tvec![output])
    }
}

/// The left side, as the right side is multiplied with.
enum Numbers<'a> {
    Signed(Cow<'a, [i8]>),
    /// By our own products.
    Unsigned(Cow<'a, [u8]>),
}

/// Every matrix of `numbers`, turned over to `rows` of `depth` where these are given.
fn upright<N: Copy + Default>(
    numbers: Cow<'_, [N]>,
    extents: Option<(usize, usize)>,
) -> Cow<'_, [N]> {
    let Some((rows, depth)) = extents else {
        return numbers;
    };
    let mut upright = vec![N::default(); numbers.len()];
    let size = (rows * depth).max(1);
    for (from, to) in numbers.chunks(size).zip(upright.chunks_mut(size)) {
        transpose(from, depth, rows, to);
    }
    Cow::Owned(upright)
}

/// Which batch of each side a batch of the output is made of.
struct Places {
    extents: TVec<usize>,
    left: TVec<usize>,
    right: TVec<usize>,
}

impl Places {
    fn new(extents: &[usize], left: &[usize], right: &[usize]) -> Self {
        let steps = |side: &[usize]| -> TVec<usize> {
            let missing = extents.len() - side.len();
            let mut step = 1;
            let mut steps: TVec<usize> = side
                .iter()
                .rev()
                .map(|extent| {
                    let of_axis = if *extent == 1 { 0 } else { step };
                    step *= extent;
                    of_axis
                })
                .collect();
            steps.extend(std::iter::repeat_n(0, missing));
            steps.reverse();
            steps
        };
        Self {
            extents: extents.into(),
            left: steps(left),
            right: steps(right),
        }
    }

    fn of(&self, batch: usize) -> (usize, usize) {
        let (mut rest, mut left, mut right) = (batch, 0, 0);
        let steps = self.left.iter().zip(&self.right);
        for (extent, (of_left, of_right)) in self.extents.iter().zip(steps).rev() {
            let at = rest % extent.max(&1);
            rest /= extent.max(&1);
            left += at * of_left;
            right += at * of_right;
        }
        (left, right)
    }
}

/// One call.
struct Multiply<'a, const REFERENCE: bool> {
    numbers: &'a Numbers<'a>,
    zero: i32,
    right: &'a Right,
    finish: &'a Product<REFERENCE>,
    inputs: &'a [&'a Tensor],
}

impl<const REFERENCE: bool> Multiply<'_, REFERENCE> {
    fn ending(&self, batch: usize) -> TractResult<Ending> {
        let packed = self.right.packed.get(batch);
        let offset = |column| packed.map_or(0, |packed| packed.offset(column, self.zero));
        let Product { inputs, finish, .. } = self.finish;
        finish.ending(inputs, self.inputs, self.right.columns, offset)
    }

    /// Computes one batch of the output from those of both sides.
    fn run(
        &self,
        output: Leaving<'_>,
        (left, right): (usize, usize),
        rows: usize,
    ) -> TractResult<()> {
        let ending = self.ending(right)?;
        if self.right.depth == 0 {
            // Nothing is added up.
            ending.write(
                &vec![0; rows * self.right.columns],
                output,
                self.right.columns,
            );
            return Ok(());
        }
        let size = rows * self.right.depth;
        let of_left = left * size..(left + 1) * size;
        let packed = self.right.packed.get(right);
        match self.numbers {
            Numbers::Unsigned(numbers) => {
                let numbers = numbers.get(of_left);
                let weights = packed.and_then(Weights::ours);
                let (numbers, weights) = numbers.zip(weights).context("a side is too short")?;
                self.in_place(numbers, weights, &ending, output);
                Ok(())
            }
            Numbers::Signed(numbers) => {
                let numbers = numbers.get(of_left).context("a left side is too short")?;
                if REFERENCE {
                    let plain = self.right.plain.chunks(self.right.size()).nth(right);
                    let sums = self.plainly(numbers, plain.unwrap_or_default());
                    ending.write(&sums, output, self.right.columns);
                    return Ok(());
                }
                let packed = packed.context("a right side is too short")?;
                self.packed(numbers, packed, &ending, output)
            }
        }
    }

    /// By our own products, of numbers where they lie.
    fn in_place(&self, numbers: &[u8], weights: &Ours, ending: &Ending, output: Leaving<'_>) {
        let (depth, columns) = (self.right.depth, self.right.columns);
        let count = numbers.len() / depth.max(1);
        let block = weights.block(count).max(1);
        let blocks = (0..count).step_by(block);
        let blocks = blocks.map(|first| first..count.min(first + block));
        let outputs = pieces(output, blocks.clone().map(|rows| rows.len() * columns));
        each_of(blocks.zip(outputs).collect(), |(rows, output)| {
            let places: Vec<usize> = rows.map(|row| row * depth).collect();
            with_sums(places.len() * columns, |sums| {
                weights.multiply(numbers, &places, &[], sums);
                ending.write(sums, output, columns);
            });
        });
    }

    /// By those of tract-linalg.
    fn packed(
        &self,
        numbers: &[i8],
        packed: &Weights,
        ending: &Ending,
        mut output: Leaving<'_>,
    ) -> TractResult<()> {
        let (depth, columns) = (self.right.depth, self.right.columns);
        let rows = numbers.len() / depth.max(1);
        let most = (SUMS / columns.max(1)).clamp(16, 4096).min(rows.max(1));
        let mut sums = packed.sums_for(most)?;
        let mut at = 0;
        for numbers in numbers.chunks((most * depth).max(1)) {
            let done = packed.multiply(numbers, &mut sums)?;
            let mut view = sums.try_as_plain_ram_mut()?;
            let values = view.as_slice_mut::<i32>()?;
            let values = values.get_mut(..done * columns).unwrap_or_default();
            if !packed.zeros().is_empty() {
                straighten(values, numbers, depth, packed.zeros());
            }
            ending.write(values, output.from(at), columns);
            at += done * columns;
        }
        Ok(())
    }

    fn plainly(&self, numbers: &[i8], plain: &[i32]) -> Vec<i32> {
        let depth = self.right.depth.max(1);
        let rows = numbers.chunks(depth);
        rows.flat_map(|row| {
            plain.chunks(depth).map(|column| {
                let pairs = row.iter().zip(column);
                pairs
                    .map(|(number, weight)| (i32::from(*number) - self.zero) * weight)
                    .sum::<i32>()
            })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests;
