//! Winograd's transform of weights.
//!
//! Owns: [`Kernels`]. Must not know: images.

use super::IN_SIDE;
use crate::kernels::cpu::simd::{Kernel, Simd};
use std::ops::Range;

/// Channels in whose kernels one task transforms.
pub(super) const ROWS: usize = 32;
/// The most channels out of a panel.
const PANEL: usize = 32;

/// Where tasks write their own rows.
#[derive(Clone, Copy)]
pub(super) struct Rows(pub *mut f32);
// SAFETY: tasks keep to their own rows.
unsafe impl Send for Rows {}
// SAFETY: as above.
unsafe impl Sync for Rows {}

impl Rows {
    pub(super) fn at(self, offset: usize) -> *mut f32 {
        self.0.wrapping_add(offset)
    }
}

/// 3×3 kernels of a panel to be transformed: `G g Gᵀ`, in double precision, all channels out of the panel at once.
pub(super) struct Kernels<'a> {
    pub cin: usize,
    pub channels: Range<usize>,
    pub outs: Range<usize>,
    pub weights: &'a [f32],
    pub to: *mut f32,
    pub width: usize,
    pub point: usize,
}

impl Kernel for Kernels<'_> {
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { cin, channels, outs, weights, to, width, point } = self;
        let mut g = [[0.0_f64; PANEL]; 9];
        for c in channels {
            for (i, o) in outs.clone().enumerate() {
                let kernel = &weights[(o * cin + c) * 9..][..9];
                (0..9).for_each(|t| g[t][i] = f64::from(kernel[t]));
            }
            let mut half = [[0.0_f64; PANEL]; IN_SIDE * 3];
            for k in 0..3 {
                let column = six(&g[k], &g[3 + k], &g[6 + k]);
                (0..IN_SIDE).for_each(|r| half[r * 3 + k] = column[r]);
            }
            for r in 0..IN_SIDE {
                let row = six(&half[r * 3], &half[r * 3 + 1], &half[r * 3 + 2]);
                for (k, values) in row.iter().enumerate() {
                    let to = to.wrapping_add((r * IN_SIDE + k) * point + c * width);
                    for (i, value) in values[..width].iter().enumerate() {
                        // SAFETY: the row of a point is `width` floats long.
                        unsafe { *to.add(i) = *value as f32 }
                    }
                }
            }
        }
    }
}

/// `G` times a column, for all channels out.
#[inline(always)]
fn six(a: &[f64; PANEL], b: &[f64; PANEL], c: &[f64; PANEL]) -> [[f64; PANEL]; IN_SIDE] {
    let mut out = [[0.0; PANEL]; IN_SIDE];
    for i in 0..PANEL {
        let (a, b, c) = (a[i], b[i], c[i]);
        let (even, far) = ((a + c) * (-1.0 / 6.0), a * (1.0 / 24.0) + c * (1.0 / 6.0));
        out[0][i] = 0.25 * a;
        out[1][i] = even - b * (1.0 / 6.0);
        out[2][i] = even + b * (1.0 / 6.0);
        out[3][i] = far + b * (1.0 / 12.0);
        out[4][i] = far - b * (1.0 / 12.0);
        out[5][i] = c;
    }
    out
}
