//! How gradients change weights.
//!
//! Owns: [`Optimiser`], [`Moments`]. Must not know: networks, schedules.
//! Source: PyTorch `Adam`, `AdamW`, `SGD`, single tensor, in f32 with step factors in f64, as PyTorch computes them.

use crate::config::settings;
use rayon::prelude::*;

/// Values of a tensor are changed in pieces of this many, each by itself.
const PIECE: usize = 16_384;

/// The rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Optimiser {
    rule: settings::Optimiser,
}

/// What an optimiser remembers of one tensor.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Moments {
    /// Steps the tensor has made.
    pub steps: u64,
    /// Mean of gradients, or momentum; empty before the first step.
    pub first: Vec<f32>,
    /// Mean of their squares; empty for an optimiser without.
    pub second: Vec<f32>,
}

impl Optimiser {
    /// The rule of the settings.
    pub fn new(rule: settings::Optimiser) -> Self {
        Self { rule }
    }

    /// Tensors it remembers for each tensor that learns.
    pub fn moments(&self) -> usize {
        match self.rule {
            settings::Optimiser::Adam(_) | settings::Optimiser::AdamW(_) => 2,
            settings::Optimiser::Sgd(sgd) => usize::from(sgd.momentum > 0.0),
        }
    }

    /// One step of one tensor.
    pub fn step(&self, values: &mut [f32], gradient: &[f32], moments: &mut Moments, learning_rate: f64) {
        let is_first = moments.steps == 0;
        moments.steps += 1;
        match self.rule {
            settings::Optimiser::Adam(adam) => adam_step(values, gradient, moments, learning_rate, &adam, false),
            settings::Optimiser::AdamW(adam) => adam_step(values, gradient, moments, learning_rate, &adam, true),
            settings::Optimiser::Sgd(sgd) => sgd_step(values, gradient, moments, learning_rate, &sgd, is_first),
        }
    }
}

fn adam_step(
    values: &mut [f32],
    gradient: &[f32],
    moments: &mut Moments,
    learning_rate: f64,
    adam: &settings::Adam,
    is_decoupled: bool,
) {
    moments.first.resize(values.len(), 0.0);
    moments.second.resize(values.len(), 0.0);
    let steps = moments.steps as f64;
    let step_size = (learning_rate / (1.0 - adam.beta1.powf(steps))) as f32;
    let root_correction = (1.0 - adam.beta2.powf(steps)).sqrt() as f32;
    let shrink = if is_decoupled { (1.0 - learning_rate * adam.weight_decay) as f32 } else { 1.0 };
    let pull = if is_decoupled { 0.0 } else { adam.weight_decay as f32 };
    let (rest1, beta2, rest2, epsilon) =
        ((1.0 - adam.beta1) as f32, adam.beta2 as f32, (1.0 - adam.beta2) as f32, adam.epsilon as f32);
    let pieces = values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
    let moments = moments.first.par_chunks_mut(PIECE).zip(moments.second.par_chunks_mut(PIECE));
    pieces.zip(moments).for_each(|((values, gradient), (first, second))| {
        for (((w, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
            *w *= shrink;
            let g = g + pull * *w;
            // PyTorch's `lerp`, not `β·m + (1 − β)·g`.
            *m += rest1 * (g - *m);
            *v = beta2 * *v + rest2 * g * g;
            *w -= step_size * (*m / (v.sqrt() / root_correction + epsilon));
        }
    });
}

fn sgd_step(
    values: &mut [f32],
    gradient: &[f32],
    moments: &mut Moments,
    learning_rate: f64,
    sgd: &settings::Sgd,
    is_first: bool,
) {
    let (pull, rate, momentum) = (sgd.weight_decay as f32, learning_rate as f32, sgd.momentum as f32);
    if sgd.momentum == 0.0 {
        values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE)).for_each(|(values, gradient)| {
            values.iter_mut().zip(gradient).for_each(|(w, &g)| *w -= rate * (g + pull * *w));
        });
        return;
    }
    moments.first.resize(values.len(), 0.0);
    let pieces = values.par_chunks_mut(PIECE).zip(gradient.par_chunks(PIECE));
    pieces.zip(moments.first.par_chunks_mut(PIECE)).for_each(|((values, gradient), kept)| {
        for ((w, &g), kept) in values.iter_mut().zip(gradient).zip(kept) {
            let g = g + pull * *w;
            // The first step has nothing to keep, and no damping.
            *kept = if is_first { g } else { momentum * *kept + g };
            *w -= rate * if sgd.nesterov { g + momentum * *kept } else { *kept };
        }
    });
}
