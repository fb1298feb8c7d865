//! Sums over pixels, channel by channel, and gradients that need no others: norms and clamps.
//!
//! Owns: [`moments`], [`channel_sums`], [`norm_sums`], [`affine_gradient`], [`clamped`]. Must not know: networks.
//!
//! The loops are plain: compiled for each instruction set by [`dispatch`], the compiler makes vectors of them, and all of
//! them wait for memory.

use super::maps::Maps;
use crate::kernels::cpu::{
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
};
use rayon::prelude::*;
use std::ops::Range;

/// Floats of a part of an image, about; and parts of an image, at most.
const PART_FLOATS: usize = 1 << 15;
const MOST_PARTS: usize = 16;

/// Bounds outside of which an activation is flat: ReLU's and ReLU6's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clamp {
    /// The least value.
    pub low: f32,
    /// The largest.
    pub high: f32,
}

impl Clamp {
    /// Nothing is flat.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };
    /// `max(x, 0)`.
    pub const RELU: Self = Self { low: 0.0, high: f32::INFINITY };
    /// `min(max(x, 0), 6)`.
    pub const RELU6: Self = Self { low: 0.0, high: 6.0 };

    /// Whether the gradient passes at this result, or at this argument: a NaN is not held back.
    #[inline(always)]
    fn passes(self, value: f32) -> bool {
        !(value <= self.low || value >= self.high)
    }
}

/// Plain loops as a kernel.
struct Loops<F>(F);

impl<F: FnOnce()> Kernel for Loops<F> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        (self.0)();
    }
}

/// Runs plain loops compiled for an instruction set.
#[inline(always)]
pub(super) fn loops(isa: Isa, f: impl FnOnce()) {
    // SAFETY: the closure is safe code.
    unsafe { dispatch(isa, Loops(f)) }
}

/// Fixed parts of an image's rows.
fn parts(x: &Maps<'_>) -> usize {
    (x.h * x.w * x.c / PART_FLOATS).clamp(1, MOST_PARTS).min(x.h.max(1))
}

/// Sums of `N` numbers per channel of each image, `[N][n, c]`: parts in parallel, added in order.
fn summed<const N: usize>(x: &Maps<'_>, add: impl Fn(usize, Range<usize>, [&mut [f32]; N]) + Sync) -> [Vec<f64>; N] {
    let (parts, c) = (parts(x), x.c);
    let sums: Vec<[Vec<f32>; N]> = (0..x.n * parts)
        .into_par_iter()
        .map(|task| {
            let (image, part) = (task / parts, task % parts);
            let mut sums = [(); N].map(|()| vec![0.0; c]);
            add(image, x.h * part / parts..x.h * (part + 1) / parts, sums.each_mut().map(Vec::as_mut_slice));
            sums
        })
        .collect();
    let mut all = [(); N].map(|()| vec![0.0; x.n * c]);
    for (task, part) in sums.iter().enumerate() {
        for (all, part) in all.iter_mut().zip(part) {
            let all = &mut all[task / parts * c..][..c];
            all.iter_mut().zip(part).for_each(|(a, b)| *a += f64::from(*b));
        }
    }
    all
}

/// Mean of each channel of each image, and the sum of squared distances from it: two times `[n, c]`.
pub fn moments(isa: Isa, x: Maps<'_>) -> [Vec<f64>; 2] {
    let c = x.c;
    // Distances from the first pixel, lest large means swallow small spreads.
    let [mut sums, mut squares] = summed::<2>(&x, |image, rows, [sum, square]| {
        let centre = x.rows(image, 0..1).get(..c).unwrap_or_default();
        let values = x.rows(image, rows);
        loops(
            isa,
            #[inline(always)]
            || {
                for pixel in values.chunks_exact(c) {
                    for i in 0..c {
                        let d = pixel[i] - centre[i];
                        sum[i] += d;
                        square[i] += d * d;
                    }
                }
            },
        );
    });
    let count = (x.h * x.w) as f64;
    for (i, (sum, square)) in sums.iter_mut().zip(&mut squares).enumerate() {
        *square = (*square - *sum * *sum / count).max(0.0);
        *sum = *sum / count + f64::from(x.rows(i / c, 0..1)[i % c]);
    }
    [sums, squares]
}

/// Sum of each channel of each image, `[n, c]`.
pub fn channel_sums(isa: Isa, x: Maps<'_>) -> Vec<f64> {
    let [sums] = summed::<1>(&x, |image, rows, [sum]| {
        let values = x.rows(image, rows);
        loops(
            isa,
            #[inline(always)]
            || {
                for pixel in values.chunks_exact(sum.len()) {
                    sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += v);
                }
            },
        );
    });
    sums
}

