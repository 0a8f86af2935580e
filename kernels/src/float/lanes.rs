//! Vectors of real numbers, of the widths that processors have.
//!
//! A loop written over [`Lanes`] is compiled for each width; [`Width`] says which one runs here.

#![expect(
    unsafe_code,
    reason = "vector instructions are called where the processor has them"
)]

/// Which vectors this processor computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// 16 numbers: AVX-512.
    #[cfg(target_arch = "x86_64")]
    Sixteen,
    /// 8 numbers: AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Eight,
    /// 4 numbers, as any processor does it.
    Four,
}

impl Width {
    /// The widest of this processor.
    pub(super) fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                return Self::Sixteen;
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("fma")
            {
                return Self::Eight;
            }
        }
        Self::Four
    }

    /// Every width that this processor has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let widest = Self::widest();
        let mut all = vec![Self::Four];
        #[cfg(target_arch = "x86_64")]
        {
            if widest != Self::Four {
                all.push(Self::Eight);
            }
            if widest == Self::Sixteen {
                all.push(Self::Sixteen);
            }
        }
        let _: Self = widest;
        all
    }

    /// How many numbers a vector holds.
    pub(super) fn numbers(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen => Sixteen::NUMBERS,
            #[cfg(target_arch = "x86_64")]
            Self::Eight => Eight::NUMBERS,
            Self::Four => Four::NUMBERS,
        }
    }
}

/// A vector of `NUMBERS` numbers. Its methods may only be called, inlined, from functions that are
/// compiled for processors that have it: those of [`with_width`].
pub(super) trait Lanes: Copy {
    /// How many numbers it holds.
    const NUMBERS: usize;
    /// As many rows of a product as leave registers for the columns.
    const ROWS: usize;

    /// The same number in each place.
    fn splat(number: f32) -> Self;

    /// The first numbers of `from`; zeros when there are too few.
    fn load(from: &[f32]) -> Self;

    /// Writes the numbers to the beginning of `to`, when they find room.
    fn store(self, to: &mut [f32]);

    /// `self * by + plus`.
    fn mul_add(self, by: Self, plus: Self) -> Self;

    /// `self + other`.
    fn plus(self, other: Self) -> Self;

    /// The larger numbers of both; NaN where one is.
    fn larger(self, other: Self) -> Self;

    /// No less than `least` and no more than `most`; NaN stays.
    fn within(self, least: Self, most: Self) -> Self;
}

/// Plain Rust; the compiler finds the vectors that the target always has (SSE2, NEON).
#[derive(Debug, Clone, Copy)]
pub(super) struct Four([f32; 4]);

impl Four {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        let ([a, b, c, d], [w, x, y, z]) = (self.0, other.0);
        Self([f(a, w), f(b, x), f(c, y), f(d, z)])
    }
}

impl Lanes for Four {
    const NUMBERS: usize = 4;
    const ROWS: usize = if cfg!(target_arch = "aarch64") { 12 } else { 4 };

