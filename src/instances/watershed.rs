//! Which nucleus a pixel belongs to: watershed by steepest ascent on the distance to the background.
//!
//! Owns: [`Reach`] (how far anything matters), [`Watershed`]. Must not know: regions' cores, probabilities.
//!
//! A nucleus here depends on pixels within a fixed distance of it and no others, whatever the map looks like, so
//! that regions with a halo find exactly what one picture of the whole slide would give:
//! - the height of a pixel is its distance to the background, capped and smoothed;
//! - each pixel points at its highest neighbour; pixels whose whole path to a peak stays within `basin_px` of the
//!   peak are the peak's basin, others are background;
//! - a peak joins the higher neighbour across the highest saddle between them when the saddle is nearly as high as
//!   the peak, or the two are near, and never over more than `merge_px`; chains of joins longer than that are not
//!   followed.
//!
//! Heights are compared with the pixel's position as the last word (the upper, then the left one is higher), so no
//! result hangs on the order of work.
//!
//! Source: steepest-ascent ("toboggan") watershed; joining across saddles as in QuPath's and ImageJ's maximum
//! finder. Differs: bounded, and flooded never.

use super::{distance::squared_distance, foreground::for_each_run};
use crate::{config::settings, units::Mpp};

/// Settings that found most nuclei of the breast-cancer patches they were tuned on, and held on others.
pub const WATERSHED_DEFAULTS: settings::Watershed = settings::Watershed {
    threshold: 0.5,
    min_area_um2: 12.0,
    max_area_um2: 400.0,
    min_distance_um: 3.0,
    max_hole_um2: 16.0,
};

/// Structures of the foreground thinner than twice this are removed.
const OPEN_UM: f64 = 0.5;
/// A saddle this share of the lower peak's height divides nothing.
const SADDLE_SHARE: f64 = 0.92;
/// Variance of the smoothing of the distance, µm².
const SMOOTH_UM2: f64 = 0.25;

/// How far things matter, in px.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Reach {
    /// Holes up to this area are filled …
    pub(super) hole_area_px: u32,
    /// … when they fit into a square of this side.
    pub(super) hole_side_px: u32,
    /// Radius of the opening.
    pub(super) open_px: u32,
    /// Distances to the background are capped here.
    pub(super) distance_px: u32,
    /// How often the distance is smoothed with [1 2 1]/4.
    pub(super) smooth_passes: u32,
    /// A basin ends this far from its peak, along x and y.
    pub(super) basin_px: u32,
    /// Peaks farther apart than this, along x or y, are never joined.
    pub(super) merge_px: u32,
    /// Peaks nearer than this that touch are always joined (squared).
    pub(super) near_squared_px: u64,
}

impl Reach {
    /// The reach of `w` on a grid of `mpp`.
    pub(super) fn new(w: &settings::Watershed, mpp: Mpp) -> Self {
        let um = mpp.um_per_px();
        let radius_px = (w.max_area_um2 / std::f64::consts::PI).sqrt() / um;
        let hole_px = w.max_hole_um2 / (um * um);
        let near_px = w.min_distance_um / um;
        Self {
            hole_area_px: hole_px.floor() as u32,
            hole_side_px: (1.5 * hole_px.sqrt()).ceil() as u32,
            open_px: (OPEN_UM / um + 0.1).floor() as u32,
            distance_px: ((0.7 * radius_px).ceil() as u32).clamp(2, 100),
            smooth_passes: (2.0 * SMOOTH_UM2 / (um * um)).round().clamp(1.0, 16.0) as u32,
            basin_px: (radius_px.ceil() as u32).max(1),
            merge_px: ((0.6 * radius_px).max(near_px).ceil() as u32).max(1),
            near_squared_px: (near_px * near_px).round() as u64,
        }
    }

    /// Farthest pixel the foreground at a pixel depends on.
    pub(super) fn foreground_px(&self) -> u32 {
        self.hole_side_px + 1 + 2 * self.open_px
    }

    /// Farthest pixel a pixel's height depends on.
    fn height_px(&self) -> u32 {
        self.foreground_px() + self.distance_px + self.smooth_passes
    }

