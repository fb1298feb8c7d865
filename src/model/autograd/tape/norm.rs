//! Norms of the tape: batch norm with the batch's or its own statistics, group norm.
//!
//! Owns: forward and backward of [`Op::BatchNorm`](crate::model::graph::Op::BatchNorm) and
//! [`Op::GroupNorm`](crate::model::graph::Op::GroupNorm), and of the clamp that follows. Must not know: other operations.

use super::{
    memory::{Map, banded, view},
    step::{Saved, Sink, Step},
};
use crate::{
    kernels::{
        Activation,
        cpu::{
            elementwise,
            gradient::{self, Clamp, affine_gradient, moments, norm_sums},
        },
    },
    model::autograd::batch_norm::MOMENTUM,
};
use candle_core::{Device, Result, Tensor};

/// How a norm scaled and moved its input; `[c]`, or `[n, c]` where images differ.
#[derive(Debug)]
pub(super) struct Factors {
    scale: Vec<f32>,
    shift: Vec<f32>,
    mean: Vec<f32>,
    /// One over the deviation.
    rate: Vec<f32>,
    /// Channels that share statistics, and whether the statistics are those of the images.
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Batch,
    Frozen,
    Groups(usize),
}

/// `(x − mean) / √(var + eps) · weight + bias`, as [`batch_norm`](crate::model::autograd::batch_norm).
pub(super) fn batch_norm(step: &Step<'_>, eps: f64, x: &Map) -> Result<(Map, Saved)> {
    let (weight, bias) = (step.floats("weight")?, step.floats("bias")?);
    let [n, h, w, c] = x.size;
    let of_batch = step.network.takes_batch_statistics(step.node, step.mode);
    let (mean, var) = if of_batch {
        let [means, squares] = moments(step.isa, x.maps());
        let (pixels, images) = ((h * w) as f64, n as f64);
        let of = |v: &[f64], i: usize| -> f64 { v.iter().skip(i).step_by(c).sum() };
        let mean: Vec<f64> = (0..c).map(|i| of(&means, i) / images).collect();
        let var: Vec<f64> = (0..c)
            .map(|i| {
                let apart: f64 = means.iter().skip(i).step_by(c).map(|m| (m - mean[i]).powi(2)).sum();
                (of(&squares, i) + apart * pixels) / (pixels * images)
            })
            .collect();
        let count = pixels * images;
        let unbiased = count / (count - 1.0).max(1.0);
        move_running(step, "running_mean", &mean, 1.0)?;
        move_running(step, "running_var", &var, unbiased)?;
        (mean, var)
    } else {
        let wide = |v: Vec<f32>| v.into_iter().map(f64::from).collect();
        (wide(step.floats("running_mean")?), wide(step.floats("running_var")?))
    };
    let kind = if of_batch { Kind::Batch } else { Kind::Frozen };
    let factors = Factors::new(kind, (&mean, &var), eps, (&weight, &bias));
    Ok((factors.apply(step, x), Saved::Norm(factors)))
}

/// Moves a running statistic a part of the way to the batch's.
fn move_running(step: &Step<'_>, which: &str, batch: &[f64], times: f64) -> Result<()> {
    let running = step.floats(which)?;
    let moved =
        running.iter().zip(batch).map(|(r, b)| (f64::from(*r) * (1.0 - MOMENTUM) + b * times * MOMENTUM) as f32);
    let moved: Vec<f32> = moved.collect();
    step.network.values[&step.parameter(which)].set(&Tensor::from_vec(moved, batch.len(), &Device::Cpu)?)
}

/// Group norm: statistics of each image's groups of channels.
pub(super) fn group_norm(step: &Step<'_>, (groups, eps): (usize, f64), x: &Map) -> Result<(Map, Saved)> {
    let (weight, bias) = (step.floats("weight")?, step.floats("bias")?);
    let [_, h, w, c] = x.size;
    let [means, squares] = moments(step.isa, x.maps());
    let (each, pixels) = (c / groups, (h * w) as f64);
    let (mut mean, mut var) = (vec![], vec![]);
    for (means, squares) in means.chunks_exact(each).zip(squares.chunks_exact(each)) {
        let middle = means.iter().sum::<f64>() / each as f64;
        let apart: f64 = means.iter().map(|m| (m - middle).powi(2)).sum();
        let spread = (squares.iter().sum::<f64>() + apart * pixels) / (pixels * each as f64);
        mean.extend(std::iter::repeat_n(middle, each));
        var.extend(std::iter::repeat_n(spread, each));
    }
    let factors = Factors::new(Kind::Groups(each), (&mean, &var), eps, (&weight, &bias));
    Ok((factors.apply(step, x), Saved::Norm(factors)))
}