/// `x · scale + shift` of each channel; `[c]` for all images or `[n, c]`.
#[derive(Debug, Clone, Copy)]
pub struct Factors<'a> {
    /// Factors.
    pub scale: &'a [f32],
    /// Addends.
    pub shift: &'a [f32],
}

impl<'a> Factors<'a> {
    fn of(&self, image: usize, c: usize) -> (&'a [f32], &'a [f32]) {
        let first = if self.scale.len() == c { 0 } else { image * c };
        (&self.scale[first..][..c], &self.shift[first..][..c])
    }
}

/// For each channel of each image `Σ g` and `Σ g · (x − centre)`, where `g` is `dy` where `x · scale + shift` is inside
/// `clamp`, else 0: two times `[n, c]`.
///
/// # Shapes
/// - `x`, `dy`: `[n, h, w, c]`; `centre`: `[c]` or `[n, c]`
pub fn norm_sums(
    isa: Isa,
    x: Maps<'_>,
    dy: Maps<'_>,
    (factors, clamp): (Factors<'_>, Clamp),
    centre: &[f32],
) -> [Vec<f64>; 2] {
    let c = x.c;
    summed::<2>(&x, |image, rows, [sum, product]| {
        let (scale, shift) = factors.of(image, c);
        let centre = if centre.len() == c { centre } else { &centre[image * c..][..c] };
        let (values, given) = (x.rows(image, rows.clone()), dy.rows(image, rows));
        loops(
            isa,
            #[inline(always)]
            || {
                for (x, dy) in values.chunks_exact(c).zip(given.chunks_exact(c)) {
                    for i in 0..c {
                        let g = if clamp.passes(x[i] * scale[i] + shift[i]) { dy[i] } else { 0.0 };
                        sum[i] += g;
                        product[i] += g * (x[i] - centre[i]);
                    }
                }
            },
        );
    })
}

/// `g · a + x · b + d`, with `g` as in [`norm_sums`]; what is given for `dy` is overwritten.
///
/// # Shapes
/// - `x`, `dy`: `[n, h, w, c]`; `a`, `b`, `d`: `[c]` or `[n, c]`, all alike
///
/// # Panics
/// If the sizes differ.
pub fn affine_gradient(
    isa: Isa,
    x: Maps<'_>,
    dy: &mut [f32],
    (factors, clamp): (Factors<'_>, Clamp),
    [a, b, d]: [&[f32]; 3],
) {
    let (c, rows) = (x.c, x.w * x.c);
    assert_eq!(dy.len(), x.n * x.h * rows, "floats of the gradient");
    let band = band(rows, x.h);
    dy.par_chunks_mut(x.h * rows).enumerate().for_each(|(image, dy)| {
        dy.par_chunks_mut(band * rows).enumerate().for_each(|(i, dy)| {
            let (scale, shift) = factors.of(image, c);
            let first = if a.len() == c { 0 } else { image * c };
            let [a, b, d] = [a, b, d].map(|v| &v[first..][..c]);
            let values = x.rows(image, i * band..x.h.min((i + 1) * band));
            loops(
                isa,
                #[inline(always)]
                || {
                    for (x, dy) in values.chunks_exact(c).zip(dy.chunks_exact_mut(c)) {
                        for i in 0..c {
                            let g = if clamp.passes(x[i] * scale[i] + shift[i]) { dy[i] } else { 0.0 };
                            dy[i] = g * a[i] + (x[i] * b[i] + d[i]);
                        }
                    }
                },
            );
        });
    });
}

/// Rows of a band for work that waits for memory.
fn band(row_floats: usize, h: usize) -> usize {
    (PART_FLOATS / row_floats.max(1)).clamp(1, h.max(1))
}

/// `g` where the result `y` is inside the clamp, else 0, in place.
///
/// # Panics
/// If the lengths differ.
pub fn clamped(isa: Isa, y: &[f32], g: &mut [f32], clamp: Clamp) {
    assert_eq!(y.len(), g.len(), "floats of a gradient and its result");
    g.par_chunks_mut(PART_FLOATS).zip(y.par_chunks(PART_FLOATS)).for_each(|(g, y)| {
        loops(
            isa,
            #[inline(always)]
            || g.iter_mut().zip(y).for_each(|(g, y)| *g = if clamp.passes(*y) { *g } else { 0.0 }),
        );
    });
}
