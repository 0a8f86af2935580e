//! RNN, GRU and LSTM: the sums over the input are one product, the steps one kernel.

use burn_backend::ops::FloatTensorOps as _;
use burn_backend::{FloatDType, Shape, Slice};
use burn_cubecl::ops::{permute, reshape};
use burn_cubecl::tensor::CubeTensor;
use burn_wgpu::CubeBackend;
use tract_onnx::prelude::{TVec, TractResult};
use tract_onnx::tract_hir::internal::format_err;

use super::super::sequence::{Form, Given, MOST_HIDDEN, run};
use super::{Lowered, Sight};
use crate::tract::{RecurrentForm, RecurrentOutput, recurrent};

pub(super) fn lower(sight: &Sight<'_>) -> Option<Lowered> {
    let form = recurrent(sight.op)?;
    let (shape, weights) = (sight.shape(0), sight.shape(1));
    let ([first, second, features], [_, sums, _]) = (shape, weights) else {
        return None;
    };
    let (steps, batch) = if form.batch_first {
        (*second, *first)
    } else {
        (*first, *second)
    };
    // A cube for each row.
    if !sight.is_real() || form.hidden > MOST_HIDDEN || batch > 65_535 {
        return None;
    }
    let all: Vec<usize> = (0..sight.inputs.len()).collect();
    let node = Node {
        steps,
        batch,
        features: *features,
        sums: *sums,
        form,
    };
    Some(Lowered::of(all, Box::new(move |inputs| node.run(&inputs))))
}

/// One node, of which every extent is known.
struct Node {
    form: RecurrentForm,
    steps: usize,
    batch: usize,
    features: usize,
    /// Gates times units.
    sums: usize,
}

impl Node {
    fn run(&self, inputs: &TVec<CubeTensor>) -> TractResult<TVec<CubeTensor>> {
        let input = |place: usize| inputs.get(place).cloned();
        let (Some(x), Some(w), Some(r)) = (input(0), input(1), input(2)) else {
            return Err(format_err!("a recurrent operator without weights"));
        };
        let x = if self.form.batch_first {
            permute(x, &[1, 0, 2])
        } else {
            x
        };
        let x = reshape(x, Shape::from(vec![self.steps * self.batch, self.features]));
        let mut directions = Vec::new();
        for (number, backwards) in self.form.backwards.iter().enumerate() {
            let [w, r] = [&w, &r].map(|of| of_direction(of, number));
            let sums = CubeBackend::float_matmul(x.clone(), permute(w, &[1, 0]));
            let of_bias = |part: usize| {
                let bias = self.form.bias.and_then(input);
                bias.map_or_else(
                    || zeros(&x, &[self.sums]),
                    |bias| self.part_of_bias(&bias, number, part),
                )
            };
            let row = Shape::from(vec![1, self.sums]);
            let sums = CubeBackend::float_add(sums, reshape(of_bias(0), row));
            let state = |place: Option<usize>| {
                let given = place.and_then(input);
                given.map_or_else(
                    || zeros(&x, &[self.batch, self.form.hidden]),
                    |given| self.state_of(given, number),
                )
            };
            let given = Given {
                x: sums,
                weights: r,
                bias: of_bias(1),
                first: state(self.form.first_state),
                first_cell: state(self.form.first_cell),
            };
            let form = Form {
                kind: self.form.kind,
                hidden: u32::try_from(self.form.hidden)?,
                backwards: *backwards,
            };
            let (steps, batch) = (u32::try_from(self.steps)?, u32::try_from(self.batch)?);
            directions.push(run(given, form, steps, batch));
        }
        let outputs = self.form.outputs.iter();
        Ok(outputs
            .map(|output| self.output(*output, &directions))
            .collect())
    }

    /// The biases of the input, or those of the state.
    fn part_of_bias(&self, bias: &CubeTensor, number: usize, part: usize) -> CubeTensor {
        let flat = of_direction(bias, number);
        cut(flat, part * self.sums, self.sums)
    }

    /// The state that a direction begins with.
    fn state_of(&self, states: CubeTensor, number: usize) -> CubeTensor {
        let states = if self.form.batch_first {
            permute(states, &[1, 0, 2])
        } else {
            states
        };
        of_direction(&states, number)
    }

    fn output(&self, output: RecurrentOutput, directions: &[[CubeTensor; 3]]) -> CubeTensor {
        let (place, every) = match output {
            RecurrentOutput::Every => (0, true),
            RecurrentOutput::Last => (1, false),
            RecurrentOutput::LastCell => (2, false),
        };
        let parts = directions.iter().filter_map(|of| of.get(place).cloned());
        let parts = parts.map(|part| {
            let [steps, batch, hidden] = [self.steps, self.batch, self.form.hidden];
            let shape = if every {
                vec![steps, 1, batch, hidden]
            } else {
                vec![1, batch, hidden]
            };
            reshape(part, Shape::from(shape))
        });
        let all = CubeBackend::float_cat(parts.collect(), usize::from(every));
        match (self.form.batch_first, every) {
            (false, _) => all,
            (true, true) => permute(all, &[2, 0, 1, 3]),
            (true, false) => permute(all, &[1, 0, 2]),
        }
    }
}

/// So many elements of the first axis, from `begin` on.
fn cut(tensor: CubeTensor, begin: usize, count: usize) -> CubeTensor {
    let place = |at: usize| isize::try_from(at).unwrap_or(isize::MAX);
    let mut slices = vec![Slice::new(place(begin), Some(place(begin + count)), 1)];
    let behind = tensor.meta.shape().iter().skip(1);
    slices.extend(behind.map(|extent| Slice::new(0, Some(place(*extent)), 1)));
    CubeBackend::float_slice(tensor, &slices)
}

/// The share of one direction, without its axis.
fn of_direction(tensor: &CubeTensor, number: usize) -> CubeTensor {
    let shape = tensor.meta.shape().to_vec();
    let part = cut(tensor.clone(), number, 1);
    reshape(
        part,
        Shape::from(shape.iter().skip(1).copied().collect::<Vec<usize>>()),
    )
}

fn zeros(like: &CubeTensor, shape: &[usize]) -> CubeTensor {
    CubeBackend::float_zeros(Shape::from(shape.to_vec()), &like.device, FloatDType::F32)
}
