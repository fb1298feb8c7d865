//! HistoLoss: BCE and Tversky.
//!
//! Owns: [`histo`]. Source: ClinSegNet, its best ratio 0.3 : 0.7.

use super::{batch::TargetBatch, bce::bce, tversky::tversky};
use candle_core::{Result, Tensor};

/// `a·BCE + b·Tversky`.
///
/// # Errors
/// Candle's; the target has more than two classes.
pub fn histo(
    x: &Tensor,
    target: &TargetBatch,
    [of_bce, of_tversky]: [f64; 2],
    [alpha, beta, smooth]: [f64; 3],
) -> Result<Tensor> {
    (bce(x, target)? * of_bce)? + (tversky(x, target, alpha, beta, smooth)? * of_tversky)?
}
