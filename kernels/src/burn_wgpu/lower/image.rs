//! Windows over images of one, two or three axes: convolutions and pools.

use std::sync::Arc;

use burn_backend::ops::FloatTensorOps as _;
use burn_backend::ops::{ConvOptions, ModuleOps as _};
use burn_backend::{Scalar, Shape};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::TractResult;
use tract_onnx::tract_hir::tract_core::ops::cnn::{Conv, KernelFormat, MaxPool, PoolSpec, SumPool};
use tract_onnx::tract_hir::tract_core::ops::nn::DataFormat;

use super::super::packed::Arrangement;
use super::places::fill;
use super::{Lowered, Sight, Step, of_all, of_one, take};
use crate::tract::Taps;

pub(super) fn lower(sight: &Sight<'_>) -> Option<Step> {
    if !sight.is_real() {
        return None;
    }
    if let Some(conv) = sight.op.downcast_ref::<Conv>() {
        return convolution(sight, conv);
    }
    if let Some(pool) = sight.op.downcast_ref::<MaxPool>() {
        return largest(sight, pool);
    }
    mean(sight, sight.op.downcast_ref::<SumPool>()?)
}

/// How windows lie over an image.
pub(super) struct Windows {
    /// How the image's axes are brought into the order batch, channels, space; `None` where they are.
    order: Option<Vec<usize>>,
    /// Whether an axis for the batch is missing.
    lone: bool,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    pads: Vec<(usize, usize)>,
    /// The extents of the output in that order.
    output: Vec<usize>,
    /// How far the last window of each axis reaches behind the pads.
    beyond: Vec<usize>,
}

impl Windows {
    pub(super) fn of(sight: &Sight<'_>, spec: &PoolSpec) -> Option<Self> {
        let shape = spec.data_format.shape(sight.shape(0)).ok()?;
        let space = shape.hw_dims();
        let pads = spec.computed_padding(space);
        let rank = space.len();
        let lone = !spec.data_format.has_n();
        let last = matches!(spec.data_format, DataFormat::NHWC | DataFormat::HWC);
        let order = last.then(|| {
            let mut order = vec![0, rank + 1];
            order.extend(1..=rank);
            order
        });
        let output = spec.data_format.shape(sight.output()).ok()?;
        let mut extents = vec![output.n().copied().unwrap_or(1), *output.c()];
        extents.extend(output.hw_dims());
        let axes = space.iter().zip(pads.iter()).zip(output.hw_dims());
        let (strides, dilations) = (spec.strides(), spec.dilations());
        let windows = spec.kernel_shape.iter().zip(strides.iter());
        let windows = windows.zip(dilations.iter());
        let beyond = axes.zip(windows);
        let beyond = beyond.map(|(((extent, pad), count), ((kernel, stride), dilation))| {
            let end = (count - 1) * stride + (kernel - 1) * dilation + 1;
            end.saturating_sub(extent + pad.pad_before + pad.pad_after)
        });
        Some(Self {
            beyond: beyond.collect(),
            order,
            lone,
            kernel: spec.kernel_shape.to_vec(),
            strides: strides.to_vec(),
            dilations: dilations.to_vec(),
            pads: pads
                .iter()
                .map(|pad| (pad.pad_before, pad.pad_after))
                .collect(),
            output: extents,
        })
    }

    /// The image in the order batch, channels, space.
    pub(super) fn enter(&self, image: CubeTensor) -> CubeTensor {
        let image = if self.lone { grown(image) } else { image };
        match &self.order {
            Some(order) => permute(image, order),
            None => image,
        }
    }

    /// The way back.
    pub(super) fn leave(&self, image: CubeTensor) -> CubeTensor {
        let rank = self.output.len();
        let image = match &self.order {
            Some(_) => {
                let mut order = vec![0];
                order.extend(2..rank);
                order.push(1);
                permute(image, &order)
            }
            None => image,
        };
        if self.lone { shrunk(image) } else { image }
    }

    /// Whether every window lies within the image and its pads.
    pub(super) fn fit(&self) -> bool {
        self.beyond.iter().all(|beyond| *beyond == 0)
    }

