//! Type of the nucleus each px lies in, background first.
//!
//! Owns: [`target`]. Must not know: other heads.

use super::{
    TargetValues,
    dots::NearDots,
    plan::{Lattice, known_nuclei},
    semantic::{ChannelMasks, channels, node_map},
};
use crate::train::{
    class_tree::{ClassTree, NodeIndex, UNKNOWN},
    sample::Sample,
};

/// A nucleus of unknown type may be any of them: it still teaches that it is no background.
pub(super) fn target(
    sample: &Sample,
    lattice: &Lattice,
    tree: &ClassTree,
    dots: Option<&NearDots>,
) -> (TargetValues, Vec<f32>) {
    let channel_count = tree.leaves().len() as u32 + 1;
    let masks = ChannelMasks::new(tree, 1);
    let truth = &sample.truth;
    if let Some(instances) = &truth.instances {
        let any = (1_u32 << channel_count) - 2;
        let mask = |id: u32| match id {
            0 => 1,
            id => match masks.of(truth.instance_nodes.get(id as usize - 1).copied().unwrap_or(UNKNOWN)) {
                0 => any,
                mask => mask,
            },
        };
        let weight = known_nuclei(sample, lattice);
        let masks = lattice.indices().zip(&weight).map(|(at, &w)| if w > 0.0 { mask(instances[at]) } else { 0 });
        let data = masks.collect();
        return (TargetValues::Channels { channels: channel_count, data }, weight);
    }
    let nodes: Vec<NodeIndex> = match (node_map(sample), dots) {
        (Some(map), _) => lattice.indices().map(|at| map[at]).collect(),
        (None, Some(dots)) => dots.nodes(),
        (None, None) => vec![UNKNOWN; lattice.len()],
    };
    channels(nodes.into_iter(), &masks, channel_count)
}
