//! `Det`: the determinant of each matrix of a batch, in `f64`, by elimination.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TVec, Tensor, TractResult, bail, ensure, tvec};

use super::places;
use super::{Build, Operator, Port};
use crate::tract::operator::{only, only_tensor};

/// Computes determinants.
#[derive(Debug)]
pub(super) struct Det;

impl Build for Det {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for Det {
    const NAME: &'static str = "Det";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let [batch @ .., rows, columns] = &**shape else {
            bail!("Det takes matrices, got shape {shape:?}");
        };
        ensure!(rows == columns, "a matrix is {rows} by {columns}");
        Ok(tvec![(*datum_type, batch.into())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let [batch @ .., size, _] = input.shape() else {
            bail!("Det takes matrices");
        };
        let numbers = places::numbers(input)?;
        let matrices = numbers.chunks((size * size).max(1));
        let determinants: Vec<f64> = matrices.map(|matrix| determinant(matrix, *size)).collect();
        Ok(tvec![places::rounded(&determinants, batch, input)?])
    }
}

/// The determinant of a row-major matrix. The largest pivot of each column is taken.
fn determinant(matrix: &[f64], size: usize) -> f64 {
    let mut rows: Vec<Vec<f64>> = matrix.chunks(size).map(<[f64]>::to_vec).collect();
    let mut product = 1.0;
    for column in 0..size {
        let of = |row: &Vec<f64>| row.get(column).copied().unwrap_or_default();
        let largest = rows
            .iter()
            .enumerate()
            .max_by(|(_, a), (_, b)| of(a).abs().total_cmp(&of(b).abs()));
        let Some((position, _)) = largest else {
            return product;
        };
        if position != 0 {
            product = -product;
        }
        rows.swap(0, position);
        let pivots = rows.remove(0);
        let pivot = of(&pivots);
        product *= pivot;
        if pivot == 0.0 {
            return 0.0;
        }
        for row in &mut rows {
            let factor = of(row) / pivot;
            for (number, above) in row.iter_mut().zip(&pivots) {
                *number -= factor * above;
            }
        }
    }
    product
}
