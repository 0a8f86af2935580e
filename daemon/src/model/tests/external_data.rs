//! A graph that keeps its weights in a file beside itself, on the real engines.

use std::collections::BTreeSet;

use super::{TestBox, input, model};
use crate::model::onnx_files::tests::{field, varint};
use crate::model::{Compute, ImportModelError, Schema};

fn number(field: usize, value: usize) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

/// A float32 tensor of a graph's interface: `[N, width]`.
fn value_info(name: &str, width: usize) -> Vec<u8> {
    let shape = [field(1, &field(2, b"N")), field(1, &number(1, width))].concat();
    let tensor = [number(1, 1), field(2, &shape)].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// `y = x W` with `W` of `[2, 1]` in another file.
fn matmul(location: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| {
        field(
            13,
            &[field(1, key.as_bytes()), field(2, value.as_bytes())].concat(),
        )
    };
    let weights = [
        number(1, 2),
        number(1, 1),
        number(2, 1),
        field(8, b"W"),
        entry("location", location),
        entry("offset", "0"),
        entry("length", "8"),
        number(14, 1),
    ]
    .concat();
    let node = [
        field(1, b"x"),
        field(1, b"W"),
        field(2, b"y"),
        field(4, b"MatMul"),
    ]
    .concat();
    let graph = [
        field(1, &node),
        field(2, b"linear"),
        field(5, &weights),
        field(11, &value_info("x", 2)),
        field(12, &value_info("y", 1)),
    ]
    .concat();
    [number(1, 8), field(7, &graph), field(8, &number(2, 17))].concat()
}

fn weights(values: [f32; 2]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

#[tokio::test]
async fn external_data_is_found_beside_the_graph() {
    let site = TestBox::with(edgeward_kernels::engines());
    let source = site.state.path().join("source");
    std::fs::create_dir_all(&source).unwrap();
    let (graph, data) = (source.join("linear.onnx"), source.join("linear.weights"));
    std::fs::write(&graph, matmul("linear.weights")).unwrap();
    std::fs::write(&data, weights([2.0, 10.0])).unwrap();
    let wanted = model("main.default.linear/1");
    let boot = site.boot();
    let record = boot.models.import(&graph, &wanted).await.unwrap();
    boot.shut().await;
    // The source is needed no longer, and the links are made anew.
    std::fs::remove_dir_all(&source).unwrap();
    std::fs::remove_dir_all(site.models().join("index")).unwrap();
    let boot = site.boot();
    let scorer = boot.models.load(&wanted, Compute::Any).unwrap();
    assert!(matches!(scorer.signature().inputs, Schema::Tensors(_)));
    let answer = scorer.score(&input(r#"{"inputs":[[1,1],[3,0]]}"#)).unwrap();
    assert_eq!(answer.body(), br#"{"predictions":{"y":[[12.0],[6.0]]}}"#);
    boot.models.remove(&wanted, &BTreeSet::new()).await.unwrap();
    assert!(
        !site
            .models()
            .join("index")
            .join(record.manifest.to_string())
            .try_exists()
            .unwrap()
    );
    boot.shut().await;
}

#[tokio::test]
async fn a_graph_whose_data_is_missing_is_refused() {
    let site = TestBox::with(edgeward_kernels::engines());
    let graph = site.state.path().join("linear.onnx");
    std::fs::write(&graph, matmul("linear.weights")).unwrap();
    let boot = site.boot();
    let refused = boot
        .models
        .import(&graph, &model("main.default.linear/1"))
        .await
        .unwrap_err();
    assert!(
        matches!(refused, ImportModelError::Source(_)),
        "{refused:?}"
    );
    boot.shut().await;
}
