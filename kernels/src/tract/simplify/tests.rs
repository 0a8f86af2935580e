use tract_onnx::prelude::{IntoRunnable, IntoTensor, SpecialOps, tensor1, tract_ndarray, tvec};
use tract_onnx::tract_hir::internal::DatumExt;

use super::*;

/// A graph that takes columns of a `[N, columns]` string tensor, once for each entry of `picks`.
fn picking(columns: usize, picks: &[&[i64]]) -> TypedModel {
    let mut model = TypedModel::default();
    let batch = model.symbols.sym("N");
    let shape = [batch.to_dim(), columns.to_dim()];
    let source = model.add_source("data", String::fact(&shape));
    let mut wire = source.unwrap();
    for (step, indices) in picks.iter().enumerate() {
        let indices = model.add_const(format!("indices.{step}"), tensor1(indices));
        let gather = Gather::new(1);
        let inputs = [wire, indices.unwrap()];
        wire = model
            .wire_node(format!("pick.{step}"), gather, &inputs)
            .unwrap()[0];
    }
    model.select_output_outlets(&[wire]).unwrap();
    model
}

fn gathers(model: &TypedModel) -> usize {
    let nodes = model.nodes().iter();
    nodes.filter(|node| node.op_is::<Gather>()).count()
}

#[test]
fn a_gather_of_every_column_in_order_is_taken_out() {
    let model = picking(3, &[&[0, 1, 2], &[2, 0], &[0, 1]]);
    let model = without_identities(model).unwrap();
    assert_eq!(gathers(&model), 1, "{model}");
    let letters = ["a", "b", "c", "d", "e", "f"].map(str::to_owned).to_vec();
    let data = tract_ndarray::ArrayD::from_shape_vec(vec![2, 3], letters).unwrap();
    let runnable = model.into_runnable().unwrap();
    let answer = runnable.run(tvec![data.into_tensor().into()]).unwrap();
    let picked = ["c", "a", "f", "d"].map(str::to_owned);
    let answer = answer[0].try_as_plain_ram().unwrap();
    assert_eq!(answer.as_slice::<String>().unwrap(), picked);
}

#[test]
fn a_gather_that_picks_repeats_or_reorders_stays() {
    for indices in [&[0_i64][..], &[1, 0], &[0, 0], &[0, 1, 1], &[-2, -1]] {
        let model = without_identities(picking(2, &[indices])).unwrap();
        assert_eq!(gathers(&model), 1, "{indices:?}");
    }
}
