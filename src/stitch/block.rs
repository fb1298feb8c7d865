//! A square of the canvas, and what tiles said of it so far.
//!
//! Owns: [`Block`]. Must not know: which regions need it, where else its slide goes on.

use super::{canvas_maps::CanvasMaps, region::Region};
use crate::{
    config::settings::Window,
    geometry::{Rect, Target},
    model::{Blended, HeadMap},
    tiling::{CELL_PX, TilePlan, TileSpec, Tiler},
};

/// A square of the canvas.
pub(super) struct Block {
    /// `[channels, block, block]` sums of value (crop) or value · weight (hann).
    sums: Sums,
    /// `[block, block, 3]`, empty unless pixels are kept.
    rgb: Vec<u8>,
    /// `[block, block]`: where a pixel's listed values are, counted in pixels from 1; 0: none. Empty when no head is.
    pub(super) places: Vec<u32>,
    /// `[pixels, channels]` of the listed head.
    pub(super) listed: Vec<i16>,
    /// Regions that still need it.
    pub(super) regions_left: u32,
}

enum Sums {
    /// Values, and whether each px has one.
    Crop { values: Vec<i16>, computed: Vec<u8> },
    /// Σ value · weight and Σ weight, both divided by nothing yet.
    Blend { sums: Vec<i32>, weights: Vec<u32> },
    /// They are kept where the model runs.
    Away,
}

impl Block {
    /// An empty one that `regions_left` regions need; where sums are `away`, of pixels alone.
    pub(super) fn new(maps: &CanvasMaps, tiler: &Tiler, away: bool, regions_left: u32) -> Self {
        let px = (tiler.block_px as usize).pow(2);
        let channels = maps.dense();
        let sums = match tiler.window {
            _ if away => Sums::Away,
            Window::Crop => Sums::Crop { values: vec![0; channels * px], computed: vec![0; px] },
            Window::Hann => Sums::Blend { sums: vec![0; channels * px], weights: vec![0; px] },
        };
        let rgb = if maps.keeps_rgb { vec![255; px * 3] } else { vec![] };
        let places = vec![0; if maps.lists_rays { px } else { 0 }];
        Self { sums, rgb, places, listed: vec![], regions_left }
    }

    /// Empties it to be used again; what is not computed is not read, so values and pixels may stay.
    pub(super) fn clear(&mut self, regions_left: u32) {
        match &mut self.sums {
            Sums::Crop { computed, .. } => computed.fill(0),
            Sums::Blend { sums, weights } => {
                sums.fill(0);
                weights.fill(0);
            }
            Sums::Away => {}
        }
        self.places.fill(0);
        self.listed.clear();
        self.regions_left = regions_left;
    }

    /// Adds what a tile says of `square`, where this block lies.
    pub(super) fn add(
        &mut self,
        square: Rect<Target>,
        tile: &TileSpec,
        maps: &[HeadMap],
        rgb: &[u8],
        (tiler, window): (&Tiler, &[u8]),
    ) {
        let part = tile.used.intersect(&square);
        let side = tiler.block_px as usize;
        let core = tiler.core_px() as usize;
        let (cx, cy) = ((part.x - tile.core.x) as usize, (part.y - tile.core.y) as usize);
        let (ox, oy, w) = ((part.x - square.x) as usize, (part.y - square.y) as usize, part.w as usize);
        if let Some((map, pixels)) = maps.iter().find_map(|map| Some((map, map.pixels.as_ref()?))) {
            let values = map.data.chunks_exact(map.channels as usize);
            for (&at, values) in pixels.iter().zip(values) {
                let (x, y) = ((at as usize % core).wrapping_sub(cx), (at as usize / core).wrapping_sub(cy));
                if x < w && y < part.h as usize {
                    self.listed.extend_from_slice(values);
                    self.places[(oy + y) * side + ox + x] = (self.listed.len() / values.len()) as u32;
                }
            }
        }
        for row in 0..part.h as usize {
            let to = (oy + row) * side + ox;
            self.sums.add_row((side, to, w), (core, cx, cy + row), maps, window);
            if !self.rgb.is_empty() {
                copy_rgb(tiler, (cx, cy + row), rgb, &mut self.rgb[to * 3..][..w * 3]);
            }
        }
    }

    /// Copies what it has of `region`, where the plan computes anything. What is away was copied before.
    pub(super) fn copy_out(&self, square: Rect<Target>, plan: &TilePlan, region: &mut Region) {
        let part = region.rect.intersect(&square);
        let (side, rect) = (square.w as usize, region.rect);
        let px = rect.area() as usize;
        each_piece(part, plan, |x, y, n| {
            let from = (y - square.y) as usize * side + (x - square.x) as usize;
            let to = (y - rect.y) as usize * rect.w as usize + (x - rect.x) as usize;
            self.copy_piece(side, from, region, px, to, n);
        });
    }

