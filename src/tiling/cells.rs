//! Which parts of the target grid are computed: square cells with enough tissue.
//!
//! Owns: [`CellMask`]. Must not know: tiles. Cells have a fixed size, so what is computed does not depend on how a
//! slide is cut into tiles.

use crate::{
    geometry::{Rect, Target, TargetGrid},
    tissue::TissueMask,
};

/// Side of a cell in target px.
pub const CELL_PX: u32 = 64;

/// The cells of a slide that are computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellMask {
    w: u32,
    h: u32,
    /// `[h, w]`, 1 = computed.
    bits: Vec<u8>,
}

impl CellMask {
    /// Cells of which at least `min_tissue` (and more than nothing) is tissue.
    pub fn new(grid: &TargetGrid, tissue: &TissueMask, min_tissue: f64) -> Self {
        let (w, h) = (grid.size.w.div_ceil(CELL_PX), grid.size.h.div_ceil(CELL_PX));
        let mut bits = Vec::with_capacity(w as usize * h as usize);
        for j in 0..h {
            for i in 0..w {
                let cell = Rect::<Target>::new(
                    i64::from(i) * i64::from(CELL_PX),
                    i64::from(j) * i64::from(CELL_PX),
                    CELL_PX,
                    CELL_PX,
                )
                .intersect(&grid.size.rect());
                let share = tissue.covers(grid.level0_from_target(cell).intersect(&grid.level0.rect()));
                bits.push(u8::from(share > 0.0 && share >= min_tissue));
            }
        }
        Self { w, h, bits }
    }

    /// Whether the cell that holds target px `(x, y)` is computed; outside the slide nothing is.
    pub fn contains(&self, x: i64, y: i64) -> bool {
        let (i, j) = (x.div_euclid(CELL_PX.into()), y.div_euclid(CELL_PX.into()));
        i >= 0
            && j >= 0
            && i < self.w.into()
            && j < self.h.into()
            && self.bits[j as usize * self.w as usize + i as usize] != 0
    }

    /// Whether any px of `rect` is computed.
    pub fn intersects(&self, rect: Rect<Target>) -> bool {
        if rect.is_empty() {
            return false;
        }
        let range = |lo: i64, hi: i64, n: u32| {
            let cell = i64::from(CELL_PX);
            lo.div_euclid(cell).clamp(0, n.into()) as usize..((hi - 1).div_euclid(cell) + 1).clamp(0, n.into()) as usize
        };
        let columns = range(rect.x, rect.right(), self.w);
        range(rect.y, rect.bottom(), self.h)
            .any(|j| self.bits[j * self.w as usize..][columns.clone()].iter().any(|&b| b != 0))
    }

    /// Share of the cells that `rect` touches that are computed.
    pub fn share(&self, rect: Rect<Target>) -> f64 {
        let cell = i64::from(CELL_PX);
        let range = |lo: i64, hi: i64| lo.div_euclid(cell)..(hi - 1).div_euclid(cell) + 1;
        let touched = range(rect.y, rect.bottom()).flat_map(|j| range(rect.x, rect.right()).map(move |i| (i, j)));
        let (mut computed, mut all) = (0_u32, 0_u32);
        for (i, j) in touched {
            all += 1;
            computed += u32::from(self.contains(i * cell, j * cell));
        }
        f64::from(computed) / f64::from(all.max(1))
    }

    /// At most `count` computed cells, evenly spread in row order.
    pub fn spread(&self, count: usize) -> Vec<Rect<Target>> {
        let computed: Vec<usize> = (0..self.bits.len()).filter(|&i| self.bits[i] != 0).collect();
        let count = count.min(computed.len());
        (0..count)
            .map(|k| {
                let at = computed[(2 * k + 1) * computed.len() / (2 * count)] as i64;
                let (i, j) = (at % i64::from(self.w), at / i64::from(self.w));
                Rect::new(i * i64::from(CELL_PX), j * i64::from(CELL_PX), CELL_PX, CELL_PX)
            })
            .collect()
    }

    /// Number of computed cells.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|&b| u64::from(b)).sum()
    }
}
