//! Scaled dot-product attention.
//!
//! Owns: [`attention`]. Must not know: graphs.

use super::{
    elementwise::{load, softmax, store, total, vectors},
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
    view::{View, ViewMut},
};
use std::ops::Range;

/// Floats of working memory of [`attention`] to this many keys.
pub fn scratch_floats(key_count: usize) -> usize {
    key_count
}

/// Every pixel of `queries` attends to every pixel of `keys_values`, in `heads` equal parts of the channels:
/// `softmax(q · kᵀ / √(c / heads)) · v`.
///
/// # Shapes
/// - `queries`, `out`: `[h, w, c]`; `keys_values`: `[h', w', 2 c]`, keys and then values
/// - `scratch`: at least [`scratch_floats`]
///
/// # Panics
/// If the sizes do not fit.
pub fn attention(
    isa: Isa,
    (queries, keys_values): (View<'_>, View<'_>),
    heads: usize,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    scratch: &mut [f32],
) {
    let (_, _, c) = queries.size();
    let (kh, kw, kc) = keys_values.size();
    out.check(queries.size(), &rows);
    assert!(
        c.is_multiple_of(heads) && kc == 2 * c && kh * kw > 0,
        "{heads} heads of {c} channels, {kc} of keys, values"
    );
    let scores = &mut scratch[..kh * kw];
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, Attention { queries, keys_values, heads, out, rows, scores }) }
}

struct Attention<'a, 'b> {
    queries: View<'a>,
    keys_values: View<'a>,
    heads: usize,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
    scores: &'a mut [f32],
}

impl Kernel for Attention<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { queries, keys_values, heads, out, rows, scores } = self;
        let ((_, w, c), (_, kw, _)) = (queries.size(), keys_values.size());
        let part = c / heads;
        let by = 1.0 / (part as f32).sqrt();
        let keys = scores.len();
        for (y, x, head) in rows.flat_map(|y| (0..w).flat_map(move |x| (0..heads).map(move |h| (y, x, h)))) {
            let q = queries.pixel(y, x).wrapping_add(head * part);
            let to = out.pixel(y, x).wrapping_add(head * part);
            // SAFETY: a head's channels lie inside each pixel of the views, the keys inside the scores.
            unsafe {
                for (i, score) in scores.iter_mut().enumerate() {
                    let k = keys_values.pixel(i / kw, i % kw).add(head * part);
                    let mut dot = S::splat(0.0);
                    vectors::<S>(part, |j, n| dot = S::fma(load::<S>(q.add(j), n), load::<S>(k.add(j), n), dot));
                    *score = total::<S>(dot) * by;
                }
                softmax::<S>(scores.as_ptr(), scores.as_mut_ptr(), keys);
                vectors::<S>(part, |j, n| {
                    let mut sum = S::splat(0.0);
                    for (i, score) in scores.iter().enumerate() {
                        let v = keys_values.pixel(i / kw, i % kw).add(c + head * part + j);
                        sum = S::fma(load::<S>(v, n), S::splat(*score), sum);
                    }
                    store::<S>(to.add(j), sum, n);
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::conv::tests::{difference, numbers};

    #[test]
    fn every_pixel_attends_to_all_keys() {
        for (c, heads) in [(32, 2), (40, 5), (16, 1)] {
            let (q, kv) = (numbers(1, 4 * 5 * c), numbers(2, 3 * 2 * 2 * c));
            let part = c / heads;
            let mut want = vec![0.0; 4 * 5 * c];
            for (p, h) in (0..20).flat_map(|p| (0..heads).map(move |h| (p, h))) {
                let key = |k: usize, i: usize| f64::from(kv[k * 2 * c + h * part + i]);
                let dot = |k| (0..part).map(|i| f64::from(q[p * c + h * part + i]) * key(k, i)).sum::<f64>();
                let e: Vec<f64> = (0..6).map(|k| (dot(k) / (part as f64).sqrt()).exp()).collect();
                for i in 0..part {
                    let v: f64 = (0..6).map(|k| e[k] * key(k, c + i)).sum();
                    want[p * c + h * part + i] = (v / e.iter().sum::<f64>()) as f32;
                }
            }
            for isa in Isa::ALL {
                let mut got = vec![0.0; want.len()];
                let mut out = ViewMut::dense(&mut got, 4, 5, c);
                let mut scratch = vec![0.0; scratch_floats(6)];
                let views = (View::dense(&q, 4, 5, c), View::dense(&kv, 3, 2, 2 * c));
                attention(isa, views, heads, &mut out, 0..1, &mut scratch);
                attention(isa, views, heads, &mut out, 1..4, &mut scratch);
                assert!(difference(&got, &want) < 1e-6, "{isa:?} {heads} heads of {c}");
            }
        }
    }
}
