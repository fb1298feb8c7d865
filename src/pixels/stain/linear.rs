//! Two stains and how much of each: the linear algebra that Macenko, Vahadane and Ruifrok share.
//!
//! Owns: [`StainPair`], percentiles as numpy defines them. Must not know: how vectors are found.

use super::od::{OdScale, OdTransform};

/// Two stains are told apart from this angle on. Ruifrok's hematoxylin and eosin are 40° apart, Macenko's reference
/// 22°, the 90 patches of BRCA-M2C 17–42° (Macenko) and 10–25° (Vahadane), a faint slide of little but eosin 12° and 5°.
const MAX_COSINE: f64 = 0.996_194_698; // cos 5°

/// A 99th percentile below this optical density (natural logarithm) is no stain but noise.
const MIN_CONCENTRATION: f64 = 0.05;

/// Hematoxylin and eosin of one sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StainPair {
    /// Hematoxylin, eosin: unit optical density of red, green, blue.
    pub vectors: [[f64; 3]; 2],
    /// 99th percentile of the concentration of each.
    pub max_concentrations: [f64; 2],
    /// What the optical densities are relative to.
    pub scale: OdScale,
}

impl StainPair {
    /// Measures concentrations of `sample_rgb` (`[n, 3]`) along `vectors`.
    ///
    /// # Errors
    /// Why the pair is not determined, in words for the user.
    pub fn measure(vectors: [[f64; 3]; 2], scale: OdScale, sample_rgb: &[u8]) -> Result<Self, String> {
        let unmix = pseudo_inverse(&vectors).ok_or("only one stain was found in the tissue sample")?;
        let od = scale.table();
        let mut concentrations = [Vec::new(), Vec::new()];
        for px in sample_rgb.chunks_exact(3) {
            let d = [od[px[0] as usize], od[px[1] as usize], od[px[2] as usize]];
            for (of_stain, row) in concentrations.iter_mut().zip(&unmix) {
                of_stain.push(dot(row, &d));
            }
        }
        let [h, e] = &mut concentrations;
        let max_concentrations = [percentile(h, 99.0), percentile(e, 99.0)];
        for (max, name) in max_concentrations.iter().zip(["hematoxylin", "eosin"]) {
            if !max.is_finite() || *max < MIN_CONCENTRATION {
                return Err(format!("the tissue sample holds too little {name}"));
            }
        }
        Ok(Self { vectors, max_concentrations, scale })
    }

    /// The map that gives pixels of this look the look of `target`: unmix, scale to equal maxima, mix again.
    /// `None` when the stains are too alike to unmix.
    pub fn transform_to(&self, target: &Self) -> Option<OdTransform> {
        let unmix = pseudo_inverse(&self.vectors)?;
        let mut matrix = [[0.0; 3]; 3];
        for (out, row) in matrix.iter_mut().enumerate() {
            for (into, cell) in row.iter_mut().enumerate() {
                *cell = (0..2)
                    .map(|s| {
                        let gain = target.max_concentrations[s] / self.max_concentrations[s];
                        target.vectors[s][out] * gain * unmix[s][into]
                    })
                    .sum();
            }
        }
        matrix.iter().flatten().all(|m| m.is_finite()).then(|| OdTransform::new(&matrix, self.scale))
    }
}

/// Least-squares unmixing of two stains: rows give their concentrations. `None` when they are less than 5° apart.
pub(super) fn pseudo_inverse(vectors: &[[f64; 3]; 2]) -> Option<[[f64; 3]; 2]> {
    let [h, e] = vectors;
    let (hh, he, ee) = (dot(h, h), dot(h, e), dot(e, e));
    // Written so that NaN fails as well.
    if !(hh > 0.0 && ee > 0.0 && he < MAX_COSINE * (hh * ee).sqrt()) {
        return None;
    }
    let det = hh * ee - he * he;
    let row = |a: &[f64; 3], aa: f64, b: &[f64; 3]| std::array::from_fn(|i| (aa * a[i] - he * b[i]) / det);
    Some([row(h, ee, e), row(e, hh, h)])
}

/// Scalar product.
pub(super) fn dot(a: &[f64; 3], b: &[f64; 3]) -> f64 {
    a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
}

/// `v` at length one; `None` for the zero vector and NaN.
pub(super) fn unit(v: [f64; 3]) -> Option<[f64; 3]> {
    let length = dot(&v, &v).sqrt();
    (length.is_finite() && length > 1e-12).then(|| v.map(|x| x / length))
}

/// `numpy.percentile(values, q)` with linear interpolation; reorders `values`. NaN when empty.
pub(super) fn percentile(values: &mut [f64], q: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    let at = q / 100.0 * (values.len() - 1) as f64;
    let (_, low, above) = values.select_nth_unstable_by(at as usize, f64::total_cmp);
    let low = *low;
    let high = above.iter().copied().min_by(f64::total_cmp).unwrap_or(low);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_equal_those_of_numpy() {
        // numpy.percentile([3, 1, 2, 10], [0, 1, 50, 99, 100])
        let expected = [(0.0, 1.0), (1.0, 1.03), (50.0, 2.5), (99.0, 9.79), (100.0, 10.0)];
        for (q, value) in expected {
            assert!((percentile(&mut [3.0, 1.0, 2.0, 10.0], q) - value).abs() < 1e-12, "{q}");
        }
        assert!(percentile(&mut [], 50.0).is_nan());
    }

    #[test]
    fn unmixing_a_mixture_gives_its_parts() {
        let (h, e) = ([0.65, 0.70, 0.29], [0.07, 0.99, 0.11]);
        let unmix = pseudo_inverse(&[h, e]).expect("two stains");
        let mixed = std::array::from_fn(|i| 0.8 * h[i] + 0.3 * e[i]);
        assert!((dot(&unmix[0], &mixed) - 0.8).abs() < 1e-12 && (dot(&unmix[1], &mixed) - 0.3).abs() < 1e-12);
        assert_eq!(pseudo_inverse(&[h, h]), None);
        assert_eq!(pseudo_inverse(&[h, [f64::NAN; 3]]), None);
    }
}
