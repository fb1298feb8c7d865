//! Class of each px.
//!
//! Owns: [`target`], [`node_map`]. Must not know: other heads.

use super::{TargetValues, dots::NearDots, plan::Lattice};
use crate::train::{
    class_tree::{BACKGROUND, ClassTree, NodeIndex, UNKNOWN},
    sample::Sample,
};
use std::borrow::Cow;

/// `[h, w]` class of each px of a sample, where the data set tells it: drawn, or that of the nucleus it lies in.
pub(super) fn node_map(sample: &Sample) -> Option<Cow<'_, [u8]>> {
    let truth = &sample.truth;
    if truth.dots.is_some() && truth.instances.is_none() {
        // Beside dots the classes only say where nothing is known.
        return None;
    }
    if let Some(semantic) = &truth.semantic {
        return Some(Cow::Borrowed(semantic));
    }
    // A sample with both has the classes of its nuclei in both.
    let instances = truth.instances.as_ref()?;
    let node = |id: u32| match id {
        0 => BACKGROUND,
        id => truth.instance_nodes.get(id as usize - 1).copied().unwrap_or(UNKNOWN),
    };
    Some(Cow::Owned(instances.iter().map(|&id| node(id)).collect()))
}

/// The channels that each class may be: bit masks for every node, [`BACKGROUND`] and [`UNKNOWN`].
pub(super) struct ChannelMasks {
    masks: [u32; 256],
}

impl ChannelMasks {
    /// Leaves start at channel `first`; background is channel 0 where `first` is 1, and unknown where it is 0.
    pub fn new(tree: &ClassTree, first: u32) -> Self {
        let mut masks = [0; 256];
        for (node, mask) in masks.iter_mut().enumerate().take(tree.nodes().len()) {
            let leaves = tree.leaves_of(node as NodeIndex);
            *mask = (0..).zip(&leaves).map(|(c, &is)| u32::from(is) << (c + first)).sum();
        }
        masks[usize::from(BACKGROUND)] = first;
        Self { masks }
    }

    /// The channels of a class.
    pub fn of(&self, node: NodeIndex) -> u32 {
        self.masks[usize::from(node)]
    }
}

/// Channels of each px, and 1 where they are known.
pub(super) fn channels(
    nodes: impl Iterator<Item = NodeIndex>,
    masks: &ChannelMasks,
    channels: u32,
) -> (TargetValues, Vec<f32>) {
    let data: Vec<u32> = nodes.map(|node| masks.of(node)).collect();
    let weight = data.iter().map(|&mask| f32::from(u8::from(mask != 0))).collect();
    (TargetValues::Channels { channels, data }, weight)
}

/// The target of a semantic output: one channel says whether there is any class, more tell them apart.
pub(super) fn target(
    sample: &Sample,
    lattice: &Lattice,
    channel_count: u32,
    tree: &ClassTree,
    dots: Option<&NearDots>,
) -> (TargetValues, Vec<f32>) {
    let nodes: Vec<NodeIndex> = match (node_map(sample), dots) {
        (Some(map), _) => lattice.indices().map(|at| map[at]).collect(),
        (None, Some(dots)) => dots.nodes(),
        (None, None) => vec![UNKNOWN; lattice.len()],
    };
    if channel_count == 1 {
        let weight = nodes.iter().map(|&n| f32::from(u8::from(n != UNKNOWN))).collect();
        let is_some = |n: &NodeIndex| !matches!(*n, UNKNOWN | BACKGROUND);
        return (super::plan::yes_or_no(nodes.iter().map(is_some), 1), weight);
    }
    let first = u32::from(channel_count > tree.leaves().len() as u32);
    channels(nodes.into_iter(), &ChannelMasks::new(tree, first), channel_count)
}
