//! Batch normalisation in training and in use.
//!
//! Owns: [`batch_norm`]. Must not know: networks. Source: PyTorch `nn.BatchNorm2d`, momentum 0.1.

use super::operation::per_channel;
use candle_core::{Result, Tensor, Var};

/// Share of a batch's statistics in the running ones.
pub(super) const MOMENTUM: f64 = 0.1;

/// `(x − mean) / √(var + eps) · weight + bias`.
///
/// With `batch_statistics`, mean and (biased) variance are the batch's, and `running` (mean, variance) moves a tenth
/// of the way to them, there with the unbiased variance; without, they are `running`.
///
/// # Shapes
/// - `x`: `[N, C, h, w]`; all others `[C]`
///
/// # Errors
/// Candle's, for other shapes.
pub(super) fn batch_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    running: [&Var; 2],
    eps: f64,
    batch_statistics: bool,
) -> Result<Tensor> {
    let [running_mean, running_var] = running;
    if !batch_statistics {
        // One factor and one offset per channel: half the passes over the image.
        let scale = weight.div(&(running_var.as_detached_tensor() + eps)?.sqrt()?)?;
        let offset = bias.sub(&running_mean.as_detached_tensor().mul(&scale)?)?;
        return x.broadcast_mul(&per_channel(&scale)?)?.broadcast_add(&per_channel(&offset)?);
    }
    let mean = x.mean_keepdim((0, 2, 3))?;
    let centred = x.broadcast_sub(&mean)?;
    let var = centred.sqr()?.mean_keepdim((0, 2, 3))?;
    let count = (x.elem_count() / weight.elem_count()) as f64;
    let unbiased = (var.detach() * (count / (count - 1.0).max(1.0)))?;
    for (running, batch) in [(running_mean, mean.detach()), (running_var, unbiased)] {
        let batch = batch.flatten_all()?;
        running.set(&((running.as_detached_tensor() * (1.0 - MOMENTUM))? + (batch * MOMENTUM)?)?)?;
    }
    let normal = centred.broadcast_div(&(var + eps)?.sqrt()?)?;
    normal.broadcast_mul(&per_channel(weight)?)?.broadcast_add(&per_channel(bias)?)
}
