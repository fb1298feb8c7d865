//! Ruifrok and Johnston 2001: colour deconvolution with fixed stain vectors.
//!
//! Owns: [`Deconvolution`] (stain densities of a pixel), the normalisation with fixed vectors.
//! Must not know: who uses the densities.
//!
//! Source: A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical staining by color deconvolution",
//! Anal. Quant. Cytol. Histol. 23 (2001).
//!
//! # Units
//! [`Deconvolution`] works in decadic optical density, `−log10(max(v, 1) / 255)`, as pathologists and QuPath do.
//! scikit-image's `separate_stains` divides by `ln 1e-6` instead: with the same matrix our values are 6 times its (which takes a value of 0 for
//! 1e-6, and cuts negative densities off).
//! The vectors are brought to unit length first, so that a density is a length in OD space.

use super::{
    MIN_SAMPLE_PX,
    linear::{StainPair, dot, unit},
    macenko,
    od::OdScale,
    vectors::{DAB, EOSIN, HEMATOXYLIN},
};
use std::sync::LazyLock;

/// How much of each of three stains a pixel holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Deconvolution {
    /// `[input channel, value, stain]`: what each channel adds to each density. The fourth lane is 0.
    tables: Box<[[[f32; 4]; 256]; 3]>,
}

static H_E: LazyLock<Deconvolution> =
    LazyLock::new(|| Deconvolution::pair(HEMATOXYLIN, EOSIN).expect("the vectors are independent"));
static H_DAB: LazyLock<Deconvolution> =
    LazyLock::new(|| Deconvolution::pair(HEMATOXYLIN, DAB).expect("the vectors are independent"));
static H_E_DAB: LazyLock<Deconvolution> =
    LazyLock::new(|| Deconvolution::new([HEMATOXYLIN, EOSIN, DAB]).expect("the vectors are independent"));

impl Deconvolution {
    /// Hematoxylin, eosin, residual (at right angles to both).
    pub fn h_e() -> &'static Self {
        &H_E
    }

    /// Hematoxylin, DAB, residual (at right angles to both).
    pub fn h_dab() -> &'static Self {
        &H_DAB
    }

    /// Hematoxylin, eosin, DAB: scikit-image's `hed_from_rgb` with unit vectors.
    pub fn h_e_dab() -> &'static Self {
        &H_E_DAB
    }

    /// Two stains of the user's; the third density is the residual. `None` when they are parallel.
    pub fn pair(first: [f64; 3], second: [f64; 3]) -> Option<Self> {
        Self::new([first, second, cross(&first, &second)])
    }

    /// Three stains, as optical densities of red, green, blue of any length. `None` when they are dependent.
    pub fn new(vectors: [[f64; 3]; 3]) -> Option<Self> {
        let [a, b, c] = [unit(vectors[0])?, unit(vectors[1])?, unit(vectors[2])?];
        let (bc, ca, ab) = (cross(&b, &c), cross(&c, &a), cross(&a, &b));
        let det = dot(&a, &bc);
        if det.abs() < 1e-6 {
            return None;
        }
        // Density of stain s = Σ od[k]·unmix[s][k].
        let unmix = [bc, ca, ab].map(|v| v.map(|x| x / det));
        let od = OdScale::Io255.decadic_table();
        let mut tables = Box::new([[[0.0; 4]; 256]; 3]);
        for (k, table) in tables.iter_mut().enumerate() {
            for (entry, od) in table.iter_mut().zip(&od) {
                (0..3).for_each(|s| entry[s] = (od * unmix[s][k]) as f32);
            }
        }
        Some(Self { tables })
    }

    /// The three densities of one pixel, decadic; may be negative where the pixel is none of the stains.
    #[inline]
    pub fn px(&self, rgb: [u8; 3]) -> [f32; 3] {
        let [r, g, b] = [0, 1, 2].map(|k| &self.tables[k][rgb[k] as usize]);
        std::array::from_fn(|s| r[s] + g[s] + b[s])
    }
}