    /// Farthest pixel that anything about a nucleus depends on, from its centroid.
    ///
    /// A nucleus lies within `merge_px + basin_px` of its root peak, and so the root within that of the centroid.
    /// Which peaks join the root is decided among peaks within `merge_px` of it, each by its own basin and those of
    /// peaks within `merge_px`; a basin is decided by heights one pixel around it.
    pub(super) fn halo_px(&self) -> u32 {
        let nucleus = self.merge_px + self.basin_px;
        nucleus + self.merge_px + self.merge_px + self.basin_px + 2 + self.height_px()
    }
}

/// Label of a pixel that belongs to no nucleus.
const NONE: u32 = 0;
/// Label of a foreground pixel too far from its peak.
const FAR: u32 = u32::MAX;

/// A local maximum of the height.
#[derive(Debug, Clone, Copy)]
struct Peak {
    x: u32,
    y: u32,
    height: i16,
    /// Height of the highest saddle it may be joined across; the peak behind it.
    saddle: i16,
    parent: u32,
}

impl Peak {
    /// Total order of peaks: height, then the upper, then the left one.
    fn rank(&self) -> (i16, std::cmp::Reverse<(u32, u32)>) {
        (self.height, std::cmp::Reverse((self.y, self.x)))
    }

    /// Larger of the distances along x and y.
    fn chessboard_px(&self, other: &Self) -> u32 {
        self.x.abs_diff(other.x).max(self.y.abs_diff(other.y))
    }
}

/// Buffers of one region, kept by the thread. Padded arrays have a ring of one pixel around the picture.
#[derive(Default)]
pub(super) struct Watershed {
    /// Squared distances, then room for smoothing heights.
    distance: Vec<i16>,
    columns: Vec<u8>,
    roots: Vec<i16>,
    /// Padded; 0 on background, positive on foreground.
    height: Vec<i16>,
    /// Padded: which neighbour is highest, 0–8 in raster order, 4 the pixel itself.
    highest: Vec<u8>,
    /// Padded: index of the peak + 1.
    labels: Vec<u32>,
    peaks: Vec<Peak>,
    /// Steps of the way up that is being followed.
    path: Vec<u8>,
    /// Runs of the foreground: row, first column, first column after.
    runs: Vec<[u32; 3]>,
}

impl Watershed {
    /// Labels each pixel of the foreground and calls `emit(nucleus, y, x0, x1)` for each run of a nucleus' pixels, in
    /// raster order; nuclei are numbered from 0 in an order without meaning.
    ///
    /// Returns how many numbers there are.
    ///
    /// # Shapes
    /// - `mask`: `[h, w]`, 1 foreground
    pub(super) fn run(&mut self, mask: &[u8], w: usize, reach: &Reach, emit: impl FnMut(u32, u32, u32, u32)) -> usize {
        self.peaks.clear();
        if mask.is_empty() {
            return 0;
        }
        self.runs.clear();
        for (y, row) in mask.chunks_exact(w).enumerate() {
            for_each_run(row, |x0, x1| self.runs.push([y as u32, x0 as u32, x1 as u32]));
        }
        if self.runs.is_empty() {
            return 0;
        }
        self.heights(mask, w, reach);
        self.ascend(w);
        self.label(w, reach);
        self.saddles(w, reach);
        let nuclei = self.join(reach);
        self.emit_runs(w, &nuclei, emit);
        self.peaks.len()
    }

    /// Height: the square root of the capped squared distance in fixed point, smoothed, 0 on background.
    fn heights(&mut self, mask: &[u8], w: usize, reach: &Reach) {
        let h = mask.len() / w;
        let cap = reach.distance_px;
        squared_distance(mask, w, cap as u8, &mut self.columns, &mut self.distance);
        let unit = height_unit(cap);
        if self.roots.len() != (cap * cap + 1) as usize {
            self.roots = (0..=cap * cap).map(|d| (f64::from(d).sqrt() * unit).round() as i16).collect();
        }
        let stride = w + 2;
        self.height.clear();
        self.height.resize(stride * (h + 2), 0);
        for y in 0..h {
            let to = &mut self.height[(y + 1) * stride + 1..][..w];
            to.iter_mut().zip(&self.distance[y * w..]).for_each(|(to, &d)| *to = self.roots[d as usize]);
        }
        for _ in 0..reach.smooth_passes {
            smooth(&self.height, stride, &mut self.distance);
            std::mem::swap(&mut self.height, &mut self.distance);
        }
        for y in 0..h {
            let to = &mut self.height[(y + 1) * stride + 1..][..w];
            // At least 1: a foreground pixel must never look up to the background.
            to.iter_mut().zip(&mask[y * w..]).for_each(|(to, &m)| *to = (*to).max(1) & -i16::from(m));
        }
    }

