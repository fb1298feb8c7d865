//! The tissue mask: a bitmap over the slide at a stated resolution.
//!
//! Owns: [`TissueMask`]. Must not know: how it was found.

use crate::geometry::{Level0, Rect, Size};

/// Which parts of a slide are tissue.
///
/// The bitmap covers level 0 corner on corner: bitmap px `(i, j)` covers level-0
/// `[i·step_x, (i+1)·step_x) × [j·step_y, (j+1)·step_y)`.
#[derive(Debug, Clone, PartialEq)]
pub struct TissueMask {
    /// `[h, w]`, 1 = tissue, 0 = not.
    pub bits: Vec<u8>,
    /// Width in bitmap px.
    pub w: u32,
    /// Height in bitmap px.
    pub h: u32,
    /// Level-0 px per bitmap px along x.
    pub step_x: f64,
    /// Level-0 px per bitmap px along y.
    pub step_y: f64,
}

impl TissueMask {
    /// All of a slide is tissue.
    pub fn everything(level0: Size<Level0>) -> Self {
        Self { bits: vec![1], w: 1, h: 1, step_x: f64::from(level0.w), step_y: f64::from(level0.h) }
    }

    /// Share of `rect` that is tissue, 0–1; what lies outside the slide counts as no tissue. 0 for an empty rect.
    pub fn covers(&self, rect: Rect<Level0>) -> f64 {
        if rect.is_empty() {
            return 0.0;
        }
        // Bitmap interval `[a, b)` and how much of each px at its ends lies inside.
        let span = |lo: i64, hi: i64, step: f64, n: u32| {
            let a = (lo as f64 / step).clamp(0.0, f64::from(n));
            let b = (hi as f64 / step).clamp(0.0, f64::from(n));
            (a, b)
        };
        let (x0, x1) = span(rect.x, rect.right(), self.step_x, self.w);
        let (y0, y1) = span(rect.y, rect.bottom(), self.step_y, self.h);
        let mut sum = 0.0;
        for j in y0.floor() as usize..(y1.ceil() as usize).min(self.h as usize) {
            let wy = (y1.min(j as f64 + 1.0) - y0.max(j as f64)).max(0.0);
            let row = &self.bits[j * self.w as usize..][..self.w as usize];
            let mut row_sum = 0.0;
            let first = x0.floor() as usize;
            for (i, _) in row.iter().enumerate().take(x1.ceil() as usize).skip(first).filter(|&(_, &bit)| bit != 0) {
                row_sum += (x1.min(i as f64 + 1.0) - x0.max(i as f64)).max(0.0);
            }
            sum += wy * row_sum;
        }
        (sum * self.step_x * self.step_y / rect.area() as f64).min(1.0)
    }

    /// Number of bitmap px that are tissue.
    pub fn count(&self) -> u64 {
        self.bits.iter().map(|&b| u64::from(b)).sum()
    }
}
