//! `QuantizeLinear`, `DequantizeLinear` and `DynamicQuantizeLinear`.
//!
//! tract's own are not used: it computes what lies between a `DequantizeLinear` and the next
//! `QuantizeLinear` once for each of 256 bytes, also where that is no matter of single elements (a
//! softmax), and multiplies by the reciprocal of a scale where ONNX divides.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{
    DatumType, TVec, Tensor, TractErrorContext as _, TractResult, bail, ensure, tensor0, tvec,
};

use super::super::operator::room;
use super::parameters::{Inputs, Role, encoding, reals, wholes};
use super::{Build, Operator, Port, as_f32};
use crate::int8::Encoding;
use crate::int8::linear::{self, Linear};

/// Which numbers share a scale: all of them, those at one place along an axis, or blocks along one.
#[derive(Debug)]
struct Runs {
    /// How many neighbouring numbers share one.
    length: usize,
    order: Order,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

/// Which scale belongs to which run.
#[derive(Debug)]
enum Order {
    /// One after the other, from the first again behind the last.
    InTurn,
    /// That of the block: runs are single numbers.
    Blocks {
        extent: usize,
        block: usize,
        inner: usize,
    },
}

/// Along which axis scales change, and how many neighbours along it share one, where not each has
/// its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Along {
    pub(crate) axis: i64,
    pub(crate) block: Option<usize>,
}

impl Along {
    fn read(node: &NodeProto) -> TractResult<Self> {
        let block = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
        ensure!(block >= 0, "{} has a block_size of {block}", node.op_type);
        Ok(Self {
            axis: node.get_attr_opt("axis")?.unwrap_or(1),
            block: usize::try_from(block).ok().filter(|block| *block > 0),
        })
    }

    /// The axis of a tensor of these extents.
    pub(crate) fn place(self, shape: &[usize]) -> TractResult<usize> {
        let axis = self.axis;
        let place = if axis < 0 {
            axis.saturating_add(i64::try_from(shape.len())?)
        } else {
            axis
        };
        let place = usize::try_from(place)
            .ok()
            .filter(|place| *place < shape.len());
        place.with_context(|| format!("axis {axis} is none of a tensor of {} axes", shape.len()))
    }
}

impl Runs {
    fn read(
        inputs: &Inputs,
        given: &[&Tensor],
        along: Along,
        shape: &[usize],
    ) -> TractResult<Self> {
        let tensor = inputs.need(given, Role::AScale)?;
        let scales = reals(tensor)?;
        if scales.len() == 1 && along.block.is_none() {
            return Ok(Self {
                length: shape.iter().product::<usize>().max(1),
                order: Order::InTurn,
                zeros: inputs.zeros(given, Role::AZero, 1)?,
                scales,
            });
        }
        let place = along.place(shape)?;
        let (_, from_axis) = shape.split_at(place);
        let [extent, inner @ ..] = from_axis else {
            bail!("no axis {place} in a tensor of {} axes", shape.len())
        };
        let (extent, inner) = (*extent, inner.iter().product::<usize>().max(1));
        let zeros = inputs.zeros(given, Role::AZero, scales.len())?;
        let (length, order) = if let Some(block) = along.block {
            let mut blocks: TVec<usize> = shape.into();
            if let Some(of_axis) = blocks.get_mut(place) {
                *of_axis = extent.div_ceil(block);
            }
            ensure!(
                tensor.shape() == &*blocks,
                "scales of extents {:?} for blocks of {block} along axis {place} of {shape:?}",
                tensor.shape()
            );
            let order = Order::Blocks {
                extent,
                block,
                inner,
            };
            (1, order)
        } else {
            ensure!(
                scales.len() == extent,
                "{} scales for an axis of {extent}",
                scales.len()
            );
            (inner, Order::InTurn)
        };
        Ok(Self {
            length,
            order,
            scales,
            zeros,
        })
    }

    /// The scale and zero point of each run of a tensor in turn, for ever.
    fn each(&self) -> impl Iterator<Item = (f32, i32)> + '_ {
        let count = self.scales.len().max(1);
        (0_usize..).map(move |run| {
            let at = match self.order {
                Order::InTurn => run % count,
                Order::Blocks {
                    extent,
                    block,
                    inner,
                } => {
                    let (row, column) = (run / inner, run % inner);
                    let (outer, along) = (row / extent, row % extent);
                    (outer * extent.div_ceil(block) + along / block) * inner + column
                }
            };
            let scale = self.scales.get(at).copied().unwrap_or_default();
            (scale, self.zeros.get(at).copied().unwrap_or_default())
        })
    }
}