    /// The pads of all axes.
    fn all_pads(&self) -> Vec<(usize, usize)> {
        [(0, 0), (0, 0)]
            .into_iter()
            .chain(self.pads.iter().copied())
            .collect()
    }
}

fn extents(tensor: &CubeTensor) -> Vec<usize> {
    burn_backend::TensorMetadata::shape(tensor).to_vec()
}

/// With an axis of one element before all others.
fn grown(tensor: CubeTensor) -> CubeTensor {
    let shape = [1]
        .into_iter()
        .chain(extents(&tensor))
        .collect::<Vec<usize>>();
    reshape(tensor, Shape::from(shape))
}

/// Without its first axis.
fn shrunk(tensor: CubeTensor) -> CubeTensor {
    let shape = extents(&tensor).into_iter().skip(1).collect::<Vec<usize>>();
    reshape(tensor, Shape::from(shape))
}

fn convolution(sight: &Sight<'_>, conv: &Conv) -> Option<Step> {
    if conv.q_params.is_some() || conv.kernel_fmt != KernelFormat::OIHW {
        return None;
    }
    let windows = Windows::of(sight, &conv.pool_spec)?;
    let channels = conv.pool_spec.output_channels;
    let groups = conv.group;
    let bias_count: usize = sight.shape(2).iter().product();
    if bias_count != 1 && bias_count != channels {
        return None;
    }
    let convolve = convolver(&windows, groups).filter(|_| windows.fit())?;
    Some(of_all(move |inputs| {
        let [image, filters, bias] = take(inputs)?;
        let bias = reshape(bias, Shape::from(vec![bias_count]));
        let bias = CubeBackend::float_expand(bias, Shape::from(vec![channels]));
        // The kernel reads several at once, which one number in memory does not have.
        let bias = into_contiguous(bias);
        let answer = convolve(windows.enter(image), filters, bias);
        Ok(windows.leave(answer))
    }))
}

/// The convolution with filters that stay packed: they are read from bytes that never change.
pub(super) fn packed(sight: &Sight<'_>) -> TractResult<Option<Lowered>> {
    let conv = sight.op.downcast_ref::<Conv>();
    let plain = |conv: &&Conv| conv.q_params.is_none() && conv.kernel_fmt == KernelFormat::OIHW;
    let (Some(conv), Some(filters), true) =
        (conv.filter(plain), sight.inputs.get(1), sight.is_real())
    else {
        return Ok(None);
    };
    let Some(windows) = Windows::of(sight, &conv.pool_spec) else {
        return Ok(None);
    };
    let Some(taps) = taps(&windows, conv.group, sight.shape(0), &conv.pool_spec) else {
        return Ok(None);
    };
    let natural = Arrangement {
        order: (0..filters.shape.len()).collect(),
        leading: 1,
    };
    let Some(packed) = filters.packed(sight.store, &natural)? else {
        return Ok(None);
    };
    let bias_count: usize = sight.shape(2).iter().product();
    if bias_count != 1 && bias_count != packed.columns {
        return Ok(None);
    }
    let device = Arc::clone(sight.store.device);
    let shape = Shape::from(windows.output.clone());
    let step = of_all(move |inputs| {
        let [image, bias] = take(inputs)?;
        let image = flat(windows.enter(image));
        let answer = packed.convolve(&device, &image, None, &taps)?;
        let bias = reshape(bias, Shape::from(vec![1, bias_count, 1, 1]));
        let answer = CubeBackend::float_add(answer, bias);
        Ok(windows.leave(reshape(answer, shape.clone())))
    });
    Ok(Some(Lowered::of([0, 2], step)))
}

/// How the windows move, where they are of one axis or two.
fn taps(windows: &Windows, groups: usize, shape: &[usize], spec: &PoolSpec) -> Option<Taps> {
    let image = spec.data_format.shape(shape).ok()?;
    let before: Vec<usize> = windows.pads.iter().map(|(before, _)| *before).collect();
    Some(Taps {
        groups,
        kernel: square(&windows.kernel, 1)?,
        strides: square(&windows.strides, 1)?,
        dilations: square(&windows.dilations, 1)?,
        before: square(&before, 0)?,
        image: square(image.hw_dims(), 1)?,
        output: square(windows.output.get(2..)?, 1)?,
    })
}

