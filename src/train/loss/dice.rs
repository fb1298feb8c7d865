//! Dice loss.
//!
//! Owns: [`dice`]. Source: `segmentation_models_pytorch` `DiceLoss`: sums run over the whole batch, the mean over labels.

use super::{batch::TargetBatch, tversky};
use candle_core::{Result, Tensor};

/// `1 − (2 Σ w·p·t + s) / (Σ w·p + Σ w·t + s)`, mean over labels.
///
/// # Errors
/// Candle's.
pub fn dice(x: &Tensor, target: &TargetBatch, smooth: f64) -> Result<Tensor> {
    // Twice a half: Tversky's index with half of each kind of error.
    tversky::mean_loss(x, target, [0.5, 0.5, smooth / 2.0], Ok)
}
