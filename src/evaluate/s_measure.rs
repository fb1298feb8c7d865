//! S-measure: how alike a probability map and a mask are in structure.
//!
//! Owns: [`s_measure`], [`mean_absolute_error`]. Must not know: thresholds, classes.
//! Source: Fan 2017 ("Structure-measure"), the authors' MATLAB code as PySODMetrics 1.6 follows it.

/// MATLAB's `eps`, which the authors add to denominators.
pub(super) const EPSILON: f64 = f64::EPSILON;
/// Weight of the object-aware part; the paper's.
const ALPHA: f64 = 0.5;

/// Mean of `|prob − truth|`; 0 for no pixels.
pub fn mean_absolute_error(prob: &[f64], truth: &[bool]) -> f64 {
    let sum: f64 = prob.iter().zip(truth).map(|(p, t)| (p - f64::from(u8::from(*t))).abs()).sum();
    sum / (prob.len().max(1)) as f64
}

/// S-measure with α = 0.5, 0–1, more is better. Of a mask without foreground it is `1 − mean(prob)`, of one without
/// background `mean(prob)`.
///
/// # Shapes
/// - `prob`: `[h, w]` 0–1; `truth`: `[h, w]`
///
/// # Panics
/// If there are no pixels, or not whole rows.
pub fn s_measure(prob: &[f64], truth: &[bool], w: usize) -> f64 {
    assert!(w > 0 && !prob.is_empty() && prob.len() == truth.len() && prob.len().is_multiple_of(w), "whole rows");
    let n = prob.len() as f64;
    let mean = prob.iter().sum::<f64>() / n;
    let foreground = truth.iter().filter(|t| **t).count();
    if foreground == 0 {
        return 1.0 - mean;
    }
    if foreground == prob.len() {
        return mean;
    }
    (ALPHA * object_part(prob, truth, foreground as f64 / n) + (1.0 - ALPHA) * region_part(prob, truth, w)).max(0.0)
}

fn object_part(prob: &[f64], truth: &[bool], share: f64) -> f64 {
    let of = |is: bool| -> Vec<f64> {
        let values = prob.iter().zip(truth).filter(|(_, t)| **t == is);
        values.map(|(p, _)| if is { *p } else { 1.0 - p }).collect()
    };
    share * object_score(&of(true)) + (1.0 - share) * object_score(&of(false))
}

fn object_score(values: &[f64]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    let deviation = if values.len() > 1 { (squares / (n - 1.0)).sqrt() } else { 0.0 };
    2.0 * mean / (mean * mean + 1.0 + deviation + EPSILON)
}

/// A number halfway between two whole ones goes to the even one, as NumPy's `round`.
fn rounded(value: f64) -> usize {
    value.round_ties_even() as usize
}

fn region_part(prob: &[f64], truth: &[bool], w: usize) -> f64 {
    let h = prob.len() / w;
    let at: Vec<usize> = (0..truth.len()).filter(|&i| truth[i]).collect();
    let mean = |of: fn(usize, usize) -> usize| at.iter().map(|&i| of(i, w) as f64).sum::<f64>() / at.len() as f64;
    let (cx, cy) = (rounded(mean(|i, w| i % w)) + 1, rounded(mean(|i, w| i / w)) + 1);
    let area = (w * h) as f64;
    let weight = |w: usize, h: usize| (w * h) as f64 / area;
    let weights = [weight(cx, cy), weight(w - cx, cy), weight(cx, h - cy)];
    let last = 1.0 - weights.iter().sum::<f64>();
    let quarters = [(0..cx, 0..cy), (cx..w, 0..cy), (0..cx, cy..h), (cx..w, cy..h)];
    let scores = quarters.into_iter().zip(weights.into_iter().chain([last])).map(|((xs, ys), weight)| {
        let cut: Vec<usize> = ys.flat_map(|y| xs.clone().map(move |x| y * w + x)).collect();
        if cut.is_empty() { 0.0 } else { weight * similarity(prob, truth, &cut) }
    });
    scores.sum()
}

fn similarity(prob: &[f64], truth: &[bool], cut: &[usize]) -> f64 {
    let n = cut.len() as f64;
    let t = |i: usize| f64::from(u8::from(truth[i]));
    let x = cut.iter().map(|&i| prob[i]).sum::<f64>() / n;
    let y = cut.iter().map(|&i| t(i)).sum::<f64>() / n;
    let sum = |of: &dyn Fn(usize) -> f64| cut.iter().map(|&i| of(i)).sum::<f64>() / (n - 1.0 + EPSILON);
    let xx = sum(&|i| (prob[i] - x).powi(2));
    let yy = sum(&|i| (t(i) - y).powi(2));
    let xy = sum(&|i| (prob[i] - x) * (t(i) - y));
    let alpha = 4.0 * x * y * xy;
    let beta = (x * x + y * y) * (xx + yy);
    if alpha != 0.0 {
        alpha / (beta + EPSILON)
    } else if beta == 0.0 {
        1.0
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_itself_scores_one_and_its_opposite_nothing() {
        let truth: Vec<bool> = (0..36).map(|i| i % 6 > 1 && i / 6 < 4).collect();
        let same: Vec<f64> = truth.iter().map(|t| f64::from(u8::from(*t))).collect();
        let opposite: Vec<f64> = same.iter().map(|v| 1.0 - v).collect();
        assert!((s_measure(&same, &truth, 6) - 1.0).abs() < 1e-9);
        assert_eq!(s_measure(&opposite, &truth, 6), 0.0);
        assert_eq!(mean_absolute_error(&opposite, &truth), 1.0);
    }

    #[test]
    fn masks_of_one_kind_are_compared_by_their_mean() {
        assert_eq!(s_measure(&[0.25, 0.75], &[false, false], 2), 0.5);
        assert_eq!(s_measure(&[0.25, 0.5], &[true, true], 2), 0.375);
    }
}
