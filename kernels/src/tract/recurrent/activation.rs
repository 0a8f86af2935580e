//! The functions between the sums.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TractResult, bail};

use super::sequence::Real;

/// An activation with its parameters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Activation {
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `tanh(x)`
    Tanh,
    /// `max(0, x)`
    Relu,
    /// `x`, or `alpha x` below 0
    LeakyRelu(f32),
    /// `alpha x + beta`, within 0 and 1
    HardSigmoid(f32, f32),
    /// `alpha x + beta`
    Affine(f32, f32),
    /// `x`, or `alpha (exp(x) - 1)` below 0
    Elu(f32),
    /// `alpha tanh(beta x)`
    ScaledTanh(f32, f32),
    /// `x / (1 + |x|)`
    Softsign,
    /// `ln(1 + exp(x))`
    Softplus,
}

impl Activation {
    /// Those of a node; none where it relies on the defaults. Each takes its parameters from the
    /// lists of the node, in turn.
    pub(super) fn read(node: &NodeProto) -> TractResult<Vec<Self>> {
        let list = |name: &str| node.get_attr_opt_vec::<f32>(name);
        let mut alphas = list("activation_alpha")?.unwrap_or_default().into_iter();
        let mut betas = list("activation_beta")?.unwrap_or_default().into_iter();
        let names = node.get_attr_opt_vec::<String>("activations")?;
        let mut read = Vec::new();
        for name in names.unwrap_or_default() {
            let mut alpha = |default: f32| alphas.next().unwrap_or(default);
            let mut beta = |default: f32| betas.next().unwrap_or(default);
            read.push(match name.to_ascii_lowercase().as_str() {
                "sigmoid" => Self::Sigmoid,
                "tanh" => Self::Tanh,
                "relu" => Self::Relu,
                "leakyrelu" => Self::LeakyRelu(alpha(0.01)),
                "hardsigmoid" => Self::HardSigmoid(alpha(0.2), beta(0.5)),
                "affine" => Self::Affine(alpha(1.0), beta(0.0)),
                "elu" => Self::Elu(alpha(1.0)),
                "scaledtanh" => Self::ScaledTanh(alpha(1.0), beta(1.0)),
                "softsign" => Self::Softsign,
                "softplus" => Self::Softplus,
                _ => bail!("activation {name:?} is not supported"),
            });
        }
        Ok(read)
    }

    /// The function at `x`.
    pub(super) fn of<T: Real>(self, x: T) -> T {
        let (zero, one) = (T::of(0.0), T::of(1.0));
        match self {
            Self::Sigmoid => one / (one + (zero - x).exp()),
            Self::Tanh => x.tanh(),
            Self::Relu => x.within(zero, T::of(f32::INFINITY)),
            Self::LeakyRelu(alpha) if x < zero => T::of(alpha) * x,
            Self::LeakyRelu(_) => x,
            Self::HardSigmoid(alpha, beta) => (T::of(alpha) * x + T::of(beta)).within(zero, one),
            Self::Affine(alpha, beta) => T::of(alpha) * x + T::of(beta),
            Self::Elu(alpha) if x < zero => T::of(alpha) * (x.exp() - one),
            Self::Elu(_) => x,
            Self::ScaledTanh(alpha, beta) => T::of(alpha) * (T::of(beta) * x).tanh(),
            Self::Softsign => x / (one + x.within(zero, x) - x.within(x, zero)),
            Self::Softplus => (one + x.exp()).ln(),
        }
    }
}
