//! What is asked of the GPU engine alone.

use edgeward_harness::skip;
use edgeward_kernels::verify::verify;

use crate::subject::{gpu, model_file, samples, try_load};

/// The nodes of each sample that have no form on the device, at most.
const MOST_HOST_NODES: [(&str, usize); 3] = [("digits/1", 0), ("tumour/1", 2), ("diabetes/1", 1)];

#[test]
fn networks_are_computed_on_the_device_and_not_beside_it() {
    let Some(engine) = gpu() else { return };
    for (name, most) in MOST_HOST_NODES {
        let mut folders = samples().into_iter();
        let folder = folders.find(|folder| folder.ends_with(name)).unwrap();
        let path = folder.join("model.onnx");
        let session = try_load(&*engine, &path).unwrap();
        verify(&*engine, &*session, &model_file(&path), None, None).unwrap();
        let host = session.host_nodes();
        assert!(host.len() <= most, "{name}: {host:?}");
    }
}

/// Those of the networks that `make zoo` builds that fit a software rasteriser.
const NETWORKS: [&str; 5] = ["gru", "keyword-spotting", "lstm", "minilm", "perceptron"];

#[test]
fn networks_of_the_zoo_prove_themselves() {
    let Some(engine) = gpu() else { return };
    let Some(zoo) = std::env::var_os("EDGEWARD_ZOO") else {
        return skip("suite.gpu.zoo", "EDGEWARD_ZOO names no folder of networks");
    };
    for name in NETWORKS {
        let path = std::path::Path::new(&zoo).join(name).join("model.onnx");
        let session = try_load(&*engine, &path).unwrap();
        verify(&*engine, &*session, &model_file(&path), None, None).unwrap();
        println!("{name}, on the CPU: {:?}", session.host_nodes());
    }
}
