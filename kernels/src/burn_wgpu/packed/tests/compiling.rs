//! What each kernel takes to compile, in each form that is compiled by itself.

use edgeward_base::clock::{Clock as _, SystemClock};

use super::*;

/// Columns of the weights, and the numbers of each: 16 channels of 3 x 3, or one of 3 x 48.
const COLUMNS: usize = 40;
const DEPTH: usize = 144;

/// Made and run on a device where nothing was compiled before.
type Run<'a> = Box<dyn Fn() -> CubeTensor + 'a>;

type Named<'a> = (String, Run<'a>);

/// Weights of which the codes have so many bits.
fn weights(bits: u32, columns: usize) -> Weights {
    let step = if bits == 8 { 8 } else { 1 };
    let number = |place: usize| (i8::try_from(place % 16).unwrap() - 8) * step;
    Weights {
        columns,
        depth: DEPTH,
        block: None,
        numbers: (0..columns * DEPTH).map(number).collect(),
        scales: vec![0.5; columns],
        zeros: vec![1; columns],
    }
}

fn upload(device: &Device, bits: u32, columns: usize) -> Packed {
    let codes = weights(bits, columns).codes();
    assert_eq!(codes.bits, bits);
    Packed::upload(device, &codes).unwrap()
}

fn left(device: &Device, shape: &[usize], of: DType) -> (CubeTensor, Option<CubeTensor>) {
    let count = shape.iter().product();
    match of {
        DType::F32 => (
            device.numbers(&quarters(count, 1), shape, of).unwrap(),
            None,
        ),
        _ => {
            let zero = device.numbers(&[3_i32], &[1], of).unwrap();
            (
                device.numbers(&bytes(count, 1), shape, of).unwrap(),
                Some(zero),
            )
        }
    }
}

fn products(device: &Device, bits: u32, of: DType) -> impl Iterator<Item = Named<'_>> {
    let forms = [("vector", 1), ("tile", 8)].into_iter();
    forms.map(move |(form, rows)| {
        let packed = upload(device, bits, COLUMNS);
        let run = move || {
            let (x, zero) = left(device, &[rows, DEPTH], of);
            packed.product(device, &x, zero.as_ref()).unwrap()
        };
        let run: Run<'_> = Box::new(run);
        (format!("product, {form}, {bits} bits, {of:?}"), run)
    })
}

fn convolutions(device: &Device, bits: u32, of: DType) -> impl Iterator<Item = Named<'_>> {
    let forms = [("tile", 1, 3), ("single", 16, 48)].into_iter();
    forms.map(move |(form, groups, across)| {
        let packed = upload(device, bits, COLUMNS * 2);
        let taps = Taps {
            groups,
            kernel: [3, across],
            strides: [1; 2],
            dilations: [1; 2],
            before: [1; 2],
            image: [6, 50],
            output: [6, 5],
        };
        let run = move || {
            let (x, zero) = left(device, &[1, 16, 6, 50], of);
            packed.convolve(device, &x, zero.as_ref(), &taps).unwrap()
        };
        let run: Run<'_> = Box::new(run);
        (format!("convolution, {form}, {bits} bits, {of:?}"), run)
    })
}

/// Those that make bytes of real numbers, and real numbers of bytes.
fn linear(device: &Device) -> [Named<'_>; 3] {
    let end = |number: f32| device.numbers(&[number], &[1], DType::F32).unwrap();
    let zero = || device.numbers(&[1_i32], &[1], DType::I32).unwrap();
    let to = move || quantise(end(3.0), [&end(0.5), &zero()], 1, DatumType::U8).unwrap();
    let from = move || dequantise(zero(), [&end(0.5), &zero()], 1).unwrap();
    let scale = move || {
        let [scale, _] = range(end(-1.0), end(2.0));
        scale
    };
    [
        ("quantise".to_owned(), Box::new(to)),
        ("dequantise".to_owned(), Box::new(from)),
        ("range".to_owned(), Box::new(scale)),
    ]
}

fn kernels(device: &Device) -> Vec<Named<'_>> {
    let mut kernels = Vec::new();
    for bits in [8, 4] {
        for of in [DType::F32, DType::I32] {
            kernels.extend(products(device, bits, of));
            kernels.extend(convolutions(device, bits, of));
        }
        let packed = upload(device, bits, COLUMNS);
        let run: Run<'_> = Box::new(move || packed.real(device).unwrap());
        kernels.push((format!("unpack, {bits} bits"), run));
    }
    kernels.extend(linear(device));
    kernels
}

/// How long that may take is no test's to say on a machine that others share; it is printed, and what is
/// compiled is counted.
#[test]
fn each_kernel_is_compiled_by_itself() {
    let mut adapters = probe().adapters.into_iter();
    let Some(usable) = adapters.find(|probed| probed.fault.is_none()) else {
        return edgeward_harness::skip(
            "gpu.packed.kernels",
            "no Vulkan driver of this machine has an adapter to use",
        );
    };
    let device = Device::open(&usable.adapter, ByteCount(0)).unwrap();
    let clock = SystemClock::new();
    let timed = |run: &Run<'_>| {
        let start = clock.monotonic();
        let tensor = run();
        let of = match tensor.dtype {
            DType::F32 => DatumType::F32,
            _ => DatumType::I32,
        };
        let rank = tensor.meta.shape().num_dims();
        drop(device.download(tensor, (of, rank)).unwrap());
        clock.monotonic().saturating_sub(start)
    };
    let kernels = kernels(&device);
    let mut longest = 0.0_f64;
    for (name, run) in &kernels {
        let (first, second) = (timed(run), timed(run));
        let compiled = first.saturating_sub(second).as_secs_f64() * 1e3;
        println!("{name}: compiled in {compiled:.0} ms");
        longest = longest.max(compiled);
    }
    println!("the longest: {longest:.0} ms");
    floors::reached("gpu.packed.kernels", kernels.len() as u64);
}
