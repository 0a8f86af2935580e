//! Probabilities of classes from those of their pairs: the second method of Wu, Lin and Weng,
//! "Probability Estimates for Multi-class Classification by Pairwise Coupling" (2004), with the
//! limits that libsvm set: probabilities of pairs within 1e-7 of 0 and 1, at least 100 rounds, an
//! error below 0.005 by class.

const LEAST: f64 = 1e-7;
const ROUNDS: usize = 100;
const ERROR: f64 = 0.005;

/// The probability of each class, given the decision of each pair and its sigmoid's slope and
/// offset.
pub(super) fn probabilities(
    decisions: &[f64],
    sigmoids: &[(f32, f32)],
    classes: usize,
) -> Vec<f64> {
    // How likely the row's class beats the column's, where it is one of the two.
    let mut beats = vec![vec![0.0; classes]; classes];
    let pairs = (0..classes).flat_map(|first| (first + 1..classes).map(move |at| (first, at)));
    for ((first, second), (decision, (slope, offset))) in pairs.zip(decisions.iter().zip(sigmoids))
    {
        let exponent = decision * f64::from(*slope) + f64::from(*offset);
        let wins = (1.0 / (1.0 + exponent.exp())).clamp(LEAST, 1.0 - LEAST);
        set(&mut beats, first, second, wins);
        set(&mut beats, second, first, 1.0 - wins);
    }
    coupled(&quadratic(&beats))
}

fn set(matrix: &mut [Vec<f64>], row: usize, column: usize, value: f64) {
    if let Some(cell) = matrix.get_mut(row).and_then(|row| row.get_mut(column)) {
        *cell = value;
    }
}

fn get(matrix: &[Vec<f64>], row: usize, column: usize) -> f64 {
    let cell = matrix.get(row).and_then(|row| row.get(column));
    cell.copied().unwrap_or_default()
}

/// The matrix Q whose form `p Q p` the probabilities make least.
fn quadratic(beats: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let classes = beats.len();
    let cell = |row: usize, column: usize| {
        if row == column {
            let others = (0..classes).filter(|other| *other != row);
            others.map(|other| get(beats, other, row).powi(2)).sum()
        } else {
            -get(beats, row, column) * get(beats, column, row)
        }
    };
    let row = |row| (0..classes).map(|column| cell(row, column)).collect();
    (0..classes).map(row).collect()
}

/// Goes round the classes, moving one probability at a time to where it is best and normalising.
fn coupled(quadratic: &[Vec<f64>]) -> Vec<f64> {
    let classes = quadratic.len();
    #[expect(clippy::cast_precision_loss, reason = "there are few classes")]
    let count = classes as f64;
    let mut p = vec![1.0 / count; classes];
    for _ in 0..ROUNDS.max(classes) {
        let product = |row: &Vec<f64>| row.iter().zip(&p).map(|(q, p)| q * p).sum::<f64>();
        let mut products: Vec<f64> = quadratic.iter().map(product).collect();
        let mut form: f64 = p
            .iter()
            .zip(&products)
            .map(|(p, product)| p * product)
            .sum();
        let error = products.iter().map(|product| (product - form).abs());
        if error.fold(0.0, f64::max) < ERROR / count {
            break;
        }
        for (class, row) in quadratic.iter().enumerate() {
            let (Some(&of_class), Some(&own)) = (products.get(class), row.get(class)) else {
                continue;
            };
            let step = (form - of_class) / own;
            let total = 1.0 + step;
            form = (form + step * (step * own + 2.0 * of_class)) / (total * total);
            if let Some(p) = p.get_mut(class) {
                *p += step;
            }
            for ((product, p), q) in products.iter_mut().zip(&mut p).zip(row) {
                *product = (*product + step * q) / total;
                *p /= total;
            }
        }
    }
    p
}
