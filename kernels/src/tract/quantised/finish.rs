//! What becomes of the sums of products: bytes, real numbers, or the sums themselves.

use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, Tensor, TractResult, bail};

use super::super::operator::room;
use super::Port;
use super::parameters::{Inputs, Role, encoding, wholes};
use crate::int8::requantise::{Requantise, realise, requantise};
use crate::team::Divide;

/// What leaves an operator that adds up products.
#[derive(Debug, Clone, Copy)]
pub(super) struct Finish {
    /// The smallest real number that may leave.
    least: f32,
    /// The largest.
    most: f32,
    /// What all products are multiplied by besides.
    alpha: f32,
}

/// What leaves, as it is written.
#[derive(Debug)]
pub(super) enum Leaving<'a> {
    /// The sums themselves.
    Sums(&'a mut [i32]),
    /// Real numbers.
    Reals(&'a mut [f32]),
    /// Bytes, of either encoding.
    Bytes(&'a mut [u8]),
}

/// All that is needed for the sums of one call.
#[derive(Debug, Clone)]
pub(super) struct Ending {
    output: DatumType,
    offsets: Vec<i32>,
    multipliers: Vec<f32>,
    /// What is added to real results; empty where nothing is.
    added: Vec<f32>,
    zero: i32,
    least: f32,
    most: f32,
}

impl Finish {
    pub(super) fn read(node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            least: node.get_attr_opt("least")?.unwrap_or(f32::NEG_INFINITY),
            most: node.get_attr_opt("most")?.unwrap_or(f32::INFINITY),
            alpha: node.get_attr_opt("alpha")?.unwrap_or(1.0),
        })
    }

    /// The element type of what leaves.
    pub(super) fn output(inputs: &Inputs, ports: &[Port]) -> TractResult<DatumType> {
        if inputs.has(Role::YScale) {
            let zero = inputs.find(ports, Role::YZero);
            let output = zero.map_or(DatumType::U8, |(datum_type, _)| *datum_type);
            encoding("a quantised operator", output)?;
            Ok(output)
        } else if inputs.has(Role::AScale) {
            Ok(DatumType::F32)
        } else {
            Ok(DatumType::I32)
        }
    }

    /// The ending of one call, with `columns` output channels. `offset` is what the sums of a channel
    /// lack because of zero points.
    pub(super) fn ending(
        self,
        inputs: &Inputs,
        given: &[&Tensor],
        columns: usize,
        offset: impl Fn(usize) -> i32,
    ) -> TractResult<Ending> {
        let mut offsets: Vec<i32> = (0..columns).map(offset).collect();
        if let Some(bias) = inputs.find(given, Role::Bias) {
            let bias = wholes(bias)?;
            match bias.as_slice() {
                [one] => offsets
                    .iter_mut()
                    .for_each(|offset| *offset = offset.wrapping_add(*one)),
                all if all.len() == columns => {
                    for (offset, bias) in offsets.iter_mut().zip(all) {
                        *offset = offset.wrapping_add(*bias);
                    }
                }
                all => bail!("{} biases for {columns} channels", all.len()),
            }
        }
        if !inputs.has(Role::AScale) {
            return Ok(Ending {
                output: DatumType::I32,
                offsets,
                multipliers: Vec::new(),
                added: Vec::new(),
                zero: 0,
                least: self.least,
                most: self.most,
            });
        }
        let scale = inputs.scale(given, Role::AScale)?;
        let scales = inputs.scales(given, Role::BScale, columns)?;
        let real = scales
            .into_iter()
            .map(|of_weights| scale * of_weights * self.alpha);
        if !inputs.has(Role::YScale) {
            let added = if inputs.has(Role::Added) {
                inputs.scales(given, Role::Added, columns)?
            } else {
                Vec::new()
            };
            return Ok(Ending {
                output: DatumType::F32,
                offsets,
                multipliers: real.collect(),
                added,
                zero: 0,
                least: self.least,
                most: self.most,
            });
        }
        let zero_point = inputs.find(given, Role::YZero);
        let output = zero_point.map_or(DatumType::U8, |zero| zero.datum_type());
        let step = inputs.scale(given, Role::YScale)?;
        let zero = inputs.zero(given, Role::YZero)?;
        let (least, most) = Requantise::range(encoding("a quantised operator", output)?, zero);
        Ok(Ending {
            output,
            offsets,
            multipliers: real.map(|real| real / step).collect(),
            added: Vec::new(),
            zero,
            least: (self.least / step).max(least).min(most),
            most: (self.most / step).max(least).min(most),
        })
    }
}

