//! Kernels: how alike a row and a support vector are.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TractResult, bail, ensure};

/// A kernel with its parameters.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kernel {
    /// `x . v`
    Linear,
    /// `(gamma x . v + offset) ^ degree`
    Polynomial {
        gamma: f64,
        offset: f64,
        degree: f64,
    },
    /// `exp(-gamma |x - v|^2)`
    Radial { gamma: f64 },
    /// `tanh(gamma x . v + offset)`
    Sigmoid { gamma: f64, offset: f64 },
}

impl Kernel {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let parameters = node.get_attr_opt_vec::<f32>("kernel_params")?;
        let (gamma, offset, degree) = match parameters.as_deref() {
            None | Some([]) => (0.0, 0.0, 0.0),
            Some([gamma, offset, degree]) => (*gamma, *offset, *degree),
            Some(other) => bail!("{} kernel_params, not gamma, coef0, degree", other.len()),
        };
        let [gamma, offset, degree] = [gamma, offset, degree].map(f64::from);
        Ok(
            match node
                .get_attr_opt::<&str>("kernel_type")?
                .unwrap_or("LINEAR")
            {
                "LINEAR" => Self::Linear,
                "POLY" => Self::Polynomial {
                    gamma,
                    offset,
                    degree,
                },
                "RBF" => Self::Radial { gamma },
                "SIGMOID" => Self::Sigmoid { gamma, offset },
                other => bail!("kernel_type is {other:?}, not LINEAR, POLY, RBF or SIGMOID"),
            },
        )
    }

    /// The kernel of two vectors of one length.
    pub(super) fn of(self, x: &[f32], v: &[f32]) -> f64 {
        let pairs = x.iter().zip(v).map(|(x, v)| (f64::from(*x), f64::from(*v)));
        let dot = || pairs.clone().map(|(x, v)| x * v).sum::<f64>();
        match self {
            Self::Linear => dot(),
            Self::Polynomial {
                gamma,
                offset,
                degree,
            } => (gamma * dot() + offset).powf(degree),
            Self::Radial { gamma } => {
                let distance: f64 = pairs.clone().map(|(x, v)| (x - v) * (x - v)).sum();
                (-gamma * distance).exp()
            }
            Self::Sigmoid { gamma, offset } => (gamma * dot() + offset).tanh(),
        }
    }
}

/// Support vectors, one after the other, and their kernel.
#[derive(Debug)]
pub(super) struct Vectors {
    kernel: Kernel,
    numbers: Vec<f32>,
    features: usize,
}

impl Vectors {
    /// Reads `count` support vectors.
    pub(super) fn read(node: &NodeProto, count: usize) -> TractResult<Self> {
        let numbers = node.get_attr_vec::<f32>("support_vectors")?;
        ensure!(
            count > 0 && !numbers.is_empty() && numbers.len().is_multiple_of(count),
            "{} numbers do not divide among {count} support vectors",
            numbers.len()
        );
        Ok(Self {
            kernel: Kernel::read(node)?,
            features: numbers.len() / count,
            numbers,
        })
    }

    /// How long each of them is.
    pub(super) fn features(&self) -> usize {
        self.features
    }

    /// The kernel of a row with each of them.
    pub(super) fn kernels(&self, row: &[f32], kernels: &mut Vec<f64>) {
        kernels.clear();
        let vectors = self.numbers.chunks_exact(self.features);
        kernels.extend(vectors.map(|vector| self.kernel.of(row, vector)));
    }
}
