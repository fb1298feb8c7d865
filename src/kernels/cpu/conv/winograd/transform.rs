//! Winograd's transform of weights.
//!
//! Owns: [`Transform`]. Must not know: images.

use super::{IN_SIDE, odd_lines};
use crate::kernels::cpu::simd::{Kernel, Simd};
use std::ops::Range;

/// Weights of a kernel.
pub(super) const TAPS: usize = 9;

/// 3×3 kernels of whole panels to be transformed: `G g Gᵀ`, a vector of channels out at once.
pub(super) struct Transform<'a> {
    /// `[panel, cin, tap, channel of the panel]`.
    pub weights: &'a [f32],
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
        let Self { weights, panel, cin, outs, channels, to } = self;
        let point = odd_lines(outs.len() * channels.len());
        for first in outs.clone().step_by(panel) {
            let width = panel.min(outs.end - first);
            for (i, c) in channels.clone().enumerate() {
                for lane in (0..width).step_by(S::LANES) {
                    let from = &weights[(first * cin + c * width) * TAPS + lane..][..(TAPS - 1) * width + S::LANES];
                    let to = to.wrapping_add((first - outs.start) * channels.len() + i * width + lane);
                    // SAFETY: the slice holds the vectors of all taps, the caller promises room for all points.
                    unsafe {
                        let from = from.as_ptr();
                        let mut columns = [[S::splat(0.0); IN_SIDE]; 3];
                        for k in 0..3 {
                            let tap = from.wrapping_add(k * width);
                            let (below, last) = (tap.wrapping_add(3 * width), tap.wrapping_add(6 * width));
                            columns[k] = six::<S>([S::load(tap), S::load(below), S::load(last)]);
                        }
                        for row in 0..IN_SIDE {
                            let values = six::<S>([columns[0][row], columns[1][row], columns[2][row]]);
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

/// `G g`.
///
/// # Safety
/// The processor has the instructions of `S`.
#[inline(always)]
unsafe fn six<S: Simd>([a, b, c]: [S::V; 3]) -> [S::V; IN_SIDE] {
    // SAFETY: the caller's promise.
    unsafe {
        let (sixth, twelfth) = (S::splat(1.0 / 6.0), S::splat(1.0 / 12.0));
        let even = S::mul(S::add(a, c), S::splat(-1.0 / 6.0));
        let far = S::fma(a, S::splat(1.0 / 24.0), S::mul(c, sixth));
        let (odd, far_odd) = (S::mul(b, sixth), S::mul(b, twelfth));
        [S::mul(a, S::splat(0.25)), S::sub(even, odd), S::add(even, odd), S::add(far, far_odd), S::sub(far, far_odd), c]
    }
}
