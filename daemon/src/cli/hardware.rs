//! `edgeward device`: what the hardware of this box is good for.
//!
//! A driver that crashes takes this process with it, which is why `serve` starts one for it.

use super::args::Output;
use super::output::{Failure, value};

/// `edgeward device probe`.
pub(super) fn probe(output: Output) -> Result<(), Failure> {
    value(&edgeward_kernels::burn_wgpu::probe(), output)
}
