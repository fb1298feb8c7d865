//! Elastic deformation: a smooth random field of displacements.
//!
//! Owns: [`Elastic`]. Must not know: pixels.
//! Source: Simard 2003: noise, evenly spread from −1 to 1, smoothed by a Gaussian of σ px and multiplied by α. Differs: the
//! field is drawn as a cubic B-spline with normal coefficients, `σ·√3` px apart, which has the same smoothness and the same
//! spread `α / (σ·√(12π))`, and costs a hundredth.

use crate::train::rng::Rng;

/// A field of displacements over a picture.
#[derive(Debug, Clone)]
pub struct Elastic {
    /// Px between coefficients.
    knot_px: f64,
    /// Coefficients per row.
    columns: usize,
    rows: usize,
    /// `[rows, columns]` displacement along x and y.
    coefficients: Vec<[f32; 2]>,
}

/// Mean over places of the sum of squares of a cubic B-spline's weights, in two dimensions: (151/315)².
const MEAN_SQUARE: f64 = 0.229_795_918;

impl Elastic {
    /// The field number `key` over `[h, w]` px.
    pub fn new((w, h): (u32, u32), alpha_px: f64, sigma_px: f64, key: u64) -> Self {
        let knot_px = (sigma_px * 3_f64.sqrt()).max(1.0);
        let count = |px: u32| (f64::from(px) / knot_px).ceil() as usize + 4;
        let (columns, rows) = (count(w), count(h));
        let spread = alpha_px / (sigma_px * (12.0 * std::f64::consts::PI).sqrt());
        let scale = spread / MEAN_SQUARE.sqrt();
        let mut rng = Rng::new(&[key]);
        // Four standard deviations are the end: the field never folds because of one coefficient.
        let mut draw = || (rng.normal().clamp(-4.0, 4.0) * scale) as f32;
        let coefficients = (0..columns * rows).map(|_| [draw(), draw()]).collect();
        Self { knot_px, columns, rows, coefficients }
    }

    /// Displacement at a place.
    pub fn at(&self, x: f64, y: f64) -> (f64, f64) {
        let (i, wx) = self.weights(x, self.columns);
        let (j, wy) = self.weights(y, self.rows);
        let mut sum = [0.0_f64; 2];
        for (b, wy) in wy.iter().enumerate() {
            for (a, wx) in wx.iter().enumerate() {
                let c = self.coefficients[(j + b) * self.columns + i + a];
                sum[0] += f64::from(wy * wx * c[0]);
                sum[1] += f64::from(wy * wx * c[1]);
            }
        }
        (sum[0], sum[1])
    }

    /// First of four coefficients and their weights; places beyond the field are held at its edge.
    fn weights(&self, at: f64, count: usize) -> (usize, [f32; 4]) {
        let t = (at / self.knot_px).clamp(0.0, (count - 4) as f64 + 0.999_999);
        let (first, f) = (t as usize, t.fract() as f32);
        let g = 1.0 - f;
        let weights = [
            g * g * g / 6.0,
            (3.0 * f * f * f - 6.0 * f * f + 4.0) / 6.0,
            (3.0 * g * g * g - 6.0 * g * g + 4.0) / 6.0,
            f * f * f / 6.0,
        ];
        (first.min(count - 4), weights)
    }

    /// Displacements of a row of `w` px whose centres are at height `y`.
    pub(super) fn row(&self, y: f64, out: &mut [[f32; 2]]) {
        let (j, wy) = self.weights(y, self.rows);
        let mut line = vec![[0.0_f32; 2]; self.columns];
        for (b, wy) in wy.iter().enumerate() {
            let row = &self.coefficients[(j + b) * self.columns..][..self.columns];
            for (sum, c) in line.iter_mut().zip(row) {
                sum[0] += wy * c[0];
                sum[1] += wy * c[1];
            }
        }
        for (i, slot) in out.iter_mut().enumerate() {
            let (first, wx) = self.weights(i as f64 + 0.5, self.columns);
            let four = &line[first..first + 4];
            *slot = [0, 1].map(|c| (0..4).map(|a| wx[a] * four[a][c]).sum());
        }
    }
}
