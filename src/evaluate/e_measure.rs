//! E-measure: how well a map cut at a threshold is aligned with a mask.
//!
//! Owns: [`EMeasure`], [`e_measure`]. Must not know: classes.
//! Source: Fan 2018 ("Enhanced-alignment measure"), as PySODMetrics 1.6 computes it: over the 256 thresholds of 8 bits.

use super::s_measure::EPSILON;

/// E-measure over thresholds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EMeasure {
    /// Mean over 256 thresholds.
    pub mean: f64,
    /// Largest over 256 thresholds.
    pub max: f64,
    /// At twice the mean of the map, at most 1.
    pub adaptive: f64,
}

/// Compares a map with a mask. Of a mask without foreground it is the share not said, without background the share said.
///
/// # Shapes
/// - `prob`: `[h, w]` 0–1; `truth`: `[h, w]`, more than one pixel
pub fn e_measure(prob: &[f64], truth: &[bool]) -> EMeasure {
    let (mut inside, mut outside) = ([0_u64; 256], [0_u64; 256]);
    for (p, is_true) in prob.iter().zip(truth) {
        // Cut, not rounded, as the authors' code converts to 8 bits.
        let level = (p * 255.0).clamp(0.0, 255.0) as usize;
        if *is_true {
            inside[level] += 1;
        } else {
            outside[level] += 1;
        }
    }
    let shape = Shape { all: prob.len() as f64, truth: inside.iter().sum::<u64>() as f64 };
    let (mut said_rightly, mut said_wrongly, mut sum, mut max) = (0, 0, 0.0, f64::NEG_INFINITY);
    for level in (0..256).rev() {
        said_rightly += inside[level];
        said_wrongly += outside[level];
        let value = shape.aligned(said_rightly as f64, said_wrongly as f64);
        sum += value;
        max = max.max(value);
    }
    let threshold = (2.0 * prob.iter().sum::<f64>() / shape.all).min(1.0);
    let said = |is: bool| prob.iter().zip(truth).filter(|(p, t)| **p >= threshold && **t == is).count() as f64;
    EMeasure { mean: sum / 256.0, max, adaptive: shape.aligned(said(true), said(false)) }
}

struct Shape {
    all: f64,
    truth: f64,
}

impl Shape {
    /// E-measure of a mask with so many pixels inside and outside the truth.
    fn aligned(&self, rightly: f64, wrongly: f64) -> f64 {
        let said = rightly + wrongly;
        let sum = if self.truth == 0.0 {
            self.all - said
        } else if self.truth == self.all {
            said
        } else {
            let (said_share, true_share) = (said / self.all, self.truth / self.all);
            let missed = self.truth - rightly;
            let parts =
                [(rightly, 1.0, 1.0), (wrongly, 1.0, 0.0), (missed, 0.0, 1.0), (self.all - said - missed, 0.0, 0.0)];
            let value = |(px, said, truth): (f64, f64, f64)| {
                let (a, b) = (said - said_share, truth - true_share);
                let aligned = 2.0 * a * b / (a * a + b * b + EPSILON);
                px * (aligned + 1.0).powi(2) / 4.0
            };
            parts.into_iter().map(value).sum()
        };
        sum / (self.all - 1.0 + EPSILON)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_itself_is_aligned_at_every_threshold_but_nought() {
        let truth: Vec<bool> = (0..100).map(|i| i < 30).collect();
        let same: Vec<f64> = truth.iter().map(|t| f64::from(u8::from(*t))).collect();
        let e = e_measure(&same, &truth);
        // Divided by one pixel less than there are, as the authors do.
        assert!((e.max - 100.0 / 99.0).abs() < 1e-9);
        assert!(e.mean < e.max && e.mean > 1.0 && (e.adaptive - e.max).abs() < 1e-9);
    }

    #[test]
    fn an_empty_mask_asks_for_nothing() {
        let e = e_measure(&[0.0, 0.0, 1.0, 0.0, 0.0], &[false; 5]);
        assert!((e.max - 1.0).abs() < 1e-9);
    }
}
