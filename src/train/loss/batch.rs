//! Targets of a batch, and how a network's answers are held against them.
//!
//! Owns: [`TargetBatch`], [`Held`]. Must not know: formulas of losses, samples.

use super::operation::{nll_of, pointwise};
use crate::{
    model::Head,
    train::target::{Target, TargetValues},
};
use candle_core::{Result, Tensor, bail};
use std::{collections::BTreeSet, sync::Arc};

/// What one output is asked to say of a batch.
#[derive(Debug, Clone)]
pub struct TargetBatch {
    /// Name of the output.
    pub output: String,
    /// What it means.
    pub head: Head,
    /// `[N, channels, h, w]` of the output.
    pub shape: [usize; 4],
    /// What is asked for.
    pub values: BatchValues,
    /// `[N, h, w]` how much each px counts.
    pub weight: Arc<[f32]>,
}

/// What a [`TargetBatch`] asks for.
#[derive(Debug, Clone)]
pub enum BatchValues {
    /// `[N, channels, h, w]`.
    Numbers(Arc<[f32]>),
    /// `[N, h, w]` masks of the channels that may be meant.
    Channels(Arc<[u32]>),
}

/// Logits or numbers, what they should be, and how much each counts; all of one length.
pub struct Held {
    /// What the network says.
    pub x: Tensor,
    /// What it should say.
    pub truth: Arc<[f32]>,
    /// How much each value counts.
    pub weight: Arc<[f32]>,
}

impl TargetBatch {
    /// Puts the targets of one output of several samples together.
    ///
    /// # Errors
    /// Targets of different outputs or sizes, in words.
    pub fn of(targets: &[&Target]) -> std::result::Result<Self, String> {
        let first = targets.first().ok_or("a batch without samples")?;
        let like = |t: &Target| t.output == first.output && (t.w, t.h) == (first.w, first.h);
        if let Some(other) = targets.iter().find(|t| !like(t)) {
            let said = |t: &Target| format!("`{}` of {} × {} px", t.output, t.w, t.h);
            return Err(format!("targets of a batch differ: {} and {}", said(first), said(other)));
        }
        let weight: Arc<[f32]> = targets.iter().flat_map(|t| t.weight.iter().copied()).collect();
        let (mut numbers, mut masks, mut channels) = (vec![], vec![], None);
        for target in targets {
            let (count, is_numbers) = match &target.values {
                TargetValues::Numbers { channels, data } => {
                    numbers.extend_from_slice(data);
                    (*channels as usize, true)
                }
                TargetValues::Channels { channels, data } => {
                    masks.extend_from_slice(data);
                    (*channels as usize, false)
                }
            };
            if *channels.get_or_insert((count, is_numbers)) != (count, is_numbers) {
                return Err(format!("targets of `{}` differ in kind", first.output));
            }
        }
        let (channels, is_numbers) = channels.ok_or("a batch without samples")?;
        let shape = [targets.len(), channels, first.h as usize, first.w as usize];
        let values =
            if is_numbers { BatchValues::Numbers(numbers.into()) } else { BatchValues::Channels(masks.into()) };
        let batch = Self { output: first.output.clone(), head: first.head, shape, values, weight };
        let [n, c, h, w] = shape;
        let fits = match &batch.values {
            BatchValues::Numbers(data) => data.len() == n * c * h * w,
            BatchValues::Channels(data) => data.len() == n * h * w,
        };
        if batch.weight.len() != n * h * w || !fits {
            return Err(format!("a target of `{}` has another number of values than its size says", batch.output));
        }
        Ok(batch)
    }

    /// Whether anything is known.
    pub fn is_known(&self) -> bool {
        self.weight.iter().any(|&w| w > 0.0)
    }

    /// The network's answer as it is, for targets that are numbers.
    ///
    /// # Errors
    /// The target has classes.
    pub fn numbers(&self, x: &Tensor, loss: &str) -> Result<Held> {
        let BatchValues::Numbers(data) = &self.values else {
            bail!("`{}` tells classes, which the loss `{loss}` does not take", self.output);
        };
        Ok(Held { x: x.clone(), truth: data.clone(), weight: self.weight_of_channels() })
    }

