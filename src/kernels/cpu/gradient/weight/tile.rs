//! The heart of a weight gradient: a few inputs by a few vectors of channels out, summed in registers over pixels.
//!
//! Owns: [`Run`]. Must not know: images, parts, how values came to be laid out.

use crate::kernels::cpu::{elementwise::store, simd::Simd};

/// Pixels a tile is summed over, and the distances between them.
pub(super) struct Run {
    pub rows: usize,
    pub columns: usize,
    pub x_row: usize,
    pub x_px: usize,
    pub dy_row: usize,
}

impl Run {
    /// Adds `Σ x[i] · dy` to `M` rows of `V` vectors.
    ///
    /// # Safety
    /// All pointers are good for the run.
    #[inline(always)]
    pub(super) unsafe fn tile<S: Simd, const V: usize, const M: usize>(
        &self,
        x: *const f32,
        dy: *const f32,
        to: *mut f32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut acc = [[S::splat(0.0); V]; M];
            for (i, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    *acc = S::load(to.add((i * V + v) * S::LANES));
                }
            }
            for r in 0..self.rows {
                let (mut x, mut dy) = (x.add(r * self.x_row), dy.add(r * self.dy_row));
                for _ in 0..self.columns {
                    let mut g = [S::splat(0.0); V];
                    for (v, g) in g.iter_mut().enumerate() {
                        *g = S::load(dy.add(v * S::LANES));
                    }
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let value = S::splat(*x.add(i));
                        for (acc, g) in acc.iter_mut().zip(g) {
                            *acc = S::fma(value, g, *acc);
                        }
                    }
                    x = x.wrapping_add(self.x_px);
                    dy = dy.wrapping_add(V * S::LANES);
                }
            }
            for (i, acc) in acc.iter().enumerate() {
                for (v, acc) in acc.iter().enumerate() {
                    store::<S>(to.add((i * V + v) * S::LANES), *acc, S::LANES);
                }
            }
        }
    }
}
