//! Edges: where a class or a nucleus ends.
//!
//! Owns: [`target`]. Must not know: other heads.
//! Source: ClinSegNet's edge head: the morphological gradient (dilation minus erosion, 3×3) of the mask. Of a mask with
//! several classes or nuclei it is 1 where the 3×3 px around are not all alike, which is the same for two values.

use super::{
    TargetValues,
    plan::{Lattice, yes_or_no},
    semantic::node_map,
};
use crate::train::{class_tree::UNKNOWN, sample::Sample};

/// Of nuclei that touch, the edge between them counts too. What lies outside the sample is as the px beside it.
pub(super) fn target(sample: &Sample, lattice: &Lattice, channels: u32) -> (TargetValues, Vec<f32>) {
    let map: Vec<u32> = match (&sample.truth.instances, node_map(sample)) {
        (Some(instances), _) => instances.clone(),
        (None, Some(nodes)) => nodes.iter().map(|&n| u32::from(n)).collect(),
        (None, None) => return (yes_or_no((0..lattice.len()).map(|_| false), channels), vec![0.0; lattice.len()]),
    };
    let is_class_map = sample.truth.instances.is_none();
    let (w, h) = (lattice.sample_w, lattice.sample_h);
    let around = |at: usize| {
        let (x, y) = (at % w, at / w);
        let rows = y.saturating_sub(1)..(y + 2).min(h);
        rows.flat_map(move |j| (x.saturating_sub(1)..(x + 2).min(w)).map(move |i| j * w + i))
    };
    let edges = lattice.indices().map(|at| around(at).any(|i| map[i] != map[at]));
    let known = |at: usize| !is_class_map || around(at).all(|i| map[i] != u32::from(UNKNOWN));
    let weight = lattice.indices().map(|at| f32::from(u8::from(known(at)))).collect();
    (yes_or_no(edges, channels), weight)
}
