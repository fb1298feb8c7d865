//! Macenko 2009: stain vectors at the edges of the plane that holds most of the optical density.
//!
//! Owns: the fit. Must not know: how it is applied.
//!
//! Source: M. Macenko et al., "A method for normalizing histology slides for quantitative analysis", ISBI 2009,
//! with the constants of the authors' MATLAB code as carried by torchstain 1.4 (`Io = 240`, `β = 0.15`, `α = 1`).
//! Differs from torchstain: the first principal axis is pointed to positive density (there its sign is LAPACK's
//! accident, and angles may wrap); results are rounded instead of cut off; the fit is per slide, not per tile; a
//! sample that does not determine two stains is refused instead of raising `LinAlgError` or returning NaN.

use super::{
    MIN_SAMPLE_PX,
    linear::{StainPair, dot, percentile, unit},
    od::OdScale,
};

/// Pixels with any channel below this density are background (β).
const MIN_OD: f64 = 0.15;
/// Robust extremes of the angle, in percent (α).
const ANGLE_PERCENT: f64 = 1.0;

/// The published reference: `HERef` and `maxCRef` of the authors' code.
pub fn standard() -> StainPair {
    StainPair {
        vectors: [[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581]],
        max_concentrations: [1.9705, 1.0308],
        scale: OdScale::Io240,
    }
}

/// Finds the two stains of `sample_rgb` (`[n, 3]`).
///
/// # Errors
/// Why the sample does not determine them, in words for the user.
pub fn fit_pair(sample_rgb: &[u8]) -> Result<StainPair, String> {
    StainPair::measure(fit_vectors(sample_rgb)?, OdScale::Io240, sample_rgb)
}

/// The two vectors, hematoxylin first.
pub(super) fn fit_vectors(sample_rgb: &[u8]) -> Result<[[f64; 3]; 2], String> {
    let table = OdScale::Io240.table();
    let ods: Vec<[f64; 3]> = sample_rgb
        .chunks_exact(3)
        .map(|px| [table[px[0] as usize], table[px[1] as usize], table[px[2] as usize]])
        .filter(|od| od.iter().all(|&d| d >= MIN_OD))
        .collect();
    if ods.len() < MIN_SAMPLE_PX {
        return Err(format!("{} stained px in the tissue sample, expected at least {MIN_SAMPLE_PX}", ods.len()));
    }
    let [first, second] = principal_plane(&covariance(&ods)).ok_or("the tissue sample has one colour")?;
    // Tangents stand for angles: monotone where the first coordinate is positive, and no arctangent is needed.
    let mut tangents: Vec<f64> = ods
        .iter()
        .map(|od| {
            let (along, across) = (dot(od, &first), dot(od, &second));
            if along > 1e-9 { across / along } else { across.signum() * 1e9 }
        })
        .collect();
    let mut edge = |percent: f64| {
        let t = percentile(&mut tangents, percent);
        unit(std::array::from_fn(|i| first[i] + t * second[i])).ok_or("the tissue sample has one colour")
    };
    Ok(hematoxylin_first(edge(ANGLE_PERCENT)?, edge(100.0 - ANGLE_PERCENT)?))
}

/// The stain that absorbs more red is hematoxylin (the authors' rule).
fn hematoxylin_first(a: [f64; 3], b: [f64; 3]) -> [[f64; 3]; 2] {
    if a[0] > b[0] { [a, b] } else { [b, a] }
}

/// Sample covariance (n − 1) of `ods`.
fn covariance(ods: &[[f64; 3]]) -> [[f64; 3]; 3] {
    let n = ods.len() as f64;
    let mut mean = [0.0; 3];
    for od in ods {
        (0..3).for_each(|i| mean[i] += od[i] / n);
    }
    let mut cov = [[0.0; 3]; 3];
    for od in ods {
        let d: [f64; 3] = std::array::from_fn(|i| od[i] - mean[i]);
        for i in 0..3 {
            for j in 0..3 {
                cov[i][j] += d[i] * d[j] / (n - 1.0);
            }
        }
    }
    cov
}

/// Eigenvectors of the largest and second largest eigenvalue of a symmetric matrix, by Jacobi rotations. The first
/// points to positive density. `None` when there is no variance.
fn principal_plane(symmetric: &[[f64; 3]; 3]) -> Option<[[f64; 3]; 2]> {
    let mut a = *symmetric;
    let mut vectors = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
    for _sweep in 0..30 {
        for (p, q) in [(0, 1), (0, 2), (1, 2)] {
            if a[p][q].abs() < 1e-300 {
                continue;
            }
            let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
            let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
            let c = 1.0 / (t * t + 1.0).sqrt();
            let s = t * c;
            for row in &mut a {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
            let (row_p, row_q) = (a[p], a[q]);
            a[p] = std::array::from_fn(|k| c * row_p[k] - s * row_q[k]);
            a[q] = std::array::from_fn(|k| s * row_p[k] + c * row_q[k]);
            for row in &mut vectors {
                (row[p], row[q]) = (c * row[p] - s * row[q], s * row[p] + c * row[q]);
            }
        }
    }
    let mut order = [0, 1, 2];
    order.sort_by(|&i, &j| a[j][j].total_cmp(&a[i][i]));
    let second_largest = a[order[1]][order[1]];
    if second_largest.is_nan() || second_largest <= 1e-9 {
        return None;
    }
    let column = |k: usize| [vectors[0][k], vectors[1][k], vectors[2][k]];
    let first = column(order[0]);
    let sign = if first.iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 };
    Some([first.map(|x| sign * x), column(order[1])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principal_axes_of_a_known_matrix() {
        // Eigenvalues 4 and 2 in the plane of red and green, 1 along blue.
        let plane = principal_plane(&[[3.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 1.0]]).expect("a plane");
        let r = 0.5_f64.sqrt();
        assert!((plane[0][0] - r).abs() < 1e-12 && (plane[0][1] - r).abs() < 1e-12 && plane[0][2].abs() < 1e-12);
        assert!((plane[1][0] + plane[1][1]).abs() < 1e-12 && (plane[1][0].abs() - r).abs() < 1e-12);
        assert_eq!(principal_plane(&[[0.0; 3]; 3]), None);
        assert_eq!(principal_plane(&[[f64::NAN; 3]; 3]), None);
    }
}
