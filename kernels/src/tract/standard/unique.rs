//! `Unique`: the different elements of a tensor, or its different slices along an axis.
//!
//! ```text
//! outputs  the different ones, sorted or in the order in which they first stand
//!          where each of them first stands     for each one of the input, which it is
//!          how often each of them stands
//! ```

use std::cmp::Ordering;

use tract_onnx::model::{ParsingContext, optional_outputs};
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::tract_ndarray::{ArrayViewD, Axis};
use tract_onnx::prelude::{IntoTensor, Symbol};
use tract_onnx::tract_hir::internal::{
    Datum, DatumType, TDim, TVec, Tensor, ToDim, TractResult, bail, tvec,
};

use super::places;
use super::{Build, Operator, Port};
use crate::tract::operator::{only, only_tensor};

/// Finds what is different.
#[derive(Debug)]
pub(super) struct Unique {
    axis: Option<i64>,
    sorted: bool,
    /// Which of the four outputs are wanted.
    wanted: Vec<bool>,
    /// How many different ones there are.
    count: Symbol,
}

impl Build for Unique {
    fn build(context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        Ok(Self {
            axis: node.get_attr_opt("axis")?,
            sorted: node.get_attr_opt::<i64>("sorted")?.unwrap_or(1) != 0,
            wanted: optional_outputs(node)
                .take(4)
                .map(|at| at.is_some())
                .collect(),
            count: context.template.symbols.new_with_prefix("different"),
        })
    }
}

/// Positions of slices of the input.
struct Found {
    /// Where each different one first stands, in the order of the output.
    first: Vec<usize>,
    /// Of each slice of the input, which different one it is.
    which: Vec<usize>,
    counts: Vec<i64>,
}

impl Unique {
    fn axis(&self, rank: usize) -> TractResult<Option<usize>> {
        self.axis.map(|axis| places::axis(axis, rank)).transpose()
    }

    fn find<T: PartialOrd>(&self, slices: &[Vec<T>]) -> Found {
        let compare = |a: &usize, b: &usize| {
            let (a, b) = (slices.get(*a), slices.get(*b));
            a.partial_cmp(&b).unwrap_or(Ordering::Equal)
        };
        let mut order: Vec<usize> = (0..slices.len()).collect();
        // The sort is stable, so that of equal ones the first comes first.
        order.sort_by(compare);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for at in order {
            let same = groups.last_mut().filter(|group| {
                group
                    .first()
                    .is_some_and(|first| compare(first, &at).is_eq())
            });
            match same {
                Some(group) => group.push(at),
                None => groups.push(vec![at]),
            }
        }
        if !self.sorted {
            groups.sort_by_key(|group| group.first().copied());
        }
        let mut found = Found {
            first: Vec::with_capacity(groups.len()),
            which: vec![0; slices.len()],
            counts: Vec::with_capacity(groups.len()),
        };
        for (number, group) in groups.iter().enumerate() {
            found.first.extend(group.first());
            found
                .counts
                .push(i64::try_from(group.len()).unwrap_or(i64::MAX));
            for at in group {
                if let Some(which) = found.which.get_mut(*at) {
                    *which = number;
                }
            }
        }
        found
    }

    fn of<T: Datum + PartialOrd>(&self, input: &Tensor) -> TractResult<TVec<Tensor>> {
        let plain = input.try_as_plain_ram()?;
        let view: ArrayViewD<'_, T> = plain.to_array_view::<T>()?;
        let axis = self.axis(input.rank())?;
        let slices: Vec<Vec<T>> = match axis {
            Some(axis) => view
                .axis_iter(Axis(axis))
                .map(|slice| slice.iter().cloned().collect())
                .collect(),
            None => view.iter().map(|element| vec![element.clone()]).collect(),
        };
        let found = self.find(&slices);
        let different = match axis {
            Some(axis) => view.select(Axis(axis), &found.first).into_tensor(),
            None => {
                let elements = found.first.iter().filter_map(|at| slices.get(*at));
                let elements: Vec<T> = elements.flatten().cloned().collect();
                let array = tract_onnx::prelude::tract_ndarray::Array1::from_vec(elements);
                array.into_tensor()
            }
        };
        let positions = |positions: &[usize]| {
            let positions = positions.iter().map(|at| i64::try_from(*at));
            let positions = positions.collect::<Result<Vec<i64>, _>>()?;
            Tensor::from_shape(&[positions.len()], &positions)
        };
        let outputs = [
            different,
            positions(&found.first)?,
            positions(&found.which)?,
            Tensor::from_shape(&[found.counts.len()], &found.counts)?,
        ];
        let wanted = outputs.into_iter().zip(&self.wanted);
        Ok(wanted
            .filter(|(_, wanted)| **wanted)
            .map(|(output, _)| output)
            .collect())
    }
}

impl Operator for Unique {
    const NAME: &'static str = "Unique";

    fn finds_shapes(&self) -> bool {
        true
    }

    fn output_count(&self) -> usize {
        self.wanted.iter().filter(|wanted| **wanted).count()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let count = self.count.to_dim();
        let axis = self.axis(shape.len())?;
        let different: TVec<TDim> = match axis {
            Some(axis) => shape
                .iter()
                .enumerate()
                .map(|(at, dim)| {
                    if at == axis {
                        count.clone()
                    } else {
                        dim.clone()
                    }
                })
                .collect(),
            None => tvec![count.clone()],
        };
        let all = match axis {
            Some(axis) => shape.get(axis).cloned().unwrap_or_else(|| 1.to_dim()),
            None => shape.iter().product(),
        };
        let outputs = [
            (*datum_type, different),
            (DatumType::I64, tvec![count.clone()]),
            (DatumType::I64, tvec![all]),
            (DatumType::I64, tvec![count]),
        ];
        let wanted = outputs.into_iter().zip(&self.wanted);
        Ok(wanted
            .filter(|(_, wanted)| **wanted)
            .map(|(port, _)| port)
            .collect())
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        match input.datum_type() {
            DatumType::Bool => self.of::<bool>(input),
            DatumType::U8 => self.of::<u8>(input),
            DatumType::U16 => self.of::<u16>(input),
            DatumType::U32 => self.of::<u32>(input),
            DatumType::U64 => self.of::<u64>(input),
            DatumType::I8 => self.of::<i8>(input),
            DatumType::I16 => self.of::<i16>(input),
            DatumType::I32 => self.of::<i32>(input),
            DatumType::I64 => self.of::<i64>(input),
            DatumType::F32 => self.of::<f32>(input),
            DatumType::F64 => self.of::<f64>(input),
            DatumType::String => self.of::<String>(input),
            other => bail!("Unique takes no {other:?}"),
        }
    }
}
