//! `Imputer`: one value, often NaN, is replaced by another, per feature or with one for all.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, TractResult, bail, tvec};

use super::{Build, Operator, Port, only, only_tensor};

/// Replaces missing values.
#[derive(Debug)]
pub(super) enum Imputer {
    /// Floating-point features; `missing` may be NaN.
    Floats { missing: f32, fill: Vec<f32> },
    /// Integer features.
    Integers { missing: i64, fill: Vec<i64> },
}

impl Build for Imputer {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let floats = node
            .get_attr_opt_vec::<f32>("imputed_value_floats")?
            .filter(|values| !values.is_empty());
        let integers = node
            .get_attr_opt_vec::<i64>("imputed_value_int64s")?
            .filter(|values| !values.is_empty());
        match (floats, integers) {
            (Some(fill), None) => {
                let missing = node
                    .get_attr_opt::<f32>("replaced_value_float")?
                    .unwrap_or(0.0);
                Ok(Self::Floats { missing, fill })
            }
            (None, Some(fill)) => {
                let missing = node
                    .get_attr_opt::<i64>("replaced_value_int64")?
                    .unwrap_or(0);
                Ok(Self::Integers { missing, fill })
            }
            _ => bail!("Imputer needs either imputed_value_floats or imputed_value_int64s"),
        }
    }
}

impl Operator for Imputer {
    const NAME: &'static str = "Imputer";

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let (datum_type, shape) = only(Self::NAME, inputs)?;
        let fits = match self {
            Self::Floats { .. } => matches!(datum_type, DatumType::F32 | DatumType::F64),
            Self::Integers { .. } => *datum_type == DatumType::I64,
        };
        if !fits {
            bail!("Imputer's values do not fit an input of type {datum_type:?}");
        }
        let width = match self {
            Self::Floats { fill, .. } => fill.len(),
            Self::Integers { fill, .. } => fill.len(),
        };
        if let Some(Ok(columns)) = shape.last().map(usize::try_from)
            && width != 1
            && columns != width
        {
            bail!("Imputer has {width} values, its input {columns} features");
        }
        Ok(tvec![(*datum_type, shape.clone())])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let mut output = only_tensor(Self::NAME, inputs)?.clone();
        let datum_type = output.datum_type();
        let mut view = output.try_as_plain_ram_mut()?;
        match self {
            Self::Integers { missing, fill } => {
                replace(view.as_slice_mut::<i64>()?, fill, |value| value == missing);
            }
            Self::Floats { missing, fill } if datum_type == DatumType::F64 => {
                let wide: Vec<f64> = fill.iter().copied().map(f64::from).collect();
                let missing = f64::from(*missing);
                replace(view.as_slice_mut::<f64>()?, &wide, |value| {
                    (missing.is_nan() && value.is_nan()) || *value == missing
                });
            }
            Self::Floats { missing, fill } => replace(view.as_slice_mut::<f32>()?, fill, |value| {
                (missing.is_nan() && value.is_nan()) || value == missing
            }),
        }
        Ok(tvec![output])
    }
}

fn replace<T: Copy>(values: &mut [T], fill: &[T], missing: impl Fn(&T) -> bool) {
    for row in values.chunks_mut(fill.len()) {
        for (value, fill) in row.iter_mut().zip(fill) {
            if missing(value) {
                *value = *fill;
            }
        }
    }
}