    fn copy_piece(&self, side: usize, from: usize, region: &mut Region, px: usize, to: usize, n: usize) {
        let dense = region.planes.iter_mut().filter(|p| p.pixels.is_none());
        let planes = dense.flat_map(|p| p.data.chunks_exact_mut(px));
        match &self.sums {
            Sums::Crop { values, computed } => {
                region.computed[to..to + n].copy_from_slice(&computed[from..from + n]);
                for (c, plane) in planes.enumerate() {
                    plane[to..to + n].copy_from_slice(&values[c * side * side + from..][..n]);
                    if computed[from..from + n].contains(&0) {
                        plane[to..to + n].iter_mut().zip(&computed[from..]).for_each(|(v, &c)| *v *= i16::from(c));
                    }
                }
            }
            Sums::Blend { sums, weights } => {
                let weights = &weights[from..from + n];
                region.computed[to..to + n].iter_mut().zip(weights).for_each(|(c, &w)| *c = u8::from(w > 0));
                for (c, plane) in planes.enumerate() {
                    let sums = &sums[c * side * side + from..][..n];
                    for ((v, &s), &w) in plane[to..to + n].iter_mut().zip(sums).zip(weights) {
                        *v = rounded_mean(s, w);
                    }
                }
            }
            Sums::Away => {}
        }
        if !region.rgb.is_empty() {
            region.rgb[to * 3..(to + n) * 3].copy_from_slice(&self.rgb[from * 3..(from + n) * 3]);
            for (px, &c) in region.rgb[to * 3..(to + n) * 3].chunks_exact_mut(3).zip(&region.computed[to..]) {
                if c == 0 {
                    px.fill(255);
                }
            }
        }
    }
}

impl Sums {
    /// Adds `w` px of a row of the maps, `[core, core]` each, from `(x, y)` on, at `to` of the block's `[side, side]`.
    fn add_row(
        &mut self,
        (side, to, w): (usize, usize, usize),
        (core, x, y): (usize, usize, usize),
        maps: &[HeadMap],
        window: &[u8],
    ) {
        let from = y * core + x;
        let dense = maps.iter().filter(|map| map.pixels.is_none());
        let rows = dense.flat_map(|map| map.data.chunks_exact(core * core).map(|plane| &plane[from..][..w]));
        match self {
            Self::Crop { values, computed } => {
                computed[to..to + w].fill(1);
                for (plane, row) in rows.enumerate() {
                    values[plane * side * side + to..][..w].copy_from_slice(row);
                }
            }
            Self::Blend { sums, weights } => {
                let (wx, wy) = (&window[x..x + w], u32::from(window[y]));
                // 8-bit weights along each axis, their product brought back to 8 bits and never zero.
                let weight = |k: usize| (u32::from(wx[k]) * wy).div_ceil(255);
                (0..w).for_each(|k| weights[to + k] += weight(k));
                for (plane, row) in rows.enumerate() {
                    let sums = &mut sums[plane * side * side + to..][..w];
                    (0..w).for_each(|k| sums[k] += i32::from(row[k]) * weight(k) as i32);
                }
            }
            Self::Away => {}
        }
    }
}

/// Calls `f` with column, row and length of every piece of a row of `part` that the plan computes: pieces of one cell,
/// which are computed as a whole or not at all, whichever tiles happened to cover them.
fn each_piece(part: Rect<Target>, plan: &TilePlan, mut f: impl FnMut(i64, i64, usize)) {
    let cell = i64::from(CELL_PX);
    for y in part.y..part.bottom() {
        let mut x = part.x;
        while x < part.right() {
            let end = ((x.div_euclid(cell) + 1) * cell).min(part.right());
            if plan.cells.contains(x, y) {
                f(x, y, (end - x) as usize);
            }
            x = end;
        }
    }
}

/// Copies means of rows of `region`, where the plan computes anything.
pub(super) fn copy_blended(blended: &Blended<'_>, plan: &TilePlan, region: &mut Region) {
    let (rows, rect) = (blended.rect, region.rect);
    let (px, rows_px) = (rect.area() as usize, rows.area() as usize);
    each_piece(rows, plan, |x, y, n| {
        let from = (y - rows.y) as usize * rows.w as usize + (x - rows.x) as usize;
        let to = (y - rect.y) as usize * rect.w as usize + (x - rect.x) as usize;
        region.computed[to..to + n].copy_from_slice(&blended.computed[from..from + n]);
        let planes = region.planes.iter_mut().flat_map(|p| p.data.chunks_exact_mut(px));
        for (plane, values) in planes.zip(blended.values.chunks_exact(rows_px)) {
            plane[to..to + n].copy_from_slice(&values[from..from + n]);
        }
    });
}

/// Fills a row `to` of target px with the tile's pixels from `(x, y)` of its core on: of several pixels to one, the mean.
fn copy_rgb(tiler: &Tiler, (x, y): (usize, usize), rgb: &[u8], to: &mut [u8]) {
    let (side, step) = (tiler.tile_px as usize, tiler.out_stride as usize);
    let (left, top) = (x * step + tiler.margin_px as usize, y * step + tiler.margin_px as usize);
    if step == 1 {
        let from = (top * side + left) * 3;
        to.copy_from_slice(&rgb[from..from + to.len()]);
        return;
    }
    let px = (step * step) as u32;
    for (i, to) in to.iter_mut().enumerate() {
        let first = (top * side + left + i / 3 * step) * 3 + i % 3;
        let rows = (0..step).map(|row| first + row * side * 3);
        let sum: u32 = rows.flat_map(|at| (0..step).map(move |c| u32::from(rgb[at + c * 3]))).sum();
        *to = ((sum + px / 2) / px) as u8;
    }
}

/// `sum / weight` rounded half away from zero; 0 without weight.
fn rounded_mean(sum: i32, weight: u32) -> i16 {
    if weight == 0 {
        return 0;
    }
    let (sum, weight) = (i64::from(sum), i64::from(weight));
    let half = if sum < 0 { -weight } else { weight };
    ((2 * sum + half) / (2 * weight)) as i16
}