    /// Logits of yes against no: those of an output for each of its channels, or the difference of two channels.
    ///
    /// # Errors
    /// The target has more than two classes.
    pub fn yes_or_no(&self, x: &Tensor, loss: &str) -> Result<Held> {
        match &self.values {
            BatchValues::Numbers(_) => self.numbers(x, loss),
            BatchValues::Channels(masks) if self.shape[1] == 2 => {
                let x = (x.narrow(1, 1, 1)? - x.narrow(1, 0, 1)?)?;
                let truth = masks.iter().map(|&m| f32::from(u8::from(m == 0b10))).collect();
                let known = |m: u32| m == 0b10 || m == 0b01;
                let weight = masks.iter().zip(&*self.weight).map(|(&m, &w)| if known(m) { w } else { 0.0 }).collect();
                Ok(Held { x, truth, weight })
            }
            BatchValues::Channels(_) => {
                bail!("`{}` tells more than two classes, which the loss `{loss}` does not take", self.output)
            }
        }
    }

    /// Logits and labels of classes.
    ///
    /// # Errors
    /// The target has numbers.
    pub fn labels(&self, loss: &str) -> Result<&Arc<[u32]>> {
        match &self.values {
            BatchValues::Channels(masks) => Ok(masks),
            BatchValues::Numbers(_) => bail!("`{}` tells no classes, which the loss `{loss}` needs", self.output),
        }
    }

    /// For each label, the probability that a px has it, and whether it does.
    ///
    /// Of an output without classes that excludes nothing, each channel is a label. Of classes, each channel is one, and
    /// so is each coarser label of the batch, whose probability is the sum of its channels. A px labelled more coarsely
    /// than a label tells nothing of it.
    ///
    /// # Errors
    /// Candle's.
    pub fn probabilities(&self, x: &Tensor) -> Result<Vec<Held>> {
        let [n, channels, h, w] = self.shape;
        let px = h * w;
        match &self.values {
            BatchValues::Numbers(data) => (0..channels)
                .map(|c| {
                    let plane = |i: usize| &data[(i * channels + c) * px..][..px];
                    let truth = (0..n).flat_map(|i| plane(i).iter().copied()).collect();
                    Ok(Held { x: sigmoid(&x.narrow(1, c, 1)?)?, truth, weight: self.weight.clone() })
                })
                .collect(),
            BatchValues::Channels(masks) => {
                let mut labels: BTreeSet<u32> = (0..channels).map(|c| 1 << c).collect();
                labels.extend(masks.iter().copied().filter(|&m| m != 0));
                let held = labels.into_iter().map(|label| {
                    // All channels together are certain, and no label.
                    if label.count_ones() as usize == channels {
                        return Ok(None);
                    }
                    let nll = nll_of(x, vec![label; masks.len()].into())?;
                    let x = pointwise(&nll, |x| (-x).exp(), |x| -(-x).exp())?;
                    let truth: Arc<[f32]> =
                        masks.iter().map(|&m| f32::from(u8::from(m != 0 && m & !label == 0))).collect();
                    let known = |m: u32| m != 0 && (m & !label == 0 || m & label == 0);
                    let weight: Arc<[f32]> =
                        masks.iter().zip(&*self.weight).map(|(&m, &w)| if known(m) { w } else { 0.0 }).collect();
                    Ok(weight.iter().any(|&w| w > 0.0).then_some(Held { x, truth, weight }))
                });
                held.filter_map(Result::transpose).collect()
            }
        }
    }

    /// The weight of each px, for each channel.
    fn weight_of_channels(&self) -> Arc<[f32]> {
        let [_, channels, h, w] = self.shape;
        if channels == 1 {
            return self.weight.clone();
        }
        self.weight
            .chunks_exact(h * w)
            .flat_map(|plane| std::iter::repeat_n(plane, channels).flatten().copied())
            .collect()
    }
}

/// `1 / (1 + exp(−x))`.
///
/// # Errors
/// Candle's.
pub fn sigmoid(x: &Tensor) -> Result<Tensor> {
    pointwise(x, logistic, |x| logistic(x) * logistic(-x))
}

/// `1 / (1 + exp(−x))` of a number.
pub(super) fn logistic(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

/// `log(1 + exp(x))`, whose derivative is [`logistic`].
pub(super) fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

impl Held {
    /// Sum of the weights.
    pub fn total(&self) -> f64 {
        self.weight.iter().map(|&w| f64::from(w)).sum()
    }

    /// Weights times a function of the truth.
    pub fn weighted(&self, of: impl Fn(f32) -> f32) -> Arc<[f32]> {
        self.truth.iter().zip(&*self.weight).map(|(&t, &w)| w * of(t)).collect()
    }

    /// Sum of the weights times a function of the truth.
    pub fn weighted_total(&self, of: impl Fn(f32) -> f32) -> f64 {
        self.truth.iter().zip(&*self.weight).map(|(&t, &w)| f64::from(w) * f64::from(of(t))).sum()
    }
}
