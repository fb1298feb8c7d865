//! Max pooling that remembers its winners, and its gradient.
//!
//! Owns: [`max_pool_winners`], [`max_pool_gradient`]. Must not know: networks.
//!
//! Source: PyTorch `F.max_pool2d`: padding never wins, of equal values the first in reading order wins, a NaN wins
//! always.

use super::{channels::loops, maps::Maps};
use crate::kernels::{Pool, cpu::isa::Isa};
use rayon::prelude::*;
use std::ops::Range;

/// Pixels of window `o` on an axis of `side` px.
fn window(pool: Pool, o: usize, side: usize) -> Range<usize> {
    let start = o * pool.stride;
    start.saturating_sub(pool.pad)..(start + pool.kernel - pool.pad).min(side)
}

/// Largest value of each window, and its place in the window, row by row from the window's first pixel inside.
///
/// # Shapes
/// - `y`, `winners`: `[n, out_h, out_w, c]`
///
/// # Panics
/// If a length does not fit, or a window has more than 256 pixels.
pub fn max_pool_winners(
    isa: Isa,
    x: Maps<'_>,
    pool: Pool,
    (out_h, out_w): (usize, usize),
    (y, winners): (&mut [f32], &mut [u8]),
) {
    let (c, row) = (x.c, out_w * x.c);
    assert!(pool.kernel <= 16 && y.len() == x.n * out_h * row && winners.len() == y.len(), "{pool:?}");
    let rows = y.par_chunks_mut(row).zip(winners.par_chunks_mut(row)).enumerate();
    rows.for_each(|(i, (y, winners))| {
        let (image, ys) = (i / out_h, window(pool, i % out_h, x.h));
        let values = x.rows(image, ys.clone());
        loops(
            isa,
            #[inline(always)]
            || {
                for (o, (y, winners)) in y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c)).enumerate() {
                    let xs = window(pool, o, x.w);
                    y.copy_from_slice(&values[xs.start * c..][..c]);
                    winners.fill(0);
                    for at in 1..ys.len() * xs.len() {
                        let from = (at / xs.len() * x.w + xs.start + at % xs.len()) * c;
                        for ((v, y), winner) in values[from..][..c].iter().zip(y.iter_mut()).zip(winners.iter_mut()) {
                            let wins = *v > *y || (v.is_nan() && !y.is_nan());
                            *y = if wins { *v } else { *y };
                            *winner = if wins { at as u8 } else { *winner };
                        }
                    }
                }
            },
        );
    });
}

/// Each window's gradient goes to its winner.
///
/// # Shapes
/// - `dy`, `winners`: `[n, out_h, out_w, c]`; `dx`: `[n, h, w, c]`
///
/// # Panics
/// If a length does not fit.
pub fn max_pool_gradient(isa: Isa, dy: Maps<'_>, winners: &[u8], pool: Pool, (h, w): (usize, usize), dx: &mut [f32]) {
    let (c, row) = (dy.c, w * dy.c);
    assert!(dx.len() == dy.n * h * row && winners.len() == dy.n * dy.h * dy.w * c, "{pool:?}");
    // Windows that see a pixel on an axis.
    let seen = |at: usize, outs: usize| {
        let first = (at + pool.pad + 1).saturating_sub(pool.kernel).div_ceil(pool.stride);
        first..((at + pool.pad) / pool.stride + 1).min(outs)
    };
    dx.par_chunks_mut(row).enumerate().for_each(|(i, dx)| {
        let (image, y) = (i / h, i % h);
        loops(
            isa,
            #[inline(always)]
            || {
                dx.fill(0.0);
                for oy in seen(y, dy.h) {
                    let ys = window(pool, oy, h);
                    let start = (image * dy.h + oy) * dy.w * c;
                    let (given, winners) = (dy.rows(image, oy..oy + 1), &winners[start..][..dy.w * c]);
                    for (x, dx) in dx.chunks_exact_mut(c).enumerate() {
                        for ox in seen(x, dy.w) {
                            let xs = window(pool, ox, w);
                            let place = ((y - ys.start) * xs.len() + x - xs.start) as u8;
                            let (given, winners) = (&given[ox * c..][..c], &winners[ox * c..][..c]);
                            for ((dx, g), winner) in dx.iter_mut().zip(given).zip(winners) {
                                *dx += if *winner == place { *g } else { 0.0 };
                            }
                        }
                    }
                }
            },
        );
    });
}
