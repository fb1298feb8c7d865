//! Whether a px lies in a nucleus.
//!
//! Owns: [`target`]. Must not know: other heads.

use super::{
    TargetValues,
    dots::NearDots,
    plan::{Lattice, known_nuclei, yes_or_no},
    semantic::node_map,
};
use crate::train::{
    class_tree::{BACKGROUND, UNKNOWN},
    sample::Sample,
};

/// From nuclei, from classes of px, or from dots: then a number between 0 and 1, two channels at its half.
pub(super) fn target(
    sample: &Sample,
    lattice: &Lattice,
    channels: u32,
    dots: Option<&NearDots>,
) -> (TargetValues, Vec<f32>) {
    if let Some(instances) = &sample.truth.instances {
        let yes = lattice.indices().map(|at| instances[at] > 0);
        return (yes_or_no(yes, channels), known_nuclei(sample, lattice));
    }
    if let Some(map) = node_map(sample) {
        let yes = lattice.indices().map(|at| !matches!(map[at], BACKGROUND | UNKNOWN));
        let weight = lattice.indices().map(|at| f32::from(u8::from(map[at] != UNKNOWN))).collect();
        return (yes_or_no(yes, channels), weight);
    }
    match dots {
        Some(dots) if channels == 1 => (TargetValues::Numbers { channels, data: dots.prob() }, dots.prob_weight()),
        Some(dots) => (yes_or_no(dots.prob().into_iter().map(|p| p >= 0.5), channels), dots.prob_weight()),
        None => (yes_or_no((0..lattice.len()).map(|_| false), channels), vec![0.0; lattice.len()]),
    }
}