/// Rounds `real / scale` to whole numbers of a range.
#[derive(Debug)]
pub(super) struct QuantizeLinear {
    inputs: Inputs,
    along: Along,
    /// The type without a zero point that says it.
    default: DatumType,
}

impl Build for QuantizeLinear {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let default = match node.get_attr_opt::<i64>("output_dtype")? {
            None | Some(0 | 2) => DatumType::U8,
            Some(3) => DatumType::I8,
            Some(4) => DatumType::U16,
            Some(5) => DatumType::I16,
            Some(other) => bail!("QuantizeLinear to ONNX type {other} is not supported"),
        };
        Ok(Self {
            inputs: Inputs::of(node, &[Role::A, Role::AScale, Role::AZero])?,
            along: Along::read(node)?,
            default,
        })
    }
}

#[cfg(feature = "wgpu")]
impl QuantizeLinear {
    /// The scales, where they never change.
    pub(super) fn affine(
        &self,
        constants: &[Option<&Tensor>],
    ) -> TractResult<Option<super::Affine>> {
        self.inputs.affine(constants, self.along)
    }
}

impl Operator for QuantizeLinear {
    const NAME: &'static str = "QuantizeLinear";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (from, shape) = self.inputs.port(inputs, Role::A)?;
        ensure!(
            from.is_number(),
            "QuantizeLinear takes numbers, got {from:?}"
        );
        let zero = self.inputs.find(inputs, Role::AZero);
        let to = zero.map_or(self.default, |(datum_type, _)| *datum_type);
        let known = [DatumType::U8, DatumType::I8, DatumType::U16, DatumType::I16];
        ensure!(
            known.contains(&to),
            "QuantizeLinear to {to:?} is not supported"
        );
        Ok(tvec![(to, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = self.inputs.need(inputs, Role::A)?;
        let zero = self.inputs.find(inputs, Role::AZero);
        let to = zero.map_or(self.default, |zero| zero.datum_type());
        let runs = Runs::read(&self.inputs, inputs, self.along, input.shape())?;
        let numbers = as_f32(input)?;
        let numbers = numbers.try_as_plain_ram()?;
        let from = numbers
            .as_slice::<f32>()?
            .chunks(runs.length)
            .zip(runs.each());
        let mut output = room(to, input.shape())?;
        match to {
            DatumType::U16 => {
                let mut view = output.try_as_plain_ram_mut()?;
                let into = view.as_slice_mut::<u16>()?.chunks_mut(runs.length);
                for (into, (from, (scale, zero))) in into.zip(from) {
                    for (into, from) in into.iter_mut().zip(from) {
                        *into = clamped(*from, scale, zero, 0, u16::MAX.into()).try_into()?;
                    }
                }
            }
            DatumType::I16 => {
                let mut view = output.try_as_plain_ram_mut()?;
                let into = view.as_slice_mut::<i16>()?.chunks_mut(runs.length);
                let (least, most) = (i16::MIN.into(), i16::MAX.into());
                for (into, (from, (scale, zero))) in into.zip(from) {
                    for (into, from) in into.iter_mut().zip(from) {
                        *into = clamped(*from, scale, zero, least, most).try_into()?;
                    }
                }
            }
            _ => {
                let encoding = encoding(Self::NAME, to)?;
                let into = output.as_bytes_mut().chunks_mut(runs.length);
                for (into, (from, (scale, zero))) in into.zip(from) {
                    let linear = Linear {
                        scale,
                        zero,
                        encoding,
                    };
                    linear::quantise_all(from, linear, into);
                }
            }
        }
        Ok(tvec![output])
    }
}

/// `real / scale` rounded, moved by the zero point, and held within the range.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a conversion saturates, and the range that follows is narrower"
)]
fn clamped(real: f32, scale: f32, zero: i32, least: i32, most: i32) -> i32 {
    let steps = (real / scale).round_ties_even() as i32;
    steps.saturating_add(zero).clamp(least, most)
}

/// Gives back the real numbers that whole ones stand for.
#[derive(Debug)]
pub(super) struct DequantizeLinear {
    inputs: Inputs,
    along: Along,
}

