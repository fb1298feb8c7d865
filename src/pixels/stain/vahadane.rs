//! Vahadane 2016: stain vectors by sparse non-negative matrix factorisation of optical density.
//!
//! Owns: the fit, by a small deterministic solver. Must not know: how it is applied.
//!
//! Source: A. Vahadane et al., "Structure-preserving color normalization and sparse stain separation for histological
//! images", IEEE TMI 35 (2016), eq. 5 with λ = 0.1, background by L* as in the authors' code. The factorisation
//! alternates exact non-negative lasso codes of two stains with the dictionary update of J. Mairal et al., JMLR 11
//! (2010). Differs: it starts from Macenko's vectors and runs to convergence, so there is one answer and no seed
//! (TIAToolbox stops scikit-learn's solver after 3 rounds). Applied like TIAToolbox, by least-squares concentrations.

use super::{
    MIN_SAMPLE_PX,
    linear::{StainPair, dot, unit},
    macenko,
    od::OdScale,
    vectors::{EOSIN, HEMATOXYLIN},
};

/// Weight of the sparsity of concentrations (λ).
const SPARSITY: f64 = 0.1;
/// Rounds after which the vectors are taken as they are.
const MAX_ROUNDS: usize = 300;
/// Settled: no component of a vector moves more in one round.
const SETTLED: f64 = 1e-6;
/// The factorisation looks at no more px than this, evenly spaced: the vectors of two disjoint samples of a picture
/// differ by less than 0.7° on the 90 patches of BRCA-M2C.
const MAX_PX: usize = 20_000;
/// Brighter px (relative luminance) are background: L* 80, the 0.8 of the authors' code.
const BACKGROUND_LUMINANCE: f64 = 0.567;

/// Finds the two stains of `sample_rgb` (`[n, 3]`).
///
/// # Errors
/// Why the sample does not determine them, in words for the user.
pub fn fit_pair(sample_rgb: &[u8]) -> Result<StainPair, String> {
    StainPair::measure(fit_vectors(sample_rgb)?, OdScale::Io255, sample_rgb)
}

fn fit_vectors(sample_rgb: &[u8]) -> Result<[[f64; 3]; 2], String> {
    let table = OdScale::Io255.table();
    let mut ods: Vec<[f64; 3]> = sample_rgb
        .chunks_exact(3)
        .filter(|px| luminance(px, &table) < BACKGROUND_LUMINANCE)
        .map(|px| [table[px[0] as usize], table[px[1] as usize], table[px[2] as usize]])
        .collect();
    if ods.len() < MIN_SAMPLE_PX {
        return Err(format!("{} stained px in the tissue sample, expected at least {MIN_SAMPLE_PX}", ods.len()));
    }
    if ods.len() > MAX_PX {
        ods = (0..MAX_PX).map(|i| ods[i * ods.len() / MAX_PX]).collect();
    }
    let start = macenko::fit_vectors(sample_rgb).unwrap_or([HEMATOXYLIN, EOSIN]);
    let mut vectors = start.map(|v| unit(v.map(|x| x.max(0.01))).expect("no component is zero"));
    for _round in 0..MAX_ROUNDS {
        let next = improve(&vectors, &ods).ok_or("only one stain was found in the tissue sample")?;
        let moved = (0..2).flat_map(|j| (0..3).map(move |i| (j, i)));
        let step = moved.map(|(j, i)| (next[j][i] - vectors[j][i]).abs()).fold(0.0, f64::max);
        vectors = next;
        if step < SETTLED {
            break;
        }
    }
    let [a, b] = vectors.map(unit);
    let one = "only one stain was found in the tissue sample";
    Ok(hematoxylin_first(a.ok_or(one)?, b.ok_or(one)?))
}

/// Hematoxylin is the bluer stain: it absorbs more red than blue. Macenko's rule (more red) decides by chance where
/// both absorb red alike, as on some TCGA slides, whose two stains then changed places from sample to sample.
fn hematoxylin_first(a: [f64; 3], b: [f64; 3]) -> [[f64; 3]; 2] {
    if a[0] - a[2] > b[0] - b[2] { [a, b] } else { [b, a] }
}

