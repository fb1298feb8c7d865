//! A network after fusing, before an image size is known.
//!
//! Owns: [`Program`], [`Step`], [`StepOp`]. Must not know: buffers, kernels' insides, threads.

use super::cpu::{PackedConv, PackedTransposed, window_attention::Windows};
use crate::model::graph::{Activation, Graph, NodeId, Padding, Pool, ResizeMode};
use std::sync::Arc;

/// Steps in the order they are run in, and the graph they came from.
#[derive(Debug)]
pub(super) struct Program {
    /// What it computes.
    pub graph: Graph,
    /// What is run; inputs come before their users.
    pub steps: Vec<Step>,
    /// What it is for.
    pub target: Target,
}

/// One operation and what was fused into it.
#[derive(Debug)]
pub(super) struct Step {
    /// The node it is named after.
    pub node: NodeId,
    /// What it does.
    pub op: StepOp,
    /// What it reads; what each is, [`StepOp`] says.
    pub inputs: Vec<NodeId>,
    /// The node whose result it writes: the last of those fused.
    pub output: NodeId,
    /// Kinds of the nodes fused into it, in their order.
    pub fused: Vec<&'static str>,
}

/// What a step does.
#[derive(Debug)]
pub(super) enum StepOp {
    /// The image's bytes, normalised.
    Pixels,
    /// A row of a table, by the image's kind.
    Embedding {
        /// `[kinds, C]`.
        table: Vec<f32>,
        /// Number of rows.
        kinds: usize,
    },
    /// A convolution or linear layer; inputs: `x`, then the gate if there is one, then the residual if there is one.
    Conv(Box<ConvStep>),
    /// A depthwise convolution and those around it; inputs: `x`, then the residual if there is one.
    Cascade(Box<CascadeStep>),
    /// A transposed convolution of which only the middle is computed; input: `x`.
    Transposed(Box<TransposedStep>),
    /// `x · scale + shift` per channel, then the activation.
    Affine {
        /// Factors.
        scale: Vec<f32>,
        /// Offsets.
        shift: Vec<f32>,
        /// Last.
        activation: Option<Activation>,
    },
    /// A function of each value.
    Activation(Activation),
    /// Group normalisation, then the activation.
    GroupNorm {
        /// Number of groups.
        groups: usize,
        /// Added to the variance.
        eps: f64,
        /// Factors.
        weight: Vec<f32>,
        /// Offsets.
        bias: Vec<f32>,
        /// Last.
        activation: Option<Activation>,
    },
    /// Layer normalisation.
    LayerNorm {
        /// Added to the variance.
        eps: f32,
        /// Factors.
        weight: Vec<f32>,
        /// Offsets.
        bias: Vec<f32>,
    },
    /// Global response normalisation.
    GlobalResponseNorm {
        /// Factors.
        weight: Vec<f32>,
        /// Offsets.
        bias: Vec<f32>,
    },
    /// Attention of every pixel to every pixel; inputs: queries, keys and values.
    Attention {
        /// Number of heads.
        heads: usize,
    },
    /// Attention inside windows.
    WindowAttention {
        /// Which windows.
        windows: Windows,
        /// `[heads, window_px², window_px²]`, added to the score of (query, key).
        bias: Vec<f32>,
    },
    /// The pixels of each 2×2 block as channels: upper left, lower left, upper right, lower right.
    SpaceToDepth,
    /// Sum of the inputs, then the activation.
    Add {
        /// Last.
        activation: Option<Activation>,
    },
    /// The first input, every pixel of it `factor × factor` times, plus the second, then the activation.
    AddEnlarged {
        /// Enlargement.
        factor: usize,
        /// Last.
        activation: Option<Activation>,
    },
    /// The first input times the second, a gate.
    Multiply,
    /// Largest value of each window.
    MaxPool(Pool),
    /// Mean of each window.
    AvgPool(Pool),
    /// Mean over the image.
    GlobalAvgPool,
    /// Largest value over the image.
    GlobalMaxPool,
    /// Mean over the channels.
    ChannelMean,
    /// Largest value over the channels.
    ChannelMax,
    /// Enlarging by a whole factor.
    Resize(ResizeMode),
}

/// Which machine a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// The processor: channels lie without gaps.
    Cpu,
    /// A GPU: pixels are aligned for wide loads, and weights are kept as they are.
    Cuda,
}

impl Target {
    /// Channels from a pixel to the next, for this many channels.
    pub(super) fn pixel_stride(self, c: usize) -> usize {
        match self {
            Self::Cpu => c,
            Self::Cuda if c <= 4 => 4,
            Self::Cuda => c.next_multiple_of(8),
        }
    }
}

