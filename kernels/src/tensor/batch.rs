//! Rows of a batch: taken out, put together, padded. Axis 0 is the batch.

use std::ops::Range;

use super::{Tensor, TensorData};

impl Tensor {
    /// Rows `range` as a tensor of their own; `None` for a scalar or when there are fewer rows.
    #[must_use]
    pub fn slice_rows(&self, range: Range<usize>) -> Option<Self> {
        let rows = self.rows()?;
        if range.start > range.end || range.end > rows {
            return None;
        }
        let stride = self.row_elements();
        let mut data = TensorData::empty(self.data_type());
        append(
            &mut data,
            &self.data,
            range.start * stride..range.end * stride,
        )?;
        let mut shape = self.shape.clone();
        *shape.first_mut()? = range.len();
        Some(Self { shape, data })
    }

    /// The tensors one below the other; `None` when there are none, or when they differ in element
    /// type or in any axis but the first.
    #[must_use]
    pub fn concat_rows(parts: &[&Self]) -> Option<Self> {
        let (first, rest) = parts.split_first()?;
        let mut whole = (*first).clone();
        for part in rest {
            if part.shape.get(1..)? != whole.shape.get(1..)? {
                return None;
            }
            append(&mut whole.data, &part.data, 0..part.data.len())?;
            *whole.shape.first_mut()? += part.rows()?;
        }
        Some(whole)
    }

    /// The tensor with its last row repeated until it has `rows` rows; `None` for a scalar, for a
    /// tensor without rows, and when there are more rows already.
    ///
    /// The last row is repeated rather than zeros written, because zeros may be outside what the
    /// model can take (an unknown category, a division).
    #[must_use]
    pub fn pad_rows(&self, rows: usize) -> Option<Self> {
        let have = self.rows()?;
        let missing = rows.checked_sub(have)?;
        let stride = self.row_elements();
        let last = have.checked_sub(1)? * stride..have * stride;
        let mut padded = self.clone();
        for _ in 0..missing {
            append(&mut padded.data, &self.data, last.clone())?;
        }
        *padded.shape.first_mut()? = rows;
        Some(padded)
    }

    /// How many elements one row has.
    fn row_elements(&self) -> usize {
        self.shape.iter().skip(1).product()
    }
}

/// Appends `source[range]`; `None` when the element types differ or the range is out of bounds.
fn append(target: &mut TensorData, source: &TensorData, range: Range<usize>) -> Option<()> {
    macro_rules! append_each {
        ($($variant:ident),*) => {
            match (target, source) {
                $((TensorData::$variant(target), TensorData::$variant(source)) => target.extend_from_slice(source.get(range)?),)*
                _ => return None,
            }
        };
    }
    append_each!(Bool, U8, U16, U32, U64, I8, I16, I32, I64, F32, F64, String);
    Some(())
}
