//! Arithmetic on numbers of 8 bits: the loops that quantised networks spend their time in.
//!
//! Knows neither ONNX nor an engine, allocates nothing in a loop, and must never read outside its
//! slices. All but products (`dots`) is plain Rust, compiled once for each width of vectors that
//! processors have (`cpu`); all of them give the same bytes.
//!
//! A number of 8 bits stands as a byte, signed or not as its [`Encoding`] says. The loops compute on
//! signed ones: an unsigned byte becomes signed by turning its highest bit, which takes 128 off the
//! number, and as much is taken off its zero point. Images lie with their channels last.
//!
//! Rounding is to the nearest, half to even, as ONNX says. What does not fit saturates.

pub mod binary;

pub mod depthwise;
mod dots;
pub mod layout;
pub mod linear;
pub mod pool;
pub mod product;
pub mod requantise;
pub mod sums;

/// How a byte is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// From -128 to 127.
    Signed,
    /// From 0 to 255.
    Unsigned,
}

impl Encoding {
    /// What turns a byte of this encoding into a signed one, and back, by exclusive or.
    #[must_use]
    pub const fn flip(self) -> u8 {
        match self {
            Self::Signed => 0,
            Self::Unsigned => 0x80,
        }
    }

    /// The byte as a signed number: of an unsigned one, 128 less.
    #[must_use]
    pub const fn signed(self, byte: u8) -> i8 {
        (byte ^ self.flip()).cast_signed()
    }

    /// The smallest number.
    #[must_use]
    pub const fn least(self) -> i32 {
        match self {
            Self::Signed => -128,
            Self::Unsigned => 0,
        }
    }

    /// The number that a byte stands for.
    #[must_use]
    pub const fn number(self, byte: u8) -> i32 {
        self.signed(byte) as i32 + 128 + self.least()
    }
}

/// `value` rounded to a whole number, half to even. Its magnitude must be below 2^22.
///
/// The sum has no bits left for a fraction, so the addition rounds as the processor does; the bits
/// of the sum then count upwards from those of the constant.
#[inline(always)]
pub(crate) fn rounded(value: f32) -> i32 {
    const LIFT: f32 = 12_582_912.0; // 1.5 * 2^23
    let lifted = (value + LIFT).to_bits().cast_signed();
    lifted.wrapping_sub(LIFT.to_bits().cast_signed())
}

#[cfg(test)]
mod tests;