type Convolve = Box<dyn Fn(CubeTensor, CubeTensor, CubeTensor) -> CubeTensor + Send + Sync>;

fn convolver(windows: &Windows, groups: usize) -> Option<Convolve> {
    fn options<const N: usize>(windows: &Windows, groups: usize) -> Option<ConvOptions<N>> {
        Some(ConvOptions::new_with_padding(
            windows.strides.as_slice().try_into().ok()?,
            windows.pads.as_slice().try_into().ok()?,
            windows.dilations.as_slice().try_into().ok()?,
            groups,
        ))
    }
    Some(match windows.kernel.len() {
        1 => {
            let options = options::<1>(windows, groups)?;
            Box::new(move |x, w, b| CubeBackend::conv1d(x, w, Some(b), options.clone()))
        }
        2 => {
            let options = options::<2>(windows, groups)?;
            Box::new(move |x, w, b| CubeBackend::conv2d(x, w, Some(b), options.clone()))
        }
        3 => {
            let options = options::<3>(windows, groups)?;
            Box::new(move |x, w, b| CubeBackend::conv3d(x, w, Some(b), options.clone()))
        }
        _ => return None,
    })
}

/// A square of two axes, of a window that has one or two.
fn square(values: &[usize], missing: usize) -> Option<[usize; 2]> {
    match values {
        [one] => Some([missing, *one]),
        [one, two] => Some([*one, *two]),
        _ => None,
    }
}

/// An image of one axis with a second one.
pub(super) fn flat(image: CubeTensor) -> CubeTensor {
    let mut shape = extents(&image);
    if shape.len() == 3 {
        shape.insert(2, 1);
    }
    reshape(image, Shape::from(shape))
}

fn largest(sight: &Sight<'_>, pool: &MaxPool) -> Option<Step> {
    if pool.with_index_outputs.is_some() {
        return None;
    }
    let mut windows = Windows::of(sight, &pool.pool_spec)?;
    // What lies behind the pads counts as little as they do.
    for ((_, after), beyond) in windows.pads.iter_mut().zip(&windows.beyond) {
        *after += beyond;
    }
    let kernel = square(&windows.kernel, 1)?;
    let strides = square(&windows.strides, 1)?;
    let dilations = square(&windows.dilations, 1)?;
    let shape = Shape::from(windows.output.clone());
    Some(of_one(move |image| {
        let image = fill(windows.enter(image), &windows.all_pads(), f32::NEG_INFINITY);
        let image = flat(image);
        let answer = CubeBackend::max_pool2d(image, kernel, strides, [0, 0], dilations, false);
        windows.leave(reshape(answer, shape.clone()))
    }))
}

fn mean(sight: &Sight<'_>, pool: &SumPool) -> Option<Step> {
    let windows = Windows::of(sight, &pool.pool_spec)?;
    let padded = windows.pads.iter().any(|pad| *pad != (0, 0));
    if !windows.fit()
        || windows.dilations.iter().any(|dilation| *dilation != 1)
        || pool.normalize && padded && !pool.count_include_pad
    {
        return None;
    }
    let kernel = square(&windows.kernel, 1)?;
    let strides = square(&windows.strides, 1)?;
    let count: usize = windows.kernel.iter().product();
    let factor = if pool.normalize { 1.0 } else { count as f64 };
    let shape = Shape::from(windows.output.clone());
    Some(of_one(move |image| {
        let image = flat(fill(windows.enter(image), &windows.all_pads(), 0.0));
        let answer = CubeBackend::avg_pool2d(image, kernel, strides, [0, 0], true, false);
        let answer = CubeBackend::float_mul_scalar(answer, Scalar::Float(factor));
        windows.leave(reshape(answer, shape.clone()))
    }))
}
