//! Steps of a single node, perhaps with the activation after it.
//!
//! Owns: normalisations, sums, pools and the like. Must not know: convolutions.

use super::{CompileError, Lowering, Prologue, fold};
use crate::{
    infer::{
        cpu::window_attention::Windows,
        program::{Affine, StepOp},
    },
    model::graph::{Activation, Node, NodeId, Op, ResizeMode},
};

impl Lowering<'_> {
    /// A factor and an offset per channel that no convolution before took in: into the one convolution after it, or a
    /// step of its own.
    pub(super) fn affine(&mut self, id: NodeId, node: &Node) -> Result<(), CompileError> {
        let (scale, shift) = match node.op {
            Op::BatchNorm { eps } => fold::batch_norm(self, node, eps)?,
            _ => (self.tensor(node.name.clone())?.to_vec(), vec![0.0; node.channels]),
        };
        let after = self.activation_after(id);
        let mut fused = vec![node.op.kind()];
        let relu = matches!(after, Some((_, Activation::Relu)));
        let end = if relu { after.map_or(id, |(user, _)| user) } else { id };
        if let Some(conv) = self.only_user(end).filter(|user| self.takes_prologue(*user)) {
            self.covered[id.index()] = true;
            self.covered[end.index()] = true;
            fused.extend(relu.then_some("relu"));
            let affine = Affine { scale, shift, relu };
            self.prologues.insert(conv, Prologue { input: node.inputs[0], affine, fused });
            return Ok(());
        }
        let activation = after.map(|(_, activation)| activation);
        fused.extend(activation.map(Activation::kind));
        let output = after.map_or(id, |(user, _)| user);
        self.push(id, StepOp::Affine { scale, shift, activation }, node.inputs.clone(), output, fused);
        Ok(())
    }

    /// Dense convolutions copy or stream their input anyway; grouped ones would normalise it once per tap.
    fn takes_prologue(&self, user: NodeId) -> bool {
        match &self.get(user).op {
            Op::Conv(conv) => conv.groups == 1,
            Op::Linear { .. } => true,
            _ => false,
        }
    }

    /// Whether a product is left to the 1×1 convolution after it, as a factor per channel of its input.
    pub(super) fn gate(&mut self, id: NodeId, node: &Node) -> bool {
        let &[x, gate] = &node.inputs[..] else { return false };
        let fits = self.is_pixel[gate.index()] && self.graph.channels(gate) == node.channels && x != gate;
        let Some(user) = self.only_user(id).filter(|_| fits) else { return false };
        match &self.get(user).op {
            Op::Conv(conv) if conv.groups > 1 || conv.kernel > 1 => return false,
            Op::Conv(_) | Op::Linear { .. } => {}
            _ => return false,
        }
        self.covered[id.index()] = true;
        self.gates.insert(user, [x, gate]);
        true
    }

    /// Of a sum of two, an enlargement that nobody else needs: its input and factor, and the other term.
    fn enlarged(&mut self, add: &Node) -> Option<([NodeId; 2], usize)> {
        let &[a, b] = &add.inputs[..] else { return None };
        [[a, b], [b, a]].into_iter().find_map(|[large, other]| {
            let node = self.get(large);
            let Op::Resize { factor, mode: ResizeMode::Nearest } = node.op else { return None };
            self.only_user(large)?;
            self.unmake(large);
            Some(([node.inputs[0], other], factor))
        })
    }

    /// All that is neither a convolution nor a place.
    pub(super) fn plain(&mut self, id: NodeId, node: &Node) -> Result<(), CompileError> {
        let (mut output, mut fused, mut inputs) = (id, vec![node.op.kind()], node.inputs.clone());
        let mut activation = None;
        if matches!(node.op, Op::Add | Op::GroupNorm { .. })
            && let Some((user, found)) = self.activation_after(id)
        {
            (output, activation) = (user, Some(found));
            fused.push(found.kind());
        }
        let own = |suffix: &str| Ok::<_, CompileError>(self.value(node, suffix)?.to_vec());
        let op = match &node.op {
            Op::Input { .. } => StepOp::Pixels,
            Op::GroupNorm { groups, eps } => {
                StepOp::GroupNorm { groups: *groups, eps: *eps, weight: own("weight")?, bias: own("bias")?, activation }
            }
            Op::LayerNorm { eps } => StepOp::LayerNorm { eps: *eps as f32, weight: own("weight")?, bias: own("bias")? },
            Op::GlobalResponseNorm => StepOp::GlobalResponseNorm { weight: own("weight")?, bias: own("bias")? },
            Op::Embedding { kinds } => StepOp::Embedding { table: own("weight")?, kinds: *kinds },
            Op::WindowAttention { heads, window_px, shift_px } => {
                let windows = Windows { heads: *heads, window_px: *window_px, shift_px: *shift_px };
                let table = self.value(node, "relative_position_bias_table")?;
                StepOp::WindowAttention { windows, bias: position_bias(table, windows) }
            }
            Op::SpaceToDepth => StepOp::SpaceToDepth,
            Op::Attention { heads } => StepOp::Attention { heads: *heads },
            Op::Activation(activation) => StepOp::Activation(*activation),
            Op::Add => match self.enlarged(node) {
                Some((terms, factor)) => {
                    fused.insert(0, "resize");
                    inputs = terms.to_vec();
                    StepOp::AddEnlarged { factor, activation }
                }
                None => StepOp::Add { activation },
            },
            Op::Multiply => StepOp::Multiply,
            Op::MaxPool(pool) => StepOp::MaxPool(*pool),
            Op::AvgPool(pool) => StepOp::AvgPool(*pool),
            Op::GlobalAvgPool => StepOp::GlobalAvgPool,
            Op::GlobalMaxPool => StepOp::GlobalMaxPool,
            Op::ChannelMean => StepOp::ChannelMean,
            Op::ChannelMax => StepOp::ChannelMax,
            Op::Resize { mode, .. } => StepOp::Resize(*mode),
            Op::Conv(_) | Op::TransposedConv(_) | Op::Linear { .. } | Op::BatchNorm { .. } | Op::LayerScale { .. } => {
                unreachable!("taken by other functions")
            }
            Op::Crop(_) | Op::Concat | Op::SpreadLike | Op::Dropout { .. } => unreachable!("places, not steps"),
        };
        self.push(id, op, inputs, output, fused);
        Ok(())
    }
}

/// The learned biases by (head, query, key) instead of by distance.
fn position_bias(table: &[f32], windows: Windows) -> Vec<f32> {
    let Windows { heads, window_px, .. } = windows;
    let pixels = window_px * window_px;
    let row = |query: usize, key: usize| {
        let offset = |q: usize, k: usize| q + window_px - 1 - k;
        let down = offset(query / window_px, key / window_px);
        down * (2 * window_px - 1) + offset(query % window_px, key % window_px)
    };
    (0..heads * pixels * pixels)
        .map(|i| table[row(i / pixels % pixels, i % pixels) * heads + i / (pixels * pixels)])
        .collect()
}
