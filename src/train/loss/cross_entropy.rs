//! Cross entropy of classes, weighted by class, with the sums of coarse labels.
//!
//! Owns: [`cross_entropy`]. Source: PyTorch `cross_entropy` with `weight` (a weighted mean); for coarse labels "Learning
//! from data sets with different label sets": `−log Σ_{j ∈ S} y_j`.

use super::{
    batch::TargetBatch,
    operation::{dot, nll_of},
};
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

/// `Σ v·(−log p) / Σ v`, `v` the px's weight times its class's; of a coarse label `coarse_weight`, or the
/// mean of its classes'.
///
/// # Errors
/// The target has numbers; another number of class weights than of channels.
pub fn cross_entropy(
    x: &Tensor,
    target: &TargetBatch,
    class_weights: Option<&[f64]>,
    coarse_weight: Option<f64>,
) -> Result<Tensor> {
    let masks = target.labels("cross_entropy")?;
    let channels = target.shape[1];
    let of_label = |mask: u32| {
        if let Some(weight) = coarse_weight.filter(|_| mask.count_ones() > 1) {
            return weight;
        }
        let Some(weights) = class_weights else { return 1.0 };
        let chosen = weights.iter().enumerate().filter(|(c, _)| mask >> c & 1 == 1).map(|(_, w)| w);
        chosen.sum::<f64>() / f64::from(mask.count_ones().max(1))
    };
    if let Some(weights) = class_weights.filter(|w| w.len() != channels) {
        bail!("`class_weights` has `{}` numbers, `{}` has `{channels}` channels", weights.len(), target.output);
    }
    let weight: Arc<[f32]> = masks
        .iter()
        .zip(&*target.weight)
        .map(|(&m, &w)| if m == 0 { 0.0 } else { (f64::from(w) * of_label(m)) as f32 })
        .collect();
    let total: f64 = weight.iter().map(|&w| f64::from(w)).sum();
    dot(&nll_of(x, masks.clone())?, weight)? / total.max(f64::MIN_POSITIVE)
}
