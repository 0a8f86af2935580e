//! Missing numbers are replaced. A shader may take for granted that no number is NaN, so none is computed with here: what
//! is missing is found by its bits.

#![expect(
    clippy::indexing_slicing,
    reason = "on the device, where an index is held within its buffer"
)]
#![expect(
    clippy::cast_possible_truncation,
    reason = "places are counted in 32 bits on the device, and no buffer there has more"
)]

use burn_backend::DType;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

/// All but the sign.
const MAGNITUDE: u32 = 0x7FFF_FFFF;
/// The magnitude of an infinity: what lies above is NaN.
const INFINITY: u32 = 0x7F80_0000;

#[cube(launch)]
fn replace(
    x: &[u32],
    by: &[u32],
    out: &mut [u32],
    missing: u32,
    features: u32,
    #[comptime] is_nan: bool,
) {
    if ABSOLUTE_POS < out.len() {
        let bits = x[ABSOLUTE_POS];
        let magnitude = bits & MAGNITUDE;
        let is_missing = if comptime!(is_nan) {
            magnitude > INFINITY
        } else {
            // Both zeros are the same.
            bits == missing || (magnitude == 0u32 && (missing & MAGNITUDE) == 0u32)
        };
        let mut value = bits;
        if is_missing {
            value = by[(ABSOLUTE_POS as u32 % features) as usize];
        }
        out[ABSOLUTE_POS] = value;
    }
}

/// `x` with `by`, of one number or one for each feature, in place of what is `missing`.
pub(super) fn fill(x: CubeTensor, missing: f32, by: &CubeTensor) -> CubeTensor {
    let x = into_contiguous(x);
    let (cubes, units) = super::packed::spread(x.meta.num_elements());
    let out = super::packed::empty(&x, x.meta.shape(), DType::F32);
    // As many as a buffer holds, which a u32 counts.
    let features = u32::try_from(by.meta.num_elements()).unwrap_or(u32::MAX);
    replace::launch(
        &out.client,
        cubes,
        units,
        x.into_buffer_arg(),
        by.clone().into_buffer_arg(),
        out.clone().into_buffer_arg(),
        missing.to_bits(),
        features,
        missing.is_nan(),
    );
    out
}