impl Ending {
    /// A tensor for what leaves, which `fill` fills.
    pub(super) fn fill(
        &self,
        shape: &[usize],
        fill: impl FnOnce(Leaving<'_>) -> TractResult<()>,
    ) -> TractResult<Tensor> {
        let mut output = room(self.output, shape)?;
        match self.output {
            DatumType::I32 => {
                let mut view = output.try_as_plain_ram_mut()?;
                fill(Leaving::Sums(view.as_slice_mut()?))?;
            }
            DatumType::F32 => {
                let mut view = output.try_as_plain_ram_mut()?;
                fill(Leaving::Reals(view.as_slice_mut()?))?;
            }
            _ => fill(Leaving::Bytes(output.as_bytes_mut()))?,
        }
        Ok(output)
    }

    /// The ending of the channels `first..first + columns`.
    pub(super) fn part(&self, first: usize, columns: usize) -> Ending {
        let multipliers = self.multipliers.iter().copied();
        Ending {
            output: self.output,
            offsets: self
                .offsets
                .iter()
                .copied()
                .skip(first)
                .take(columns)
                .collect(),
            multipliers: multipliers.skip(first).take(columns).collect(),
            added: self
                .added
                .iter()
                .copied()
                .skip(first)
                .take(columns)
                .collect(),
            zero: self.zero,
            least: self.least,
            most: self.most,
        }
    }

    /// Writes what becomes of rows of `sums`. A row begins `stride` elements after the one before.
    pub(super) fn write(&self, sums: &[i32], into: Leaving<'_>, stride: usize) {
        let rule = Requantise {
            offsets: &self.offsets,
            multipliers: &self.multipliers,
            zero: self.zero,
            least: self.least,
            most: self.most,
        };
        match into {
            Leaving::Sums(into) => {
                let rows = into.chunks_mut(stride.max(1));
                for (row, sums) in rows.zip(sums.chunks_exact(self.offsets.len().max(1))) {
                    for ((value, sum), offset) in row.iter_mut().zip(sums).zip(&self.offsets) {
                        *value = sum.wrapping_add(*offset);
                    }
                }
            }
            Leaving::Reals(into) => realise(sums, rule, &self.added, into, stride),
            Leaving::Bytes(into) => requantise(sums, rule, into, stride),
        }
    }
}

impl Leaving<'_> {
    /// What lies from element `at` on.
    pub(super) fn from(&mut self, at: usize) -> Leaving<'_> {
        match self {
            Self::Sums(all) => Leaving::Sums(all.get_mut(at..).unwrap_or_default()),
            Self::Reals(all) => Leaving::Reals(all.get_mut(at..).unwrap_or_default()),
            Self::Bytes(all) => Leaving::Bytes(all.get_mut(at..).unwrap_or_default()),
        }
    }
}

impl Divide for Leaving<'_> {
    fn divide(self, at: usize) -> (Self, Self) {
        match self {
            Self::Sums(all) => {
                let (first, rest) = all.divide(at);
                (Self::Sums(first), Self::Sums(rest))
            }
            Self::Reals(all) => {
                let (first, rest) = all.divide(at);
                (Self::Reals(first), Self::Reals(rest))
            }
            Self::Bytes(all) => {
                let (first, rest) = all.divide(at);
                (Self::Bytes(first), Self::Bytes(rest))
            }
        }
    }
}