    #[inline(always)]
    fn splat(number: f32) -> Self {
        Self([number; 4])
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(from.first_chunk().copied().unwrap_or_default())
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        if let Some(to) = to.first_chunk_mut() {
            *to = self.0;
        }
    }

    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        // Without the instruction a fused product is a slow call.
        if cfg!(target_arch = "aarch64") {
            let [a, b, c, d] = self.0;
            let ([e, f, g, h], [w, x, y, z]) = (by.0, plus.0);
            return Self([
                a.mul_add(e, w),
                b.mul_add(f, x),
                c.mul_add(g, y),
                d.mul_add(h, z),
            ]);
        }
        self.zip(by, |a, b| a * b).plus(plus)
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        self.zip(other, |kept, number| {
            if number > kept || number.is_nan() {
                number
            } else {
                kept
            }
        })
    }

    #[inline(always)]
    fn within(self, least: Self, most: Self) -> Self {
        let above = self.zip(
            least,
            |number, least| if number < least { least } else { number },
        );
        above.zip(
            most,
            |number, most| if number > most { most } else { number },
        )
    }
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{Eight, Sixteen};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m256, __m512, _CMP_UNORD_Q, _mm256_add_ps, _mm256_blendv_ps, _mm256_cmp_ps,
        _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_set1_ps,
        _mm256_storeu_ps, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_fmadd_ps, _mm512_loadu_ps,
        _mm512_mask_mov_ps, _mm512_max_ps, _mm512_min_ps, _mm512_set1_ps, _mm512_storeu_ps,
    };

    use super::Lanes;

    /// `to` with the NaN of `from`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn nans_of_sixteen(to: __m512, from: __m512) -> __m512 {
        _mm512_mask_mov_ps(to, _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(from, from), from)
    }

    /// `to` with the NaN of `from`.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn nans_of_eight(to: __m256, from: __m256) -> __m256 {
        _mm256_blendv_ps(to, from, _mm256_cmp_ps::<_CMP_UNORD_Q>(from, from))
    }

    macro_rules! lanes {
        ($name:ident, $vector:ty, $numbers:literal, $rows:literal,
         $splat:ident, $load:ident, $store:ident, $fma:ident, $add:ident, $max:ident, $min:ident,
         $nans:ident) => {
            /// A vector of this processor.
            #[derive(Debug, Clone, Copy)]
            pub(in crate::float) struct $name($vector);

            impl Lanes for $name {
                const NUMBERS: usize = $numbers;
                const ROWS: usize = $rows;

                #[inline(always)]
                fn splat(number: f32) -> Self {
                    // SAFETY: the trait says from where it is called.
                    Self(unsafe { $splat(number) })
                }

                #[inline(always)]
                fn load(from: &[f32]) -> Self {
                    match from.first_chunk::<$numbers>() {
                        // SAFETY: as above, and as many numbers are there to be read.
                        Some(from) => Self(unsafe { $load(from.as_ptr()) }),
                        None => Self::splat(0.0),
                    }
                }

                #[inline(always)]
                fn store(self, to: &mut [f32]) {
                    if let Some(to) = to.first_chunk_mut::<$numbers>() {
                        // SAFETY: as above, and as many numbers may be written.
                        unsafe { $store(to.as_mut_ptr(), self.0) };
                    }
                }

                #[inline(always)]
                fn mul_add(self, by: Self, plus: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $fma(self.0, by.0, plus.0) })
                }

                #[inline(always)]
                fn plus(self, other: Self) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $add(self.0, other.0) })
                }

                #[inline(always)]
                fn larger(self, other: Self) -> Self {
                    // The second operand is what comes out where one is NaN.
                    // SAFETY: as above.
                    let larger = unsafe { $max(other.0, self.0) };
                    // SAFETY: as above.
                    Self(unsafe { $nans(larger, other.0) })
                }

                #[inline(always)]
                fn within(self, least: Self, most: Self) -> Self {
                    // The second operand is what comes out where one is NaN.
                    // SAFETY: as above.
                    let above = unsafe { $max(least.0, self.0) };
                    // SAFETY: as above.
                    Self(unsafe { $min(most.0, above) })
                }
            }
        };
    }

    lanes!(
        Sixteen,
        __m512,
        16,
        12,
        _mm512_set1_ps,
        _mm512_loadu_ps,
        _mm512_storeu_ps,
        _mm512_fmadd_ps,
        _mm512_add_ps,
        _mm512_max_ps,
        _mm512_min_ps,
        nans_of_sixteen
    );
    lanes!(
        Eight,
        __m256,
        8,
        6,
        _mm256_set1_ps,
        _mm256_loadu_ps,
        _mm256_storeu_ps,
        _mm256_fmadd_ps,
        _mm256_add_ps,
        _mm256_max_ps,
        _mm256_min_ps,
        nans_of_eight
    );
}

/// Defines `fn name(width, arguments)`, which runs `body::<L>(arguments)` with the vectors `L` of
/// `width`, compiled for them.
macro_rules! with_width {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "vectors of this width are used where the processor has them")
        )]
        $vis fn $name(width: $crate::float::lanes::Width, $($argument: $kind),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f")]
            fn sixteen($($argument: $kind),*) {
                $body::<$crate::float::lanes::Sixteen>($($argument),*);
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn eight($($argument: $kind),*) {
                $body::<$crate::float::lanes::Eight>($($argument),*);
            }
            match width {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: `Width::widest` found this one on the processor.
                $crate::float::lanes::Width::Sixteen => unsafe { sixteen($($argument),*) },
                #[cfg(target_arch = "x86_64")]
                // SAFETY: as above.
                $crate::float::lanes::Width::Eight => unsafe { eight($($argument),*) },
                $crate::float::lanes::Width::Four => $body::<$crate::float::lanes::Four>($($argument),*),
            }
        }
    };
}

pub(super) use with_width;
