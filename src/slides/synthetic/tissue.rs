//! Where a synthetic slide has tissue, and its nuclei.
//!
//! Owns: [`Tissue`], [`NucleusGrid`]. Must not know: colours, levels.

use super::{
    SyntheticNucleus,
    noise::{hash, interpolate_row, unit},
};
use crate::geometry::{Level0, Rect};

/// Distance of the points where the outline is computed; linear between them.
const NODE_UM: f64 = 16.0;

/// Islands: each a disc with a wavy rim.
pub(super) struct Tissue {
    islands: Vec<Island>,
    spacing_px: u32,
}

struct Island {
    x: f64,
    y: f64,
    rx: f64,
    ry: f64,
    /// Amplitude and phase of the waves with 2, 3 and 5 periods.
    waves: [(f64, f64); 3],
    /// Share of the grid's cells that hold a nucleus, and the mix of their kinds.
    density: f64,
    kinds: [f64; 2],
}

impl Tissue {
    pub(super) fn new(seed: u64, width_px: u32, height_px: u32, px_per_um: f64) -> Self {
        let (w, h) = (f64::from(width_px), f64::from(height_px));
        // Two by three islands on a slide of 4:3, each inside its own box: they never touch.
        let (columns, rows) = if w >= h { (3, 2) } else { (2, 3) };
        let mut islands = Vec::new();
        for i in 0..columns * rows {
            let r = |k: u64, part: u32| unit(hash(seed, 0x0154_a9d0 + i, k), part);
            let (bw, bh) = (w / columns as f64, h / rows as f64);
            islands.push(Island {
                x: ((i % columns) as f64 + 0.45 + 0.1 * r(0, 0)) * bw,
                y: ((i / columns) as f64 + 0.45 + 0.1 * r(0, 1)) * bh,
                rx: bw * (0.22 + 0.1 * r(0, 2)),
                ry: bh * (0.22 + 0.1 * r(0, 3)),
                waves: [2.0, 3.0, 5.0].map(|n| (0.3 * r(n as u64, 0) / n, std::f64::consts::TAU * r(n as u64, 1))),
                density: 0.35 + 0.6 * r(7, 0),
                kinds: [0.15 + 0.5 * r(7, 1), 0.15 + 0.2 * r(7, 2)],
            });
        }
        Self { islands, spacing_px: (NODE_UM * px_per_um).max(2.0) as u32 }
    }

    /// Above 0 in tissue: ≈ relative distance from the rim; and the island.
    fn depth_at(&self, x: f64, y: f64) -> (f64, Option<&Island>) {
        let mut best = (-1.0, None);
        for island in &self.islands {
            let (dx, dy) = ((x - island.x) / island.rx, (y - island.y) / island.ry);
            let radius2 = dx * dx + dy * dy;
            if radius2 < 2.5 {
                let angle = dy.atan2(dx);
                let wave = |n: f64, (amplitude, phase): (f64, f64)| amplitude * (n * angle + phase).sin();
                let [a, b, c] = island.waves;
                let depth = 1.0 + wave(2.0, a) + wave(3.0, b) + wave(5.0, c) - radius2.sqrt();
                if depth > best.0 {
                    best = (depth, Some(island));
                }
            }
        }
        best
    }

    /// Depth along a row; see [`interpolate_row`].
    pub(super) fn fill_row(&self, x0: u32, y: u32, step: u32, n: usize, out: &mut Vec<f32>) {
        let spacing = f64::from(self.spacing_px);
        let node = |i: u64, j: u64| self.depth_at(i as f64 * spacing, j as f64 * spacing).0 as f32;
        interpolate_row(self.spacing_px, x0, y, step, n, &node, out);
    }
}

/// Side of a cell of the grid: no nucleus leaves its cell, so none overlap.
const CELL_UM: f64 = 14.5;

/// At most one nucleus per cell.
pub(super) struct NucleusGrid {
    seed: u64,
    px_per_um: f64,
    cell_px: f64,
}

impl NucleusGrid {
    pub(super) fn new(seed: u64, px_per_um: f64) -> Self {
        Self { seed, px_per_um, cell_px: CELL_UM * px_per_um }
    }

    /// The row of cells that holds level-0 row `y`.
    pub(super) fn row_of(&self, y: u32) -> i64 {
        ((f64::from(y) + 0.5) / self.cell_px) as i64
    }

    /// The nuclei of one row of cells between two columns of px.
    pub(super) fn in_row(&self, tissue: &Tissue, row: i64, left: i64, right: i64) -> Vec<SyntheticNucleus> {
        let cell = |x: i64| (x.max(0) as f64 / self.cell_px) as i64;
        (cell(left) - 1..=cell(right)).filter_map(|column| self.nucleus(tissue, column, row)).collect()
    }

    /// The nuclei of all cells that touch `rect`.
    pub(super) fn covering(&self, tissue: &Tissue, rect: Rect<Level0>) -> Vec<SyntheticNucleus> {
        if rect.is_empty() {
            return Vec::new();
        }
        let rows = self.row_of(rect.y.max(0) as u32)..=self.row_of(rect.bottom().max(0) as u32);
        rows.flat_map(|row| self.in_row(tissue, row, rect.x, rect.right())).collect()
    }

    fn nucleus(&self, tissue: &Tissue, column: i64, row: i64) -> Option<SyntheticNucleus> {
        let bits = hash(self.seed ^ 0xce11, column as u64, row as u64);
        let shape = hash(bits, 1, 2);
        // Every other row is shifted by half a cell, as bricks are.
        let shift = (row % 2) as f64 * 0.5;
        let (cell_x, cell_y) = ((column as f64 + 0.5 + shift) * self.cell_px, (row as f64 + 0.5) * self.cell_px);
        let (depth, island) = tissue.depth_at(cell_x, cell_y);
        let island = island.filter(|_| depth > 0.1)?;
        if unit(bits, 0) > island.density {
            return None;
        }
        let which = unit(bits, 1);
        let kind = if which < island.kinds[0] { 0 } else { 1 + u8::from(which > island.kinds[0] + island.kinds[1]) };
        let vary = 0.85 + 0.3 * unit(shape, 0);
        let (long_um, short_um) = [(2.9, 2.6), (5.0, 2.0), (4.9, 3.9)][usize::from(kind)];
        let long_px = long_um * vary * self.px_per_um;
        let room = self.cell_px / 2.0 - long_px;
        Some(SyntheticNucleus {
            x: cell_x + room * (2.0 * unit(shape, 1) - 1.0),
            y: cell_y + room * (2.0 * unit(shape, 2) - 1.0),
            long_px,
            short_px: short_um * vary * self.px_per_um,
            angle: std::f64::consts::PI * unit(shape, 3),
            kind,
        })
    }
}
