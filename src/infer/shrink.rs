//! Memory of what only a crop is needed of any more.
//!
//! Owns: [`shrink`]. Must not know: where a storage lies, what a step does.
//!
//! A skip connection of a network with unpadded convolutions is read whole by the next stage and much later, cropped, by a
//! decoder. Between the two its crop moves to the beginning of its memory, and the rest is free.

use super::{
    place::{Part, Placement},
    program::Target,
};
use crate::model::graph::NodeId;
use std::ops::Range;

/// A crop of which more than this is left stays where it is.
const MOST_LEFT: f64 = 0.7;

/// Something that a step or a copy reads or writes.
#[derive(Debug, Clone)]
pub(super) struct Touch {
    /// When, in the order of steps and copies.
    pub at: usize,
    /// What is read; nothing where it is written.
    pub read: Option<NodeId>,
    /// Where.
    pub part: Part,
}

/// What is left of a storage moves to its beginning, into a storage of its own that lies there.
#[derive(Debug, Clone)]
pub(super) struct Shrink {
    /// After which of the steps and copies.
    pub after: usize,
    /// What is left.
    pub from: Part,
    /// Where to.
    pub to: Part,
}

/// Finds storages of which only a crop is needed from some step on, and gives what reads the crop its new place.
///
/// On a processor only: rows are moved in their order, which the threads of a GPU have none of.
pub(super) fn shrink(placement: &mut Placement, touches: &[Touch], target: Target) -> Vec<Shrink> {
    if target != Target::Cpu {
        return vec![];
    }
    let storages = 0..placement.sizes.len();
    storages.filter_map(|storage| shrink_one(placement, storage, touches)).collect()
}

fn shrink_one(placement: &mut Placement, storage: usize, touches: &[Touch]) -> Option<Shrink> {
    let size = placement.sizes[storage];
    if size.contains(&0) || placement.heads.iter().any(|head| head.storage == storage) {
        return None;
    }
    let touches: Vec<&Touch> = touches.iter().filter(|touch| touch.part.storage == storage).collect();
    let whole: usize = size.iter().product();
    let (mut left, mut first) = (None, touches.len());
    while let Some(touch) = first.checked_sub(1).map(|i| touches[i]).filter(|touch| touch.read.is_some()) {
        let joined = joined(left.as_ref(), &touch.part.axes);
        if volume(&joined) as f64 > MOST_LEFT * whole as f64 {
            break;
        }
        (left, first) = (Some(joined), first - 1);
    }
    let (before, after) = touches.split_at(first);
    let (axes, last) = (left?, before.last()?);
    let is_read_before = |node: &Option<NodeId>| before.iter().any(|touch| touch.read == *node);
    let all_channels = axes[2].start == 0 && axes[2].end as usize == size[2];
    if after[0].at == last.at || !all_channels || after.iter().any(|t| t.part.is_spread || is_read_before(&t.read)) {
        return None;
    }
    let nodes: Vec<NodeId> = after.iter().filter_map(|touch| touch.read).collect();
    let from = Part { storage, axes, is_spread: false };
    let to = placement.moved_to_front(&from, &nodes);
    Some(Shrink { after: last.at, from, to })
}

/// The box around both.
fn joined(a: Option<&[Range<isize>; 3]>, b: &[Range<isize>; 3]) -> [Range<isize>; 3] {
    let Some(a) = a else { return b.clone() };
    [0, 1, 2].map(|i| a[i].start.min(b[i].start)..a[i].end.max(b[i].end))
}

fn volume(axes: &[Range<isize>; 3]) -> usize {
    axes.iter().map(|axis| axis.end.abs_diff(axis.start)).product()
}