/// Weights as a network's file has them, normalisations folded in.
#[derive(Debug)]
pub(super) struct RawWeights {
    /// Of a convolution `[cout, cin / groups, kh, kw]`, of a transposed one `[cin, cout, k, k]`.
    pub weights: Vec<f32>,
    /// `[cout]`.
    pub bias: Option<Vec<f32>>,
}

/// A convolution with all that is done before and after it.
#[derive(Debug)]
pub(super) struct ConvStep {
    /// Weights and shape; shared by the plans of all image sizes.
    pub packed: Arc<PackedConv>,
    /// For a GPU.
    pub raw: Option<RawWeights>,
    /// Zeros around the input; known in px only with the image's size.
    pub padding: Padding,
    /// Normalisation of the input.
    pub prologue: Option<Affine>,
    /// Whether the second input is a factor per channel of the first.
    pub is_gated: bool,
    /// Whether the last input is added, and how many pixels share one of it on each axis.
    pub residual_factor: Option<usize>,
    /// Whether it is added before the activation.
    pub is_residual_first: bool,
    /// Normalisation of the sum with what was added, before the activation.
    pub norm: Option<Affine>,
    /// Activation.
    pub activation: Option<Activation>,
}

/// A depthwise convolution with the 1×1 before and after it.
#[derive(Debug)]
pub(super) struct CascadeStep {
    /// The 1×1 before.
    pub expand: Option<Stage>,
    /// Every channel by itself.
    pub depthwise: Stage,
    /// The 1×1 after; may have a residual.
    pub project: Option<Stage>,
}

impl CascadeStep {
    /// Its convolutions, in the order they are computed in.
    pub(super) fn stages(&self) -> impl Iterator<Item = &Stage> {
        self.expand.iter().chain([&self.depthwise]).chain(&self.project)
    }
}

/// A convolution of several in a step.
#[derive(Debug)]
pub(super) struct Stage {
    /// Its node.
    pub node: NodeId,
    /// The last node that it takes in.
    pub output: NodeId,
    /// All that it does.
    pub conv: ConvStep,
}

/// A transposed convolution.
#[derive(Debug)]
pub(super) struct TransposedStep {
    /// Weights and shape.
    pub packed: Arc<PackedTransposed>,
    /// For a GPU.
    pub raw: Option<RawWeights>,
    /// The node before its crop.
    pub whole: NodeId,
    /// The node after its crop; the same where there is none.
    pub cropped: NodeId,
    /// Activation.
    pub activation: Option<Activation>,
}

/// `x · scale + shift` per channel, then ReLU if asked for.
#[derive(Debug)]
pub(super) struct Affine {
    /// Factors.
    pub scale: Vec<f32>,
    /// Offsets.
    pub shift: Vec<f32>,
    /// Whether ReLU follows.
    pub relu: bool,
}

impl Program {
    /// Kinds of image that every embedding knows; 1 where there is none: that nothing is known.
    pub(super) fn kinds(&self) -> usize {
        let kinds = self.steps.iter().filter_map(|step| match &step.op {
            StepOp::Embedding { kinds, .. } => Some(*kinds),
            _ => None,
        });
        kinds.min().unwrap_or(1)
    }

    /// Bytes of all weights.
    pub(super) fn weight_bytes(&self) -> usize {
        let floats = |parts: &[&Vec<f32>]| 4 * parts.iter().map(|part| part.len()).sum::<usize>();
        let conv_bytes = |conv: &ConvStep| {
            let norms = [&conv.prologue, &conv.norm].into_iter().flatten();
            conv.packed.bytes() + norms.map(|p| floats(&[&p.scale, &p.shift])).sum::<usize>()
        };
        let bytes = self.steps.iter().map(|step| match &step.op {
            StepOp::Conv(conv) => conv_bytes(conv),
            StepOp::Cascade(cascade) => cascade.stages().map(|stage| conv_bytes(&stage.conv)).sum(),
            StepOp::Transposed(conv) => conv.packed.bytes(),
            StepOp::Embedding { table, .. } => floats(&[table]),
            StepOp::WindowAttention { bias, .. } => floats(&[bias]),
            StepOp::Affine { scale, shift, .. } => floats(&[scale, shift]),
            StepOp::GroupNorm { weight, bias, .. }
            | StepOp::LayerNorm { weight, bias, .. }
            | StepOp::GlobalResponseNorm { weight, bias } => floats(&[weight, bias]),
            _ => 0,
        });
        bytes.sum()
    }
}
