//! Places in row-major tensors of any rank: indices, strides, and elements taken by place.
//!
//! Must never know what an operator means by them.

use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::IntoTensor;
use tract_onnx::prelude::tract_ndarray::ArrayD;
use tract_onnx::tract_hir::internal::{
    Datum, TDim, TVec, Tensor, TractErrorContext as _, TractResult, dispatch_datum, f16, tvec,
};

/// Every index of a tensor of this shape, the last axis fastest.
pub(super) fn indices(shape: &[usize]) -> impl Iterator<Item = TVec<usize>> {
    let shape: TVec<usize> = shape.into();
    let count = shape.iter().product();
    (0..count).map(move |place| index(place, &shape))
}

/// The index of a place.
pub(super) fn index(mut place: usize, shape: &[usize]) -> TVec<usize> {
    let mut index: TVec<usize> = tvec![0; shape.len()];
    for (at, extent) in index.iter_mut().zip(shape).rev() {
        *at = place % extent;
        place /= extent;
    }
    index
}

/// The place of an index.
pub(super) fn place(index: &[usize], shape: &[usize]) -> usize {
    let axes = index.iter().zip(shape);
    axes.fold(0, |place, (at, extent)| place * extent + at)
}

/// An axis counted from the first, or from behind when it is negative.
pub(super) fn axis(axis: i64, rank: usize) -> TractResult<usize> {
    let from_behind = if axis < 0 { i64::try_from(rank)? } else { 0 };
    let found = usize::try_from(axis + from_behind).ok();
    found
        .filter(|axis| *axis < rank)
        .with_context(|| format!("there is no axis {axis} among {rank}"))
}

/// A tensor of `shape` whose elements stand in `input` at these places; zero where there is none.
pub(super) fn taken(
    input: &Tensor,
    shape: &[usize],
    places: &[Option<usize>],
) -> TractResult<Tensor> {
    fn of<T: Datum>(
        input: &Tensor,
        shape: &[usize],
        places: &[Option<usize>],
    ) -> TractResult<Tensor> {
        let plain = input.try_as_plain_ram()?;
        let elements = plain.as_slice::<T>()?;
        let element = |place: &Option<usize>| match place {
            Some(place) => elements.get(*place).cloned().context("no such element"),
            None => Ok(T::default()),
        };
        let taken = places
            .iter()
            .map(element)
            .collect::<TractResult<Vec<T>>>()?;
        Ok(ArrayD::from_shape_vec(shape, taken)?.into_tensor())
    }
    dispatch_datum!(of(input.datum_type())(input, shape, places))
}

/// The elements as `f64`.
pub(super) fn numbers(tensor: &Tensor) -> TractResult<Vec<f64>> {
    let wide = tensor.cast_to::<f64>()?;
    Ok(wide.try_as_plain_ram()?.as_slice::<f64>()?.to_vec())
}

/// The elements as `i64`.
pub(super) fn integers(tensor: &Tensor) -> TractResult<Vec<i64>> {
    let wide = tensor.cast_to::<i64>()?;
    Ok(wide.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// Elements that are extents or counts.
pub(super) fn extents(tensor: &Tensor) -> TractResult<TVec<usize>> {
    let extents = integers(tensor)?.into_iter().map(usize::try_from);
    Ok(extents.collect::<Result<_, _>>()?)
}

/// Numbers computed in `f64` as a tensor of the type of `like`.
pub(super) fn rounded(numbers: &[f64], shape: &[usize], like: &Tensor) -> TractResult<Tensor> {
    let wide = Tensor::from_shape(shape, numbers)?;
    Ok(wide.cast_to_dt(like.datum_type())?.into_owned())
}

/// How a window moves over the spatial axes of a tensor.
#[derive(Debug, Clone)]
pub(super) struct Window {
    pub(super) kernel: TVec<usize>,
    pub(super) strides: TVec<usize>,
    pub(super) dilations: TVec<usize>,
    /// Before each axis, and after each.
    pub(super) pads: (TVec<usize>, TVec<usize>),
}

impl Window {
    /// Reads the attributes; a kernel of `rank` axes, whose extents the node may leave out.
    pub(super) fn read(node: &NodeProto, kernel: TVec<usize>) -> TractResult<Self> {
        let rank = kernel.len();
        let ones = || tvec![1; rank];
        let pads: Option<TVec<usize>> = node.get_attr_opt_tvec("pads")?;
        let pads = pads.unwrap_or_else(|| tvec![0; 2 * rank]);
        let (before, after) = pads.split_at_checked(rank).context("pads are too few")?;
        let strides: Option<TVec<usize>> = node.get_attr_opt_tvec("strides")?;
        let dilations: Option<TVec<usize>> = node.get_attr_opt_tvec("dilations")?;
        let window = Self {
            kernel,
            strides: strides.unwrap_or_else(ones),
            dilations: dilations.unwrap_or_else(ones),
            pads: (before.into(), after.into()),
        };
        let fits = [&window.strides, &window.dilations, &window.pads.1];
        let fits = fits.iter().all(|list| list.len() == rank);
        let moves = window
            .strides
            .iter()
            .chain(&window.kernel)
            .all(|step| *step > 0);
        (fits && moves)
            .then_some(window)
            .with_context(|| format!("strides, dilations or pads do not fit {rank} axes"))
    }

    /// How far the kernel reaches along an axis.
    pub(super) fn span(&self, axis: usize) -> usize {
        let extent = self.kernel.get(axis).copied().unwrap_or(1);
        let dilation = self.dilations.get(axis).copied().unwrap_or(1);
        extent
            .saturating_sub(1)
            .saturating_mul(dilation)
            .saturating_add(1)
    }

    /// Where an element of the kernel lies in the input, when the window stands at `output`. `None`
    /// in the padding.
    pub(super) fn source(
        &self,
        output: &[usize],
        kernel: &[usize],
        input: &[usize],
    ) -> Option<TVec<usize>> {
        let steps = output.iter().zip(&self.strides);
        let taps = kernel.iter().zip(&self.dilations);
        let axes = steps.zip(taps).zip(&self.pads.0).zip(input);
        axes.map(|((((at, stride), (tap, dilation)), pad), extent)| {
            let at = (at * stride + tap * dilation).checked_sub(*pad)?;
            (at < *extent).then_some(at)
        })
        .collect()
    }
}
