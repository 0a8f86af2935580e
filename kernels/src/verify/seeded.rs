//! Rows made from input specs, the same on every machine, for models that brought none.

use std::ops::Range;

use crate::tensor::{DataType, Tensor, TensorData, TensorSpec};

/// How many rows are made where the batch is free.
const ROWS: usize = 16;

/// The extent given to any other free axis.
const FREE_EXTENT: usize = 16;

/// Integers stay below this, so that they are valid positions in small tables.
const INTEGERS: u64 = 8;

/// One tensor per spec: floats in -1 to 1, integers from 0 to 7, short strings. A mask, which is what its
/// name says, is all ones: any other number there means nothing to a model, and adds ten thousands to what
/// it computes.
pub(super) fn inputs(specs: &[TensorSpec]) -> Vec<Tensor> {
    let mut random = SplitMix(0x0EDD_1E5E_ED00_0001);
    let of = |spec: &TensorSpec| {
        let many = if spec.name.contains("mask") {
            1..2
        } else {
            0..INTEGERS
        };
        input(spec, &many, &mut random)
    };
    specs.iter().map(of).collect()
}

fn input(spec: &TensorSpec, integers: &Range<u64>, random: &mut SplitMix) -> Tensor {
    let extent = |(axis, dim): (usize, &Option<usize>)| {
        dim.unwrap_or(if axis == 0 { ROWS } else { FREE_EXTENT })
    };
    let shape: Vec<usize> = spec.shape.iter().enumerate().map(extent).collect();
    let count = shape.iter().product();
    let data = match spec.data_type {
        DataType::Bool => TensorData::Bool(random.many(count, |bits| bits & 1 == 1)),
        DataType::U8 => TensorData::U8(random.small(count, integers)),
        DataType::U16 => TensorData::U16(random.small(count, integers)),
        DataType::U32 => TensorData::U32(random.small(count, integers)),
        DataType::U64 => TensorData::U64(random.small(count, integers)),
        DataType::I8 => TensorData::I8(random.small(count, integers)),
        DataType::I16 => TensorData::I16(random.small(count, integers)),
        DataType::I32 => TensorData::I32(random.small(count, integers)),
        DataType::I64 => TensorData::I64(random.small(count, integers)),
        DataType::F32 => TensorData::F32(random.many(count, unit)),
        DataType::F64 => TensorData::F64(random.many(count, |bits| f64::from(unit(bits)))),
        DataType::String => {
            TensorData::String(random.many(count, |bits| format!("s{}", bits % INTEGERS)))
        }
    };
    // The vector was made to the shape's measure, so that the shape always fits.
    Tensor::new(shape, data).unwrap_or_else(|error| unreachable!("{error}"))
}

/// A float in -1 to 1, exact in f32.
#[expect(clippy::cast_precision_loss, reason = "24 bits are exact in f32")]
fn unit(bits: u64) -> f32 {
    (bits >> 40) as u32 as f32 / 8_388_608.0 - 1.0
}

/// The `SplitMix64` generator: 64 bits of state, good enough to spread values.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn many<T>(&mut self, count: usize, make: impl Fn(u64) -> T) -> Vec<T> {
        (0..count).map(|_| make(self.next())).collect()
    }

    fn small<T: TryFrom<u64> + Default>(&mut self, count: usize, from: &Range<u64>) -> Vec<T> {
        let many = (from.end - from.start).max(1);
        self.many(count, |bits| {
            T::try_from(from.start + bits % many).unwrap_or_default()
        })
    }
}

#[cfg(test)]
mod tests;
