//! Pools: windows and whole images.
//!
//! Owns: [`max_pool`], [`avg_pool`], sums and maxima of rows and what they come to. Must not know: graphs.

use super::{
    elementwise::{load, store, vectors},
    isa::Isa,
    math,
    simd::{Kernel, Simd, dispatch},
    view::{View, ViewMut},
};
use crate::kernels::Pool;
use std::ops::Range;

/// Largest value of each window; padding never wins, a NaN does.
///
/// # Panics
/// If a window of the output starts behind the input.
pub fn max_pool(isa: Isa, x: View<'_>, pool: Pool, out: &mut ViewMut<'_>, rows: Range<usize>) {
    windows(isa, x, pool, true, out, rows);
}

/// Mean of each window, padding left out; windows must fit.
///
/// # Panics
/// If a window of the output starts behind the input.
pub fn avg_pool(isa: Isa, x: View<'_>, pool: Pool, out: &mut ViewMut<'_>, rows: Range<usize>) {
    windows(isa, x, pool, false, out, rows);
}

fn windows(isa: Isa, x: View<'_>, pool: Pool, max: bool, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let ((h, w, c), (out_h, out_w, _)) = (x.size(), out.size());
    out.check((out_h, out_w, c), &rows);
    let fits = |out: usize, size: usize| out == 0 || (out - 1) * pool.stride < size + pool.pad;
    assert!(pool.pad < pool.kernel && fits(out_h, h) && fits(out_w, w), "{pool:?} of {:?}", x.size());
    // SAFETY: sizes and rows are checked; every window has a pixel.
    unsafe { dispatch(isa, Windows { x, pool, max, out, rows }) }
}

struct Windows<'a, 'b> {
    x: View<'a>,
    pool: Pool,
    max: bool,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for Windows<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, pool, max, out, rows } = self;
        let ((h, w, c), (_, out_w, _)) = (x.size(), out.size());
        let taps = |o: usize, size: usize| {
            let start = o * pool.stride;
            start.saturating_sub(pool.pad)..(start + pool.kernel - pool.pad).min(size)
        };
        for oy in rows {
            let ys = taps(oy, h);
            for ox in 0..out_w {
                let xs = taps(ox, w);
                let (from, to) = (x.pixel(ys.start, xs.start), out.pixel(oy, ox));
                let (row, px) = (x.layout().row_stride, x.layout().pixel_stride);
                // SAFETY: the taps are inside the input, the pixel inside the output.
                unsafe {
                    let by = S::splat(1.0 / (ys.len() * xs.len()) as f32);
                    vectors::<S>(c, |i, n| {
                        let mut v = load::<S>(from.add(i), n);
                        for ky in 0..ys.len() {
                            for kx in usize::from(ky == 0)..xs.len() {
                                let tap = load::<S>(from.add(ky * row + kx * px + i), n);
                                v = if max { S::larger(v, tap) } else { S::add(v, tap) };
                            }
                        }
                        store::<S>(to.add(i), if max { v } else { S::mul(v, by) }, n);
                    });
                }
            }
        }
    }
}

/// What is taken over an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Sum.
    Sum,
    /// Sum of the squares.
    Squares,
    /// Largest; a NaN wins.
    Max,
}

/// One partial result per row and channel.
///
/// # Shapes
/// - `partial`: `[rows.len(), c]`, the part of this band
///
/// # Panics
/// If the sizes do not fit.
pub fn over_rows(isa: Isa, x: View<'_>, over: Over, rows: Range<usize>, partial: &mut [f32]) {
    let (h, w, c) = x.size();
    assert!(rows.end <= h && w > 0, "rows {rows:?} of {:?}", x.size());
    assert_eq!(partial.len(), rows.len() * c, "partial results");
    // SAFETY: sizes are checked.
    unsafe { dispatch(isa, OverRows { x, over, rows, partial }) }
}

struct OverRows<'a> {
    x: View<'a>,
    over: Over,
    rows: Range<usize>,
    partial: &'a mut [f32],
}

impl Kernel for OverRows<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, over, rows, partial } = self;
        let (_, w, c) = x.size();
        let px = x.layout().pixel_stride;
        for (y, to) in rows.zip(partial.chunks_exact_mut(c)) {
            let from = x.pixel(y, 0);
            // SAFETY: `w` pixels of `c` floats lie inside the view, `c` floats inside the partial results.
            unsafe {
                vectors::<S>(c, |i, n| {
                    let first = load::<S>(from.add(i), n);
                    let mut v = if over == Over::Squares { S::mul(first, first) } else { first };
                    for k in 1..w {
                        let next = load::<S>(from.add(k * px + i), n);
                        v = match over {
                            Over::Sum => S::add(v, next),
                            Over::Squares => S::fma(next, next, v),
                            Over::Max => S::larger(v, next),
                        };
                    }
                    store::<S>(to.as_mut_ptr().add(i), v, n);
                });
            }
        }
    }
}

/// The mean over the image from the sums of all its rows.
///
/// # Shapes
/// - `partial`: `[h, c]`, `out`: `[c]`
pub fn mean_of_sums(partial: &[f32], pixel_count: usize, out: &mut [f32]) {
    sum_of_sums(partial, out);
    out.iter_mut().for_each(|v| *v /= pixel_count as f32);
}

