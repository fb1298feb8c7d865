//! Middles of nuclei: holes filled, threads removed, numbered.
//!
//! Owns: [`Markers`], [`Marker`]. Must not know: heights, regions' cores.
//!
//! Source: HoVer-Net's `post_proc.py`: `binary_fill_holes`, `morphologyEx` (opening with OpenCV's 5 × 5 ellipse),
//! `label`, `remove_small_objects`. Differs: larger holes stay; in areas too large to be looked at as a whole, a hole
//! that is open at a corner stays too, and a marker that is too small, or larger than `side_px`, keeps its pixels from
//! others without being a nucleus: whether it counts is not seen from afar.

use super::{
    energy::{Frame, RING},
    foreground::for_each_run,
    instance::Run,
    joined_runs::JoinedRuns,
};

/// What is a marker and what is not.
#[derive(Debug, Clone, Copy)]
pub(super) struct MarkerRules {
    /// Holes up to this area are filled.
    pub(super) hole_area_px: u64,
    /// … when they fit into a square of this side, as any hole of that area that is not a thread does.
    pub(super) hole_side_px: u32,
    /// Smaller markers are dropped.
    pub(super) least_px: f64,
    /// Markers of large blobs count only if they fit into a square of this side.
    pub(super) side_px: u32,
}

/// A marker of a blob; positions in the padded arrays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Marker {
    /// Middle of its bounding box.
    pub(super) middle: (u32, u32),
    /// Whether it is a nucleus'.
    pub(super) counts: bool,
}

/// The markers of a blob, and what their making needs.
#[derive(Default)]
pub(super) struct Markers {
    /// By their first pixel.
    pub(super) list: Vec<Marker>,
    /// Their runs in the padded arrays, with an index into `list`, in raster order.
    pub(super) runs: Vec<(u32, Run)>,
    joined: JoinedRuns,
    eroded: Vec<u8>,
    row: Vec<u8>,
    kept: Vec<u32>,
}

impl Markers {
    /// Finds the markers of a padded mask, which is changed.
    pub(super) fn find(&mut self, mask: &mut [u8], frame: &Frame, rules: &MarkerRules, is_large: bool) {
        self.fill_holes(mask, frame, rules, is_large);
        self.open(mask, frame);
        self.joined.clear();
        for (y, row) in mask.chunks_exact(frame.stride).enumerate() {
            let y = y as u32;
            for_each_run(row, |x0, x1| self.joined.push(Run { y, x0: x0 as u32, x1: x1 as u32 }));
            self.joined.end_row(y, false);
        }
        self.joined.number();
        self.list.clear();
        self.kept.clear();
        for area in self.joined.areas() {
            let counts = area.px as f64 >= rules.least_px && !(is_large && area.side_px() > rules.side_px);
            let is_kept = counts || is_large;
            self.kept.push(if is_kept { self.list.len() as u32 } else { u32::MAX });
            if is_kept {
                let middle = ((area.left + area.right) / 2, (area.top + area.bottom) / 2);
                self.list.push(Marker { middle, counts });
            }
        }
        self.runs.clear();
        let numbered = self.joined.iter().map(|(area, run)| (self.kept[area as usize], run));
        self.runs.extend(numbered.filter(|(marker, _)| *marker != u32::MAX));
    }

    /// Fills components of the background that are small in area and in extent.
    fn fill_holes(&mut self, mask: &mut [u8], frame: &Frame, rules: &MarkerRules, is_large: bool) {
        if rules.hole_area_px == 0 {
            return;
        }
        self.joined.clear();
        let stride = frame.stride;
        for (y, row) in mask.chunks_exact(stride).enumerate() {
            let y = y as u32;
            let mut x = 0;
            for_each_run(row, |x0, x1| {
                if x0 as u32 > x {
                    self.joined.push(Run { y, x0: x, x1: x0 as u32 });
                }
                x = x1 as u32;
            });
            if x < stride as u32 {
                self.joined.push(Run { y, x0: x, x1: stride as u32 });
            }
            self.joined.end_row(y, is_large);
        }
        self.joined.number();
        // The first area is what surrounds the blob: it begins in the ring.
        for (area, run) in self.joined.iter().filter(|(area, _)| *area > 0) {
            let hole = &self.joined.areas()[area as usize];
            if hole.px <= rules.hole_area_px && hole.side_px() <= rules.hole_side_px {
                mask[run.y as usize * stride..][run.x0 as usize..run.x1 as usize].fill(1);
            }
        }
    }

    /// Opens with the ellipse: three rows of five, one pixel above and below.
    fn open(&mut self, mask: &mut [u8], frame: &Frame) {
        let (stride, h) = (frame.stride, frame.patch.h);
        outside_is_one(mask, frame);
        self.eroded.clear();
        self.eroded.resize(mask.len(), 0);
        for y in RING..RING + h {
            ellipse(mask, y, stride, &mut self.row, |a, b| a & b, &mut self.eroded[y * stride..][..stride]);
        }
        for y in RING..RING + h {
            ellipse(&self.eroded, y, stride, &mut self.row, |a, b| a | b, &mut mask[y * stride..][..stride]);
        }
        // What is outside is nobody's marker.
        mask[..RING * stride].fill(0);
        mask[(RING + h) * stride..].fill(0);
    }
}

/// Sets the ring to 1 beyond the slide's edges, where an erosion does not look, and to 0 elsewhere.
fn outside_is_one(mask: &mut [u8], frame: &Frame) {
    let (stride, w, h) = (frame.stride, frame.patch.w, frame.patch.h);
    let [left, top, right, bottom] = frame.slide_edges;
    if top {
        mask[..RING * stride].fill(1);
    }
    if bottom {
        mask[(RING + h) * stride..].fill(1);
    }
    for row in mask.chunks_exact_mut(stride) {
        if left {
            row[..RING].fill(1);
        }
        if right {
            row[RING + w..].fill(1);
        }
    }
}

/// Combines each pixel of row `y`, the ring left out, with the ellipse around it; the ring gets 0.
#[inline(always)]
fn ellipse(mask: &[u8], y: usize, stride: usize, three: &mut Vec<u8>, combine: impl Fn(u8, u8) -> u8, out: &mut [u8]) {
    let row = |y: usize| &mask[y * stride..][..stride];
    three.clear();
    three.extend(row(y - 1).iter().zip(row(y)).zip(row(y + 1)).map(|((&a, &b), &c)| combine(a, combine(b, c))));
    let (far_above, far_below) = (row(y - 2), row(y + 2));
    let n = stride - 2 * RING;
    let three: [&[u8]; 5] = std::array::from_fn(|k| &three[k..k + n]);
    for (x, to) in out[RING..RING + n].iter_mut().enumerate() {
        let five = combine(combine(three[0][x], three[1][x]), combine(three[2][x], combine(three[3][x], three[4][x])));
        *to = combine(five, combine(far_above[x + RING], far_below[x + RING]));
    }
    out[..RING].fill(0);
    out[RING + n..].fill(0);
}
