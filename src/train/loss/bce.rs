//! Binary cross entropy; of the output `edge` it is ClinSegNet's edge loss.
//!
//! Owns: [`bce`]. Source: PyTorch `binary_cross_entropy_with_logits`, mean over the px that are known, by their weights.

use super::{
    batch::{TargetBatch, logistic, softplus},
    operation::{dot, pointwise},
};
use candle_core::{Result, Tensor};

/// `Σ w·(log(1 + e^x) − t·x) / Σ w`.
///
/// # Errors
/// The target has more than two classes.
pub fn bce(x: &Tensor, target: &TargetBatch) -> Result<Tensor> {
    let held = target.yes_or_no(x, "bce")?;
    let sum =
        (dot(&pointwise(&held.x, softplus, logistic)?, held.weight.clone())? - dot(&held.x, held.weighted(|t| t))?)?;
    sum / held.total().max(f64::MIN_POSITIVE)
}
