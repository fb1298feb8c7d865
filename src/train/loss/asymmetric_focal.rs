//! Asymmetric focal loss of nuclear pixels.
//!
//! Owns: [`asymmetric_focal`]. Source: HistoNeXt: a power for each of yes and no, probabilities held between 0.05 and 0.95.

use super::{
    batch::{TargetBatch, logistic},
    operation::{dot, pointwise},
};
use candle_core::{Result, Tensor};

/// `−Σ w·(t·(1 − p)^γ₊·log p + (1 − t)·p^γ₋·log(1 − p)) / Σ w`, `p` held between `clip` and `1 − clip`.
///
/// # Errors
/// The target has more than two classes.
pub fn asymmetric_focal(
    x: &Tensor,
    target: &TargetBatch,
    [gamma_positive, gamma_negative]: [f64; 2],
    clip: f64,
) -> Result<Tensor> {
    let held = target.yes_or_no(x, "asymmetric_focal")?;
    let yes =
        pointwise(&held.x, move |x| of_yes(x, gamma_positive, clip), move |x| slope_of_yes(x, gamma_positive, clip))?;
    // No is yes of the negative.
    let no = pointwise(
        &held.x,
        move |x| of_yes(-x, gamma_negative, clip),
        move |x| -slope_of_yes(-x, gamma_negative, clip),
    )?;
    let sum = (dot(&yes, held.weighted(|t| t))? + dot(&no, held.weighted(|t| 1.0 - t))?)?;
    sum / held.total().max(f64::MIN_POSITIVE)
}

/// `−(1 − p)^γ·log p`, `p` held within the clip.
pub(super) fn of_yes(x: f64, gamma: f64, clip: f64) -> f64 {
    let p = logistic(x);
    if clip > 0.0 {
        let p = p.clamp(clip, 1.0 - clip);
        return -(1.0 - p).powf(gamma) * p.ln();
    }
    // log p without loss where p is small.
    logistic(-x).powf(gamma) * super::batch::softplus(-x)
}

/// Its derivative by the logit: 0 where `p` is held.
pub(super) fn slope_of_yes(x: f64, gamma: f64, clip: f64) -> f64 {
    let (p, q) = (logistic(x), logistic(-x));
    if clip > 0.0 && !(clip..=1.0 - clip).contains(&p) {
        return 0.0;
    }
    // d/dx (q^γ·(−log p)) with dp/dx = p·q.
    let log = -super::batch::softplus(-x);
    gamma * q.powf(gamma) * p * log - q.powf(gamma + 1.0)
}
