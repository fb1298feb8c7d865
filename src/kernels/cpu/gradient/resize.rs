//! The gradient of resizes and average pools: their transposed maps.
//!
//! Owns: [`AxisTaps`], [`resize_gradient`]. Must not know: networks.

use super::{channels::loops, maps::Maps};
use crate::kernels::{
    Pool, ResizeMode,
    cpu::{isa::Isa, resize::taps},
};
use rayon::prelude::*;

/// For each input position of an axis, the outputs it is part of and with what share.
#[derive(Debug, Clone)]
pub struct AxisTaps(Vec<Vec<(usize, f32)>>);

impl AxisTaps {
    /// Those of a resize.
    pub fn resize(mode: ResizeMode, input: usize, output: usize) -> Self {
        let mut all = vec![vec![]; input];
        for o in 0..output {
            let (left, right, part) = taps(mode, o, input, output);
            all[left].push((o, 1.0 - part));
            if part != 0.0 {
                all[right].push((o, part));
            }
        }
        Self(all)
    }

    /// Those of an average pool without padding.
    pub fn average(pool: Pool, input: usize, output: usize) -> Self {
        let mut all = vec![vec![]; input];
        for o in 0..output {
            for k in 0..pool.kernel {
                all[o * pool.stride + k].push((o, 1.0 / pool.kernel as f32));
            }
        }
        Self(all)
    }
}

/// The gradient of the input of a map that treats rows and columns alone.
///
/// # Shapes
/// - `dy`: `[n, out_h, out_w, c]`; `dx`: `[n, h, w, c]`, as many as the axes have positions
///
/// # Panics
/// If a length does not fit.
pub fn resize_gradient(isa: Isa, dy: Maps<'_>, rows: &AxisTaps, columns: &AxisTaps, dx: &mut [f32]) {
    let (h, w, c) = (rows.0.len(), columns.0.len(), dy.c);
    assert_eq!(dx.len(), dy.n * h * w * c, "floats of the gradient");
    dx.par_chunks_mut(w * c).enumerate().for_each(|(i, dx)| {
        let image = i / h;
        loops(
            isa,
            #[inline(always)]
            || {
                dx.fill(0.0);
                for &(oy, down) in &rows.0[i % h] {
                    let given = dy.rows(image, oy..oy + 1);
                    for (dx, taps) in dx.chunks_exact_mut(c).zip(&columns.0) {
                        for &(ox, along) in taps {
                            let part = down * along;
                            dx.iter_mut().zip(&given[ox * c..][..c]).for_each(|(dx, g)| *dx += part * g);
                        }
                    }
                }
            },
        );
    });
}
