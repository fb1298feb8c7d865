//! The stain vectors, and the rows that unmix two of them: the one place for all who measure stains.
//!
//! Owns: the vectors, [`unmixing_rows`]. Must not know: tables, who uses the densities.
//!
//! Source: [`HEMATOXYLIN`], [`EOSIN`], [`DAB`]: A. C. Ruifrok, D. A. Johnston, "Quantification of histochemical
//! staining by color deconvolution", Anal. Quant. Cytol. Histol. 23 (2001), as in scikit-image's `rgb_from_hed`; the
//! ImageJ plug-in's third digit (0.704, 0.286, …) comes from another rounding and is not carried.
//! [`SCANNER_HEMATOXYLIN`], [`SCANNER_EOSIN`]: QuPath's default for H&E (P. Bankhead et al., Sci. Rep. 7, 2017;
//! `ColorDeconvolutionStains`).

use super::linear::{pseudo_inverse, unit};

/// Ruifrok's hematoxylin: optical densities of red, green, blue.
pub const HEMATOXYLIN: [f64; 3] = [0.65, 0.70, 0.29];
/// Ruifrok's eosin.
pub const EOSIN: [f64; 3] = [0.07, 0.99, 0.11];
/// Ruifrok's 3,3′-diaminobenzidine.
pub const DAB: [f64; 3] = [0.27, 0.57, 0.78];

/// Hematoxylin of bright-field scanners, of a pair with [`SCANNER_EOSIN`].
pub const SCANNER_HEMATOXYLIN: [f64; 3] = [0.651, 0.701, 0.290];
/// Eosin of bright-field scanners: it takes more of the purple of cytoplasm and collagen away than Ruifrok's does.
pub const SCANNER_EOSIN: [f64; 3] = [0.2159, 0.8012, 0.5581];

/// The rows whose product with a pixel's optical densities is how much of each stain it holds, per stain vector of
/// length one: the least-squares fit of the two, which is what a third vector at right angles to both gives.
///
/// # Shapes
/// - `first`, `second`: optical densities of red, green, blue, of any length
/// - returns `[stain, channel]`, or `None` when the two are less than 5° apart
pub fn unmixing_rows(first: [f64; 3], second: [f64; 3]) -> Option<[[f64; 3]; 2]> {
    pseudo_inverse(&[unit(first)?, unit(second)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pixels::stain::linear::dot;

    #[test]
    fn each_stain_of_a_pair_unmixes_to_itself_alone() {
        for (a, b) in [(HEMATOXYLIN, EOSIN), (HEMATOXYLIN, DAB), (SCANNER_HEMATOXYLIN, SCANNER_EOSIN)] {
            let rows = unmixing_rows(a, b).expect("two stains");
            for (stain, vector) in [a, b].into_iter().enumerate() {
                let vector = unit(vector).expect("not zero");
                assert!((dot(&rows[stain], &vector) - 1.0).abs() < 1e-12);
                assert!(dot(&rows[1 - stain], &vector).abs() < 1e-12);
            }
        }
        assert_eq!(unmixing_rows(EOSIN, EOSIN), None);
        assert_eq!(unmixing_rows(EOSIN, [0.0; 3]), None);
    }
}
