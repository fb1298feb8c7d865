//! EfficientNetV2-B0 as an encoder.
//!
//! Owns: [`efficientnet_v2_b0_features`]. Must not know: classifiers.
//!
//! Source: Tan 2021, table 4 of the small sizes as released with the authors' code (`effnetv2_configs.py`, `v2_base_block`);
//! names and details as in timm's `tf_efficientnetv2_b0`: TensorFlow's padding, batch norm eps 1e-3, a squeeze to a
//! quarter of the block's input.

use crate::model::graph::{Activation, Conv, Graph, NodeId};

const NORM_EPS: f64 = 1e-3;

/// How a block widens and filters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One 3×3.
    Plain,
    /// A wide 3×3, then a 1×1.
    Fused,
    /// A 1×1, a 3×3 per channel, squeeze and excite, a 1×1.
    Separable,
}

/// Blocks of one shape; the first strides.
struct Stage {
    kind: Kind,
    blocks: usize,
    stride: usize,
    expansion: usize,
    width: usize,
}

const fn stage(kind: Kind, blocks: usize, stride: usize, expansion: usize, width: usize) -> Stage {
    Stage { kind, blocks, stride, expansion, width }
}

const STAGES: [Stage; 6] = [
    stage(Kind::Plain, 1, 1, 1, 16),
    stage(Kind::Fused, 2, 2, 4, 32),
    stage(Kind::Fused, 2, 2, 4, 48),
    stage(Kind::Separable, 3, 2, 4, 96),
    stage(Kind::Separable, 5, 1, 6, 112),
    stage(Kind::Separable, 8, 2, 6, 192),
];

/// Adds EfficientNetV2-B0 up to its mean over the image; tensors are named `<prefix>conv_stem.weight`,
/// `<prefix>blocks.1.0.conv_exp.weight`, …
///
/// Returns `[1280, 1, 1]`, what the classifier looks at.
pub fn efficientnet_v2_b0_features(g: &mut Graph, prefix: &str, x: NodeId) -> NodeId {
    let x = g.conv(&format!("{prefix}conv_stem"), x, same(32, 3, 2));
    let mut x = norm_silu(g, &format!("{prefix}bn1"), x);
    for (i, stage) in STAGES.iter().enumerate() {
        for block in 0..stage.blocks {
            let stride = if block == 0 { stage.stride } else { 1 };
            x = residual_block(g, &format!("{prefix}blocks.{i}.{block}"), x, stage, stride);
        }
    }
    let x = g.conv(&format!("{prefix}conv_head"), x, same(1280, 1, 1));
    let x = norm_silu(g, &format!("{prefix}bn2"), x);
    g.global_avg_pool(x)
}

/// A block, added to what came in if that has the same shape.
fn residual_block(g: &mut Graph, name: &str, x: NodeId, stage: &Stage, stride: usize) -> NodeId {
    let (channels, wide) = (g.channels(x), g.channels(x) * stage.expansion);
    let y = match stage.kind {
        Kind::Plain => {
            let y = g.conv(&format!("{name}.conv"), x, same(stage.width, 3, stride));
            norm_silu(g, &format!("{name}.bn1"), y)
        }
        Kind::Fused => {
            let y = g.conv(&format!("{name}.conv_exp"), x, same(wide, 3, stride));
            let y = norm_silu(g, &format!("{name}.bn1"), y);
            let y = g.conv(&format!("{name}.conv_pwl"), y, same(stage.width, 1, 1));
            g.batch_norm_eps(&format!("{name}.bn2"), y, NORM_EPS)
        }
        Kind::Separable => {
            let y = g.conv(&format!("{name}.conv_pw"), x, same(wide, 1, 1));
            let y = norm_silu(g, &format!("{name}.bn1"), y);
            let y = g.conv(&format!("{name}.conv_dw"), y, same(wide, 3, stride).groups(wide));
            let y = norm_silu(g, &format!("{name}.bn2"), y);
            let y = squeeze_and_excite(g, &format!("{name}.se"), y, channels / 4);
            let y = g.conv(&format!("{name}.conv_pwl"), y, same(stage.width, 1, 1));
            g.batch_norm_eps(&format!("{name}.bn3"), y, NORM_EPS)
        }
    };
    if stride == 1 && channels == stage.width { g.add(&[x, y]) } else { y }
}

fn squeeze_and_excite(g: &mut Graph, name: &str, x: NodeId, squeezed: usize) -> NodeId {
    let gate = g.global_avg_pool(x);
    let gate = g.conv(&format!("{name}.conv_reduce"), gate, Conv::new(squeezed, 1));
    let gate = g.activation(gate, Activation::Silu);
    let gate = g.conv(&format!("{name}.conv_expand"), gate, Conv::new(g.channels(x), 1));
    let gate = g.sigmoid(gate);
    g.multiply(x, gate)
}

fn same(out: usize, kernel: usize, stride: usize) -> Conv {
    Conv::new(out, kernel).stride(stride).tf_same().no_bias()
}

fn norm_silu(g: &mut Graph, name: &str, x: NodeId) -> NodeId {
    let x = g.batch_norm_eps(name, x, NORM_EPS);
    g.activation(x, Activation::Silu)
}
