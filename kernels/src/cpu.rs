//! Compiles one loop for several widths of vectors, and takes the widest that this processor has.
//!
//! The loop itself is written once, in plain Rust, so that every width computes the same; only the
//! compiler's choice of instructions differs. Floating-point operations are neither fused nor
//! reordered, so the results are equal to the bit.

/// Defines `fn name(arguments)`, which runs `body` with the widest vectors of this processor.
macro_rules! widest {
    ($(#[$meta:meta])* $vis:vis fn $name:ident($($argument:ident: $kind:ty),* $(,)?) $body:block) => {
        $(#[$meta])*
        #[cfg_attr(
            target_arch = "x86_64",
            expect(unsafe_code, reason = "vectors of this width are used where the processor has them")
        )]
        $vis fn $name($($argument: $kind),*) {
            #[inline(always)]
            fn plain($($argument: $kind),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
                fn of_64_bytes($($argument: $kind),*) {
                    plain($($argument),*);
                }
                #[target_feature(enable = "avx2")]
                fn of_32_bytes($($argument: $kind),*) {
                    plain($($argument),*);
                }
                if std::arch::is_x86_feature_detected!("avx512f")
                    && std::arch::is_x86_feature_detected!("avx512bw")
                    && std::arch::is_x86_feature_detected!("avx512dq")
                    && std::arch::is_x86_feature_detected!("avx512vl")
                {
                    // SAFETY: the processor has these features.
                    unsafe { of_64_bytes($($argument),*) };
                    return;
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has this feature.
                    unsafe { of_32_bytes($($argument),*) };
                    return;
                }
            }
            plain($($argument),*);
        }
    };
}

pub(crate) use widest;
