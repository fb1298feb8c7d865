//! One step of the tape: an operation, with the activation that follows it.
//!
//! Owns: [`Step`], [`Saved`], [`Sink`]. Must not know: the order of steps, any operation's arithmetic.

use super::{
    convolution, foreign,
    memory::{Home, Map},
    norm::{self, Factors},
    pointwise, spatial,
};
use crate::{
    kernels::{
        Activation,
        cpu::{Isa, TransposedSpec},
    },
    model::{
        autograd::{Mode, Network},
        graph::{Node, Op, TransposedConv},
    },
};
use candle_core::{Result, Tensor, Var};
use std::{collections::HashMap, sync::Arc};

/// What a step is given.
pub(super) struct Step<'a> {
    pub network: &'a Network,
    pub home: &'a Arc<Home>,
    pub isa: Isa,
    pub mode: Mode,
    /// Number of the node.
    pub index: usize,
    pub node: &'a Node,
    /// The activation that follows and belongs to the step.
    pub activation: Option<Activation>,
    /// Kinds of the images.
    pub kinds: &'a [usize],
}

/// What a step's backward needs beside the values of nodes.
#[derive(Debug)]
pub(super) enum Saved {
    Nothing,
    /// A norm.
    Norm(Factors),
    /// Winners of a max pooling.
    Winners(Vec<u8>),
    /// Candle's inputs and result.
    Foreign(Vec<Option<Var>>, Tensor),
}

impl Step<'_> {
    /// Name of a parameter in the checkpoint.
    pub(super) fn parameter(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.node.name)
    }

    pub(super) fn has(&self, suffix: &str) -> bool {
        self.network.values.contains_key(&self.parameter(suffix))
    }

    /// A parameter's value.
    pub(super) fn value(&self, suffix: &str) -> Tensor {
        self.network.values[&self.parameter(suffix)].as_detached_tensor()
    }

    /// A parameter's floats.
    pub(super) fn floats(&self, suffix: &str) -> Result<Vec<f32>> {
        self.value(suffix).flatten_all()?.to_vec1()
    }

    /// The result for these inputs.
    pub(super) fn forward(&self, inputs: &[Map], size: [usize; 4]) -> Result<(Map, Saved)> {
        let plain = |map: Map| Ok((map, Saved::Nothing));
        if is_foreign(self.node, inputs.first().map(|x| x.size)) {
            return foreign::forward(self, inputs);
        }
        let x = &inputs[0];
        match &self.node.op {
            Op::Conv(_) | Op::Linear { .. } => {
                let spec = convolution::spec(&self.node.op, x.size).expect("convolutions have settings");
                let (weight, bias) = (self.value("weight"), self.has("bias").then(|| self.value("bias")));
                plain(convolution::forward(self, spec, (x, size), (&weight, bias.as_ref()), self.activation)?)
            }
            Op::TransposedConv(conv) => {
                plain(convolution::transposed_forward(self, transposed(conv, x), (x, size), self.activation)?)
            }
            Op::BatchNorm { eps } => norm::batch_norm(self, *eps, x),
            Op::GroupNorm { groups, eps } => norm::group_norm(self, (*groups, *eps), x),
            Op::MaxPool(pool) => Ok(spatial::max_pool(self, *pool, x, size)),
            op => match pointwise::forward(self, op, inputs, size) {
                Some(map) => plain(map),
                None => plain(spatial::forward(self, op, x, size)),
            },
        }
    }

    /// Gives the inputs' and the parameters' gradients to `sink`.
    ///
    /// `inputs` and `y` are there as far as [`Step::needs`] asked for them.
    pub(super) fn backward(
        &self,
        (inputs, y, dy): (&[Option<Map>], Option<Map>, Map),
        sizes: &[[usize; 4]],
        saved: Saved,
        sink: &mut Sink<'_>,
    ) -> Result<()> {
        match (saved, &self.node.op) {
            (Saved::Foreign(vars, result), _) => return foreign::backward(self, (&vars, &result), &dy, sink),
            (Saved::Norm(factors), _) => {
                let x = inputs[0].as_ref().expect("norms keep their input");
                return norm::backward(self, &factors, x, dy, sink);
            }
            (Saved::Winners(winners), Op::MaxPool(pool)) => {
                spatial::max_pool_backward(self, *pool, &winners, &dy, sizes[0], sink);
                return Ok(());
            }
            _ => {}
        }
        let dy = match (self.activation, &y) {
            (Some(activation), Some(y)) => pointwise::through(self, activation, y, dy),
            _ => dy,
        };
        let needed = |i: usize| inputs[i].as_ref().expect("what a step needs is kept");
        match &self.node.op {
            op @ (Op::Conv(_) | Op::Linear { .. }) => {
                let spec = convolution::spec(op, sizes[0]).expect("convolutions have settings");
                convolution::backward(self, spec, needed(0), &dy, sink)
            }
            Op::TransposedConv(conv) => {
                convolution::transposed_backward(self, transposed(conv, needed(0)), needed(0), &dy, sink)
            }
            op => {
                if !pointwise::backward(self, op, (inputs, y.as_ref(), &dy), sizes, sink) {
                    spatial::backward(self, op, (inputs[0].as_ref(), y.as_ref(), &dy), sizes[0], sink);
                }
                Ok(())
            }
        }
    }

    /// Whether backward needs the inputs, and the result.
    pub(super) fn needs(&self, size: Option<[usize; 4]>) -> (bool, bool) {
        if is_foreign(self.node, size) {
            return (false, false);
        }
        match &self.node.op {
            Op::Conv(_) | Op::Linear { .. } | Op::TransposedConv(_) => (true, self.activation.is_some()),
            Op::BatchNorm { .. } | Op::GroupNorm { .. } | Op::Multiply | Op::GlobalMaxPool | Op::ChannelMax => {
                (true, matches!(self.node.op, Op::GlobalMaxPool | Op::ChannelMax))
            }
            Op::Add => (false, self.activation.is_some()),
            Op::Activation(_) => (false, true),
            _ => (false, false),
        }
    }
}

