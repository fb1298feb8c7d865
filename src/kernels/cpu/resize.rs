//! Enlarging and shrinking.
//!
//! Owns: [`resize`]. Must not know: graphs. Source: PyTorch `F.interpolate` without antialiasing.

use super::{
    elementwise::{load, store, vectors},
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
    view::{View, ViewMut},
};
use crate::kernels::ResizeMode;
use std::ops::Range;

/// Resizes to the output's size.
///
/// # Panics
/// If the channels differ or the input is empty.
pub fn resize(isa: Isa, x: View<'_>, mode: ResizeMode, out: &mut ViewMut<'_>, rows: Range<usize>) {
    let ((h, w, c), (out_h, out_w, _)) = (x.size(), out.size());
    out.check((out_h, out_w, c), &rows);
    assert!(h > 0 && w > 0, "resize of nothing");
    // SAFETY: sizes and rows are checked; taps are below the input's size.
    unsafe { dispatch(isa, Resize { x, mode, out, rows }) }
}

/// Columns of the output whose taps are kept at once.
const COLUMNS: usize = 64;

/// The two inputs of an output, and the second's part.
#[inline(always)]
pub(super) fn taps(mode: ResizeMode, o: usize, input: usize, output: usize) -> (usize, usize, f32) {
    let last = input - 1;
    let at = match mode {
        ResizeMode::Nearest => return (o * input / output, o * input / output, 0.0),
        ResizeMode::Bilinear => ((o as f64 + 0.5) * input as f64 / output as f64 - 0.5).max(0.0),
        ResizeMode::BilinearCorners if output > 1 => (o * last) as f64 / (output - 1) as f64,
        ResizeMode::BilinearCorners => 0.0,
    };
    let left = (at as usize).min(last);
    (left, (left + 1).min(last), (at - left as f64) as f32)
}

struct Resize<'a, 'b> {
    x: View<'a>,
    mode: ResizeMode,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
}

impl Kernel for Resize<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, mode, out, rows } = self;
        let ((h, w, c), (out_h, out_w, _)) = (x.size(), out.size());
        // The taps of some columns are worked out once for all rows.
        for first in (0..out_w).step_by(COLUMNS) {
            let mut columns = [(0, 0, 0.0); COLUMNS];
            let columns = &mut columns[..COLUMNS.min(out_w - first)];
            columns.iter_mut().zip(first..).for_each(|(to, ox)| *to = taps(mode, ox, w, out_w));
            for oy in rows.clone() {
                let (top, bottom, down) = taps(mode, oy, h, out_h);
                let to = out.pixel(oy, first);
                let pixel_stride = out.layout().pixel_stride;
                for (i, &(left, right, along)) in columns.iter().enumerate() {
                    let from = [x.pixel(top, left), x.pixel(top, right), x.pixel(bottom, left), x.pixel(bottom, right)];
                    let to = to.wrapping_add(i * pixel_stride);
                    // SAFETY: `c` floats from each pixel on lie inside the views.
                    unsafe {
                        if mode == ResizeMode::Nearest {
                            vectors::<S>(c, |i, n| store::<S>(to.add(i), load::<S>(from[0].add(i), n), n));
                            continue;
                        }
                        let parts =
                            [(1.0 - down) * (1.0 - along), (1.0 - down) * along, down * (1.0 - along), down * along];
                        if c < 4 {
                            for i in 0..c {
                                *to.add(i) = (0..4).map(|t| *from[t].add(i) * parts[t]).sum();
                            }
                            continue;
                        }
                        let parts = [S::splat(parts[0]), S::splat(parts[1]), S::splat(parts[2]), S::splat(parts[3])];
                        vectors::<S>(c, |i, n| {
                            let mut v = S::mul(load::<S>(from[0].add(i), n), parts[0]);
                            for t in 1..4 {
                                v = S::fma(load::<S>(from[t].add(i), n), parts[t], v);
                            }
                            store::<S>(to.add(i), v, n);
                        });
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::conv::tests::{difference, numbers};

    #[test]
    fn resizes_follow_pytorchs_conventions() {
        let run = |mode, x: &[f32], n: usize| {
            let mut out = vec![0.0; n];
            resize(Isa::best(), View::dense(x, 1, x.len(), 1), mode, &mut ViewMut::dense(&mut out, 1, n, 1), 0..1);
            out
        };
        let four = [0., 1., 2., 3.];
        assert_eq!(run(ResizeMode::Nearest, &[1., 2., 3., 4.], 9), [1., 1., 1., 2., 2., 3., 3., 4., 4.]);
        assert_eq!(run(ResizeMode::Bilinear, &four, 8), [0., 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.]);
        assert_eq!(run(ResizeMode::BilinearCorners, &four, 7), [0., 0.5, 1., 1.5, 2., 2.5, 3.]);
        assert_eq!(run(ResizeMode::BilinearCorners, &four, 1), [0.]);
    }

    #[test]
    fn every_isa_resizes_alike_in_any_bands() {
        for (c, size) in [(16, (14, 22)), (37, (9, 5)), (2, (21, 33))] {
            let data = numbers(1, 7 * 11 * (c + 2));
            let x = View::new(&data, 7, 11, c, c + 2);
            for mode in [ResizeMode::Nearest, ResizeMode::Bilinear, ResizeMode::BilinearCorners] {
                let run = |isa, bands: &[usize]| {
                    let mut out = vec![0.0; size.0 * size.1 * c];
                    let mut to = ViewMut::dense(&mut out, size.0, size.1, c);
                    let mut start = 0;
                    for &end in bands.iter().chain([&size.0]) {
                        resize(isa, x, mode, &mut to, start..end);
                        start = end;
                    }
                    out
                };
                let want = run(Isa::Portable, &[]);
                for isa in Isa::ALL {
                    assert!(difference(&run(isa, &[]), &want) < 1e-6, "{isa:?} {mode:?} {c}");
                    assert!(run(isa, &[]) == run(isa, &[1, 4]), "{isa:?} {mode:?} {c}");
                }
            }
        }
    }
}