    /// Finds each pixel's highest neighbour; of equals the first in raster order.
    fn ascend(&mut self, w: usize) {
        let stride = w + 2;
        self.highest.clear();
        self.highest.resize(self.height.len(), 0);
        let mut best = vec![0i16; w];
        let mut which = vec![0u8; w];
        for row in self.runs.chunk_by(|a, b| a[0] == b[0]) {
            let y = row[0][0] as usize;
            // From the row's first foreground pixel to its last.
            let x0 = row[0][1] as usize;
            let n = row[row.len() - 1][2] as usize - x0;
            let (best, which) = (&mut best[..n], &mut which[..n]);
            best.copy_from_slice(&self.height[y * stride + x0..][..n]);
            which.fill(0);
            for k in 1..9u8 {
                let from = (y + usize::from(k / 3)) * stride + usize::from(k % 3) + x0;
                let there = &self.height[from..from + n];
                for ((best, which), &there) in best.iter_mut().zip(which.iter_mut()).zip(there) {
                    *which = if there > *best { k } else { *which };
                    *best = (*best).max(there);
                }
            }
            self.highest[(y + 1) * stride + 1 + x0..][..n].copy_from_slice(which);
        }
    }

    /// Follows each pixel to its peak.
    fn label(&mut self, w: usize, reach: &Reach) {
        let stride = w + 2;
        self.labels.clear();
        self.labels.resize(self.height.len(), NONE);
        let mut runs = std::mem::take(&mut self.runs);
        for &[y, x0, x1] in &runs {
            for x in x0..x1 {
                self.label_path(x + 1, y + 1, stride, reach.basin_px);
            }
        }
        std::mem::swap(&mut runs, &mut self.runs);
    }

    /// Labels the pixels on the way from `(x, y)` of the padded picture to its peak.
    #[inline(always)]
    fn label_path(&mut self, mut x: u32, mut y: u32, stride: usize, basin_px: u32) {
        let step = |k: u8| (i32::from(k % 3) - 1, i32::from(k / 3) - 1);
        let index = |x: u32, y: u32| y as usize * stride + x as usize;
        let mut at = index(x, y);
        self.path.clear();
        while self.labels[at] == NONE && self.highest[at] != 4 {
            let k = self.highest[at];
            self.path.push(k);
            let (dx, dy) = step(k);
            (x, y) = (x.wrapping_add_signed(dx), y.wrapping_add_signed(dy));
            at = index(x, y);
        }
        if self.labels[at] == NONE {
            self.peaks.push(Peak { x, y, height: self.height[at], saddle: -1, parent: NONE });
            self.labels[at] = self.peaks.len() as u32;
        }
        let mut label = self.labels[at];
        while let Some(k) = self.path.pop() {
            let (dx, dy) = step(k);
            (x, y) = (x.wrapping_add_signed(-dx), y.wrapping_add_signed(-dy));
            if label != FAR {
                let peak = &self.peaks[label as usize - 1];
                if x.abs_diff(peak.x).max(y.abs_diff(peak.y)) > basin_px {
                    label = FAR;
                }
            }
            self.labels[index(x, y)] = label;
        }
    }

    /// Finds, for each peak, the highest saddle it is to be joined across.
    fn saddles(&mut self, w: usize, reach: &Reach) {
        let stride = w + 2;
        for &[y, x0, x1] in &self.runs {
            let row = (y as usize + 1) * stride + 1;
            for at in row + x0 as usize..row + x1 as usize {
                let here = self.labels[at];
                for next in [at + 1, at + stride - 1, at + stride, at + stride + 1] {
                    let there = self.labels[next];
                    if there != here && here != FAR && there != NONE && there != FAR {
                        let saddle = self.height[at].min(self.height[next]);
                        consider(&mut self.peaks, here, there, saddle, reach);
                    }
                }
            }
        }
    }

