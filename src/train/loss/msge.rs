//! Mean squared error of the gradients of HV maps.
//!
//! Owns: [`msge`]. Source: HoVer-Net, authors' code `models/hovernet/utils.py` `msge_loss`: 5×5 Sobel, horizontal of the
//! first map and vertical of the second, within nuclei.

use super::{
    batch::{BatchValues, TargetBatch},
    operation::{dot, pointwise},
};
use crate::model::Head;
use candle_core::{Result, Tensor, bail};
use std::sync::Arc;

const SIDE: usize = 5;

/// `Σ f·(∇x − ∇t)² / (2 Σ f)`, `f` the known px within nuclei: those that the target of an output for nuclear pixels
/// says, or without one those whose distances are not both 0.
///
/// # Errors
/// The target is no pair of distances.
pub fn msge(x: &Tensor, target: &TargetBatch, all: &[TargetBatch]) -> Result<Tensor> {
    let held = target.numbers(x, "msge")?;
    let [n, channels, h, w] = target.shape;
    if channels != 2 {
        bail!(
            "`{}` has `{channels}` channels, the loss `msge` takes a horizontal and a vertical distance",
            target.output
        );
    }
    let px = h * w;
    let focus = focus(target, all, &held.truth);
    let total: f64 = focus.iter().map(|&f| f64::from(f)).sum();
    let truth = Tensor::from_slice(&held.truth, x.shape(), x.device())?;
    // The filter is linear: the gradient of the difference is the difference of the gradients.
    let error = (x - truth)?;
    let mut sum = Tensor::new(0_f32, x.device())?;
    for (channel, by_column) in [(0, true), (1, false)] {
        let kernel = Tensor::from_vec(sobel(by_column), (1, 1, SIDE, SIDE), x.device())?;
        let steep = error.narrow(1, channel, 1)?.contiguous()?.conv2d(&kernel, SIDE / 2, 1, 1, 1)?;
        debug_assert_eq!(steep.elem_count(), n * px);
        sum = (sum + dot(&pointwise(&steep, |d| d * d, |d| 2.0 * d)?, focus.clone())?)?;
    }
    sum / (2.0 * total + 1e-8)
}

fn focus(target: &TargetBatch, all: &[TargetBatch], truth: &[f32]) -> Arc<[f32]> {
    let [_, _, h, w] = target.shape;
    let nuclei = all.iter().find(|t| t.head == Head::NuclearPixel && t.shape[2..] == target.shape[2..]);
    let is_in = |i: usize| match nuclei.map(|t| (&t.values, t.shape[1])) {
        Some((BatchValues::Numbers(data), 1)) => data[i] >= 0.5,
        Some((BatchValues::Channels(masks), _)) => masks[i] == 0b10,
        _ => {
            let first = i / (h * w) * 2 * h * w + i % (h * w);
            truth[first] != 0.0 || truth[first + h * w] != 0.0
        }
    };
    target.weight.iter().enumerate().map(|(i, &weight)| if is_in(i) { weight } else { 0.0 }).collect()
}

/// `x / (x² + y²)` around the middle.
fn sobel(by_column: bool) -> Vec<f32> {
    let half = (SIDE / 2) as i32;
    let at = |y: i32, x: i32| {
        let along = f64::from(if by_column { x } else { y });
        (along / (f64::from(x * x + y * y) + 1e-15)) as f32
    };
    (-half..=half).flat_map(|y| (-half..=half).map(move |x| at(y, x))).collect()
}