impl Factors {
    fn new(kind: Kind, (mean, var): (&[f64], &[f64]), eps: f64, (weight, bias): (&[f32], &[f32])) -> Self {
        let c = weight.len();
        let rate: Vec<f64> = var.iter().map(|v| 1.0 / (v + eps).sqrt()).collect();
        let scale: Vec<f32> = rate.iter().enumerate().map(|(i, r)| (r * f64::from(weight[i % c])) as f32).collect();
        let shift = mean.iter().zip(&rate).enumerate();
        let shift = shift.map(|(i, (m, r))| (f64::from(bias[i % c]) - m * r * f64::from(weight[i % c])) as f32);
        Self {
            shift: shift.collect(),
            scale,
            mean: mean.iter().map(|m| *m as f32).collect(),
            rate: rate.into_iter().map(|r| r as f32).collect(),
            kind,
        }
    }

    fn apply(&self, step: &Step<'_>, x: &Map) -> Map {
        let [n, h, w, c] = x.size;
        // One set of factors: all rows are alike.
        let size = if self.scale.len() == c { [1, n * h, w, c] } else { x.size };
        let from = x.clone().reshaped(size);
        Map::filled(step.home, x.size, |to| {
            banded(size, 1, to, |image, band, rows| {
                let factors = (&self.scale[image * c..][..c], &self.shift[image * c..][..c]);
                elementwise::affine(step.isa, view(&from, image), factors, step.activation, band, rows);
            });
        })
    }
}

/// Gradients of a norm and the clamp behind it.
pub(super) fn backward(step: &Step<'_>, factors: &Factors, x: &Map, dy: Map, sink: &mut Sink<'_>) -> Result<()> {
    let [n, h, w, c] = x.size;
    let clamp = match step.activation {
        Some(Activation::Relu) => Clamp::RELU,
        Some(Activation::Relu6) => Clamp::RELU6,
        _ => Clamp::NONE,
    };
    let by = gradient::Factors { scale: &factors.scale, shift: &factors.shift };
    let [sums, products] = norm_sums(step.isa, x.maps(), dy.maps(), (by, clamp), &factors.mean);
    // Over all images: `Σ g` and `Σ g · x̂`.
    let all = |v: &[f64], i: usize| -> f64 { v.iter().skip(i).step_by(c).sum() };
    let rate = |i: usize| f64::from(factors.rate[i % factors.rate.len()]);
    let normal: Vec<f64> = products.iter().enumerate().map(|(i, p)| p * rate(i)).collect();
    sink.weight(step.parameter("weight"), (0..c).map(|i| all(&normal, i) as f32).collect());
    sink.weight(step.parameter("bias"), (0..c).map(|i| all(&sums, i) as f32).collect());
    if !sink.wants(0) {
        return Ok(());
    }
    // dx = g · a + x · b + d
    let mut parts = [factors.scale.clone(), vec![0.0; factors.scale.len()], vec![0.0; factors.scale.len()]];
    let mut spread = |i: usize, mean_g: f64, mean_gx: f64| {
        // `mean_g` and `mean_gx` have the weight in them.
        let r = rate(i);
        let b = -r * r * mean_gx;
        parts[1][i] = b as f32;
        parts[2][i] = (-r * mean_g - b * f64::from(factors.mean[i])) as f32;
    };
    let weight = step.floats("weight")?;
    match factors.kind {
        Kind::Frozen => {}
        Kind::Batch => {
            let count = (n * h * w) as f64;
            for (i, weight) in weight.iter().enumerate() {
                let weight = f64::from(*weight) / count;
                spread(i, weight * all(&sums, i), weight * all(&normal, i));
            }
        }
        Kind::Groups(each) => {
            let count = (h * w * each) as f64;
            for first in (0..n * c).step_by(each) {
                let of = |v: &[f64]| -> f64 { (first..first + each).map(|i| v[i] * f64::from(weight[i % c])).sum() };
                let (g, gx) = (of(&sums) / count, of(&normal) / count);
                (first..first + each).for_each(|i| spread(i, g, gx));
            }
        }
    }
    let dx = dy.changed(|dy| affine_gradient(step.isa, x.maps(), dy, (by, clamp), parts.each_ref().map(Vec::as_slice)));
    sink.add(0, dx);
    Ok(())
}
