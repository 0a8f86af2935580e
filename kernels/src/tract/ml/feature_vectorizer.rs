//! `FeatureVectorizer`: several inputs side by side as one row of `f32` features.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{DatumType, TVec, Tensor, ToDim, TractResult, ensure, tvec};

use super::{Build, Operator, Port, as_f32, dims_of, matrix_of, numeric};

/// How wide each input is in the row: a wider one is cut, a narrower one filled up with zeros.
#[derive(Debug)]
pub(super) struct FeatureVectorizer {
    widths: Vec<usize>,
}

impl Build for FeatureVectorizer {
    fn build(_context: &ParsingContext<'_>, node: &NodeProto) -> TractResult<Self> {
        let widths = node.get_attr_vec::<usize>("inputdimensions")?;
        ensure!(
            widths.len() == node.input.len() && !widths.is_empty(),
            "FeatureVectorizer has {} inputdimensions for {} inputs",
            widths.len(),
            node.input.len()
        );
        Ok(Self { widths })
    }
}

impl Operator for FeatureVectorizer {
    const NAME: &'static str = "FeatureVectorizer";

    fn inputs(&self) -> usize {
        self.widths.len()
    }

    fn outputs(&self, inputs: &[Port]) -> TractResult<TVec<Port>> {
        let mut rows = 1.to_dim();
        for (datum_type, shape) in inputs {
            numeric(Self::NAME, *datum_type)?;
            rows = dims_of(Self::NAME, shape)?.0;
        }
        let width: usize = self.widths.iter().sum();
        Ok(tvec![(DatumType::F32, tvec![rows, width.to_dim()])])
    }

    fn compute(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let width: usize = self.widths.iter().sum();
        let rows = match inputs.first() {
            Some(input) => matrix_of(Self::NAME, input.shape())?.0,
            None => 0,
        };
        let mut output = Tensor::zero::<f32>(&[rows, width])?;
        let mut view = output.try_as_plain_ram_mut()?;
        let filled = view.as_slice_mut::<f32>()?;
        let mut start = 0;
        for (input, wanted) in inputs.iter().zip(&self.widths) {
            let (count, columns) = matrix_of(Self::NAME, input.shape())?;
            ensure!(
                count == rows,
                "FeatureVectorizer's inputs have {rows} and {count} rows"
            );
            let numbers = as_f32(input)?;
            let numbers = numbers.try_as_plain_ram()?;
            let from = numbers.as_slice::<f32>()?.chunks_exact(columns.max(1));
            for (to, from) in filled.chunks_exact_mut(width.max(1)).zip(from) {
                let room = to.iter_mut().skip(start).take(*wanted);
                room.zip(from).for_each(|(to, from)| *to = *from);
            }
            start += wanted;
        }
        Ok(tvec![output])
    }
}