    /// The nucleus of each peak: its root, or the peak itself where the chain of joins leads too far.
    fn join(&self, reach: &Reach) -> Vec<u32> {
        let root = |i: usize| {
            let mut at = i;
            let (mut x0, mut y0) = (self.peaks[i].x, self.peaks[i].y);
            let (mut x1, mut y1) = (x0, y0);
            while self.peaks[at].parent != NONE {
                at = self.peaks[at].parent as usize - 1;
                let peak = &self.peaks[at];
                (x0, x1, y0, y1) = (x0.min(peak.x), x1.max(peak.x), y0.min(peak.y), y1.max(peak.y));
                if (x1 - x0).max(y1 - y0) > reach.merge_px {
                    return i;
                }
            }
            at
        };
        (0..self.peaks.len()).map(|i| root(i) as u32).collect()
    }

    /// Calls `emit` for each run of pixels of one nucleus.
    fn emit_runs(&self, w: usize, nuclei: &[u32], mut emit: impl FnMut(u32, u32, u32, u32)) {
        let nucleus = |label: u32| if label == FAR { FAR } else { nuclei[label as usize - 1] };
        for &[y, x0, x1] in &self.runs {
            let labels = &self.labels[(y as usize + 1) * (w + 2) + 1 + x0 as usize..][..(x1 - x0) as usize];
            let mut x0 = x0;
            for same in labels.chunk_by(|&a, &b| a == b || nucleus(a) == nucleus(b)) {
                let x1 = x0 + same.len() as u32;
                if same[0] != FAR {
                    emit(nucleus(same[0]), y, x0, x1);
                }
                x0 = x1;
            }
        }
    }
}

/// Joins the lower of two touching peaks to the higher across `saddle`, if it may and knows no better.
fn consider(peaks: &mut [Peak], a: u32, b: u32, saddle: i16, reach: &Reach) {
    let (pa, pb) = (peaks[a as usize - 1], peaks[b as usize - 1]);
    let (low, low_peak, high, high_peak) = if pa.rank() < pb.rank() { (a, pa, b, pb) } else { (b, pb, a, pa) };
    if low_peak.chessboard_px(&high_peak) > reach.merge_px {
        return;
    }
    let (dx, dy) = (u64::from(pa.x.abs_diff(pb.x)), u64::from(pa.y.abs_diff(pb.y)));
    let near = dx * dx + dy * dy < reach.near_squared_px;
    let shallow = i32::from(saddle) * 256 >= (SADDLE_SHARE * 256.0) as i32 * i32::from(low_peak.height);
    if !near && !shallow {
        return;
    }
    let better = match low_peak.parent {
        NONE => true,
        parent => (saddle, high_peak.rank()) > (low_peak.saddle, peaks[parent as usize - 1].rank()),
    };
    if better {
        let low = &mut peaks[low as usize - 1];
        (low.saddle, low.parent) = (saddle, high);
    }
}

/// Height units per px of distance: three sums of four must fit 16 bits.
fn height_unit(cap_px: u32) -> f64 {
    8000.0 / f64::from(cap_px)
}

/// [1 2 1]/4 along both axes of a padded picture; the ring stays 0 and repeats the edge for its neighbours.
fn smooth(from: &[i16], stride: usize, to: &mut Vec<i16>) {
    let rows = from.len() / stride;
    to.clear();
    to.resize(from.len(), 0);
    let mut row = vec![0i16; stride];
    for y in 1..rows - 1 {
        let above = &from[(if y > 1 { y - 1 } else { y }) * stride..][..stride];
        let below = &from[(if y + 2 < rows { y + 1 } else { y }) * stride..][..stride];
        let here = &from[y * stride..][..stride];
        for (((to, &a), &b), &c) in row.iter_mut().zip(above).zip(here).zip(below) {
            *to = (a + 2 * b + c + 2) >> 2;
        }
        row[0] = row[1];
        row[stride - 1] = row[stride - 2];
        let out = &mut to[y * stride + 1..][..stride - 2];
        for (to, window) in out.iter_mut().zip(row.windows(3)) {
            *to = (window[0] + 2 * window[1] + window[2] + 2) >> 2;
        }
    }
}
