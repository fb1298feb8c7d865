//! Attention inside windows of a map.
//!
//! Owns: [`window_attention`]. Must not know: graphs. Source: Liu 2021, "Swin Transformer", §3.2.

use super::{
    elementwise::{load, softmax, store, total, vectors},
    isa::Isa,
    simd::{Kernel, Simd, dispatch},
    view::{View, ViewMut},
};
use std::ops::Range;

/// Added to the score of pixels that a shift brought together, as in the authors' code.
const APART: f32 = -100.0;

/// Heads, side of a window, and how far the windows are shifted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Parts of the channels.
    pub heads: usize,
    /// Side, px; divides both sides of the map.
    pub window_px: usize,
    /// Shift, px, on both axes; none on a side that is one window.
    pub shift_px: usize,
}

impl Windows {
    /// Floats of working memory.
    pub fn scratch_floats(&self) -> usize {
        self.window_px * self.window_px
    }
}

/// Every pixel attends to the pixels of its window.
///
/// # Shapes
/// - `x`: `[h, w, 3 c]`, queries, keys, values; `out`: `[h, w, c]`
/// - `bias`: `[heads, window_px², window_px²]`, added to the score of (query, key)
/// - `scratch`: at least [`Windows::scratch_floats`]
///
/// # Panics
/// If the sizes do not fit.
pub fn window_attention(
    isa: Isa,
    x: View<'_>,
    bias: &[f32],
    windows: Windows,
    out: &mut ViewMut<'_>,
    rows: Range<usize>,
    scratch: &mut [f32],
) {
    let (h, w, c3) = x.size();
    let Windows { heads, window_px, .. } = windows;
    let pixels = window_px * window_px;
    assert!(c3.is_multiple_of(3 * heads) && h.is_multiple_of(window_px) && w.is_multiple_of(window_px), "{windows:?}");
    assert_eq!(bias.len(), heads * pixels * pixels, "biases of {windows:?}");
    out.check((h, w, c3 / 3), &rows);
    // SAFETY: sizes and rows are checked.
    unsafe { dispatch(isa, WindowAttention { x, bias, windows, out, rows, scores: &mut scratch[..pixels] }) }
}

struct WindowAttention<'a, 'b> {
    x: View<'a>,
    bias: &'a [f32],
    windows: Windows,
    out: &'a mut ViewMut<'b>,
    rows: Range<usize>,
    scores: &'a mut [f32],
}

/// Where the windows lie on an axis.
#[derive(Clone, Copy)]
struct Axis {
    side: usize,
    shift: usize,
}

impl Axis {
    fn new(side: usize, windows: Windows) -> Self {
        let shift = if side == windows.window_px { 0 } else { windows.shift_px };
        Self { side, shift }
    }

    /// Position on the shifted axis.
    fn shifted(self, at: usize) -> usize {
        (at + self.side - self.shift) % self.side
    }

    /// Position on the map.
    fn on_map(self, shifted: usize) -> usize {
        (shifted + self.shift) % self.side
    }

    /// Whether what is at this shifted position came from the opposite edge.
    fn is_wrapped(self, shifted: usize) -> bool {
        self.shift > 0 && shifted >= self.side - self.shift
    }
}

impl Kernel for WindowAttention<'_, '_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { x, bias, windows, out, rows, scores } = self;
        let ((h, w, c3), Windows { heads, window_px, .. }) = (x.size(), windows);
        let (c, pixels, axes) = (c3 / 3, scores.len(), [Axis::new(h, windows), Axis::new(w, windows)]);
        let part = c / heads;
        let by = 1.0 / (part as f32).sqrt();
        for (py, px) in rows.flat_map(|y| (0..w).map(move |x| (y, x))) {
            let at = [axes[0].shifted(py), axes[1].shifted(px)];
            let first = at.map(|at| at / window_px * window_px);
            let query = (at[0] - first[0]) * window_px + at[1] - first[1];
            let key = |i: usize| [first[0] + i / window_px, first[1] + i % window_px];
            let pixel = |i: usize| {
                let [y, x_] = key(i);
                x.pixel(axes[0].on_map(y), axes[1].on_map(x_))
            };
            let is_apart = |i: usize| {
                let key = key(i);
                (0..2).any(|a| axes[a].is_wrapped(key[a]) != axes[a].is_wrapped(at[a]))
            };
            for head in 0..heads {
                let q = x.pixel(py, px).wrapping_add(head * part);
                let to = out.pixel(py, px).wrapping_add(head * part);
                let bias = &bias[(head * pixels + query) * pixels..][..pixels];
                // SAFETY: a head's channels lie inside each pixel of the views, the keys inside the scores.
                unsafe {
                    for (i, score) in scores.iter_mut().enumerate() {
                        let k = pixel(i).add(c + head * part);
                        let mut dot = S::splat(0.0);
                        vectors::<S>(part, |j, n| dot = S::fma(load::<S>(q.add(j), n), load::<S>(k.add(j), n), dot));
                        let apart = if is_apart(i) { APART } else { 0.0 };
                        *score = total::<S>(dot) * by + bias[i] + apart;
                    }
                    softmax::<S>(scores.as_ptr(), scores.as_mut_ptr(), pixels);
                    vectors::<S>(part, |j, n| {
                        let mut sum = S::splat(0.0);
                        for (i, score) in scores.iter().enumerate() {
                            let v = pixel(i).add(2 * c + head * part + j);
                            sum = S::fma(load::<S>(v, n), S::splat(*score), sum);
                        }
                        store::<S>(to.add(j), sum, n);
                    });
                }
            }
        }
    }
}
