//! Focal loss of yes/no and of classes.
//!
//! Owns: [`focal`]. Source: Lin 2017; HistoNeXt's types with α 0.25, γ 2.

use super::{
    asymmetric_focal::{of_yes, slope_of_yes},
    batch::{BatchValues, TargetBatch},
    operation::{dot, nll_of, pointwise},
};
use candle_core::{Result, Tensor};

/// Of yes/no: `α·(1 − p)^γ·(−log p)` where the truth is yes, `(1 − α)·p^γ·(−log(1 − p))` where it is no. Of classes:
/// `α·(1 − p)^γ·(−log p)` of the label's probability. Mean over known px, by their weights.
///
/// # Errors
/// Candle's.
pub fn focal(x: &Tensor, target: &TargetBatch, alpha: f64, gamma: f64) -> Result<Tensor> {
    if let BatchValues::Channels(masks) = &target.values {
        let nll = nll_of(x, masks.clone())?;
        let focused = pointwise(
            &nll,
            move |n| (1.0 - (-n).exp()).max(0.0).powf(gamma) * n,
            move |n| {
                let (p, q) = ((-n).exp(), (1.0 - (-n).exp()).max(0.0));
                let inner = if gamma == 0.0 { 0.0 } else { gamma * q.powf(gamma - 1.0) * p * n };
                // At n = 0 a power below 1 is 0 · ∞, whose limit is 0.
                q.powf(gamma) + if n > 0.0 { inner } else { 0.0 }
            },
        )?;
        let total: f64 = target.weight.iter().map(|&w| f64::from(w)).sum();
        return dot(&focused, target.weight.clone())? * (alpha / total.max(f64::MIN_POSITIVE));
    }
    let held = target.yes_or_no(x, "focal")?;
    let yes = pointwise(&held.x, move |x| of_yes(x, gamma, 0.0), move |x| slope_of_yes(x, gamma, 0.0))?;
    let no = pointwise(&held.x, move |x| of_yes(-x, gamma, 0.0), move |x| -slope_of_yes(-x, gamma, 0.0))?;
    let sum = ((dot(&yes, held.weighted(|t| t))? * alpha)? + (dot(&no, held.weighted(|t| 1.0 - t))? * (1.0 - alpha))?)?;
    sum / held.total().max(f64::MIN_POSITIVE)
}
