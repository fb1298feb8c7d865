//! Horizontal and vertical distance of each px to the middle of its nucleus.
//!
//! Owns: [`target`]. Must not know: other heads.
//! Source: HoVer-Net (Graham 2019), authors' code `models/hovernet/targets.py`, `gen_instance_hv_map`: pieces of a
//! nucleus that do not touch count as nuclei of their own, those of less than 30 px in the output are left out.
//! Differs: nuclei at the edge of the sample have distances too (the original loses them within 2 px of it).

use super::{
    TargetValues,
    plan::{Lattice, known_nuclei},
};
use crate::train::sample::Sample;

/// Pieces with fewer px in the output have no distances.
const MIN_PX: usize = 30;

/// `[2, h, w]`: horizontal, then vertical, each from −1 to 1; 0 outside nuclei.
pub(super) fn target(sample: &Sample, lattice: &Lattice) -> (TargetValues, Vec<f32>) {
    let n = lattice.len();
    let Some(instances) = &sample.truth.instances else {
        return (TargetValues::Numbers { channels: 2, data: vec![0.0; 2 * n] }, vec![0.0; n]);
    };
    let maps = hv_maps(instances, lattice);
    let mut data: Vec<f32> = lattice.indices().map(|at| maps[at][0]).collect();
    data.extend(lattice.indices().map(|at| maps[at][1]));
    (TargetValues::Numbers { channels: 2, data }, known_nuclei(sample, lattice))
}

/// The two distances of every px of the sample.
fn hv_maps(instances: &[u32], lattice: &Lattice) -> Vec<[f32; 2]> {
    let (w, h) = (lattice.sample_w, lattice.sample_h);
    let covers = |x: usize, y: usize| {
        let inside = |at: usize, first: usize, count: usize| at >= first && at < first + count * lattice.step;
        inside(x, lattice.x, lattice.w) && inside(y, lattice.y, lattice.h)
    };
    let mut maps = vec![[0.0; 2]; w * h];
    let mut seen = vec![false; w * h];
    let mut piece: Vec<usize> = vec![];
    for start in 0..w * h {
        let id = instances[start];
        if id == 0 || seen[start] {
            continue;
        }
        piece.clear();
        piece.push(start);
        seen[start] = true;
        let mut next = 0;
        while next < piece.len() {
            let at = piece[next];
            next += 1;
            let (x, y) = (at % w, at / w);
            let sides =
                [(x > 0, at.wrapping_sub(1)), (x + 1 < w, at + 1), (y > 0, at.wrapping_sub(w)), (y + 1 < h, at + w)];
            for (_, side) in sides.into_iter().filter(|&(is, _)| is) {
                if instances[side] == id && !seen[side] {
                    seen[side] = true;
                    piece.push(side);
                }
            }
        }
        if piece.iter().filter(|&&at| covers(at % w, at / w)).count() >= MIN_PX {
            fill(&piece, w, &mut maps);
        }
    }
    maps
}

/// Distances of one piece: px from its middle (rounded, and counted from 1 as in the original), divided by the farthest
/// on the same side.
fn fill(piece: &[usize], w: usize, maps: &mut [[f32; 2]]) {
    for axis in 0..2 {
        let along = |at: usize| if axis == 0 { at % w } else { at / w };
        let first = piece.iter().map(|&at| along(at)).min().unwrap_or(0);
        // Sums are whole numbers: the mean does not depend on the order.
        let sum: u64 = piece.iter().map(|&at| (along(at) - first) as u64).sum();
        let middle = (sum as f64 / piece.len() as f64 + 0.5).floor() as i64;
        let from_middle = |at: usize| (along(at) - first) as i64 + 1 - middle;
        let distances = || piece.iter().map(|&at| from_middle(at));
        let (low, high) = (distances().min().unwrap_or(0), distances().max().unwrap_or(0));
        for &at in piece {
            let d = from_middle(at);
            let farthest = if d < 0 { -low } else { high };
            let value = if d == 0 { 0.0 } else { d as f32 / farthest as f32 };
            let [x, y] = &mut maps[at];
            *(if axis == 0 { x } else { y }) = value;
        }
    }
}
