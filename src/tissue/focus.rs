//! Areas out of focus.
//!
//! Owns: which px of a picture are blurred. Must not know: why.
//!
//! Out of focus, fine detail goes first. The measure is the energy of the finest band of optical density (the picture
//! less itself smoothed once) over that of the next band (smoothed once less smoothed three times), within 100 µm and
//! on tissue only. It does not depend on contrast or stain. Measured, 2nd–98th percentile, at 8 and 2 µm/px:
//! sharp tissue of CMU-1, CAMELYON, OS-1, OS-2 and (at 2) five BRCA-M2C patches 1.4–3.1; the same blurred with σ = 0.5 px
//! 1.1–2.0, σ = 1 px 0.7–0.96, σ = 2 px and more below 0.7. White noise alone gives 3.9.
//!
//! So the threshold 1.0 finds blur from σ ≈ 0.8 px of the **picture** on: 6 µm at 8 µm/px, which is a slide grossly
//! out of focus. Blur of 1–2 µm that already hurts nuclei needs a picture of 2 µm/px (`tissue.mpp: 2`).

use crate::pixels::{RgbImage, stain::mean_od_px};
use rayon::prelude::*;

/// Fine over coarse energy (root mean square) of what is in focus.
const SHARP: f64 = 1.0;
/// Below this coarse energy (optical density) there is no detail to judge by: such px count as sharp.
const FLAT_OD: f64 = 0.0008;
/// Rows judged at once, if windows are not larger.
const BAND_ROWS: usize = 64;
/// Rows to each side that three smoothings look at.
const SMOOTHING_ROWS: usize = 3;
/// Half the side of the window.
const RADIUS_UM: f64 = 100.0;

/// 1 where tissue is out of focus, `[h, w]`; 0 outside tissue. `um_per_px` is that of the picture.
pub(super) fn blurred(picture: &RgbImage, tissue: &[u8], um_per_px: f64) -> Vec<u8> {
    let (w, h) = (picture.w as usize, picture.h as usize);
    // Never less than 5 px to each side: an energy of few px is chance.
    let radius_px = ((RADIUS_UM / um_per_px).round() as usize).max(5);
    // Rows are judged a band at a time, with the rows above and below that its windows and their smoothing see: the
    // tables of a whole picture would be most of the program's memory.
    let band = BAND_ROWS.max(2 * radius_px);
    let reach = radius_px + SMOOTHING_ROWS;
    let mut blurred = vec![0; tissue.len()];
    blurred.par_chunks_mut((band * w).max(1)).enumerate().for_each(|(i, out)| {
        let (y0, y1) = (i * band, (i + 1) * band);
        let (top, bottom) = (y0.saturating_sub(reach), (y1 + reach).min(h));
        judge(&picture.data[top * w * 3..bottom * w * 3], &tissue[top * w..bottom * w], w, radius_px, y0 - top, out);
    });
    blurred
}

/// Judges some rows of a picture, from row `first` of those given.
fn judge(rgb: &[u8], tissue: &[u8], w: usize, radius_px: usize, first: usize, out: &mut [u8]) {
    let od: Vec<f32> = rgb.chunks_exact(3).map(|p| mean_od_px([p[0], p[1], p[2]])).collect();
    let once = smooth(&od, w);
    let thrice = smooth(&smooth(&once, w), w);
    let energy = |a: &[f32], b: &[f32]| -> Vec<f64> {
        let differences = a.iter().zip(b).zip(tissue);
        differences.map(|((a, b), &t)| f64::from(a - b).powi(2) * f64::from(t)).collect()
    };
    let fine = WindowSums::new(&energy(&od, &once), w);
    let coarse = WindowSums::new(&energy(&once, &thrice), w);
    let count = WindowSums::new(&tissue.iter().map(|&t| f64::from(t)).collect::<Vec<_>>(), w);
    for (i, out) in (first * w..).zip(out) {
        if tissue[i] == 1 {
            let (fine, coarse, n) = (fine.at(i, radius_px), coarse.at(i, radius_px), count.at(i, radius_px));
            *out = u8::from(coarse > n * FLAT_OD * FLAT_OD && fine < coarse * SHARP * SHARP);
        }
    }
}

/// `[1, 2, 1] / 4` along x and y, edges repeated.
fn smooth(values: &[f32], w: usize) -> Vec<f32> {
    let w = w.max(1);
    let h = values.len() / w;
    let tap = |a: f32, b: f32, c: f32| (a + b + b + c) * 0.25;
    let mut along_x = vec![0.0; values.len()];
    for (out, row) in along_x.chunks_exact_mut(w).zip(values.chunks_exact(w)) {
        for (x, out) in out.iter_mut().enumerate() {
            *out = tap(row[x - usize::from(x > 0)], row[x], row[x + usize::from(x + 1 < w)]);
        }
    }
    let row = |y: usize| &along_x[y * w..][..w];
    let mut out = vec![0.0; values.len()];
    for (y, out) in out.chunks_exact_mut(w).enumerate() {
        let (above, here, below) = (row(y - usize::from(y > 0)), row(y), row(y + usize::from(y + 1 < h)));
        for (x, out) in out.iter_mut().enumerate() {
            *out = tap(above[x], here[x], below[x]);
        }
    }
    out
}

/// Sums over squares, by a summed-area table.
struct WindowSums {
    /// `[h + 1, w + 1]`.
    table: Vec<f64>,
    w: usize,
}

impl WindowSums {
    fn new(values: &[f64], w: usize) -> Self {
        let h = values.len() / w.max(1);
        let mut table = vec![0.0; (w + 1) * (h + 1)];
        for y in 0..h {
            let mut row = 0.0;
            for x in 0..w {
                row += values[y * w + x];
                table[(y + 1) * (w + 1) + x + 1] = table[y * (w + 1) + x + 1] + row;
            }
        }
        Self { table, w }
    }

    /// Sum within `radius` of px `i`, cut at the edges.
    fn at(&self, i: usize, radius: usize) -> f64 {
        let (x, y, stride) = (i % self.w, i / self.w, self.w + 1);
        let h = self.table.len() / stride - 1;
        let (x0, x1) = (x.saturating_sub(radius), (x + radius + 1).min(self.w));
        let (y0, y1) = (y.saturating_sub(radius), (y + radius + 1).min(h));
        let t = &self.table;
        (t[y1 * stride + x1] - t[y0 * stride + x1] - t[y1 * stride + x0] + t[y0 * stride + x0]).max(0.0)
    }
}
