//! Factors and offsets of normalisations, taken into the weights before them.
//!
//! Owns: [`Folded`], [`batch_norm`]. Must not know: the order of nodes.

use super::{CompileError, Lowering};
use crate::model::graph::{Node, Op};

/// Weights and bias of a convolution or linear layer.
#[derive(Debug)]
pub(super) struct Folded {
    /// `[out, in / groups, k, k]`; of a transposed convolution `[in, out, k, k]`.
    pub weights: Vec<f32>,
    /// `[out]`, when there is any.
    pub bias: Option<Vec<f32>>,
    /// Values from one channel out to the next.
    per_channel: usize,
    channels: usize,
}

impl Folded {
    /// Those of a node.
    pub(super) fn of(lowering: &Lowering<'_>, node: &Node) -> Result<Self, CompileError> {
        let (has_bias, per_channel) = match &node.op {
            Op::Conv(conv) => {
                let channels_in = lowering.graph.channels(node.inputs[0]);
                (conv.bias, channels_in / conv.groups * conv.kernel * conv.kernel)
            }
            Op::Linear { bias, .. } => (*bias, lowering.graph.channels(node.inputs[0])),
            Op::TransposedConv(conv) => (true, conv.kernel * conv.kernel),
            _ => (false, 0),
        };
        let weights = lowering.value(node, "weight")?.to_vec();
        let bias = if has_bias { Some(lowering.value(node, "bias")?.to_vec()) } else { None };
        Ok(Self { weights, bias, per_channel, channels: node.channels })
    }

    /// Those of a layer with this many channels out.
    pub(super) fn new(weights: Vec<f32>, bias: Option<Vec<f32>>, channels: usize) -> Self {
        Self { per_channel: weights.len() / channels, weights, bias, channels }
    }

    /// The bias of each channel, 0 where there is none.
    pub(super) fn biases(&self) -> Vec<f32> {
        self.bias.clone().unwrap_or_else(|| vec![0.0; self.channels])
    }

    /// Follows the layer by `y · scale + shift`.
    pub(super) fn then(&mut self, scale: &[f32], shift: Option<&[f32]>) {
        for (i, weights) in self.weights.chunks_exact_mut(self.per_channel).enumerate() {
            let scale = scale[i % self.channels];
            weights.iter_mut().for_each(|w| *w *= scale);
        }
        if let Some(bias) = &mut self.bias {
            bias.iter_mut().zip(scale).for_each(|(b, s)| *b *= s);
        }
        if let Some(shift) = shift {
            let bias = self.bias.get_or_insert_with(|| vec![0.0; self.channels]);
            bias.iter_mut().zip(shift).for_each(|(b, s)| *b += s);
        }
    }
}

/// Factor and offset per channel of a batch normalisation in use.
pub(super) fn batch_norm(lowering: &Lowering<'_>, node: &Node, eps: f64) -> Result<(Vec<f32>, Vec<f32>), CompileError> {
    let value = |suffix: &str| lowering.value(node, suffix);
    let (weight, bias, mean, var) = (value("weight")?, value("bias")?, value("running_mean")?, value("running_var")?);
    let scale: Vec<f64> = weight.iter().zip(var).map(|(&w, &v)| f64::from(w) / (f64::from(v) + eps).sqrt()).collect();
    let shift = bias.iter().zip(mean).zip(&scale).map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32);
    let shift = shift.collect();
    Ok((scale.into_iter().map(|s| s as f32).collect(), shift))
}
