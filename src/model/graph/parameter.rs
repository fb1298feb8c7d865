//! The tensors a network owns: names, shapes, first values.
//!
//! Owns: [`Parameter`], [`Init`], [`Graph::parameters`]. Must not know: values, files.

use super::{Graph, Node, Op};

/// Deviation of Swin's position biases before training, as in the authors' code.
const RELATIVE_BIAS_DEVIATION: f64 = 0.02;

/// What a tensor of a checkpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// Learned; what papers count.
    Weight,
    /// Kept by batch normalisation, not learned.
    Buffer,
    /// PyTorch's number of batches seen. Files may leave it out: nothing depends on it.
    Counter,
}

/// First values of a tensor: PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// Uniform in `±1/√fan_in`: what `nn.Conv2d` and `nn.Linear` do for weight and bias.
    Uniform {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// Normal around 0: what `nn.Embedding` does with a deviation of 1.
    Normal {
        /// Standard deviation.
        deviation: f64,
    },
    /// One value.
    Constant(f64),
}

/// One tensor of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Name in a checkpoint.
    pub name: String,
    /// Shape in a checkpoint.
    pub shape: Vec<usize>,
    /// What it is for.
    pub kind: ParameterKind,
    /// First values.
    pub init: Init,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Graph {
    /// Every tensor of the network's checkpoints, node by node.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes
            .iter()
            .flat_map(|node| {
                let channels_in = node.inputs.first().map_or(0, |&x| self.channels(x));
                node_parameters(node, channels_in)
            })
            .collect()
    }
}

fn node_parameters(node: &Node, channels_in: usize) -> Vec<Parameter> {
    let c = node.channels;
    let one = |suffix: &str, shape: Vec<usize>, kind, init| Parameter {
        name: format!("{}.{suffix}", node.name),
        shape,
        kind,
        init,
    };
    let weight = |suffix: &str, shape: Vec<usize>, init| one(suffix, shape, ParameterKind::Weight, init);
    let (ones, zeros) = (Init::Constant(1.0), Init::Constant(0.0));
    let with_bias = |shape: Vec<usize>, fan_in: usize, bias: bool| {
        let mut all = vec![weight("weight", shape, Init::Uniform { fan_in })];
        if bias {
            all.push(weight("bias", vec![c], Init::Uniform { fan_in }));
        }
        all
    };
    let affine = || vec![weight("weight", vec![c], ones), weight("bias", vec![c], zeros)];
    match &node.op {
        Op::Conv(conv) => {
            let (per_group, k) = (channels_in / conv.groups, conv.kernel);
            with_bias(vec![c, per_group, k, k], per_group * k * k, conv.bias)
        }
        Op::TransposedConv(conv) => {
            // PyTorch takes the fan-in from the weight's second axis, which here is the channels out.
            let k = conv.kernel;
            with_bias(vec![channels_in, c, k, k], c * k * k, true)
        }
        Op::Linear { bias, .. } => with_bias(vec![c, channels_in], channels_in, *bias),
        Op::WindowAttention { heads, window_px, .. } => {
            let rows = (2 * window_px - 1).pow(2);
            let init = Init::Normal { deviation: RELATIVE_BIAS_DEVIATION };
            vec![weight("relative_position_bias_table", vec![rows, *heads], init)]
        }
        Op::Embedding { kinds } => vec![weight("weight", vec![*kinds, c], Init::Normal { deviation: 1.0 })],
        Op::GroupNorm { .. } | Op::LayerNorm { .. } => affine(),
        Op::BatchNorm { .. } => {
            let mut all = affine();
            all.push(one("running_mean", vec![c], ParameterKind::Buffer, zeros));
            all.push(one("running_var", vec![c], ParameterKind::Buffer, ones));
            all.push(one("num_batches_tracked", vec![], ParameterKind::Counter, zeros));
            all
        }
        Op::GlobalResponseNorm => vec![weight("weight", vec![c], zeros), weight("bias", vec![c], zeros)],
        Op::LayerScale { init } => vec![Parameter {
            name: node.name.clone(),
            shape: vec![c],
            kind: ParameterKind::Weight,
            init: Init::Constant(*init),
        }],
        _ => vec![],
    }
}
