//! The `ai.onnx.ml` operators: what scikit-learn, XGBoost and LightGBM exports are made of.
//!
//! They replace tract's own where it has any.
//!
//! Semantics follow the ONNX specification, and onnxruntime where the specification is silent.

use tract_onnx::model::OnnxOpRegister;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::{TractErrorContext as _, TractResult};

use super::operator::{
    Build, Evaluation, Operator, Port, as_f32, build, dims_of, matrix_of, numeric, only,
    only_tensor, rounded,
};
use crate::scores::PostTransform;

mod array_feature_extractor;
mod binarizer;
mod category_mapper;
mod dict_vectorizer;
mod feature_vectorizer;
mod imputer;
mod label_encoder;
mod labels;
mod linear;
mod normalizer;
mod one_hot_encoder;
mod scaler;
#[cfg(feature = "wgpu")]
mod sight;
mod svm;
mod tree_ensemble;
mod zip_map;

#[cfg(feature = "wgpu")]
pub(crate) use sight::{Features, features};

pub(super) use dict_vectorizer::vocabulary;
pub(super) use zip_map::labels as zip_map_labels;

/// Puts our operators into `register`, in place of tract's where it has one of that name.
pub(super) fn register(register: &mut OnnxOpRegister, evaluation: Evaluation) {
    register.insert(
        "ArrayFeatureExtractor",
        build::<array_feature_extractor::ArrayFeatureExtractor>,
    );
    register.insert("Binarizer", build::<binarizer::Binarizer>);
    register.insert("CategoryMapper", build::<category_mapper::CategoryMapper>);
    register.insert("DictVectorizer", build::<dict_vectorizer::DictVectorizer>);
    register.insert(
        "FeatureVectorizer",
        build::<feature_vectorizer::FeatureVectorizer>,
    );
    register.insert("Imputer", build::<imputer::Imputer>);
    register.insert("LabelEncoder", build::<label_encoder::LabelEncoder>);
    register.insert("LinearClassifier", build::<linear::LinearClassifier>);
    register.insert("LinearRegressor", build::<linear::LinearRegressor>);
    register.insert("Normalizer", build::<normalizer::Normalizer>);
    register.insert("OneHotEncoder", build::<one_hot_encoder::OneHotEncoder>);
    register.insert("Scaler", build::<scaler::Scaler>);
    register.insert("SVMClassifier", build::<svm::SvmClassifier>);
    register.insert("SVMRegressor", build::<svm::SvmRegressor>);
    register.insert("ZipMap", build::<zip_map::ZipMap>);
    if evaluation.is_plain() {
        trees::<true>(register);
    } else {
        trees::<false>(register);
    }
}

fn trees<const REFERENCE: bool>(register: &mut OnnxOpRegister) {
    let classifier = build::<tree_ensemble::Classifier<REFERENCE>>;
    let regressor = build::<tree_ensemble::Regressor<REFERENCE>>;
    register.insert("TreeEnsembleClassifier", classifier);
    register.insert("TreeEnsembleRegressor", regressor);
    register.insert(
        "TreeEnsemble",
        build::<tree_ensemble::TreeEnsemble<REFERENCE>>,
    );
}

/// The `post_transform` of a node.
fn transform_of(node: &NodeProto) -> TractResult<PostTransform> {
    let name = node
        .get_attr_opt::<&str>("post_transform")?
        .unwrap_or("NONE");
    PostTransform::parse(name).with_context(|| format!("post_transform {name:?} is unknown"))
}
