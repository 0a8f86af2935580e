//! `Scaler`: `(x - offset) * scale`, per feature or with one number for all.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, bail, ensure, tvec};

use super::{Build, Operator, Port, as_f32, numeric, only, only_tensor, rounded};

/// Shifts and scales features.
#[derive(Debug)]
pub(super) struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Build for Scaler {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let offset = node
            .get_attr_opt_vec::<f32>("offset")?
            .unwrap_or_else(|| vec![0.0]);
        let scale = node
            .get_attr_opt_vec::<f32>("scale")?
            .unwrap_or_else(|| vec![1.0]);
        ensure!(
            !offset.is_empty() && !scale.is_empty(),
            "Scaler needs at least one offset and one scale"
        );
        let width = offset.len().max(scale.len());
        let stretch = |values: Vec<f32>| match values.as_slice() {
            [one] => vec![*one; width],
            _ => values,
        };
        let (offset, scale) = (stretch(offset), stretch(scale));
        ensure!(
            offset.len() == scale.len(),
            "Scaler has {} offsets and {} scales",
            offset.len(),
            scale.len()
        );
        Ok(Self { offset, scale })
    }
}

#[cfg(feature = "wgpu")]
impl Scaler {
    /// The offset and the scale of each feature.
    pub(super) fn rule(&self) -> (&[f32], &[f32]) {
        (&self.offset, &self.scale)
    }
}

impl Operator for Scaler {
    const NAME: &'static str = "Scaler";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        numeric(Self::NAME, *datum_type)?;
        if let (Some(Ok(columns)), width) = (shape.last().map(usize::try_from), self.offset.len())
            && width != 1
            && columns != width
        {
            bail!("Scaler has {width} offsets, its input {columns} features");
        }
        Ok(tvec![(DatumType::F32, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let input = only_tensor(Self::NAME, inputs)?;
        let features = || self.offset.iter().zip(&self.scale);
        let mut output = as_f32(input)?.into_owned();
        let mut view = output.try_as_plain_ram_mut()?;
        let rows = view.as_slice_mut::<f32>()?.chunks_mut(self.offset.len());
        if input.datum_type() != DatumType::F64 {
            for row in rows {
                for (value, (offset, scale)) in row.iter_mut().zip(features()) {
                    *value = (*value - offset) * scale;
                }
            }
            return Ok(tvec![output]);
        }
        // What is near the offset would lose most of its digits if it were rounded before.
        let wide = input.try_as_plain_ram()?;
        let wide = wide.as_slice::<f64>()?.chunks(self.offset.len());
        for (row, wide) in rows.zip(wide) {
            for ((value, wide), (offset, scale)) in row.iter_mut().zip(wide).zip(features()) {
                *value = rounded((wide - f64::from(*offset)) * f64::from(*scale));
            }
        }
        Ok(tvec![output])
    }
}
