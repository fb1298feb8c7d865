//! StarDist's targets: object probability and ray lengths.
//!
//! Owns: [`edt_prob`], [`star_dist`], their targets. Must not know: other heads.
//! Source: the `stardist` package 0.9.2 (Schmidt 2018): `utils.edt_prob`, `lib/stardist2d.cpp` `_COMMON_star_dist`;
//! the weight of a px' rays is its object probability, as in `models/model2d.py`. Differs where the output is coarser than
//! the sample: the package takes the first px of each square, which puts objects half a px off; here the place is the middle
//! of the square, the probability the mean over it, the object that of its first px.

use super::{
    TargetValues,
    dots::NearDots,
    plan::{Lattice, known_nuclei},
};
use crate::train::sample::Sample;

/// Of objects: distance to the object's edge, divided by the largest in the object. Of dots: what `DotRules` says.
pub(super) fn prob_target(sample: &Sample, lattice: &Lattice, dots: Option<&NearDots>) -> (TargetValues, Vec<f32>) {
    match (&sample.truth.instances, dots) {
        (Some(instances), _) => {
            let data = prob_of_squares(instances, lattice);
            (TargetValues::Numbers { channels: 1, data }, known_nuclei(sample, lattice))
        }
        (None, Some(dots)) => (TargetValues::Numbers { channels: 1, data: dots.prob() }, dots.prob_weight()),
        (None, None) => super::nuclear_pixel::target(sample, lattice, 1, None),
    }
}

/// Lengths in px of the sample; a px counts as much as its object probability, where only dots are known not at all.
pub(super) fn dist_target(sample: &Sample, lattice: &Lattice, rays: u32) -> (TargetValues, Vec<f32>) {
    let n = lattice.len();
    let Some(instances) = &sample.truth.instances else {
        return (TargetValues::Numbers { channels: rays, data: vec![0.0; rays as usize * n] }, vec![0.0; n]);
    };
    let mut weight = prob_of_squares(instances, lattice);
    weight.iter_mut().zip(lattice.indices()).filter(|&(_, at)| instances[at] == 0).for_each(|(w, _)| *w = 0.0);
    let shift = (lattice.step as f32 - 1.0) / 2.0;
    let data = star_dist(instances, lattice.sample_w, rays as usize, lattice.indices(), shift);
    (TargetValues::Numbers { channels: rays, data }, weight)
}

/// Mean object probability of the square of px that each px of the output stands for.
fn prob_of_squares(instances: &[u32], lattice: &Lattice) -> Vec<f32> {
    let (prob, w, step) = (edt_prob(instances, lattice.sample_w), lattice.sample_w, lattice.step);
    let square = |at: usize| (0..step).flat_map(move |j| (0..step).map(move |i| at + j * w + i));
    lattice.indices().map(|at| square(at).map(|i| prob[i]).sum::<f32>() / (step * step) as f32).collect()
}

/// `[h, w]`: Euclidean distance of each px to the nearest px that is not of its object, divided by the largest of the
/// object. What lies outside the picture is not counted as background, unless an object fills all of it.
pub fn edt_prob(instances: &[u32], w: usize) -> Vec<f32> {
    let h = instances.len().checked_div(w).unwrap_or(0);
    let boxes = boxes(instances, w);
    let mut prob = vec![0.0; instances.len()];
    let fills_all = boxes.iter().flatten().any(|b| b.count == instances.len());
    let pad = usize::from(fills_all);
    let mut scratch = vec![];
    for (id, b) in (1..).zip(&boxes) {
        let Some(b) = b else { continue };
        // One px around the object, where the picture has it.
        let (x0, y0) = (b.x0.saturating_sub(1), b.y0.saturating_sub(1));
        let (x1, y1) = ((b.x1 + 1).min(w), (b.y1 + 1).min(h));
        let (bw, bh) = (x1 - x0 + 2 * pad, y1 - y0 + 2 * pad);
        let is_object = |x: usize, y: usize| {
            x >= pad && y >= pad && x + pad < bw && y + pad < bh && instances[(y0 + y - pad) * w + x0 + x - pad] == id
        };
        squared_distance(bw, bh, is_object, &mut scratch);
        let largest = scratch.iter().copied().max().unwrap_or(0);
        let norm = f64::from(largest).sqrt() as f32 as f64 + 1e-10;
        for y in pad..bh - pad {
            for x in pad..bw - pad {
                if is_object(x, y) {
                    let d = f64::from(scratch[y * bw + x]).sqrt();
                    prob[(y0 + y - pad) * w + x0 + x - pad] = (d / norm) as f32;
                }
            }
        }
    }
    prob
}

