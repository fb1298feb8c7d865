//! Mean squared and mean absolute error.
//!
//! Owns: [`mse`], [`mae`]. Source: HoVer-Net (HV maps); StarDist (distances, weighted by the object probability, which is
//! the weight of the target's px, and divided by its mean: `norm_by_mask`).

use super::{
    batch::{Held, TargetBatch},
    operation::{dot, pointwise},
};
use candle_core::{Result, Tensor};
use std::sync::Arc;

/// `Σ w·(x − t)² / Σ w` over px and channels.
///
/// # Errors
/// The target has classes.
pub fn mse(x: &Tensor, target: &TargetBatch) -> Result<Tensor> {
    let held = target.numbers(x, "mse")?;
    mean_of(&held, held.weight.clone(), |d| d * d, |d| 2.0 * d)
}

/// `Σ w·|x − t| / Σ w` over px and channels; with `relative_from` each px divided by the mean of its channels' truth,
/// taken as this at least.
///
/// # Errors
/// The target has classes.
pub fn mae(x: &Tensor, target: &TargetBatch, relative_from: Option<f64>) -> Result<Tensor> {
    let held = target.numbers(x, "mae")?;
    let weight = match relative_from {
        None => held.weight.clone(),
        Some(least) => relative(&held, target, least),
    };
    mean_of(&held, weight, f64::abs, |d| if d == 0.0 { 0.0 } else { d.signum() })
}

/// Weights divided by the mean truth of each px.
fn relative(held: &Held, target: &TargetBatch, least: f64) -> Arc<[f32]> {
    let [_, channels, h, w] = target.shape;
    let px = h * w;
    let mean = |i: usize, at: usize| {
        let sum: f64 = (0..channels).map(|c| f64::from(held.truth[(i * channels + c) * px + at])).sum();
        (sum / channels as f64).max(least)
    };
    let weight =
        held.weight.iter().enumerate().map(|(k, &w)| (f64::from(w) / mean(k / (channels * px), k % px)) as f32);
    weight.collect()
}

fn mean_of(
    held: &Held,
    weight: Arc<[f32]>,
    f: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
    slope: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
) -> Result<Tensor> {
    let truth = Tensor::from_slice(&held.truth, held.x.shape(), held.x.device())?;
    let error = pointwise(&(&held.x - truth)?, f, slope)?;
    dot(&error, weight)? / held.total().max(f64::MIN_POSITIVE)
}
