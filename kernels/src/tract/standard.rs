//! Operators of the standard domain that tract lacks, or of which it lacks a part.
//!
//! Semantics follow the ONNX specification. Must never replace an operator that tract computes as the
//! specification says.

use tract_onnx::model::OnnxOpRegister;

use super::operator::{Build, Operator, Port, build};

mod attention;
mod compress;
mod determinant;
mod grids;
mod loss;
mod places;
mod rearrange;
mod strings;
mod tf_idf;
mod unique;
mod windows;

/// Puts these operators into `register`, in place of tract's where it has one of that name.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("AffineGrid", build::<grids::AffineGrid>);
    attention::register(register);
    register.insert("CenterCropPad", build::<rearrange::CenterCropPad>);
    register.insert("Col2Im", build::<windows::Col2Im>);
    register.insert("Compress", build::<compress::Compress>);
    register.insert("DeformConv", build::<windows::DeformConv>);
    register.insert("Det", build::<determinant::Det>);
    register.insert("LpPool", build::<windows::LpPool>);
    register.insert("MaxUnpool", build::<rearrange::MaxUnpool>);
    register.insert(
        "NegativeLogLikelihoodLoss",
        build::<loss::NegativeLogLikelihoodLoss>,
    );
    register.insert("RegexFullMatch", build::<strings::RegexFullMatch>);
    register.insert("ReverseSequence", build::<rearrange::ReverseSequence>);
    register.insert("RoiAlign", build::<grids::RoiAlign>);
    register.insert(
        "SoftmaxCrossEntropyLoss",
        build::<loss::SoftmaxCrossEntropyLoss>,
    );
    register.insert("StringConcat", build::<strings::StringConcat>);
    register.insert("StringNormalizer", build::<strings::StringNormalizer>);
    register.insert("StringSplit", build::<strings::StringSplit>);
    register.insert("TensorScatter", build::<rearrange::TensorScatter>);
    register.insert("TfIdfVectorizer", build::<tf_idf::TfIdfVectorizer>);
    register.insert("Unique", build::<unique::Unique>);
}