/// The box around an object and its px.
#[derive(Debug, Clone, Copy)]
struct ObjectBox {
    x0: usize,
    y0: usize,
    x1: usize,
    y1: usize,
    count: usize,
}

fn boxes(instances: &[u32], w: usize) -> Vec<Option<ObjectBox>> {
    let mut boxes: Vec<Option<ObjectBox>> = vec![];
    for (at, &id) in instances.iter().enumerate().filter(|&(_, &id)| id > 0) {
        let (x, y) = (at % w, at / w);
        let slot = id as usize - 1;
        if slot >= boxes.len() {
            boxes.resize(slot + 1, None);
        }
        let b = boxes[slot].get_or_insert(ObjectBox { x0: x, y0: y, x1: x + 1, y1: y + 1, count: 0 });
        *b = ObjectBox { x0: b.x0.min(x), x1: b.x1.max(x + 1), y1: y + 1, y0: b.y0, count: b.count + 1 };
    }
    boxes
}

/// Squared distance to the nearest px that is no object, exact (Saito and Toriwaki 1994); a large number where there
/// is none.
fn squared_distance(w: usize, h: usize, is_object: impl Fn(usize, usize) -> bool, out: &mut Vec<u32>) {
    const FAR: u32 = 1 << 28;
    out.clear();
    out.resize(w * h, 0);
    // Along columns: distance in px.
    for x in 0..w {
        let mut d = FAR;
        for y in 0..h {
            d = if is_object(x, y) { (d + 1).min(FAR) } else { 0 };
            out[y * w + x] = d;
        }
        d = FAR;
        for y in (0..h).rev() {
            d = if out[y * w + x] > 0 { (d + 1).min(FAR) } else { 0 };
            out[y * w + x] = out[y * w + x].min(d);
        }
    }
    let mut row = vec![0; w];
    let square = |d: u32| if d >= 1 << 14 { FAR } else { d * d };
    for y in 0..h {
        row.iter_mut().zip(&out[y * w..][..w]).for_each(|(r, &d)| *r = square(d));
        for x in 0..w {
            let mut best = row[x];
            for d in 1..w {
                let across = (d * d) as u32;
                if across >= best {
                    break;
                }
                if x >= d {
                    best = best.min(row[x - d] + across);
                }
                if x + d < w {
                    best = best.min(row[x + d] + across);
                }
            }
            out[y * w + x] = best;
        }
    }
}

/// `[rays, n]` length of each ray from each of the `n` px `at` to the end of its object; 0 on background.
///
/// Ray `k` has the angle `2πk/rays`: row + d·sin, column + d·cos. Rays begin `shift` px right of and below the middle of
/// the px; 0 is the package's, others are within 0.25 px.
pub fn star_dist(
    instances: &[u32],
    w: usize,
    rays: usize,
    at: impl Iterator<Item = usize> + Clone,
    shift: f32,
) -> Vec<f32> {
    let h = instances.len().checked_div(w).unwrap_or(0);
    let n = at.clone().count();
    let mut out = vec![0.0; rays * n];
    let step = (std::f64::consts::TAU / rays as f64) as f32;
    for k in 0..rays {
        let phi = k as f32 * step;
        let (dy, dx) = (phi.sin(), phi.cos());
        // From between px, steps are half as long: whole ones would be off by half a px, always to the same side.
        let (stride, overshoot) = if shift == 0.0 { (1.0, 0.5 / dx.abs().max(dy.abs()) - 1.0) } else { (0.5, -0.25) };
        for (slot, at) in out[k * n..(k + 1) * n].iter_mut().zip(at.clone()) {
            let id = instances[at];
            if id == 0 {
                continue;
            }
            let (x0, y0) = ((at % w) as f32 + shift, (at / w) as f32 + shift);
            let (mut x, mut y) = (0.0_f32, 0.0_f32);
            loop {
                x += stride * dx;
                y += stride * dy;
                let (i, j) = (round(x0 + x), round(y0 + y));
                let inside = i >= 0 && j >= 0 && (i as usize) < w && (j as usize) < h;
                if !inside || instances[j as usize * w + i as usize] != id {
                    x += overshoot * dx;
                    y += overshoot * dy;
                    *slot = (x * x + y * y).sqrt();
                    break;
                }
            }
        }
    }
    out
}

/// To the nearest whole number, half to even, for numbers below 2²²: what the processor does when it adds.
#[inline(always)]
fn round(v: f32) -> i32 {
    const SHIFT: f32 = 12_582_912.0; // 1.5·2²³
    ((v + SHIFT) - SHIFT) as i32
}
