//! Winograd's transform of weights.
//!
//! Owns: [`Transform`]. Must not know: images.

use super::{IN_SIDE, odd_lines};
use crate::kernels::cpu::simd::{Kernel, Simd};
use std::ops::Range;

/// Kernels of whole panels to be transformed: `G g Gᵀ`, a vector of channels out at once.
pub(super) struct Transform<'a> {
    /// `[panel, cin, tap, channel of the panel]`.
    pub weights: &'a [f32],
    /// Rows and columns of a kernel, 3 or 5.
    pub kernel: usize,
    /// Channels of a panel; the last may have fewer.
    pub panel: usize,
    pub cin: usize,
    pub outs: Range<usize>,
    pub channels: Range<usize>,
    /// `[point, panel, channel in, channel of the panel]` of these alone; points [`odd_lines`] apart.
    pub to: *mut f32,
}

impl Kernel for Transform<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller's promise.
        unsafe { if self.kernel == 3 { self.of::<S, 3>() } else { self.of::<S, 5>() } }
    }
}

impl Transform<'_> {
    /// The kernels have K rows and columns.
    #[inline(always)]
    unsafe fn of<S: Simd, const K: usize>(self) {
        let Self { weights, panel, cin, outs, channels, to, .. } = self;
        let taps = K * K;
        let point = odd_lines(outs.len() * channels.len());
        for first in outs.clone().step_by(panel) {
            let width = panel.min(outs.end - first);
            for (i, c) in channels.clone().enumerate() {
                for lane in (0..width).step_by(S::LANES) {
                    let from = &weights[(first * cin + c * width) * taps + lane..][..(taps - 1) * width + S::LANES];
                    let to = to.wrapping_add((first - outs.start) * channels.len() + i * width + lane);
                    // SAFETY: the slice holds the vectors of all taps, the caller promises room for all points.
                    unsafe {
                        let from = from.as_ptr();
                        let mut columns = [[S::splat(0.0); IN_SIDE]; K];
                        for k in 0..K {
                            let mut column = [S::splat(0.0); K];
                            for row in 0..K {
                                column[row] = S::load(from.wrapping_add((row * K + k) * width));
                            }
                            columns[k] = six::<S, K>(column);
                        }
                        for row in 0..IN_SIDE {
                            let mut line = [S::splat(0.0); K];
                            for k in 0..K {
                                line[k] = columns[k][row];
                            }
                            let values = six::<S, K>(line);
                            for k in 0..IN_SIDE {
                                S::store(to.wrapping_add((row * IN_SIDE + k) * point), values[k]);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// `G g`: of point a, the value of the polynomial there, over the product of a's distances to the other points; of 3 or 5
/// coefficients.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn six<S: Simd, const K: usize>(g: [S::V; K]) -> [S::V; IN_SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sixth, twelfth) = (S::splat(1.0 / 6.0), S::splat(1.0 / 12.0));
        let mut even = S::add(g[0], g[2]);
        let mut far = S::fma(g[0], S::splat(1.0 / 24.0), S::mul(g[2], sixth));
        let mut odd = g[1];
        let mut far_odd = S::mul(g[1], twelfth);
        if K == 5 {
            even = S::add(even, g[4]);
            far = S::fma(g[4], S::splat(2.0 / 3.0), far);
            odd = S::add(odd, g[3]);
            far_odd = S::fma(g[3], S::splat(1.0 / 3.0), far_odd);
        }
        let (even, odd) = (S::mul(even, S::splat(-1.0 / 6.0)), S::mul(odd, sixth));
        [
            S::mul(g[0], S::splat(0.25)),
            S::sub(even, odd),
            S::add(even, odd),
            S::add(far, far_odd),
            S::sub(far, far_odd),
            g[K - 1],
        ]
    }
}
