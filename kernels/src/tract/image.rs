//! Images: where a window stands on them, and where their channels lie.
//!
//! | folder | what is in it |
//! |---|---|
//! | `geometry` | strides, dilations and padding of convolutions and pools |
//! | `channels` | images turned over: channels before their extents or behind |
//! | `layout` | lets the operators that `fuse` wrote pass images on with their channels last |

use tract_onnx::model::OnnxOpRegister;

use super::operator::build;

pub(super) mod channels;
pub(super) mod geometry;
pub(super) mod layout;

/// Puts the operators that `layout` writes into `register`. No file may name them.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert(layout::LAST, build::<channels::Channels<true>>);
    register.insert(layout::FIRST, build::<channels::Channels<false>>);
}
