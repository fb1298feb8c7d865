//! Structure loss: weighted IoU and weighted BCE.
//!
//! Owns: [`structure`]. Source: Wei 2020 (F³Net), as LightMuSeg uses it: a px counts `1 + 5·|mean of its 31×31 px − it|`,
//! so more near edges. Differs: unknown px count nothing, in the mean around a px they count as no.

use super::{
    batch::{TargetBatch, logistic, sigmoid, softplus},
    operation::{dot, pointwise},
};
use candle_core::{Device, Result, Tensor, bail};
use std::sync::Arc;

/// Mean over images of `BCE_v + 1 − (Σ v·p·t + 1) / (Σ v·(p + t − p·t) + 1)`, `v` the weights above.
///
/// # Errors
/// The target has more than two classes, or several channels.
pub fn structure(x: &Tensor, target: &TargetBatch, window_px: usize, edge_gain: f64) -> Result<Tensor> {
    let held = target.yes_or_no(x, "structure")?;
    let [n, _, h, w] = target.shape;
    if held.truth.len() != n * h * w {
        bail!("`{}` has several channels, the loss `structure` takes one", target.output);
    }
    let (bce, p) = (pointwise(&held.x, softplus, logistic)?, sigmoid(&held.x)?);
    let (mut sum, mut count) = (Tensor::new(0_f32, &Device::Cpu)?, 0);
    for i in 0..n {
        let range = i * h * w..(i + 1) * h * w;
        let truth = &held.truth[range.clone()];
        let around = mean_around(truth, h, w, window_px);
        let v: Vec<f64> = (truth.iter().zip(&around).zip(&held.weight[range]))
            .map(|((&t, &mean), &weight)| f64::from(weight) * (1.0 + edge_gain * (mean - f64::from(t)).abs()))
            .collect();
        let total: f64 = v.iter().sum();
        if total <= 0.0 {
            continue;
        }
        let by = |of: &dyn Fn(f64) -> f64| -> Arc<[f32]> {
            v.iter().zip(truth).map(|(&v, &t)| (v * of(f64::from(t))) as f32).collect()
        };
        let one = |t: &Tensor| t.narrow(0, i, 1);
        let bce = (dot(&one(&bce)?, by(&|_| 1.0))? - dot(&one(&held.x)?, by(&|t| t))?)?;
        let hits = dot(&one(&p)?, by(&|t| t))?;
        let truth_total: f64 = v.iter().zip(truth).map(|(&v, &t)| v * f64::from(t)).sum();
        let union = ((dot(&one(&p)?, by(&|_| 1.0))? + truth_total)? - &hits)?;
        let iou = ((hits + 1.0)? / (union + 1.0)?)?;
        sum = ((sum + (bce / total)?)? + (1.0 - iou)?)?;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// Mean of the square window around each px, what lies outside counted as 0 (PyTorch's `avg_pool2d` with padding).
fn mean_around(values: &[f32], h: usize, w: usize, side: usize) -> Vec<f64> {
    let half = side / 2;
    // Sums of all above and left of a corner.
    let mut sums = vec![0.0; (h + 1) * (w + 1)];
    for y in 0..h {
        let mut row = 0.0;
        for x in 0..w {
            row += f64::from(values[y * w + x]);
            sums[(y + 1) * (w + 1) + x + 1] = sums[y * (w + 1) + x + 1] + row;
        }
    }
    let at = |y: usize, x: usize| sums[y * (w + 1) + x];
    let area = (side * side) as f64;
    (0..h * w)
        .map(|i| {
            let (y, x) = (i / w, i % w);
            let (top, left) = (y.saturating_sub(half), x.saturating_sub(half));
            let (bottom, right) = ((y + half + 1).min(h), (x + half + 1).min(w));
            (at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)) / area
        })
        .collect()
}