/// One round: codes of all px, then both vectors. `None` when a vector is used by no px.
fn improve(vectors: &[[f64; 3]; 2], ods: &[[f64; 3]]) -> Option<[[f64; 3]; 2]> {
    let (mut codes_codes, mut ods_codes) = ([[0.0; 2]; 2], [[0.0; 3]; 2]);
    for od in ods {
        let code = sparse_code(vectors, od);
        for j in 0..2 {
            (0..2).for_each(|k| codes_codes[j][k] += code[j] * code[k]);
            (0..3).for_each(|i| ods_codes[j][i] += od[i] * code[j]);
        }
    }
    let mut next = *vectors;
    // Block coordinate descent converges in a few sweeps over two columns.
    for _sweep in 0..10 {
        for j in 0..2 {
            if codes_codes[j][j] < 1e-9 * ods.len() as f64 {
                return None;
            }
            let moved: [f64; 3] = std::array::from_fn(|i| {
                let explained: f64 = (0..2).map(|k| next[k][i] * codes_codes[k][j]).sum();
                (next[j][i] + (ods_codes[j][i] - explained) / codes_codes[j][j]).max(0.0)
            });
            let length = dot(&moved, &moved).sqrt();
            next[j] = moved.map(|x| x / length.max(1.0));
        }
    }
    Some(next)
}

/// `argmin ½‖od − Σ c_j v_j‖² + λ Σ c_j`, `c ≥ 0`, for two vectors: one of four cases satisfies the KKT conditions.
fn sparse_code(vectors: &[[f64; 3]; 2], od: &[f64; 3]) -> [f64; 2] {
    let [v, w] = vectors;
    let (vv, vw, ww) = (dot(v, v), dot(v, w), dot(w, w));
    let (p, q) = (dot(v, od) - SPARSITY, dot(w, od) - SPARSITY);
    let det = vv * ww - vw * vw;
    if det > 1e-12 {
        let both = [(ww * p - vw * q) / det, (vv * q - vw * p) / det];
        if both[0] >= 0.0 && both[1] >= 0.0 {
            return both;
        }
    }
    if p > 0.0 && q - vw * p / vv <= 0.0 {
        [p / vv, 0.0]
    } else if q > 0.0 {
        [0.0, q / ww]
    } else {
        [0.0, 0.0]
    }
}

/// Relative luminance (Rec. 709, of sRGB with a power of 2.2) of one pixel.
fn luminance(px: &[u8], od: &[f64; 256]) -> f64 {
    let linear = |v: u8| if v == 0 { 0.0 } else { super::od::exp(-2.2 * od[v as usize]) };
    0.2126 * linear(px[0]) + 0.7152 * linear(px[1]) + 0.0722 * linear(px[2])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `code` costs.
    fn cost(vectors: &[[f64; 3]; 2], od: &[f64; 3], code: [f64; 2]) -> f64 {
        let rest: [f64; 3] = std::array::from_fn(|i| od[i] - code[0] * vectors[0][i] - code[1] * vectors[1][i]);
        0.5 * dot(&rest, &rest) + SPARSITY * (code[0] + code[1])
    }

    #[test]
    fn no_code_nearby_is_cheaper_than_the_sparse_code() {
        let vectors = [[0.56, 0.72, 0.41], [0.21, 0.80, 0.56]].map(|v| unit(v).expect("not zero"));
        for i in 0..300_u32 {
            let od = [0, 1, 2].map(|c| f64::from(i.wrapping_mul(2_654_435_761 + c * 77) >> 20) / 4096.0);
            let best = sparse_code(&vectors, &od);
            assert!(best[0] >= 0.0 && best[1] >= 0.0);
            for (da, db) in [(1e-3, 0.0), (-1e-3, 0.0), (0.0, 1e-3), (0.0, -1e-3), (1e-3, -1e-3), (-1e-3, 1e-3)] {
                let other = [(best[0] + da).max(0.0), (best[1] + db).max(0.0)];
                assert!(cost(&vectors, &od, best) <= cost(&vectors, &od, other) + 1e-12, "{od:?}");
            }
        }
    }
}
