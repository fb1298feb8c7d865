//! Class of a whole picture.
//!
//! Owns: [`target`]. Must not know: other heads.

use super::{TargetValues, semantic::ChannelMasks};
use crate::train::{
    class_tree::{ClassTree, UNKNOWN},
    sample::Sample,
};

/// One px with the channels of the label.
pub(super) fn target(sample: &Sample, tree: &ClassTree) -> (TargetValues, Vec<f32>) {
    let mask = ChannelMasks::new(tree, 0).of(sample.truth.label.unwrap_or(UNKNOWN));
    let values = TargetValues::Channels { channels: tree.leaves().len() as u32, data: vec![mask] };
    (values, vec![f32::from(u8::from(mask != 0))])
}