/// Hematoxylin, eosin and residual densities of one pixel, decadic. In a loop, hold [`Deconvolution::h_e`] instead.
pub fn deconvolve_px(rgb: [u8; 3]) -> [f32; 3] {
    Deconvolution::h_e().px(rgb)
}

/// Hematoxylin, DAB and residual densities of one pixel, decadic. In a loop, hold [`Deconvolution::h_dab`] instead.
pub fn deconvolve_dab_px(rgb: [u8; 3]) -> [f32; 3] {
    Deconvolution::h_dab().px(rgb)
}

/// Mean decadic optical density of red, green and blue.
pub fn mean_od_px(rgb: [u8; 3]) -> f32 {
    static THIRDS: LazyLock<[f32; 256]> = LazyLock::new(|| OdScale::Io255.decadic_table().map(|od| (od / 3.0) as f32));
    let thirds = &*THIRDS;
    thirds[rgb[0] as usize] + thirds[rgb[1] as usize] + thirds[rgb[2] as usize]
}

/// The published reference in these vectors: the densest hematoxylin and the densest eosin of Macenko's reference,
/// each unmixed along the fixed vectors.
pub fn standard() -> StainPair {
    let [h, e] = fixed_vectors();
    let reference = macenko::standard();
    let he = dot(&h, &e);
    let along = |stain: usize, a: &[f64; 3], b: &[f64; 3]| {
        let d = reference.vectors[stain].map(|x| x * reference.max_concentrations[stain]);
        (dot(a, &d) - he * dot(b, &d)) / (1.0 - he * he)
    };
    StainPair { vectors: [h, e], max_concentrations: [along(0, &h, &e), along(1, &e, &h)], scale: OdScale::Io255 }
}

/// Measures `sample_rgb` (`[n, 3]`) along the fixed vectors.
///
/// # Errors
/// Why the sample does not determine the concentrations, in words for the user.
pub fn fit_pair(sample_rgb: &[u8]) -> Result<StainPair, String> {
    let n = sample_rgb.len() / 3;
    if n < MIN_SAMPLE_PX {
        return Err(format!("{n} px in the tissue sample, expected at least {MIN_SAMPLE_PX}"));
    }
    StainPair::measure(fixed_vectors(), OdScale::Io255, sample_rgb)
}

fn fixed_vectors() -> [[f64; 3]; 2] {
    [HEMATOXYLIN, EOSIN].map(|v| unit(v).expect("the vectors are not zero"))
}

fn cross(a: &[f64; 3], b: &[f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mixture_is_taken_apart_into_what_it_was_made_of() {
        let [h, e] = fixed_vectors();
        let rgb: [u8; 3] = std::array::from_fn(|i| (255.0 * 10f64.powf(-(0.5 * h[i] + 0.3 * e[i]))).round() as u8);
        let [got_h, got_e, residual] = deconvolve_px(rgb);
        assert!((got_h - 0.5).abs() < 0.01 && (got_e - 0.3).abs() < 0.01 && residual.abs() < 0.01);
    }

    #[test]
    fn white_holds_no_stain_and_black_is_finite() {
        assert_eq!(deconvolve_px([255; 3]), [0.0; 3]);
        assert_eq!(mean_od_px([255; 3]), 0.0);
        assert!((mean_od_px([0; 3]) - 255f32.log10()).abs() < 1e-6);
        assert!(deconvolve_dab_px([0; 3]).iter().all(|d| d.is_finite()));
    }

    #[test]
    fn dependent_vectors_are_refused() {
        assert_eq!(Deconvolution::pair(EOSIN, EOSIN), None);
        assert_eq!(Deconvolution::new([EOSIN, DAB, [0.0; 3]]), None);
    }

    #[test]
    fn the_published_reference_is_positive_in_the_fixed_vectors() {
        assert!(standard().max_concentrations.iter().all(|c| (0.3..3.0).contains(c)), "{:?}", standard());
    }
}
