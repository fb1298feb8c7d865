//! Norms that depend on the image.
//!
//! Owns: [`layer_norm`]; the two steps of group norm and of global response norm. Must not know: graphs.
//!
//! Group norm: [`row_moments`] for every row, [`group_norm_factors`], then
//! [`affine`](super::elementwise::affine). Global response norm: [`over_rows`](super::pool::over_rows) of squares,
//! [`response_norm_factors`], then `affine`.

use super::{
    elementwise::{load, store, total, vectors},
    isa::Isa,
    pool::sum_of_sums,
    simd::{Kernel, Simd, dispatch},
    view::{View, ViewMut},
};
use std::ops::Range;

/// Norm over the channels of each pixel: `(x − mean) / √(var + eps) · scale + shift`.
///
/// # Panics
/// If the sizes differ.
pub fn layer_norm(
    isa: Isa,
    x: View<'_>,
    (scale, shift): (&[f32], &[f32]),
    eps: f32,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
) {
    out.check(x.size(), &rows);
    let c = x.size().2;
    assert!(scale.len() == c && shift.len() == c, "factors of {c} channels");
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, LayerNorm { x, scale, shift, eps, out, rows }) }
}

struct LayerNorm<'a, 'b> {
    x: View<'a>,
    scale: &'a [f32],
    shift: &'a [f32],
    eps: f32,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for LayerNorm<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, scale, shift, eps, out, rows } = self;
        let (_, w, c) = x.size();
        for y in rows {
            for px in 0..w {
                let (from, to) = (x.pixel(y, px), out.pixel(y, px));
                // SAFETY: `c` floats from each pixel on lie inside the views and the factors.
                unsafe {
                    let (mean, squares) = moments::<S>(from, c);
                    let by = 1.0 / (squares / c as f32 + eps).sqrt();
                    let (by, minus) = (S::splat(by), S::splat(-mean));
                    vectors::<S>(c, |i, n| {
                        let v = S::mul(S::add(load::<S>(from.add(i), n), minus), by);
                        let (a, b) = (load::<S>(scale.as_ptr().add(i), n), load::<S>(shift.as_ptr().add(i), n));
                        store::<S>(to.add(i), S::fma(v, a, b), n);
                    });
                }
            }
        }
    }
}

/// Mean and sum of the squared distances from it.
///
/// # Safety
/// `from` is good for `n` floats.
#[inline(always)]
unsafe fn moments<S: Simd>(from: *const f32, n: usize) -> (f32, f32) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sum = S::splat(0.0);
        vectors::<S>(n, |i, lanes| sum = S::add(sum, load::<S>(from.add(i), lanes)));
        let mean = total::<S>(sum) / n as f32;
        let mut squares = S::splat(0.0);
        let (whole, minus) = (n / S::LANES * S::LANES, S::splat(-mean));
        vectors::<S>(whole, |i, _| {
            let d = S::add(S::load(from.add(i)), minus);
            squares = S::fma(d, d, squares);
        });
        let rest = std::slice::from_raw_parts(from.add(whole), n - whole);
        let rest: f32 = rest.iter().map(|v| (v - mean) * (v - mean)).sum();
        (mean, total::<S>(squares) + rest)
    }
}

/// Mean, and sum of the squared distances from it, of each channel of each row.
///
/// # Shapes
/// - `partial`: `[rows.len(), 2, c]`, the part of this band
///
/// # Panics
/// If the sizes do not fit.
pub fn row_moments(isa: Isa, x: View<'_>, rows: Range<usize>, partial: &mut [f32]) {
    let (h, w, c) = x.size();
    assert!(rows.end <= h && w > 0, "rows {rows:?} of {:?}", x.size());
    assert_eq!(partial.len(), rows.len() * 2 * c, "partial results");
    // SAFETY: sizes are checked.
    unsafe { dispatch(isa, RowMoments { x, rows, partial }) }
}

struct RowMoments<'a> {
    x: View<'a>,
    rows: Range<usize>,
    partial: &'a mut [f32],
}

impl Kernel for RowMoments<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, rows, partial } = self;
        let (_, w, c) = x.size();
        let px = x.layout().pixel_stride;
        for (y, to) in rows.zip(partial.chunks_exact_mut(2 * c)) {
            let (from, to) = (x.pixel(y, 0), to.as_mut_ptr());
            // SAFETY: `w` pixels of `c` floats lie inside the view, `2 c` floats inside the partial results.
            unsafe {
                vectors::<S>(c, |i, n| {
                    let mut sum = S::splat(0.0);
                    for k in 0..w {
                        sum = S::add(sum, load::<S>(from.add(k * px + i), n));
                    }
                    let mean = S::mul(sum, S::splat(1.0 / w as f32));
                    let mut squares = S::splat(0.0);
                    for k in 0..w {
                        let d = S::sub(load::<S>(from.add(k * px + i), n), mean);
                        squares = S::fma(d, d, squares);
                    }
                    store::<S>(to.add(i), mean, n);
                    store::<S>(to.add(c + i), squares, n);
                });
            }
        }
    }
}