impl Build for DequantizeLinear {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            inputs: Inputs::of(node, &[Role::A, Role::AScale, Role::AZero])?,
            along: Along::read(node)?,
        })
    }
}

#[cfg(feature = "wgpu")]
impl DequantizeLinear {
    /// The scales, where they never change.
    pub(super) fn affine(
        &self,
        constants: &[Option<&Tensor>],
    ) -> TractResult<Option<super::Affine>> {
        self.inputs.affine(constants, self.along)
    }
}

impl Operator for DequantizeLinear {
    const NAME: &'static str = "DequantizeLinear";

    fn inputs(&self) -> usize {
        self.inputs.count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (from, shape) = self.inputs.port(inputs, Role::A)?;
        let known = [
            DatumType::U8,
            DatumType::I8,
            DatumType::U16,
            DatumType::I16,
            DatumType::I32,
        ];
        ensure!(
            known.contains(from),
            "DequantizeLinear of {from:?} is not supported"
        );
        let (to, _) = self.inputs.port(inputs, Role::AScale)?;
        ensure!(to.is_float(), "DequantizeLinear to {to:?} is not supported");
        Ok(tvec![(*to, shape.clone())])
    }

    #[expect(clippy::cast_precision_loss, reason = "ONNX computes on f32 here")]
    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = self.inputs.need(inputs, Role::A)?;
        let to = self.inputs.need(inputs, Role::AScale)?.datum_type();
        let runs = Runs::read(&self.inputs, inputs, self.along, input.shape())?;
        let mut output = room(DatumType::F32, input.shape())?;
        let mut view = output.try_as_plain_ram_mut()?;
        let into = view.as_slice_mut::<f32>()?.chunks_mut(runs.length);
        if matches!(input.datum_type(), DatumType::I8 | DatumType::U8) {
            let encoding = encoding(Self::NAME, input.datum_type())?;
            let from = input.as_bytes().chunks(runs.length).zip(runs.each());
            for (into, (from, (scale, zero))) in into.zip(from) {
                let linear = Linear {
                    scale,
                    zero,
                    encoding,
                };
                linear::dequantise(from, linear, into);
            }
        } else {
            let numbers = wholes(input)?;
            let from = numbers.chunks(runs.length).zip(runs.each());
            for (into, (from, (scale, zero))) in into.zip(from) {
                for (into, from) in into.iter_mut().zip(from) {
                    *into = from.wrapping_sub(zero) as f32 * scale;
                }
            }
        }
        if to == DatumType::F32 {
            return Ok(tvec![output]);
        }
        Ok(tvec![output.cast_to_dt(to)?.into_owned()])
    }
}

/// Takes the scale from the range of the numbers themselves.
#[derive(Debug)]
pub(super) struct DynamicQuantizeLinear;

impl Build for DynamicQuantizeLinear {
    fn build(_context: &ParsingContext<'_>, _node: &NodeProto) -> TractResult<Self> {
        Ok(Self)
    }
}

impl Operator for DynamicQuantizeLinear {
    const NAME: &'static str = "DynamicQuantizeLinear";
    const OUTPUTS: usize = 3;

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (from, shape) = super::only(Self::NAME, inputs)?;
        ensure!(
            *from == DatumType::F32,
            "DynamicQuantizeLinear takes f32, got {from:?}"
        );
        Ok(tvec![
            (DatumType::U8, shape.clone()),
            (DatumType::F32, tvec![]),
            (DatumType::U8, tvec![]),
        ])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = super::only_tensor(Self::NAME, inputs)?;
        let numbers = input.try_as_plain_ram()?;
        let numbers = numbers.as_slice::<f32>()?;
        // 0 has to have a byte of its own.
        let mut range = (0.0, 0.0);
        linear::widen_all(numbers, &mut range);
        let (least, most) = range;
        let scale = if most == least {
            1.0
        } else {
            (most - least) / 255.0
        };
        let zero = clamped(-least, scale, 0, 0, 255);
        let linear = Linear {
            scale,
            zero,
            encoding: Encoding::Unsigned,
        };
        let mut output = room(DatumType::U8, input.shape())?;
        linear::quantise_all(numbers, linear, output.as_bytes_mut());
        Ok(tvec![output, tensor0(scale), tensor0(u8::try_from(zero)?)])
    }
}
