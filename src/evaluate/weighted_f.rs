//! Weighted F-measure: errors count less near the mask and beside other errors.
//!
//! Owns: [`weighted_f`]. Must not know: thresholds, classes.
//! Source: Margolin 2014 ("How to evaluate foreground maps"), as PySODMetrics 1.6 computes it. Which of several nearest
//! pixels of the mask an error is taken from is as in SciPy 1.17's feature transform (Maurer 2003), so that values agree.

use super::s_measure::EPSILON;

/// Side of the Gaussian that spreads errors, and its σ, px; the paper's.
const SIDE_PX: usize = 7;
const SIGMA_PX: f64 = 5.0;
/// Distance over which an error outside the mask comes to count 1.5 of at most 2, px; the paper's.
const HALF_PX: f64 = 5.0;

/// Weighted F with β = 1, 0–1; 0 for a mask without foreground.
///
/// # Shapes
/// - `prob`: `[h, w]` 0–1; `truth`: `[h, w]`, whole rows
pub fn weighted_f(prob: &[f64], truth: &[bool], w: usize) -> f64 {
    let foreground = truth.iter().filter(|t| **t).count() as f64;
    if foreground == 0.0 {
        return 0.0;
    }
    let error: Vec<f64> = prob.iter().zip(truth).map(|(p, t)| (p - f64::from(u8::from(*t))).abs()).collect();
    let nearest = nearest_true(truth, w);
    let moved: Vec<f64> = nearest.iter().map(|&at| error[at]).collect();
    let spread = blurred(&moved, w);
    let (mut inside, mut outside) = (0.0, 0.0);
    for (i, is_true) in truth.iter().enumerate() {
        if *is_true {
            inside += error[i].min(spread[i]);
        } else {
            let (dx, dy) = ((i % w).abs_diff(nearest[i] % w) as f64, (i / w).abs_diff(nearest[i] / w) as f64);
            outside += error[i] * (2.0 - (0.5_f64.ln() / HALF_PX * dx.hypot(dy)).exp());
        }
    }
    let found = foreground - inside;
    let recall = 1.0 - inside / foreground;
    let precision = found / (found + outside + EPSILON);
    2.0 * recall * precision / (recall + precision + EPSILON)
}

/// For each pixel the nearest true one.
fn nearest_true(truth: &[bool], w: usize) -> Vec<usize> {
    let h = truth.len() / w;
    let mut nearest: Vec<Option<(i64, i64)>> =
        truth.iter().enumerate().map(|(i, t)| t.then_some(((i / w) as i64, (i % w) as i64))).collect();
    // Along columns, then along rows.
    for x in 0..w {
        let mut line: Vec<_> = (0..h).map(|y| nearest[y * w + x]).collect();
        line_transform(&mut line, |(y, x)| (y, x), x as i64);
        (0..h).for_each(|y| nearest[y * w + x] = line[y]);
    }
    for y in 0..h {
        line_transform(&mut nearest[y * w..][..w], |(y, x)| (x, y), y as i64);
    }
    nearest.into_iter().map(|at| at.map_or(0, |(y, x)| y as usize * w + x as usize)).collect()
}

/// Maurer's step: of the features seen along a line at `across`, the one nearest to each of its pixels, the first of
/// equals. `place` gives a feature's coordinate along the line and across it.
fn line_transform(line: &mut [Option<(i64, i64)>], place: impl Fn((i64, i64)) -> (i64, i64), across: i64) {
    let mut kept: Vec<((i64, i64), i64, i64)> = Vec::new();
    for feature in line.iter().copied().flatten() {
        let (along, other) = place(feature);
        let side = (other - across).pow(2);
        while let [.., (_, before, before_side), (_, last, last_side)] = kept[..] {
            let (a, b) = (last - before, along - last);
            let c = a + b;
            if c * last_side - b * before_side - a * side - a * b * c <= 0 {
                break;
            }
            kept.pop();
        }
        kept.push((feature, along, side));
    }
    let mut at = 0;
    for (i, to) in line.iter_mut().enumerate() {
        let distance = |at: usize| kept.get(at).map(|(_, along, side)| (along - i as i64).pow(2) + side);
        while let (Some(here), Some(next)) = (distance(at), distance(at + 1)) {
            if here <= next {
                break;
            }
            at += 1;
        }
        *to = kept.get(at).map(|(feature, ..)| *feature);
    }
}

/// Convolved with the paper's Gaussian; nothing lies outside the picture.
fn blurred(values: &[f64], w: usize) -> Vec<f64> {
    let h = values.len() / w;
    let half = SIDE_PX as i64 / 2;
    // Of a product of two Gaussians each is scaled alone.
    let kernel: Vec<f64> = (-half..=half).map(|d| (-(d * d) as f64 / (2.0 * SIGMA_PX * SIGMA_PX)).exp()).collect();
    let sum: f64 = kernel.iter().sum();
    let weighted = |at: i64, n: usize, value: &dyn Fn(usize) -> f64| -> f64 {
        let taps = (-half..=half).zip(&kernel).filter(|(d, _)| (0..n as i64).contains(&(at + d)));
        taps.map(|(d, k)| k / sum * value((at + d) as usize)).sum()
    };
    let mut rows = vec![0.0; values.len()];
    for (i, to) in rows.iter_mut().enumerate() {
        let (x, y) = (i % w, i / w);
        *to = weighted(x as i64, w, &|x| values[y * w + x]);
    }
    (0..values.len()).map(|i| weighted((i / w) as i64, h, &|y| rows[y * w + i % w])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_far_from_the_mask_counts_more_than_one_beside_it() {
        let truth: Vec<bool> = (0..400).map(|i| i % 20 < 8 && i / 20 < 8).collect();
        let with = |at: usize| {
            let mut prob: Vec<f64> = truth.iter().map(|t| f64::from(u8::from(*t))).collect();
            prob[at] = 1.0;
            weighted_f(&prob, &truth, 20)
        };
        assert!((with(0) - 1.0).abs() < 1e-12);
        assert!(with(3 * 20 + 8) > with(19 * 20 + 19) && with(19 * 20 + 19) > 0.9);
        assert_eq!(weighted_f(&[1.0, 0.0], &[false, false], 2), 0.0);
    }

    #[test]
    fn the_nearest_true_pixel_is_found() {
        let truth: Vec<bool> = (0..63).map(|i| [10, 33, 58].contains(&i)).collect();
        for (i, &found) in nearest_true(&truth, 9).iter().enumerate() {
            let distance = |at: usize| (i % 9).abs_diff(at % 9).pow(2) + (i / 9).abs_diff(at / 9).pow(2);
            let least = [10, 33, 58].into_iter().map(distance).min().unwrap();
            assert!(truth[found] && distance(found) == least, "{i}");
        }
    }
}