/// Group norm as a factor and an addend of each channel, from the moments of all rows.
///
/// # Shapes
/// - `partial`: `[h, 2, c]` of rows of `w` pixels; `weight`, `bias`, `scale`, `shift`: `[c]`
///
/// # Panics
/// If the sizes do not fit.
pub fn group_norm_factors(
    partial: &[f32],
    (w, groups, eps): (usize, usize, f64),
    (weight, bias): (&[f32], &[f32]),
    (scale, shift): (&mut [f32], &mut [f32]),
) {
    let c = scale.len();
    assert!(c.is_multiple_of(groups) && shift.len() == c && weight.len() == c && bias.len() == c, "{groups} groups");
    assert!(partial.len().is_multiple_of(2 * c), "partial results");
    let per = c / groups;
    for g in 0..groups {
        // Chan's formula joins the moments of two parts; the order is that of the rows and then of the channels.
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for row in partial.chunks_exact(2 * c) {
            for i in g * per..(g + 1) * per {
                let (m, s) = (f64::from(row[i]), f64::from(row[c + i]));
                let n = w as f64;
                let d = m - mean;
                mean += d * n / (count + n);
                squares += s + d * d * count * n / (count + n);
                count += n;
            }
        }
        let by = 1.0 / (squares / count + eps).sqrt();
        for i in g * per..(g + 1) * per {
            scale[i] = (f64::from(weight[i]) * by) as f32;
            shift[i] = (f64::from(bias[i]) - mean * by * f64::from(weight[i])) as f32;
        }
    }
}

/// Global response norm as a factor of each channel, from the squares of all rows; its addend is the bias.
///
/// # Shapes
/// - `partial`: `[h, c]`; `weight`, `scale`: `[c]`
pub fn response_norm_factors(partial: &[f32], weight: &[f32], scale: &mut [f32]) {
    sum_of_sums(partial, scale);
    scale.iter_mut().for_each(|v| *v = v.sqrt());
    let mean = scale.iter().sum::<f32>() / scale.len() as f32 + 1e-6;
    scale.iter_mut().zip(weight).for_each(|(v, w)| *v = 1.0 + w * *v / mean);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::{
        conv::tests::{difference, numbers},
        pool::{Over, over_rows},
    };

    /// `(x − mean) / √(var + eps)` of some values, in double precision.
    fn normed(values: &[f32], eps: f64) -> Vec<f64> {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let var = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
        values.iter().map(|&v| (f64::from(v) - mean) / (var + eps).sqrt()).collect()
    }

    #[test]
    fn norms_are_their_formulas_even_far_from_zero() {
        let (h, w) = (5, 6);
        for (c, groups) in [(16, 4), (40, 8), (37, 1)] {
            let data: Vec<f32> = numbers(1, h * w * c).iter().map(|v| v + 30.0).collect();
            let (weight, bias) = (numbers(2, c), numbers(3, c));
            let x = View::dense(&data, h, w, c);
            let layer: Vec<f32> = data
                .chunks(c)
                .flat_map(|px| normed(px, 1e-6))
                .enumerate()
                .map(|(i, v)| (v * f64::from(weight[i % c]) + f64::from(bias[i % c])) as f32)
                .collect();
            let per = c / groups;
            let mut group = vec![0.0; data.len()];
            for g in 0..groups {
                let at: Vec<usize> = (0..data.len()).filter(|i| i % c / per == g).collect();
                let values: Vec<f32> = at.iter().map(|&i| data[i]).collect();
                for (i, v) in at.into_iter().zip(normed(&values, 1e-5)) {
                    group[i] = (v * f64::from(weight[i % c]) + f64::from(bias[i % c])) as f32;
                }
            }
            for isa in Isa::ALL {
                let mut got = vec![0.0; data.len()];
                layer_norm(isa, x, (&weight, &bias), 1e-6, &mut ViewMut::dense(&mut got, h, w, c), 0..h);
                assert!(difference(&got, &layer) < 2e-5, "{isa:?} layer norm of {c}: {}", difference(&got, &layer));
                let mut partial = vec![0.0; h * 2 * c];
                row_moments(isa, x, 0..2, &mut partial[..4 * c]);
                row_moments(isa, x, 2..h, &mut partial[4 * c..]);
                let (mut scale, mut shift) = (vec![0.0; c], vec![0.0; c]);
                group_norm_factors(&partial, (w, groups, 1e-5), (&weight, &bias), (&mut scale, &mut shift));
                let got: Vec<f32> = data.iter().enumerate().map(|(i, v)| v * scale[i % c] + shift[i % c]).collect();
                assert!(difference(&got, &group) < 2e-5, "{isa:?} group norm of {c}: {}", difference(&got, &group));
            }
        }
    }

    #[test]
    fn response_norm_is_its_formula() {
        let (h, w, c) = (4, 5, 19);
        let (data, weight) = (numbers(1, h * w * c), numbers(2, c));
        let norms: Vec<f32> =
            (0..c).map(|i| data.iter().skip(i).step_by(c).map(|v| v * v).sum::<f32>().sqrt()).collect();
        let mean = norms.iter().sum::<f32>() / c as f32;
        let want: Vec<f32> = norms.iter().zip(&weight).map(|(n, w)| 1.0 + w * n / (mean + 1e-6)).collect();
        for isa in Isa::ALL {
            let (mut partial, mut got) = (vec![0.0; h * c], vec![0.0; c]);
            over_rows(isa, View::dense(&data, h, w, c), Over::Squares, 0..h, &mut partial);
            response_norm_factors(&partial, &weight, &mut got);
            assert!(difference(&got, &want) < 1e-6, "{isa:?}");
        }
    }
}
