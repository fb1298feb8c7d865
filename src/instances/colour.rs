//! Colour of an instance: mean red, green, blue, and optical densities of hematoxylin and eosin.
//!
//! Owns: [`ColourSums`]. Must not know: shapes, files.
//! Source: Ruifrok and Johnston 2001 (colour deconvolution), with QuPath's vectors for H&E slides of scanners, the third
//! one their cross product. Optical density is `-log10((v + 1) / 256)`.

use super::Features;
use crate::pixels::stain::{
    od::OdScale,
    vectors::{SCANNER_EOSIN, SCANNER_HEMATOXYLIN, unmixing_rows},
};
use std::sync::LazyLock;

/// Fixed-point units per unit of density. A pixel's density is below 8, so it fits an `i32`.
const SCALE: f64 = (1 << 24) as f64;
/// Squares of this many pixels fit an `i64`.
const CHUNK_PX: usize = 256;

/// What a value of red, green or blue adds to hematoxylin and eosin, in fixed point: `[channel][value]`.
static DENSITY: LazyLock<[[[i32; 2]; 256]; 3]> = LazyLock::new(|| {
    let unmix = unmixing_rows(SCANNER_HEMATOXYLIN, SCANNER_EOSIN).expect("the pair is apart");
    let od = OdScale::Io256.decadic_table();
    let mut table = [[[0; 2]; 256]; 3];
    for (channel, values) in table.iter_mut().enumerate() {
        for (stains, density) in values.iter_mut().zip(&od) {
            for (stain, entry) in stains.iter_mut().enumerate() {
                *entry = (unmix[stain][channel] * density * SCALE).round() as i32;
            }
        }
    }
    table
});

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
