//! The gradient of a depthwise convolution's weights: `dW[c, ky, kx] = Σ dy[p, c] · x[p·stride + k, c]`.
//!
//! Owns: [`depthwise_weight_gradient`]. Must not know: networks.
//!
//! As in [`weight`](super::weight), rows are cut into fixed parts that are added in order.

use super::maps::Maps;
use crate::kernels::cpu::{
    ConvSpec,
    elementwise::load,
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
};
use rayon::prelude::*;
use std::ops::Range;

/// Parts of the rows, at most.
const MOST_PARTS: usize = 32;
/// Columns of a kernel that are summed at once, at most.
const MOST_COLUMNS: usize = 7;

/// Gradient of the weights, `[c, 1, kh, kw]`, of a convolution with as many groups as channels.
///
/// # Shapes
/// - `x`: `[n, h, w, c]`; `dy`: `[n, out_h, out_w, c]`
///
/// # Panics
/// If the sizes do not fit the spec.
pub fn depthwise_weight_gradient(isa: Isa, spec: &ConvSpec, x: Maps<'_>, dy: Maps<'_>) -> Vec<f32> {
    let (c, taps) = (spec.cin, spec.kernel.0 * spec.kernel.1);
    assert!(x.c == c && dy.c == c && spec.groups == c && x.n == dy.n, "gradient of {spec:?}");
    let rows = dy.n * dy.h;
    let parts = MOST_PARTS.min(rows).max(1);
    let sums: Vec<Vec<f32>> = (0..parts)
        .into_par_iter()
        .map(|part| {
            let mut sums = vec![0.0; taps * c];
            let rows = rows * part / parts..rows * (part + 1) / parts;
            // SAFETY: sizes are checked.
            unsafe { dispatch(isa, Part { spec, x, dy, rows, sums: &mut sums }) }
            sums
        })
        .collect();
    let mut all = vec![0.0; c * taps];
    for part in sums {
        for (i, to) in all.iter_mut().enumerate() {
            *to += part[i % taps * c + i / taps];
        }
    }
    all
}

/// Some rows; `sums` is `[kh, kw, c]`.
struct Part<'a> {
    spec: &'a ConvSpec,
    x: Maps<'a>,
    dy: Maps<'a>,
    rows: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for Part<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { spec, x, dy, rows, sums } = self;
        let ConvSpec { kernel: (kh, kw), stride, pad, dilation, cin: c, .. } = *spec;
        for row in rows {
            let (image, oy) = (row / dy.h, row % dy.h);
            for ky in 0..kh {
                let Some(y) = (oy * stride + ky * dilation).checked_sub(pad.0).filter(|&y| y < x.h) else { continue };
                for first in (0..kw).step_by(MOST_COLUMNS) {
                    let taps = Taps {
                        stride,
                        first: (first * dilation) as isize - pad.1 as isize,
                        dilation,
                        x: x.pixel(image, y, 0),
                        x_px: x.pixel_stride(),
                        x_w: x.w,
                        dy: dy.pixel(image, oy, 0),
                        dy_px: dy.pixel_stride(),
                        dy_w: dy.w,
                        c,
                    };
                    let sums = sums[(ky * kw + first) * c..].as_mut_ptr();
                    // SAFETY: rows are inside, and there are sums for the taps.
                    unsafe {
                        match (kw - first).min(MOST_COLUMNS) {
                            1 => taps.add::<S, 1>(sums),
                            2 => taps.add::<S, 2>(sums),
                            3 => taps.add::<S, 3>(sums),
                            4 => taps.add::<S, 4>(sums),
                            5 => taps.add::<S, 5>(sums),
                            6 => taps.add::<S, 6>(sums),
                            _ => taps.add::<S, MOST_COLUMNS>(sums),
                        }
                    }
                }
            }
        }
    }
}

/// Neighbouring taps of one row of the kernel on one row of each map.
struct Taps {
    stride: usize,
    /// Column of the input that the first tap sees from the first output.
    first: isize,
    dilation: usize,
    x: *const f32,
    x_px: usize,
    x_w: usize,
    dy: *const f32,
    dy_px: usize,
    dy_w: usize,
    c: usize,
}

impl Taps {
    /// Outputs for which all `k` taps are inside.
    fn whole(&self, k: usize) -> Range<usize> {
        let last = self.first + ((k - 1) * self.dilation) as isize;
        let start = (-self.first).max(0) as usize;
        let end = (self.x_w as isize - last).max(0) as usize;
        let (start, end) = (start.div_ceil(self.stride).min(self.dy_w), end.div_ceil(self.stride).min(self.dy_w));
        start..end.max(start)
    }

    /// # Safety
    /// The rows are as wide as said; `sums` is good for `K` rows of `c` floats.
    #[inline(always)]
    unsafe fn add<S: Simd, const K: usize>(&self, sums: *mut f32) {
        let whole = self.whole(K);
        for i in (0..self.c).step_by(S::LANES) {
            let n = (self.c - i).min(S::LANES);
            // SAFETY: pixels are inside, `n` channels from `i` on are theirs.
            unsafe {
                let mut acc = [S::splat(0.0); K];
                for (k, acc) in acc.iter_mut().enumerate() {
                    *acc = load::<S>(sums.add(k * self.c + i), n);
                }
                let column = |o: usize, k: usize| (o * self.stride + k * self.dilation) as isize + self.first;
                for o in (0..whole.start).chain(whole.end..self.dy_w) {
                    let g = load::<S>(self.dy.add(o * self.dy_px + i), n);
                    for (k, acc) in acc.iter_mut().enumerate() {
                        let at = column(o, k);
                        if at >= 0 && (at as usize) < self.x_w {
                            *acc = S::fma(load::<S>(self.x.add(at as usize * self.x_px + i), n), g, *acc);
                        }
                    }
                }
                for o in whole.clone() {
                    let g = load::<S>(self.dy.add(o * self.dy_px + i), n);
                    let from = self.x.add(column(o, 0) as usize * self.x_px + i);
                    for (k, acc) in acc.iter_mut().enumerate() {
                        *acc = S::fma(load::<S>(from.add(k * self.dilation * self.x_px), n), g, *acc);
                    }
                }
                for (k, acc) in acc.iter().enumerate() {
                    crate::kernels::cpu::elementwise::store::<S>(sums.add(k * self.c + i), *acc, n);
                }
            }
        }
    }
}