fn transposed(conv: &TransposedConv, x: &Map) -> TransposedSpec {
    let TransposedConv { out, kernel, stride } = *conv;
    TransposedSpec { cin: x.size[3], cout: out, kernel, stride, crop: (0, 0) }
}

/// Whether a node is run in candle's words: what is rare, or small.
pub(super) fn is_foreign(node: &Node, size: Option<[usize; 4]>) -> bool {
    match &node.op {
        Op::Conv(conv) => {
            let spec = size.and_then(|size| convolution::spec(&node.op, size));
            let reach = conv.dilation * (conv.kernel - 1);
            spec.is_none_or(|s| s.pad.0 > reach || s.pad.1 > reach) || (conv.stride > 1 && conv.dilation > 1)
        }
        Op::TransposedConv(conv) => conv.stride > conv.kernel,
        Op::MaxPool(pool) => pool.kernel > 16,
        Op::Activation(activation) => matches!(activation, Activation::Gelu | Activation::Silu),
        Op::LayerNorm { .. }
        | Op::GlobalResponseNorm
        | Op::LayerScale { .. }
        | Op::Attention { .. }
        | Op::WindowAttention { .. }
        | Op::Embedding { .. }
        | Op::SpaceToDepth => true,
        _ => false,
    }
}

/// Where a step's gradients go.
pub(super) struct Sink<'a> {
    /// Gradients of nodes' values so far.
    pub grads: &'a mut [Option<Map>],
    /// Which nodes' gradients are wanted.
    pub tracked: &'a [bool],
    /// The nodes that are the step's inputs.
    pub inputs: Vec<usize>,
    /// Gradients of parameters.
    pub weights: &'a mut HashMap<String, Vec<f32>>,
    pub network: &'a Network,
}

impl Sink<'_> {
    /// Whether the gradient of an input is wanted.
    pub(super) fn wants(&self, input: usize) -> bool {
        self.tracked[self.inputs[input]]
    }

    /// Whether the gradient of a parameter is wanted.
    pub(super) fn is_trained(&self, name: &str) -> bool {
        self.network.is_trained(name)
    }

    /// Takes an input's gradient so far; what is put for it must count it in.
    pub(super) fn before(&mut self, input: usize) -> Option<Map> {
        self.grads[self.inputs[input]].take()
    }

    /// The whole gradient of an input.
    pub(super) fn put(&mut self, input: usize, gradient: Map) {
        self.grads[self.inputs[input]] = Some(gradient);
    }

    /// Another part of the gradient of an input.
    pub(super) fn add(&mut self, input: usize, gradient: Map) {
        if self.wants(input) {
            let sum = match self.before(input) {
                Some(before) => before.plus(gradient),
                None => gradient,
            };
            self.put(input, sum);
        }
    }

    /// The gradient of a parameter.
    pub(super) fn weight(&mut self, name: String, gradient: Vec<f32>) {
        if self.is_trained(&name) {
            self.weights.insert(name, gradient);
        }
    }
}
