//! Tversky and focal Tversky losses.
//!
//! Owns: [`tversky`], [`focal_tversky`]. Source: Salehi 2017; Abraham 2019; for coarse labels "Learning from data sets with
//! different label sets": the probability of a label is the sum of its leaves'. Sums run over the whole batch, the mean
//! over labels.

use super::{
    batch::{Held, TargetBatch},
    operation::{dot, pointwise},
};
use candle_core::{Device, Result, Tensor};

/// `1 − TI`, `TI = (TP + s) / (TP + α·FP + β·FN + s)`.
///
/// # Errors
/// Candle's.
pub fn tversky(x: &Tensor, target: &TargetBatch, alpha: f64, beta: f64, smooth: f64) -> Result<Tensor> {
    mean_loss(x, target, [alpha, beta, smooth], Ok)
}

/// `(1 − TI)^γ`.
///
/// # Errors
/// Candle's.
pub fn focal_tversky(x: &Tensor, target: &TargetBatch, [alpha, beta, smooth]: [f64; 3], gamma: f64) -> Result<Tensor> {
    // The derivative of a power below 1 has no bound at 0.
    const LEAST: f64 = 1e-7;
    mean_loss(x, target, [alpha, beta, smooth], |loss| {
        pointwise(
            &loss,
            move |x| x.max(LEAST).powf(gamma),
            move |x| if x > LEAST { gamma * x.powf(gamma - 1.0) } else { 0.0 },
        )
    })
}

/// Mean over labels of `of(1 − TI)`.
pub(super) fn mean_loss(
    x: &Tensor,
    target: &TargetBatch,
    numbers: [f64; 3],
    of: impl Fn(Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let labels = target.probabilities(x)?;
    let mut sum = Tensor::new(0_f32, &Device::Cpu)?;
    for held in &labels {
        sum = (sum + of(one_minus_index(held, numbers)?)?)?;
    }
    sum / labels.len().max(1) as f64
}

fn one_minus_index(held: &Held, [alpha, beta, smooth]: [f64; 3]) -> Result<Tensor> {
    let hits = dot(&held.x, held.weighted(|t| t))?;
    let wrong = dot(&held.x, held.weighted(|t| 1.0 - t))?;
    let truth = held.weighted_total(|t| t);
    // FN = Σ w·t − TP.
    let below = (((&hits * (1.0 - beta))? + (wrong * alpha)?)? + (beta * truth + smooth))?;
    (1.0 - ((hits + smooth)? / below)?)?.reshape(())
}
