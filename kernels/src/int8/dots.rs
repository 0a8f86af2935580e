//! Vectors of sums of 32 bits, to which a processor adds four products of bytes at once.

use crate::product::{Results, Rows, View};

/// Which vectors this processor sums up products in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// 16 sums: AVX-512 VNNI.
    #[cfg(target_arch = "x86_64")]
    Sixteen,
    /// 8 sums: AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    Eight,
    /// Plain Rust, which the others are held against.
    #[cfg(test)]
    Plain,
}

impl Width {
    /// The widest of this processor; `None` where it has no such instruction.
    pub(super) fn widest() -> Option<Self> {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f")
                && std::arch::is_x86_feature_detected!("avx512vnni")
            {
                return Some(Self::Sixteen);
            }
            if std::arch::is_x86_feature_detected!("avx2")
                && std::arch::is_x86_feature_detected!("avxvnni")
            {
                return Some(Self::Eight);
            }
        }
        None
    }

    /// Every width that this processor has.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self::Plain];
        all.extend(Self::widest());
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avxvnni") && !all.contains(&Self::Eight) {
            all.push(Self::Eight);
        }
        all
    }

    /// How many columns a vector has.
    pub(super) fn columns(self) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Sixteen => 16,
            #[cfg(target_arch = "x86_64")]
            Self::Eight => 8,
            #[cfg(test)]
            Self::Plain => 4,
        }
    }

    /// Multiplies with vectors of this width.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(
            unsafe_code,
            reason = "vectors of this width are used where the processor has them"
        )
    )]
    #[cfg_attr(
        all(not(target_arch = "x86_64"), not(test)),
        expect(unused_variables, reason = "there is no width")
    )]
    pub(super) fn multiply(
        self,
        panels: View<'_, i8, i32>,
        rows: Rows<'_, u8>,
        results: &mut Results<'_, i32, ()>,
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `widest` found this one on the processor.
            Self::Sixteen => unsafe { x86::sixteen(panels, rows, results) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Self::Eight => unsafe { x86::eight(panels, rows, results) },
            #[cfg(test)]
            Self::Plain => crate::product::multiply::<plain::Plain>(panels, rows, results),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(
    unsafe_code,
    reason = "vector instructions are called where the processor has them"
)]
mod x86 {
    use std::arch::x86_64::{
        __m256i, __m512i, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_set1_epi32,
        _mm256_storeu_si256, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_storeu_si512,
    };

    use crate::product::{self, Dot, Results, Rows, View};

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn sixteen(
        panels: View<'_, i8, i32>,
        rows: Rows<'_, u8>,
        results: &mut Results<'_, i32, ()>,
    ) {
        product::multiply::<Sixteen>(panels, rows, results);
    }

    #[target_feature(enable = "avx2,avxvnni")]
    pub(super) fn eight(
        panels: View<'_, i8, i32>,
        rows: Rows<'_, u8>,
        results: &mut Results<'_, i32, ()>,
    ) {
        product::multiply::<Eight>(panels, rows, results);
    }

    macro_rules! dot {
        ($name:ident, $vector:ty, $columns:literal, $rows:literal,
         $splat:ident, $load:ident, $store:ident, $dot:ident) => {
            /// A vector of this processor.
            #[derive(Debug, Clone, Copy)]
            struct $name($vector);

            impl Dot for $name {
                type Number = u8;
                type Weight = i8;
                type Sum = i32;
                type Bounds = ();
                type Group = [u8; 4];
                type Numbers = $vector;
                type Weights = $vector;

                const COLUMNS: usize = $columns;
                const GROUP: usize = 4;
                const ROWS: usize = $rows;

                #[inline(always)]
                fn sums(sums: &[i32]) -> Self {
                    match sums.first_chunk::<$columns>() {
                        // SAFETY: the trait says from where it is called, and as many numbers are
                        // there to be read.
                        Some(sums) => Self(unsafe { $load(sums.as_ptr().cast()) }),
                        // SAFETY: as above.
                        None => Self(unsafe { $splat(0) }),
                    }
                }

                #[inline(always)]
                fn numbers(four: [u8; 4]) -> $vector {
                    // SAFETY: as above.
                    unsafe { $splat(i32::from_ne_bytes(four)) }
                }

                #[inline(always)]
                fn weights(weights: &[i8]) -> $vector {
                    match weights.first_chunk::<{ 4 * $columns }>() {
                        // SAFETY: as above.
                        Some(weights) => unsafe { $load(weights.as_ptr().cast()) },
                        // SAFETY: as above.
                        None => unsafe { $splat(0) },
                    }
                }

                #[inline(always)]
                fn plus(self, numbers: $vector, weights: $vector) -> Self {
                    // SAFETY: as above.
                    Self(unsafe { $dot(self.0, numbers, weights) })
                }

                #[inline(always)]
                fn store(self, (): (), to: &mut [i32]) {
                    if let Some(to) = to.first_chunk_mut::<$columns>() {
                        // SAFETY: as above, and as many numbers may be written.
                        unsafe { $store(to.as_mut_ptr().cast(), self.0) };
                    }
                }
            }
        };
    }

    dot!(
        Sixteen,
        __m512i,
        16,
        12,
        _mm512_set1_epi32,
        _mm512_loadu_si512,
        _mm512_storeu_si512,
        _mm512_dpbusd_epi32
    );
    dot!(
        Eight,
        __m256i,
        8,
        6,
        _mm256_set1_epi32,
        _mm256_loadu_si256,
        _mm256_storeu_si256,
        _mm256_dpbusd_avx_epi32
    );
}

#[cfg(test)]
mod plain {
    use crate::product::Dot;

    /// Four sums.
    #[derive(Debug, Clone, Copy)]
    pub(super) struct Plain([i32; 4]);

    impl Dot for Plain {
        type Number = u8;
        type Weight = i8;
        type Sum = i32;
        type Bounds = ();
        type Group = [u8; 4];
        type Numbers = [u8; 4];
        type Weights = [i8; 16];

        const COLUMNS: usize = 4;
        const GROUP: usize = 4;
        const ROWS: usize = 4;

        fn sums(sums: &[i32]) -> Self {
            Self(sums.first_chunk().copied().unwrap_or_default())
        }

        fn numbers(four: [u8; 4]) -> [u8; 4] {
            four
        }

        fn weights(weights: &[i8]) -> [i8; 16] {
            weights.first_chunk().copied().unwrap_or_default()
        }

        fn plus(self, numbers: [u8; 4], weights: [i8; 16]) -> Self {
            let mut sums = self.0;
            for (sum, weights) in sums.iter_mut().zip(weights.chunks(4)) {
                let products = numbers.iter().zip(weights);
                *sum += products
                    .map(|(a, b)| i32::from(*a) * i32::from(*b))
                    .sum::<i32>();
            }
            Self(sums)
        }

        fn store(self, (): (), to: &mut [i32]) {
            if let Some(to) = to.first_chunk_mut() {
                *to = self.0;
            }
        }
    }
}
