//! Mean squared and mean absolute error.
//!
//! Owns: [`mse`], [`mae`]. Source: HoVer-Net (HV maps); StarDist (distances, weighted by the object probability, which is
//! the weight of the target's px, and divided by its mean: `norm_by_mask`).

use super::{
    batch::TargetBatch,
    operation::{dot, pointwise},
};
use candle_core::{Result, Tensor};

/// `Σ w·(x − t)² / Σ w` over px and channels.
///
/// # Errors
/// The target has classes.
pub fn mse(x: &Tensor, target: &TargetBatch) -> Result<Tensor> {
    mean_of(x, target, "mse", |d| d * d, |d| 2.0 * d)
}

/// `Σ w·|x − t| / Σ w` over px and channels.
///
/// # Errors
/// The target has classes.
pub fn mae(x: &Tensor, target: &TargetBatch) -> Result<Tensor> {
    mean_of(x, target, "mae", f64::abs, |d| if d == 0.0 { 0.0 } else { d.signum() })
}

fn mean_of(
    x: &Tensor,
    target: &TargetBatch,
    loss: &str,
    f: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
    slope: impl Fn(f64) -> f64 + Copy + Send + Sync + 'static,
) -> Result<Tensor> {
    let held = target.numbers(x, loss)?;
    let truth = Tensor::from_slice(&held.truth, held.x.shape(), held.x.device())?;
    let error = pointwise(&(&held.x - truth)?, f, slope)?;
    dot(&error, held.weight.clone())? / held.total().max(f64::MIN_POSITIVE)
}