/// The sum over the image from the sums of all its rows, added in order.
///
/// # Shapes
/// - `partial`: `[h, c]`, `out`: `[c]`
pub fn sum_of_sums(partial: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for row in partial.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(a, b)| *a += b);
    }
}

/// The maximum over the image from those of all its rows.
///
/// # Shapes
/// - `partial`: `[h, c]`, `out`: `[c]`
pub fn max_of_maxima(partial: &[f32], out: &mut [f32]) {
    out.fill(f32::NEG_INFINITY);
    for row in partial.chunks_exact(out.len()) {
        out.iter_mut().zip(row).for_each(|(a, b)| *a = math::larger(*a, *b));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::conv::tests::{difference, numbers};

    #[test]
    fn windows_and_images_are_pooled_as_defined() {
        let (h, w) = (9, 11);
        for c in [16, 21, 3] {
            let data = numbers(1, h * w * c);
            let x = View::dense(&data, h, w, c);
            for (pool, max) in [
                (Pool { kernel: 3, stride: 2, pad: 1 }, true),
                (Pool { kernel: 2, stride: 2, pad: 0 }, true),
                (Pool { kernel: 2, stride: 2, pad: 0 }, false),
                (Pool { kernel: 3, stride: 1, pad: 0 }, false),
            ] {
                let side = |n: usize| (n + 2 * pool.pad - pool.kernel) / pool.stride + 1;
                let (out_h, out_w) = (side(h), side(w));
                let window = |o: usize, n: usize| {
                    (o * pool.stride..o * pool.stride + pool.kernel)
                        .filter_map(move |v| v.checked_sub(pool.pad).filter(|&v| v < n))
                };
                let want: Vec<f32> = (0..out_h * out_w * c)
                    .map(|i| {
                        let (oy, ox, ch) = (i / (out_w * c), i / c % out_w, i % c);
                        let values: Vec<f32> =
                            window(oy, h).flat_map(|y| window(ox, w).map(move |v| x.at(y, v, ch))).collect();
                        match max {
                            true => values.iter().copied().fold(f32::MIN, f32::max),
                            false => values.iter().sum::<f32>() / values.len() as f32,
                        }
                    })
                    .collect();
                for isa in Isa::ALL {
                    let mut got = vec![0.0; want.len()];
                    let mut out = ViewMut::dense(&mut got, out_h, out_w, c);
                    let f = if max { max_pool } else { avg_pool };
                    f(isa, x, pool, &mut out, 0..2);
                    f(isa, x, pool, &mut out, 2..out_h);
                    assert!(difference(&got, &want) < 1e-6, "{isa:?} {pool:?} {c}");
                }
            }
            for isa in Isa::ALL {
                let mut partial = vec![0.0; h * c];
                let mut out = vec![0.0; c];
                for (over, start) in [(Over::Sum, 0.0), (Over::Max, f32::MIN)] {
                    over_rows(isa, x, over, 0..4, &mut partial[..4 * c]);
                    over_rows(isa, x, over, 4..h, &mut partial[4 * c..]);
                    let f = if over == Over::Sum { |a: f32, b: f32| a + b } else { f32::max };
                    let want: Vec<f32> =
                        (0..c).map(|i| data.iter().skip(i).step_by(c).fold(start, |a, &b| f(a, b))).collect();
                    if over == Over::Sum {
                        sum_of_sums(&partial, &mut out)
                    } else {
                        max_of_maxima(&partial, &mut out)
                    }
                    assert!(difference(&out, &want) < 1e-6, "{isa:?} {over:?} {c}");
                }
            }
        }
    }

    #[test]
    fn a_nan_wins_wherever_it_stands() {
        let (h, w) = (4, 5);
        for (isa, c) in Isa::ALL.into_iter().flat_map(|isa| [1, 8, 21].map(|c| (isa, c))) {
            for at in 0..h * w {
                let mut data = numbers(1, h * w * c);
                let channel = at % c;
                data[at * c + channel] = f32::NAN;
                let x = View::dense(&data, h, w, c);
                // Windows of 3 every 2 px: those that have the pixel, in the pixel's channel.
                let (out_h, out_w, mut out) = (2, 3, vec![0.0; 2 * 3 * c]);
                let pool = Pool { kernel: 3, stride: 2, pad: 1 };
                for f in [max_pool, avg_pool] {
                    f(isa, x, pool, &mut ViewMut::dense(&mut out, out_h, out_w, c), 0..out_h);
                    for (i, v) in out.iter().enumerate() {
                        let has = |o: usize, n: usize| (2 * o).saturating_sub(1) <= n && n < 2 * o + 2;
                        let is_in = has(i / (out_w * c), at / w) && has(i / c % out_w, at % w) && i % c == channel;
                        assert_eq!(v.is_nan(), is_in, "{isa:?}, {c} channels, pixel {at}, output {i}");
                    }
                }
                let (mut rows, mut out) = (vec![0.0; h * c], vec![0.0; c]);
                over_rows(isa, x, Over::Max, 0..h, &mut rows);
                max_of_maxima(&rows, &mut out);
                assert!((0..c).all(|i| out[i].is_nan() == (i == channel)), "{isa:?}, pixel {at}: {out:?}");
            }
        }
    }
}
