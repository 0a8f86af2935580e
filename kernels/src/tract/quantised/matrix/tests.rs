//! Packed products against the same added up one after the other.

use proptest::prelude::*;
use tract_onnx::pb::NodeProto;

use super::super::super::fuse::whole;
use super::*;
use crate::team::with_helpers;

/// `MatMulInteger` of these matrices, by the kernel and by the reference.
fn both(inputs: &[&Tensor], turned: bool) -> [Tensor; 2] {
    let onnx = tract_onnx::onnx();
    let model = tract_onnx::pb::ModelProto::default();
    let context = ParsingContext {
        onnx_operator_set_version: 17,
        framework: &onnx,
        model: &model,
        parent_graphs: Vec::new(),
        model_dir: None,
        template: tract_onnx::prelude::InferenceModel::default(),
    };
    let node = NodeProto {
        op_type: "MatMulInteger".to_owned(),
        input: ["a", "b", "za", "zb"].map(str::to_owned).to_vec(),
        attribute: vec![whole("transB", turned.into())],
        ..NodeProto::default()
    };
    let kernel = Product::<false>::build(&context, &node).unwrap();
    let reference = Product::<true>::build(&context, &node).unwrap();
    let one = |mut outputs: TVec<Tensor>| outputs.remove(0);
    // With the right side taken in, as where it is a constant.
    let constants: Vec<Option<Arc<Tensor>>> = inputs
        .iter()
        .enumerate()
        .map(|(at, input)| (at % 2 == 1).then(|| Arc::new((*input).clone())))
        .collect();
    let (prepared, kept) = kernel.prepare(&constants).unwrap().unwrap();
    let left: Vec<&Tensor> = kept.iter().map(|at| inputs[*at]).collect();
    let of_prepared = one(prepared.compute(&left).unwrap());
    assert_eq!(of_prepared, one(kernel.compute(inputs).unwrap()));
    let shared = with_helpers(2, || one(prepared.compute(&left).unwrap()));
    assert_eq!(of_prepared, shared);
    [of_prepared, one(reference.compute(inputs).unwrap())]
}

fn bytes(shape: &[usize], seed: u64, signed: bool) -> Tensor {
    let count = shape.iter().product();
    let mut state = seed | 1;
    let numbers = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        state.to_le_bytes()[5]
    });
    let numbers: Vec<u8> = numbers.take(count).collect();
    if signed {
        let numbers: Vec<i8> = numbers.into_iter().map(u8::cast_signed).collect();
        Tensor::from_shape(shape, &numbers).unwrap()
    } else {
        Tensor::from_shape(shape, &numbers).unwrap()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_packed_product_is_exact(
        // More rows than a block has, at times: later blocks find theirs too.
        (rows, depth, columns) in (
            prop_oneof![4 => 0_usize..70, 1 => 500_usize..900],
            1_usize..150,
            1_usize..70,
        ),
        seed in any::<u64>(),
        (left_signed, right_signed, turned, skewed) in any::<(bool, bool, bool, bool)>(),
    ) {
        let a = bytes(&[rows, depth], seed, left_signed);
        let right = if turned { [columns, depth] } else { [depth, columns] };
        let b = bytes(&right, seed ^ 99, right_signed);
        let za = bytes(&[], seed ^ 7, left_signed);
        let zb = if skewed {
            bytes(&[columns], seed ^ 5, right_signed)
        } else {
            Tensor::zero_dt(b.datum_type(), &[columns]).unwrap()
        };
        let [kernel, reference] = both(&[&a, &b, &za, &zb], turned);
        prop_assert_eq!(kernel, reference);
    }

    #[test]
    fn batches_of_both_sides_go_together(
        left in prop::sample::select(vec![vec![2, 3], vec![1, 3], vec![3], vec![2, 1], vec![]]),
        right in prop::sample::select(vec![vec![2, 3], vec![2, 1], vec![1, 1], vec![3]]),
        seed in any::<u64>(),
    ) {
        let a = bytes(&[left, vec![4, 9]].concat(), seed, false);
        let b = bytes(&[right, vec![9, 5]].concat(), seed ^ 99, true);
        let (za, zb) = (bytes(&[], seed ^ 7, false), bytes(&[5], seed ^ 5, true));
        let [kernel, reference] = both(&[&a, &b, &za, &zb], false);
        prop_assert_eq!(kernel, reference);
    }
}
