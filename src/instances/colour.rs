//! Colour of an instance: mean red, green, blue, and optical densities of hematoxylin and eosin.
//!
//! Owns: [`ColourSums`], the stain vectors of the measurement. Must not know: shapes, files.
//! Source: Ruifrok and Johnston 2001 (colour deconvolution); default H&E vectors of QuPath (`ColorDeconvolutionStains`),
//! the third one their cross product. Optical density is `-log10((v + 1) / 256)`.

use super::Features;
use std::sync::LazyLock;

/// Optical density of red, green, blue per unit of hematoxylin.
const HEMATOXYLIN: [f64; 3] = [0.651, 0.701, 0.290];
/// Optical density of red, green, blue per unit of eosin.
const EOSIN: [f64; 3] = [0.216, 0.801, 0.558];
/// Fixed-point units per unit of density. A pixel's density is below 8, so it fits an `i32`.
const SCALE: f64 = (1 << 24) as f64;
/// Squares of this many pixels fit an `i64`.
const CHUNK_PX: usize = 256;

/// What a value of red, green or blue adds to hematoxylin and eosin, in fixed point: `[channel][value]`.
static DENSITY: LazyLock<[[[i32; 2]; 256]; 3]> = LazyLock::new(|| {
    let unmix = unmixing();
    let mut table = [[[0; 2]; 256]; 3];
    for (channel, values) in table.iter_mut().enumerate() {
        for (value, stains) in values.iter_mut().enumerate() {
            let density = -((value as f64 + 1.0) / 256.0).log10();
            for (stain, entry) in stains.iter_mut().enumerate() {
                *entry = (unmix[stain][channel] * density * SCALE).round() as i32;
            }
        }
    }
    table
});

/// Rows hematoxylin and eosin of the inverse of `[H; E; H × E]` (unit vectors), so that `stain = Σ row[c] · density[c]`.
fn unmixing() -> [[f64; 3]; 2] {
    let cross =
        |a: [f64; 3], b: [f64; 3]| [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let dot = |a: [f64; 3], b: [f64; 3]| a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    let unit = |a: [f64; 3]| a.map(|v| v / dot(a, a).sqrt());
    let (h, e) = (unit(HEMATOXYLIN), unit(EOSIN));
    let residual = unit(cross(h, e));
    let determinant = dot(h, cross(e, residual));
    [cross(e, residual).map(|v| v / determinant), cross(residual, h).map(|v| v / determinant)]
}

/// Sums over pixels, exact.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ColourSums {
    px: u64,
    rgb: [u64; 3],
    stain: [i128; 2],
    stain_squared: [i128; 2],
}

impl ColourSums {
    /// Adds pixels, `[n, 3]`.
    pub(super) fn add(&mut self, rgb: &[u8]) {
        let [red, green, blue] = &*DENSITY;
        for chunk in rgb.chunks(CHUNK_PX * 3) {
            let (mut sum, mut squared, mut colour) = ([0_i64; 2], [0_i64; 2], [0_u64; 3]);
            for pixel in chunk.chunks_exact(3) {
                let (r, g, b) = (red[usize::from(pixel[0])], green[usize::from(pixel[1])], blue[usize::from(pixel[2])]);
                for stain in 0..2 {
                    let density = i64::from(r[stain] + g[stain] + b[stain]);
                    sum[stain] += density;
                    squared[stain] += density * density;
                }
                colour[0] += u64::from(pixel[0]);
                colour[1] += u64::from(pixel[1]);
                colour[2] += u64::from(pixel[2]);
            }
            self.px += (chunk.len() / 3) as u64;
            for stain in 0..2 {
                self.stain[stain] += i128::from(sum[stain]);
                self.stain_squared[stain] += i128::from(squared[stain]);
            }
            for (total, part) in self.rgb.iter_mut().zip(colour) {
                *total += part;
            }
        }
    }

    /// Writes means and standard deviations; nothing when no pixel was added.
    pub(super) fn write(&self, features: &mut Features) {
        if self.px == 0 {
            return;
        }
        let n = self.px as f64;
        let mean = |stain: usize| self.stain[stain] as f64 / (n * SCALE);
        let std = |stain: usize| {
            let count = i128::from(self.px);
            let variance = count * self.stain_squared[stain] - self.stain[stain] * self.stain[stain];
            (variance.max(0) as f64).sqrt() / (n * SCALE)
        };
        features.hematoxylin_od_mean = mean(0);
        features.hematoxylin_od_std = std(0);
        features.eosin_od_mean = mean(1);
        features.eosin_od_std = std(1);
        features.red_mean = self.rgb[0] as f64 / n;
        features.green_mean = self.rgb[1] as f64 / n;
        features.blue_mean = self.rgb[2] as f64 / n;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unmixing_gives_each_stain_back() {
        let unmix = unmixing();
        let unit = |v: [f64; 3]| v.map(|c| c / v.iter().map(|d| d * d).sum::<f64>().sqrt());
        let apply = |row: [f64; 3], v: [f64; 3]| row.iter().zip(v).map(|(a, b)| a * b).sum::<f64>();
        assert!((apply(unmix[0], unit(HEMATOXYLIN)) - 1.0).abs() < 1e-12);
        assert!(apply(unmix[0], unit(EOSIN)).abs() < 1e-12);
        assert!((apply(unmix[1], unit(EOSIN)) - 1.0).abs() < 1e-12);
        assert!(apply(unmix[1], unit(HEMATOXYLIN)).abs() < 1e-12);
    }

    #[test]
    fn fixed_point_density_never_overflows() {
        let most = |stain: usize| {
            (0..3).map(|c| DENSITY[c].iter().map(|v| i64::from(v[stain]).abs()).max().unwrap()).sum::<i64>()
        };
        let most = most(0).max(most(1));
        assert!(most < i64::from(i32::MAX));
        assert!(most.checked_mul(most).and_then(|s| s.checked_mul(CHUNK_PX as i64)).is_some());
    }

    #[test]
    fn white_has_no_density_and_one_colour_no_spread() {
        let mut sums = ColourSums::default();
        sums.add(&[255; 30]);
        let mut features = Features::default();
        sums.write(&mut features);
        assert_eq!((features.hematoxylin_od_mean, features.eosin_od_std, features.red_mean), (0.0, 0.0, 255.0));
        let mut sums = ColourSums::default();
        sums.add(&[90, 50, 120].repeat(1000));
        sums.write(&mut features);
        assert_eq!((features.hematoxylin_od_std, features.eosin_od_std), (0.0, 0.0));
        assert!(features.hematoxylin_od_mean > 0.3);
    }
}
